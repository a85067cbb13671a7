//! The books: what is written of a job, each step in one transaction.
//!
//! Invariants:
//! - A job is settled once: its row goes from open to final, its money is posted and its receipt is in
//!   the log, all in one commit or not at all.
//! - A job in a final state has no open hold.
//! - What a job pays is never more than what was held for it.

use crate::{
    access_key::AccessKeyId,
    access_rows,
    job::{JobId, JobRecord, Priority, State},
    price::Bill,
    steps::{Step, reach},
    tables::{self, INLINE_BYTES_MAX, Tables},
    webhooks,
};
use fuelbox_digest::Digest;
use fuelbox_ledger::{
    AccountId, Action, Credits, Ledger, LedgerError, ParseTransferIdError, Purpose, Reservation,
    StoreError, Transfer, TransferId, Tx,
};
use fuelbox_receipt::Envelope;
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BooksError {
    /// The rules of the ledger, or its store.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The job has ended already.
    #[error("job {job} has ended: {state}")]
    Ended { job: JobId, state: &'static str },
    /// There is no such job.
    #[error("no job {job}")]
    UnknownJob { job: JobId },
    /// The account's key belongs to another job.
    #[error("key '{key}' is taken by a job that is not known here yet")]
    KeyTaken { key: String },
    /// Never: names of transfers are made of names of jobs.
    #[error(transparent)]
    Name(#[from] ParseTransferIdError),
}

impl From<StoreError> for BooksError {
    fn from(error: StoreError) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<rusqlite::Error> for BooksError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Ledger(error.into())
    }
}

/// The accounts that every host has.
#[derive(Clone, Debug)]
pub(crate) struct HouseAccounts {
    /// Gives out credits, and takes them back.
    pub(crate) operator: AccountId,
    /// What the host earned.
    pub(crate) revenue: AccountId,
    /// Where the price of a queued job is held.
    pub(crate) escrow: AccountId,
}

/// What holds a job's price.
pub(crate) enum Hold {
    /// In memory: the caller waits, and a crash forgets it.
    Reserved(Reservation),
    /// In the ledger.
    Pending,
}

/// What is written of a job when it is taken in.
#[derive(Clone, Debug)]
pub(crate) struct JobRow {
    pub(crate) id: JobId,
    pub(crate) account: AccountId,
    pub(crate) package: Digest,
    pub(crate) priority: Priority,
    pub(crate) submitted_unix_ms: u64,
    pub(crate) deadline_unix_ms: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) fuel_limit: u64,
    pub(crate) memory_limit: u64,
    /// Most fuel of a load that the job pays for; none when nothing is held for one.
    pub(crate) load_limit: Option<u64>,
    pub(crate) hold: Credits,
    pub(crate) input: Digest,
    /// Canonical bytes.
    pub(crate) parameters: Vec<u8>,
    pub(crate) key: Option<String>,
    /// The access key that it came with.
    pub(crate) access_key: Option<AccessKeyId>,
    /// Where word of its end goes; none for one whose row is there already.
    pub(crate) webhook: Option<String>,
    /// Digest of all that the caller asked for.
    pub(crate) request: Digest,
    /// Digest of the price schedule of the day.
    pub(crate) schedule: Digest,
}

impl JobRow {
    /// The job as it is when it was taken in.
    pub(crate) fn queued(&self) -> JobRecord {
        JobRecord {
            id: self.id,
            account: self.account.clone(),
            package: self.package,
            state: State::Queued,
            priority: self.priority,
            access_key: self.access_key,
            submitted_unix_ms: self.submitted_unix_ms,
            finished_unix_ms: None,
            seed: self.seed,
            input: self.input,
            fuel_limit: self.fuel_limit,
            memory_limit_bytes: self.memory_limit,
            end: None,
            detail: None,
        }
    }
}

/// Content that goes with a job.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// In the database when it is small enough; the large ones are in a file by now.
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) expires_unix_ms: u64,
}

/// All that is written when a job that ran is done.
pub(crate) struct Settlement {
    pub(crate) row: JobRow,
    pub(crate) hold: Hold,
    pub(crate) publisher: AccountId,
    pub(crate) result: JobResult,
    /// Digest of shapes that are prepared now.
    pub(crate) shapes: Option<Digest>,
    /// The access key whose limit the bill counts against.
    pub(crate) spent_by: Option<AccessKeyId>,
}

/// What a run came to.
pub(crate) struct JobResult {
    pub(crate) state: State,
    pub(crate) finished_unix_ms: u64,
    pub(crate) verdict: &'static str,
    pub(crate) detail: Option<String>,
    pub(crate) output: Digest,
    pub(crate) fuel: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) bill: Bill,
    pub(crate) credits: Credits,
    pub(crate) receipt: Envelope,
    pub(crate) receipt_digest: Digest,
    /// Canonical bytes of the parameters beside the outputs.
    pub(crate) reply: Vec<u8>,
    pub(crate) log: String,
    pub(crate) blobs: Vec<Blob>,
}

