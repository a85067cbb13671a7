//! The store as the writer has it: one connection, the accounts that were read, and where the next
//! transfer goes.
//!
//! An account is read once, changed in memory, and written once before the commit. What is kept stays
//! right between transactions, for nobody else writes; a rollback forgets all of it.

use crate::{
    account::{Account, AccountId, AccountKind},
    entries,
    error::{LedgerError, Rejected, StoreError},
    extension::Extension,
    funds::Funds,
    panics::guarded,
    plan::{Budget, Hold, Known, Plan, Planned},
    rows,
    transfer::{Action, Recorded, Transfer},
};
use rusqlite::Connection;
use std::{collections::HashMap, sync::Arc};

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
            entries::one_row(statement.execute((
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
        // When the store fails here too, it is asked again with the next commit.
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
        let number = |id: &AccountId| self.accounts.get(id).map(|entry| entry.number);
        let written = entries::record(&self.connection, number, steps);
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

    /// Holds that are overdue, the longest first.
    pub(crate) fn overdue(
        &mut self,
        now_unix_ms: u64,
        limit: usize,
    ) -> Result<Vec<Transfer>, StoreError> {
        let found = entries::overdue(&self.connection, now_unix_ms, limit);
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
