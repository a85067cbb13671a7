//! The store as the writer has it: one connection, the accounts that were read, and where the next
//! transfer goes.
//!
//! An account is read once, changed in memory, and written once before the commit. What is kept stays
//! right between transactions, for nobody else writes; a rollback forgets all of it.

use crate::{
    account::{Account, AccountId, AccountKind},
    credits::Credits,
    error::{LedgerError, Rejected, StoreError},
    extension::Extension,
    funds::Funds,
    plan::{Budget, Hold, Known, Plan, Planned, Step},
    rows,
    transfer::{Action, Recorded, Transfer},
};
use rusqlite::{CachedStatement, Connection};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Accounts that stay in memory between transactions, about 5 MB.
const ACCOUNTS_MAX: usize = 16_384;

/// Everything that a transaction changes.
pub(crate) struct Book<E> {
    pub(crate) connection: Connection,
    pub(crate) extension: E,
    pub(crate) funds: Arc<Funds>,
    accounts: HashMap<AccountId, Entry>,
    /// Accounts that were changed since the last commit.
    dirty: Vec<AccountId>,
    next_seq: u64,
    committed_next_seq: u64,
    /// What the store said when it failed inside of this transaction, even if the work does not say.
    pub(crate) failure: Option<StoreError>,
    /// Whether a work may have changed the extension.
    pub(crate) extension_lent: bool,
    /// Whether memory has yet to be read again after a rollback.
    stale: bool,
    /// `total_changes` at the begin.
    changes_before: u64,
}

struct Entry {
    number: i64,
    account: Account,
    dirty: bool,
}

impl<E: Extension> Book<E> {
    pub(crate) fn new(
        connection: Connection,
        extension: E,
        funds: Arc<Funds>,
    ) -> Result<Self, StoreError> {
        let mut book = Self {
            connection,
            extension,
            funds,
            accounts: HashMap::new(),
            dirty: Vec::new(),
            next_seq: 1,
            committed_next_seq: 1,
            failure: None,
            extension_lent: false,
            stale: true,
            changes_before: 0,
        };
        book.load()?;
        Ok(book)
    }