/// The books of one host.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger<Tables>,
    pub(crate) house: Arc<HouseAccounts>,
}

impl Books {
    /// Takes a job in whose owner does not wait: hold, row and input in one commit.
    pub(crate) fn admit(&self, row: JobRow, blob: Option<Blob>) -> Result<(), BooksError> {
        let escrow = self.house.escrow.clone();
        let (account, amount, now) = (row.account.clone(), row.hold, row.submitted_unix_ms);
        let hold = (amount > Credits::ZERO)
            .then(|| {
                let action = Action::Pending {
                    debit: account,
                    credit: escrow,
                    amount,
                    expires_unix_ms: None,
                };
                transfer(&row.id, "hold", Purpose::Hold, action)
            })
            .transpose()?;
        self.ledger.write(move |tx| -> Result<(), BooksError> {
            if let Some(hold) = &hold {
                tx.apply(std::slice::from_ref(hold), now)?;
            }
            insert_job(tx, &row, None)?;
            if let Some(blob) = &blob {
                keep(tx, blob)?;
            }
            reach(Step::AdmitStaged);
            Ok(())
        })
    }

    /// Notes that a worker has a job, and how often that was so before. Not waited for: a crash
    /// before it is written only forgets the attempt.
    pub(crate) fn begin(&self, id: JobId) {
        let work = move |tx: &mut Tx<'_, Tables>| -> Result<(), BooksError> {
            let sql = "UPDATE job SET state = 'running', attempts = attempts + 1
                WHERE id = ?1 AND state IN ('queued', 'running')";
            tx.connection().prepare_cached(sql)?.execute([id.as_bytes()])?;
            Ok(())
        };
        self.ledger.write_then(work, |_| ());
    }

    /// Notes that a job which a worker had waits again, and that this was no attempt.
    pub(crate) fn put_back(&self, id: JobId) {
        let work = move |tx: &mut Tx<'_, Tables>| -> Result<(), BooksError> {
            let sql = "UPDATE job SET state = 'queued', attempts = attempts - 1
                WHERE id = ?1 AND state = 'running'";
            tx.connection().prepare_cached(sql)?.execute([id.as_bytes()])?;
            Ok(())
        };
        self.ledger.write_then(work, |_| ());
    }

    /// Writes all that a job came to: money, receipt, row, blobs. `done` hears of it after the commit,
    /// on the writer's thread.
    pub(crate) fn settle(
        &self,
        settlement: Arc<Settlement>,
        done: impl FnOnce(Result<(), BooksError>) + Send + 'static,
    ) {
        let transfers = match self.transfers(&settlement) {
            Ok(transfers) => transfers,
            Err(error) => return done(Err(error.into())),
        };
        let work = move |tx: &mut Tx<'_, Tables>| write_settlement(tx, &settlement, &transfers);
        self.ledger.write_then(work, move |result| {
            if result.is_ok() {
                reach(Step::SettleCommitted);
            }
            done(result);
        });
    }

    /// Ends a job that did not run, and gives its hold back. No bill, no receipt.
    pub(crate) fn void(
        &self,
        id: JobId,
        state: State,
        detail: String,
        now: u64,
    ) -> Result<(), BooksError> {
        let pending = leg(&id, "hold")?;
        let void = Transfer {
            id: leg(&id, "void")?,
            purpose: Purpose::Hold,
            action: Action::Void { pending },
        };
        self.ledger.write(move |tx| -> Result<(), BooksError> {
            let hold = open_job(tx, &id)?;
            if hold > 0 {
                tx.apply(std::slice::from_ref(&void), now)?;
            }
            let sql = "UPDATE job SET state = ?2, detail = ?3, finished_unix_ms = ?4 WHERE id = ?1";
            tx.connection().prepare_cached(sql)?.execute(params![
                id.as_bytes(),
                state.name(),
                detail,
                now.cast_signed()
            ])?;
            reach(Step::VoidStaged);
            Ok(())
        })?;
        reach(Step::VoidCommitted);
        Ok(())
    }

    /// What a settlement moves. From the caller's account when its price is reserved, out of escrow
    /// when it is held there.
    fn transfers(&self, settlement: &Settlement) -> Result<Vec<Transfer>, ParseTransferIdError> {
        let Settlement { row, result: JobResult { bill, credits, .. }, .. } = settlement;
        let id = &row.id;
        let mut transfers = Vec::with_capacity(4);
        let debit = match &settlement.hold {
            // Whoever runs his own package pays himself: not without a stop on the way.
            Hold::Reserved(_) if row.account == settlement.publisher => {
                if *credits > Credits::ZERO {
                    let (debit, credit) = (row.account.clone(), self.house.escrow.clone());
                    let action = Action::Direct { debit, credit, amount: *credits };
                    transfers.push(transfer(id, "post", Purpose::Charge, action)?);
                }
                &self.house.escrow
            }
            Hold::Reserved(_) => &row.account,
            Hold::Pending => {
                if row.hold > Credits::ZERO {
                    let (pending, amount) = (leg(id, "hold")?, *credits);
                    let action = Action::Post { pending, amount };
                    transfers.push(transfer(id, "post", Purpose::Charge, action)?);
                }
                &self.house.escrow
            }
        };
        let fee = bill.run.checked_sub(bill.publisher).unwrap_or(Credits::ZERO);
        let load = bill.load.map_or(Credits::ZERO, |(_, credits)| credits);
        for (name, purpose, credit, amount) in [
            ("share", Purpose::Share, &settlement.publisher, bill.publisher),
            ("fee", Purpose::Fee, &self.house.revenue, fee),
            ("load", Purpose::Fee, &self.house.revenue, load),
        ] {
            if amount > Credits::ZERO {
                let action =
                    Action::Direct { debit: debit.clone(), credit: credit.clone(), amount };
                transfers.push(transfer(id, name, purpose, action)?);
            }
        }
        Ok(transfers)
    }
}

