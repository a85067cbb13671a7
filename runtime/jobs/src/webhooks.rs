//! Webhooks: who is to be told of which jobs' ends, and how often that was tried.
//!
//! A job's webhook is written with its row, so it is there exactly when the job is. Whoever sends asks
//! what is due, and says what came of it. Between two tries of one webhook there is a pause of 10 seconds
//! that doubles each time, up to 6 hours; after 15 tries, 23 hours and 22 minutes after the first, it
//! is given up.
//!
//! Sends nothing. Knows nothing of networks.

use crate::{
    books::JobRow,
    fault::HostFault,
    job::JobId,
    tables::{Tables, unsigned},
};
use fuelbox_ledger::{Ledger, LedgerError};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

/// The first pause.
const PAUSE_MS: u64 = 10_000;

/// The longest pause: a receiver that is down for a night is told in the morning.
const PAUSE_MS_MAX: u64 = 6 * 3_600_000;

/// Tries, until nobody seems to be there any more.
const ATTEMPTS_MAX: u64 = 15;

/// Characters of an error that are kept: a line or two.
const ERROR_CHARS_MAX: usize = 200;

/// Where a webhook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// Its job has not ended, or its receiver has not answered yet.
    Waiting,
    /// Its receiver has taken it.
    Delivered,
    /// Its receiver never took it.
    GivenUp,
}

impl WebhookState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::GivenUp];

    /// The name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

/// The webhook of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The job.
    pub job: JobId,
    /// Where word goes.
    pub url: String,
    /// Where it is.
    pub state: WebhookState,
    /// How often it was tried.
    pub attempts: u64,
    /// When it is tried next, at the earliest. Says nothing unless it waits.
    pub next_unix_ms: u64,
    /// The receiver's status when it took it.
    pub status: Option<u16>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// The webhooks of a host.
pub struct Webhooks<'a> {
    ledger: &'a Ledger<Tables>,
}

impl<'a> Webhooks<'a> {
    pub(crate) fn new(ledger: &'a Ledger<Tables>) -> Self {
        Self { ledger }
    }

    /// Webhooks of jobs that have ended, whose time has come: those that wait longest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn due(&self, now_unix_ms: u64, limit: usize) -> Result<Vec<Webhook>, HostFault> {
        let found = self.ledger.read(|reader| -> rusqlite::Result<Vec<Webhook>> {
            let sql = format!(
                "SELECT {COLUMNS} FROM webhook WHERE state = 'waiting' AND next_unix_ms <= ?1
                 AND job NOT IN (SELECT id FROM job WHERE job.state IN ('queued', 'running'))
                 ORDER BY next_unix_ms LIMIT ?2"
            );
            let mut select = reader.connection().prepare_cached(&sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let now = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
            select.query_map([now, limit], webhook)?.collect()
        })?;
        Ok(found?)
    }

    /// Says that a receiver took it, with this status. One that was told already stays as it is.
    ///
    /// # Errors
    /// When the store fails: then it is due again.
    pub fn delivered(&self, job: &JobId, status: u16) -> Result<(), HostFault> {
        let job = *job;
        self.ledger.write(move |tx| -> Result<(), LedgerError> {
            let sql =
                "UPDATE webhook SET state = 'delivered', attempts = attempts + 1, status = ?2,
                error = NULL WHERE job = ?1 AND state = 'waiting'";
            tx.connection().prepare_cached(sql)?.execute(params![job.as_bytes(), status])?;
            Ok(())
        })?;
        Ok(())
    }

    /// Says that nobody took it, and why. Gives the webhook as it is then: waiting for its next try, or
    /// given up; none when the job has none.
    ///
    /// # Errors
    /// When the store fails: then it is due again.
    pub fn failed(
        &self,
        job: &JobId,
        now_unix_ms: u64,
        error: &str,
    ) -> Result<Option<Webhook>, HostFault> {
        let job = *job;
        // What a receiver said may be in it.
        let error: String =
            error.chars().take(ERROR_CHARS_MAX).flat_map(char::escape_debug).collect();
        let written = self.ledger.write(move |tx| -> Result<Option<Webhook>, LedgerError> {
            let Some(mut found) = find(tx.connection(), &job)? else {
                return Ok(None);
            };
            if found.state != WebhookState::Waiting {
                return Ok(Some(found));
            }
            found.attempts += 1;
            found.error = Some(error.clone());
            match pause_ms(found.attempts) {
                Some(pause) => found.next_unix_ms = now_unix_ms.saturating_add(pause),
                None => found.state = WebhookState::GivenUp,
            }
            let sql = "UPDATE webhook SET state = ?2, attempts = ?3, next_unix_ms = ?4, error = ?5
                WHERE job = ?1";
            tx.connection().prepare_cached(sql)?.execute(params![
                job.as_bytes(),
                found.state.name(),
                found.attempts.cast_signed(),
                i64::try_from(found.next_unix_ms).unwrap_or(i64::MAX),
                found.error,
            ])?;
            Ok(Some(found))
        })?;
        Ok(written)
    }

    /// The webhook of a job, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn of(&self, job: &JobId) -> Result<Option<Webhook>, HostFault> {
        Ok(self.ledger.read(|reader| find(reader.connection(), job))??)
    }
}

/// How long to wait after so many tries that failed; none when that is enough.
fn pause_ms(attempts: u64) -> Option<u64> {
    if attempts >= ATTEMPTS_MAX {
        return None;
    }
    let doubled = 1_u64 << attempts.saturating_sub(1).min(32);
    Some(PAUSE_MS.saturating_mul(doubled).min(PAUSE_MS_MAX))
}

/// Writes a job's webhook beside its row.
pub(crate) fn insert(connection: &Connection, row: &JobRow) -> rusqlite::Result<()> {
    let Some(url) = &row.webhook else {
        return Ok(());
    };
    let sql = "INSERT INTO webhook (job, url, state, next_unix_ms) VALUES (?1, ?2, 'waiting', ?3)";
    let submitted = row.submitted_unix_ms.cast_signed();
    connection.prepare_cached(sql)?.execute(params![row.id.as_bytes(), url, submitted])?;
    Ok(())
}

const COLUMNS: &str = "job, url, state, attempts, next_unix_ms, status, error";

fn find(connection: &Connection, job: &JobId) -> rusqlite::Result<Option<Webhook>> {
    let sql = format!("SELECT {COLUMNS} FROM webhook WHERE job = ?1");
    connection.prepare_cached(&sql)?.query_row([job.as_bytes()], webhook).optional()
}

fn webhook(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let state = row.get::<_, String>(2)?;
    let found = WebhookState::ALL.into_iter().find(|known| known.name() == state);
    let unknown = || format!("webhook state '{state}'").into();
    Ok(Webhook {
        job: JobId::from_bytes(row.get(0)?),
        url: row.get(1)?,
        state: found
            .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, unknown()))?,
        attempts: unsigned(row, 3)?,
        next_unix_ms: unsigned(row, 4)?,
        status: row.get(5)?,
        error: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_six_hours_and_end_within_a_day() {
        let pauses: Vec<_> = (1..).map_while(pause_ms).collect();
        assert_eq!(pauses[..4], [10_000, 20_000, 40_000, 80_000]);
        assert_eq!(pauses[11..], [20_480_000, 21_600_000, 21_600_000]);
        assert_eq!(pauses.len() as u64 + 1, ATTEMPTS_MAX);
        let minutes = pauses.iter().sum::<u64>() / 60_000;
        assert_eq!((minutes / 60, minutes % 60), (23, 22));
    }
}
