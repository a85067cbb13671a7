//! Questions to the ledger: accounts, transfers, history. Never writes.

use crate::{
    account::{Account, AccountId},
    connection,
    error::{OpenError, StoreError},
    rows, schema,
    transfer::{Recorded, TransferId},
};
use rusqlite::{Connection, OptionalExtension, Row};
use std::path::Path;

/// A read-only view of a ledger, beside its writer or without one, in any process.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// Which lines of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The newest, from new to old.
    Newest,
    /// Those before this place, from new to old.
    Before(u64),
    /// Those after this place, from old to new.
    After(u64),
}

/// One transfer in the history of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What was done.
    pub recorded: Recorded,
    /// The account as it was after it.
    pub account: Account,
}

impl Reader {
    /// Opens a ledger to read it.
    ///
    /// # Errors
    /// When there is none, when its tables are newer or older than this program, or the store fails.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let reader = Self::with_vfs(path, None).map_err(schema::at(path))?;
        schema::check_current(&reader.connection, path)?;
        Ok(reader)
    }

    pub(crate) fn with_vfs(path: &Path, vfs: Option<&str>) -> Result<Self, StoreError> {
        Ok(Self { connection: connection::for_reading(path, vfs)? })
    }

    /// An account.
    ///
    /// # Errors
    /// When the store fails.
    pub fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        Ok(rows::find_account(&self.connection, id)?.map(|(_, account)| account))
    }

    /// Every account, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let query = concat!("SELECT", rows::account_columns!(), "FROM account ORDER BY id");
        let mut statement = self.connection.prepare_cached(query)?;
        let accounts = statement.query_map([], |row| Ok(rows::account(row)?.1))?;
        Ok(accounts.collect::<Result<_, _>>()?)
    }

    /// A transfer.
    ///
    /// # Errors
    /// When the store fails.
    pub fn transfer(&self, id: &TransferId) -> Result<Option<Recorded>, StoreError> {
        rows::find_transfer(&self.connection, id)
    }

    /// The transfer that posted or voided a hold; none while it is open.
    ///
    /// # Errors
    /// When the store fails.
    pub fn resolution(&self, pending: &TransferId) -> Result<Option<Recorded>, StoreError> {
        match rows::find_transfer(&self.connection, pending)? {
            Some(hold) => rows::find_resolution(&self.connection, hold.seq),
            None => Ok(None),
        }
    }

    /// Holds that were neither posted nor voided, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open_pendings(&self) -> Result<Vec<Recorded>, StoreError> {
        let query = concat!(
            "SELECT",
            rows::transfer_columns!(),
            "FROM open_pending JOIN transfer ON transfer.seq = open_pending.seq",
            rows::transfer_joins!(),
            "ORDER BY open_pending.seq"
        );
        let mut statement = self.connection.prepare_cached(query)?;
        let holds = statement.query_map([], rows::recorded)?;
        Ok(holds.collect::<Result<_, _>>()?)
    }

    /// Transfers of an account, up to `limit`, with the account as it was after each.
    ///
    /// # Errors
    /// When the store fails.
    pub fn history(
        &self,
        account: &AccountId,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Line>, StoreError> {
        let Some((number, account)) = rows::find_account(&self.connection, account)? else {
            return Ok(Vec::new());
        };
        let (query, place) = match span {
            Span::Newest => (history!("<=", "DESC"), u64::MAX),
            Span::Before(seq) => (history!("<", "DESC"), seq),
            Span::After(seq) => (history!(">", "ASC"), seq),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(query)?;
        let lines = statement.query_map((number, rows::stored(place), limit), |row| {
            Ok(Line { recorded: rows::recorded(row)?, account: totals(row, 10, &account)? })
        })?;
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// An account as it was after the transfer at this place, whether or not that was its own. None
    /// when there is no such account.
    ///
    /// # Errors
    /// When the store fails.
    pub fn balance_at(&self, account: &AccountId, seq: u64) -> Result<Option<Account>, StoreError> {
        let Some((number, account)) = rows::find_account(&self.connection, account)? else {
            return Ok(None);
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT debits_pending, debits_posted, credits_pending, credits_posted
             FROM history WHERE account = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1",
        )?;
        let line = statement
            .query_row((number, rows::stored(seq)), |row| totals(row, 0, &account))
            .optional()?;
        let Account { id, kind, created_unix_ms, .. } = account;
        Ok(Some(line.unwrap_or_else(|| Account::new(id, kind, created_unix_ms))))
    }

    /// The connection, for the tables of an extension.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads as of one moment: what is committed in the meantime is not seen.
    pub(crate) fn at_once<T>(&self, read: impl FnOnce(&Self) -> T) -> Result<T, StoreError> {
        if !self.connection.is_autocommit() {
            return Ok(read(self));
        }
        // Dropped, it is rolled back: nothing was written.
        let _snapshot = self.connection.unchecked_transaction()?;
        Ok(read(self))
    }
}

/// Lines of one account's history.
macro_rules! history {
    ($compare:literal, $order:literal) => {
        concat!(
            "SELECT",
            rows::transfer_columns!(),
            ", history.debits_pending, history.debits_posted, history.credits_pending, \
               history.credits_posted \
             FROM history JOIN transfer ON transfer.seq = history.seq",
            rows::transfer_joins!(),
            "WHERE history.account = ?1 AND history.seq ",
            $compare,
            " ?2 ORDER BY history.seq ",
            $order,
            " LIMIT ?3"
        )
    };
}
use history;

/// The account with the four totals that start at this column.
fn totals(row: &Row<'_>, column: usize, account: &Account) -> rusqlite::Result<Account> {
    Ok(Account {
        debits_pending: row.get(column)?,
        debits_posted: row.get(column + 1)?,
        credits_pending: row.get(column + 2)?,
        credits_posted: row.get(column + 3)?,
        ..account.clone()
    })
}