fn write_settlement(
    tx: &mut Tx<'_, Tables>,
    settlement: &Settlement,
    transfers: &[Transfer],
) -> Result<(), BooksError> {
    let Settlement { row, result, .. } = settlement;
    let now = result.finished_unix_ms;
    // Whatever may be refused comes first: a work that fails after it wrote costs its batch a retry.
    let reserved = match &settlement.hold {
        Hold::Reserved(reservation) => {
            tx.apply_reserved(reservation, transfers, now)?;
            true
        }
        Hold::Pending => {
            open_job(tx, &row.id)?;
            tx.apply(transfers, now)?;
            false
        }
    };
    let (tables, connection) = tx.extension();
    let index = tables::insert_receipt(
        tables,
        connection,
        &row.id,
        &result.receipt,
        &result.receipt_digest,
    )?;
    let ended = Ended { result, index };
    match reserved {
        true => insert_job(tx, row, Some(ended))?,
        false => end_job(tx, &row.id, ended)?,
    }
    if let Some(key) = &settlement.spent_by {
        access_rows::add_spent(tx.connection(), key, result.credits)?;
    }
    for blob in &result.blobs {
        keep(tx, blob)?;
    }
    if let Some(shapes) = &settlement.shapes {
        let load_fuel = result.bill.load.map_or(0, |(fuel, _)| fuel);
        prepare_shape(tx, &row.package, shapes, load_fuel, now)?;
    }
    reach(Step::SettleStaged);
    Ok(())
}

/// Notes that a package is prepared for these shapes. The one that was used least recently makes room,
/// as it does among the images.
pub(crate) fn prepare_shape(
    tx: &Tx<'_, Tables>,
    package: &Digest,
    shapes: &Digest,
    load_fuel: u64,
    now: u64,
) -> rusqlite::Result<()> {
    let connection = tx.connection();
    let sql = "INSERT INTO shape (package, shapes, load_fuel, paid_unix_ms) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET paid_unix_ms = max(paid_unix_ms, excluded.paid_unix_ms)";
    connection.prepare_cached(sql)?.execute(params![
        package.as_bytes(),
        shapes.as_bytes(),
        load_fuel.cast_signed(),
        now.cast_signed()
    ])?;
    let sql = "DELETE FROM shape WHERE package = ?1 AND shapes NOT IN
        (SELECT shapes FROM shape WHERE package = ?1 ORDER BY paid_unix_ms DESC LIMIT ?2)";
    let kept = fuelbox_engine::constants::SHAPE_IMAGES_MAX as i64;
    connection.prepare_cached(sql)?.execute(params![package.as_bytes(), kept])?;
    Ok(())
}

/// The amount that is held for a job, which must be open.
fn open_job(tx: &Tx<'_, Tables>, id: &JobId) -> Result<i64, BooksError> {
    let sql = "SELECT state, hold FROM job WHERE id = ?1";
    let mut select = tx.connection().prepare_cached(sql)?;
    let found = select
        .query_row([id.as_bytes()], |row| {
            Ok((tables::state(&row.get::<_, String>(0)?)?, row.get(1)?))
        })
        .optional()?;
    let (state, hold) = found.ok_or(BooksError::UnknownJob { job: *id })?;
    if state.is_final() {
        return Err(BooksError::Ended { job: *id, state: state.name() });
    }
    Ok(hold)
}

