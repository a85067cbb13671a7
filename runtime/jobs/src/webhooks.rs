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
    tables::{Tables, parsed, unsigned},
};
use fuelbox_ledger::{AccountId, Ledger, LedgerError};
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
    /// Whose job it is.
    pub account: AccountId,
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

    /// Accounts with webhooks whose time has come, in the order of their names. The jobs of some may not
    /// have ended.
    ///
    /// Takes two looks into the index for each account with webhooks that wait, however many those are.
    ///
    /// # Errors
    /// When the store fails.
    pub fn accounts_due(&self, now_unix_ms: u64) -> Result<Vec<AccountId>, HostFault> {
        let found = self.ledger.read(|reader| -> rusqlite::Result<Vec<AccountId>> {
            let mut select = reader.connection().prepare_cached(ACCOUNTS_DUE)?;
            let now = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
            select.query_map([now], |row| parsed(&row.get::<_, String>(0)?))?.collect()
        })?;
        Ok(found?)
    }

    /// Webhooks of an account's jobs that have ended, whose time has come: those that wait longest first.
    ///
    /// Takes a look at each webhook before the last one that it gives; of those, only the ones whose jobs
    /// have not ended are not given, and the queue bounds them.
    ///
    /// # Errors
    /// When the store fails.
    pub fn due(
        &self,
        account: &AccountId,
        now_unix_ms: u64,
        limit: usize,
    ) -> Result<Vec<Webhook>, HostFault> {
        let found = self.ledger.read(|reader| -> rusqlite::Result<Vec<Webhook>> {
            let mut select = reader.connection().prepare_cached(&due_sql())?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let now = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
            select.query_map(params![account.as_str(), now, limit], webhook)?.collect()
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
        let error = bounded(error);
        let written = self.ledger.write(move |tx| -> Result<Option<Webhook>, LedgerError> {
            Ok(fail(tx.connection(), &job, now_unix_ms, &error)?)
        })?;
        Ok(written)
    }

    /// Says the same of many, in one transaction.
    ///
    /// # Errors
    /// When the store fails: then they are due again.
    pub fn all_failed(
        &self,
        jobs: Vec<JobId>,
        now_unix_ms: u64,
        error: &str,
    ) -> Result<(), HostFault> {
        let error = bounded(error);
        self.ledger.write(move |tx| -> Result<(), LedgerError> {
            for job in &jobs {
                fail(tx.connection(), job, now_unix_ms, &error)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The webhook of a job, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn of(&self, job: &JobId) -> Result<Option<Webhook>, HostFault> {
        Ok(self.ledger.read(|reader| find(reader.connection(), job))??)
    }
}

/// Each account is found from the one before: `min` of what is greater is the index's next entry.
const ACCOUNTS_DUE: &str = "
    WITH RECURSIVE waiting (account) AS (
        SELECT min(account) FROM webhook WHERE state = 'waiting'
        UNION ALL
        SELECT (SELECT min(account) FROM webhook
            WHERE state = 'waiting' AND account > waiting.account)
        FROM waiting WHERE account IS NOT NULL
    )
    SELECT account FROM waiting WHERE account IS NOT NULL AND EXISTS (SELECT 1 FROM webhook
        WHERE state = 'waiting' AND account = waiting.account AND next_unix_ms <= ?1)";

/// In the index's order, so that it ends with the last one that is asked for. Jobs that have not ended
/// are few: `job_open` has them alone.
fn due_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM webhook
         WHERE state = 'waiting' AND account = ?1 AND next_unix_ms <= ?2
         AND NOT EXISTS (SELECT 1 FROM job INDEXED BY job_open
             WHERE job.state IN ('queued', 'running') AND job.id = webhook.job)
         ORDER BY next_unix_ms LIMIT ?3"
    )
}

/// What a receiver said may be in it.
fn bounded(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// Writes that one was tried.
fn fail(
    connection: &Connection,
    job: &JobId,
    now_unix_ms: u64,
    error: &str,
) -> rusqlite::Result<Option<Webhook>> {
    let Some(mut found) = find(connection, job)? else {
        return Ok(None);
    };
    if found.state != WebhookState::Waiting {
        return Ok(Some(found));
    }
    found.attempts += 1;
    found.error = Some(error.to_owned());
    match pause_ms(found.attempts) {
        Some(pause) => found.next_unix_ms = now_unix_ms.saturating_add(pause),
        None => found.state = WebhookState::GivenUp,
    }
    let sql = "UPDATE webhook SET state = ?2, attempts = ?3, next_unix_ms = ?4, error = ?5
        WHERE job = ?1";
    connection.prepare_cached(sql)?.execute(params![
        job.as_bytes(),
        found.state.name(),
        found.attempts.cast_signed(),
        i64::try_from(found.next_unix_ms).unwrap_or(i64::MAX),
        found.error,
    ])?;
    Ok(Some(found))
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
    let sql = "INSERT INTO webhook (job, account, url, state, next_unix_ms)
        VALUES (?1, ?2, ?3, 'waiting', ?4)";
    connection.prepare_cached(sql)?.execute(params![
        row.id.as_bytes(),
        row.account.as_str(),
        url,
        row.submitted_unix_ms.cast_signed()
    ])?;
    Ok(())
}

const COLUMNS: &str = "job, url, state, attempts, next_unix_ms, status, error, account";

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
        account: parsed(&row.get::<_, String>(7)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::MIGRATIONS;

    #[test]
    fn pauses_double_up_to_six_hours_and_end_within_a_day() {
        let pauses: Vec<_> = (1..).map_while(pause_ms).collect();
        assert_eq!(pauses[..4], [10_000, 20_000, 40_000, 80_000]);
        assert_eq!(pauses[11..], [20_480_000, 21_600_000, 21_600_000]);
        assert_eq!(pauses.len() as u64 + 1, ATTEMPTS_MAX);
        let minutes = pauses.iter().sum::<u64>() / 60_000;
        assert_eq!((minutes / 60, minutes % 60), (23, 22));
    }

    #[test]
    fn what_is_due_is_found_by_the_index_alone() {
        let connection = Connection::open_in_memory().expect("a database");
        // Of the ledger's tables, the one that a migration reads.
        let transfer = "CREATE TABLE transfer (id TEXT PRIMARY KEY, amount INTEGER)";
        connection.execute_batch(transfer).expect("a table");
        for script in MIGRATIONS {
            connection.execute_batch(script).expect("tables");
        }
        let plan = |sql: &str| -> Vec<String> {
            let mut select = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("sql");
            let rows = select.query_map([], |row| row.get::<_, String>(3)).expect("a plan");
            let steps = rows
                .map(|row| row.expect("a step").replace(" COVERING", "").replace(" EXISTS", ""));
            steps.filter(|step| step.contains(" webhook ") || step.contains(" job ")).collect()
        };
        let by = "SEARCH webhook USING INDEX webhook_due";
        assert_eq!(
            plan(&due_sql().replace("?1", "'a'").replace("?2", "1").replace("?3", "1")),
            [
                format!("{by} (account=? AND next_unix_ms<?)"),
                "SEARCH job USING INDEX job_open (state=? AND id=?)".to_owned(),
            ]
        );
        assert_eq!(
            plan(&ACCOUNTS_DUE.replace("?1", "1")),
            [
                by.to_owned(),
                format!("{by} (account>?)"),
                format!("{by} (account=? AND next_unix_ms<?)"),
            ]
        );
    }
}