    /// Reads what is kept in memory.
    fn load(&mut self) -> Result<(), StoreError> {
        let last: Option<i64> =
            self.connection.query_row("SELECT max(seq) FROM transfer", [], |row| row.get(0))?;
        self.committed_next_seq = last.unwrap_or(0).unsigned_abs() + 1;
        self.next_seq = self.committed_next_seq;
        let Self { extension, connection, .. } = self;
        guarded(|| extension.load(connection))?;
        self.stale = false;
        Ok(())
    }

    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.roll_back();
        }
        if self.stale {
            self.load()?;
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.changes_before = self.connection.total_changes();
        Ok(())
    }

    /// Writes what is in memory, lets the extension write, and commits. When it fails, all is rolled
    /// back.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.finish() {
            self.roll_back();
            return Err(error);
        }
        let committed =
            self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Err(error) = committed {
            self.roll_back();
            self.bury();
            return Err(error.into());
        }
        self.committed_next_seq = self.next_seq;
        self.extension_lent = false;
        self.funds.lock().commit();
        if self.accounts.len() > ACCOUNTS_MAX {
            self.accounts.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let wrote = self.connection.total_changes() != self.changes_before;
        if !wrote && !self.extension_lent {
            return Ok(());
        }
        for id in self.dirty.drain(..) {
            let Some(entry) = self.accounts.get_mut(&id) else { continue };
            let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } =
                entry.account;
            let mut statement = self.connection.prepare_cached(
                "UPDATE account SET debits_pending = ?2, debits_posted = ?3, credits_pending = ?4,
                     credits_posted = ?5
                 WHERE number = ?1",
            )?;
            one_row(statement.execute((
                entry.number,
                debits_pending.stored(),
                debits_posted.stored(),
                credits_pending.stored(),
                credits_posted.stored(),
            ))?)?;
            entry.dirty = false;
        }
        let Self { extension, connection, .. } = self;
        guarded(|| extension.before_commit(connection))
    }

    /// Undoes the open transaction, in the store and in memory.
    pub(crate) fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // When it fails, the transaction is still open: the next begin tries again.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.accounts.clear();
        self.dirty.clear();
        self.failure = None;
        self.extension_lent = false;
        self.funds.lock().roll_back();
        self.stale = true;
        // When it fails, the next begin tries again.
        let _ = self.load();
    }

    /// A commit that failed in its sync may have left a whole transaction in the log, which a start
    /// after a crash would find. The next commit lies on top of it. This is one, of nothing.
    fn bury(&self) {
        let version = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        // A store that fails here too has got the commit's own bytes, or none.
        let _ = version.and_then(|version: i32| {
            self.connection.pragma_update(None, "user_version", version.wrapping_add(1))
        });
    }

    /// Whether the open transaction changed anything, as far as SQLite counts.
    pub(crate) fn changes(&self) -> u64 {
        self.connection.total_changes()
    }

    pub(crate) fn create_account(
        &mut self,
        id: &AccountId,
        kind: AccountKind,
        now_unix_ms: u64,
    ) -> Result<Account, LedgerError> {
        self.read_account(id)?;
        if let Some(entry) = self.accounts.get(id) {
            let stored = entry.account.kind;
            if stored != kind {
                return Err(Rejected::OtherKind { account: id.clone(), found: kind, stored }.into());
            }
            return Ok(entry.account.clone());
        }
        let created = rows::stored(now_unix_ms);
        let inserted = self.connection.prepare_cached(
            "INSERT INTO account (id, kind, debits_pending, debits_posted, credits_pending,
                 credits_posted, created_unix_ms)
             VALUES (?1, ?2, 0, 0, 0, 0, ?3)",
        );
        let inserted = inserted.and_then(|mut row| row.insert((id.as_str(), kind.name(), created)));
        let number = self.note(inserted.map_err(StoreError::from))?;
        let account = Account::new(id.clone(), kind, created.unsigned_abs());
        let entry = Entry { number, account: account.clone(), dirty: false };
        self.accounts.insert(id.clone(), entry);
        Ok(account)
    }

    pub(crate) fn account(&mut self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.read_account(id)?;
        Ok(self.accounts.get(id).map(|entry| entry.account.clone()))
    }

    fn read_account(&mut self, id: &AccountId) -> Result<(), StoreError> {
        if !self.accounts.contains_key(id) {
            let found = rows::find_account(&self.connection, id);
            if let Some((number, account)) = self.note(found)? {
                self.accounts.insert(id.clone(), Entry { number, account, dirty: false });
            }
        }
        Ok(())
    }

    /// Does all of these transfers, or none.
    pub(crate) fn apply(
        &mut self,
        transfers: &[Transfer],
        reservation: Option<(&AccountId, Option<u64>)>,
        now_unix_ms: u64,
    ) -> Result<Vec<Recorded>, LedgerError> {
        let mut known = Vec::with_capacity(transfers.len());
        for transfer in transfers {
            let found = self.known(transfer);
            known.push(self.note(found)?);
        }
        // One lock from the checks to the staging: nobody reserves in between.
        let funds = self.funds.clone();
        let mut funds = funds.lock();
        let budget = reservation.map(|(account, number)| {
            let left = number.map_or(0, |number| funds.left(number));
            Budget { account, number, left }
        });
        let accounts = |id: &AccountId| self.accounts.get(id).map(|entry| entry.account.clone());
        let Planned { steps, changed, budget_debits, next_seq } =
            Plan::new(accounts, &funds, budget, now_unix_ms, self.next_seq)
                .batch(transfers, known)?;
        if let Some(number) = budget.and_then(|budget| budget.number) {
            funds.use_up(number, budget_debits);
        }
        for (id, after) in changed {
            let Some(entry) = self.accounts.get_mut(&id) else { continue };
            funds.stage(&entry.account, &after);
            entry.account = after;
            if !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(id);
            }
        }
        drop(funds);
        self.next_seq = next_seq;
        let written = self.record(steps);
        Ok(self.note(written)?)
    }

    /// What the store has about a transfer. Reads its accounts as well.
    fn known(&mut self, transfer: &Transfer) -> Result<Known, StoreError> {
        let recorded = rows::find_transfer(&self.connection, &transfer.id)?;
        if recorded.is_some() {
            return Ok(Known { recorded, hold: None });
        }
        let hold = match &transfer.action {
            Action::Direct { debit, credit, .. } | Action::Pending { debit, credit, .. } => {
                self.read_account(debit)?;
                self.read_account(credit)?;
                None
            }
            Action::Post { pending, .. } | Action::Void { pending } => {
                match rows::find_transfer(&self.connection, pending)? {
                    Some(recorded) => {
                        self.read_account(&recorded.debit)?;
                        self.read_account(&recorded.credit)?;
                        let resolution = rows::find_resolution(&self.connection, recorded.seq)?;
                        Some(Hold { recorded, resolution })
                    }
                    None => None,
                }
            }
        };
        Ok(Known { recorded: None, hold })
    }

    /// Writes the rows of a batch but for its accounts', which are written at the end.
    fn record(&mut self, steps: Vec<Step>) -> Result<Vec<Recorded>, StoreError> {
        let connection = &self.connection;
        let mut all = Vec::with_capacity(steps.len());
        for step in steps {
            let (recorded, hold_seq, debit, credit) = match step {
                Step::Repeat(recorded) => {
                    all.push(recorded);
                    continue;
                }
                Step::Write { recorded, hold_seq, debit, credit } => {
                    (recorded, hold_seq, debit, credit)
                }
            };
            let number = |account: &Account| {
                let entry = self.accounts.get(&account.id);
                entry.map(|entry| entry.number).ok_or_else(|| StoreError::Damaged {
                    text: format!("account '{}' went away", account.id),
                })
            };
            let (debit_number, credit_number) = (number(&debit)?, number(&credit)?);
            let seq = rows::stored(recorded.seq);
            let Transfer { id, purpose, action } = &recorded.transfer;
            let expires = match action {
                Action::Pending { expires_unix_ms, .. } => expires_unix_ms.map(rows::stored),
                Action::Direct { .. } | Action::Post { .. } | Action::Void { .. } => None,
            };
            connection
                .prepare_cached(
                    "INSERT INTO transfer (seq, id, purpose, action, debit, credit, amount, pending,
                         expires_unix_ms, recorded_unix_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute((
                    seq,
                    id.as_str(),
                    purpose.name(),
                    action.name(),
                    debit_number,
                    credit_number,
                    recorded.amount.stored(),
                    hold_seq.map(rows::stored),
                    expires,
                    rows::stored(recorded.recorded_unix_ms),
                ))?;
            match action {
                Action::Direct { .. } => {}
                Action::Pending { .. } => {
                    connection
                        .prepare_cached(
                            "INSERT INTO open_pending (seq, expires_unix_ms) VALUES (?1, ?2)",
                        )?
                        .execute((seq, expires))?;
                }
                Action::Post { .. } | Action::Void { .. } => {
                    let deleted = connection
                        .prepare_cached("DELETE FROM open_pending WHERE seq = ?1")?
                        .execute([hold_seq.map(rows::stored)])?;
                    one_row(deleted)?;
                }
            }
            let mut history = connection.prepare_cached(
                "INSERT INTO history (account, seq, debits_pending, debits_posted, credits_pending,
                     credits_posted)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            line(&mut history, debit_number, seq, &debit)?;
            line(&mut history, credit_number, seq, &credit)?;
            all.push(recorded);
        }
        Ok(all)
    }

    /// Holds that are overdue, the longest first.
    pub(crate) fn overdue(
        &mut self,
        now_unix_ms: u64,
        limit: usize,
    ) -> Result<Vec<Transfer>, StoreError> {
        let found = overdue(&self.connection, now_unix_ms, limit);
        self.note(found)
    }

    /// Keeps what the store said when it failed: a work that goes on all the same must not commit.
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

fn overdue(
    connection: &Connection,
    now_unix_ms: u64,
    limit: usize,
) -> Result<Vec<Transfer>, StoreError> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT",
        rows::transfer_columns!(),
        "FROM open_pending JOIN transfer ON transfer.seq = open_pending.seq",
        rows::transfer_joins!(),
        "WHERE open_pending.expires_unix_ms <= ?1
         ORDER BY open_pending.expires_unix_ms, open_pending.seq LIMIT ?2",
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let holds = statement.query_map((rows::stored(now_unix_ms), limit), rows::recorded)?;
    holds
        .map(|hold| {
            let Transfer { id, purpose, .. } = hold?.transfer;
            Ok(Transfer { id: id.expiry(), purpose, action: Action::Void { pending: id } })
        })
        .collect()
}

/// The totals of an account after a transfer.
fn line(
    statement: &mut CachedStatement<'_>,
    number: i64,
    seq: i64,
    account: &Account,
) -> rusqlite::Result<()> {
    let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } = account;
    let totals = [debits_pending, debits_posted, credits_pending, credits_posted];
    let [debits_pending, debits_posted, credits_pending, credits_posted] =
        totals.map(|total| Credits::stored(*total));
    statement.execute((
        number,
        seq,
        debits_pending,
        debits_posted,
        credits_pending,
        credits_posted,
    ))?;
    Ok(())
}

/// A statement that is about one row has changed it.
fn one_row(changed: usize) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Damaged { text: format!("{changed} rows changed, expected 1") })
    }
}

/// Calls code of others, which must not end the writer.
pub(crate) fn guarded<T>(call: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, StoreError> {
    Ok(catch(call)??)
}

/// What it gives, or its panic's words.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, StoreError> {
    // What the call may leave half done is thrown away by a rollback, or belongs to the caller alone.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        StoreError::Panicked { text: crate::credits::excerpt(text.unwrap_or("no words")) }
    })
}