/// What is written of a job's end.
#[derive(Clone, Copy)]
struct Ended<'a> {
    result: &'a JobResult,
    /// Of its receipt.
    index: u64,
}

fn end_job(tx: &Tx<'_, Tables>, id: &JobId, ended: Ended<'_>) -> rusqlite::Result<()> {
    let Ended { result, index } = ended;
    let sql =
        "UPDATE job SET state = ?2, finished_unix_ms = ?3, verdict = ?4, detail = ?5, output = ?6,
        fuel = ?7, memory_bytes = ?8, load_fuel = ?9, credits = ?10, receipt = ?11, reply = ?12,
        log = ?13, receipt_idx = ?14, share = ?15 WHERE id = ?1";
    tx.connection().prepare_cached(sql)?.execute(params![
        id.as_bytes(),
        result.state.name(),
        result.finished_unix_ms.cast_signed(),
        result.verdict,
        result.detail,
        result.output.as_bytes(),
        result.fuel.cast_signed(),
        result.memory_bytes.cast_signed(),
        result.bill.load.map(|(fuel, _)| fuel.cast_signed()),
        result.credits.micros().cast_signed(),
        result.receipt_digest.as_bytes(),
        result.reply,
        result.log,
        index.cast_signed(),
        result.bill.publisher.micros().cast_signed(),
    ])?;
    Ok(())
}

/// A row for a job that waits; or for one that has ended already, in one go.
fn insert_job(
    tx: &Tx<'_, Tables>,
    row: &JobRow,
    ended: Option<Ended<'_>>,
) -> Result<(), BooksError> {
    let result = ended.map(|ended| ended.result);
    let sql = "INSERT INTO job (id, account, package, state, priority, submitted_unix_ms, deadline_unix_ms,
        seed, fuel_limit, memory_limit, load_limit, hold, input, parameters, key, request,
        schedule, access_key, finished_unix_ms, verdict, detail, output, fuel, memory_bytes,
        load_fuel, credits, receipt, reply, log, receipt_idx, share)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
        ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)";
    let inserted = tx.connection().prepare_cached(sql)?.execute(params![
        row.id.as_bytes(),
        row.account.as_str(),
        row.package.as_bytes(),
        result.map_or(State::Queued, |result| result.state).name(),
        row.priority.level(),
        row.submitted_unix_ms.cast_signed(),
        row.deadline_unix_ms.map(u64::cast_signed),
        row.seed.cast_signed(),
        row.fuel_limit.cast_signed(),
        row.memory_limit.cast_signed(),
        row.load_limit.map_or(-1, u64::cast_signed),
        row.hold.micros().cast_signed(),
        row.input.as_bytes(),
        row.parameters,
        row.key,
        row.request.as_bytes(),
        row.schedule.as_bytes(),
        row.access_key.as_ref().map(AccessKeyId::as_str),
        result.map(|result| result.finished_unix_ms.cast_signed()),
        result.map(|result| result.verdict),
        result.and_then(|result| result.detail.as_deref()),
        result.map(|result| result.output.as_bytes()),
        result.map(|result| result.fuel.cast_signed()),
        result.map(|result| result.memory_bytes.cast_signed()),
        result.and_then(|result| result.bill.load).map(|(fuel, _)| fuel.cast_signed()),
        result.map(|result| result.credits.micros().cast_signed()),
        result.map(|result| result.receipt_digest.as_bytes()),
        result.map(|result| result.reply.as_slice()),
        result.map(|result| result.log.as_str()),
        ended.map(|ended| ended.index.cast_signed()),
        result.map(|result| result.bill.publisher.micros().cast_signed()),
    ]);
    match (inserted, &row.key) {
        (Ok(_), _) => Ok(webhooks::insert(tx.connection(), row)?),
        (Err(error), Some(key)) if error.to_string().contains("job.key") => {
            Err(BooksError::KeyTaken { key: key.clone() })
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn keep(tx: &Tx<'_, Tables>, blob: &Blob) -> rusqlite::Result<()> {
    let bytes = blob.content.len();
    let content = (bytes <= INLINE_BYTES_MAX).then_some(blob.content.as_slice());
    let (digest, expires) = (&blob.digest, blob.expires_unix_ms);
    tables::keep_blob(tx.connection(), digest, content, bytes as u64, expires)
}

/// The name of one of a job's transfers.
fn leg(id: &JobId, name: &str) -> Result<TransferId, ParseTransferIdError> {
    format!("job:{id}:{name}").parse()
}

fn transfer(
    job: &JobId,
    name: &str,
    purpose: Purpose,
    action: Action,
) -> Result<Transfer, ParseTransferIdError> {
    Ok(Transfer { id: leg(job, name)?, purpose, action })
}
