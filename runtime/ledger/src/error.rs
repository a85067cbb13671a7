//! What can go wrong: a client's request is rejected, the store fails, a database cannot be opened.

use crate::{
    account::{AccountId, AccountKind},
    credits::Credits,
    transfer::TransferId,
};
use std::path::PathBuf;

/// A request that the rules of the ledger forbid. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No such account.
    #[error("no account '{account}'")]
    UnknownAccount {
        /// The name.
        account: AccountId,
    },
    /// The account is there, and is of another kind.
    #[error("account '{account}' exists: kind {stored}, asked for {found}")]
    OtherKind {
        /// The account.
        account: AccountId,
        /// The kind that was asked for.
        found: AccountKind,
        /// The kind that it has.
        stored: AccountKind,
    },
    /// The account cannot pay.
    #[error(
        "not enough in '{account}': available {available}, needed {needed}, short of {shortfall}"
    )]
    InsufficientFunds {
        /// The account.
        account: AccountId,
        /// Credits less debits, holds and the reservations of others.
        available: Credits,
        /// What was asked for.
        needed: Credits,
        /// What is missing.
        shortfall: Credits,
    },
    /// Nothing would move.
    #[error("transfer '{id}' of 0, expected more")]
    AmountZero {
        /// The transfer.
        id: TransferId,
    },
    /// A total of the account would be over the largest amount.
    #[error("transfer '{id}' of {amount}: a total of '{account}' would be over {}", Credits::MAX)]
    AmountOverflow {
        /// The transfer.
        id: TransferId,
        /// The account.
        account: AccountId,
        /// The transfer's amount.
        amount: Credits,
    },
    /// Debit and credit are the same account.
    #[error("transfer '{id}' has account '{account}' on both sides")]
    SameAccount {
        /// The transfer.
        id: TransferId,
        /// The account.
        account: AccountId,
    },
    /// No such hold.
    #[error("no pending transfer '{pending}'")]
    UnknownPending {
        /// The name.
        pending: TransferId,
    },
    /// The hold was posted.
    #[error("pending transfer '{pending}' was posted by '{by}'")]
    PendingPosted {
        /// The hold.
        pending: TransferId,
        /// The transfer that did it.
        by: TransferId,
    },
    /// The hold was voided.
    #[error("pending transfer '{pending}' was voided by '{by}'")]
    PendingVoided {
        /// The hold.
        pending: TransferId,
        /// The transfer that did it.
        by: TransferId,
    },
    /// The hold is overdue, whether or not it was voided yet.
    #[error(
        "pending transfer '{pending}' expired at {expires_unix_ms} ms, now is {now_unix_ms} ms"
    )]
    PendingExpired {
        /// The hold.
        pending: TransferId,
        /// Its end.
        expires_unix_ms: u64,
        /// The time of the request.
        now_unix_ms: u64,
    },
    /// More is posted than was held.
    #[error("post of {amount} over pending transfer '{pending}' of {held}")]
    OverPending {
        /// The hold.
        pending: TransferId,
        /// What was to be posted.
        amount: Credits,
        /// What is held.
        held: Credits,
    },
    /// More is debited than was reserved, or the reservation was used before.
    #[error("debits of {debits} from '{account}' over its reservation of {reserved}")]
    OverReservation {
        /// The account.
        account: AccountId,
        /// What the transfers would debit.
        debits: Credits,
        /// What is reserved.
        reserved: Credits,
    },
    /// The id belongs to a transfer with other content.
    #[error("transfer id '{id}' is taken: {field} {found}, stored {stored}")]
    IdReused {
        /// The id.
        id: TransferId,
        /// The first field that differs.
        field: &'static str,
        /// Its value now.
        found: String,
        /// Its value in the ledger.
        stored: String,
    },
}

/// The store failed. What it failed in was not done, in this process. When the store goes on failing until
/// the process ends, the next one may find the last of it done (`docs/formats/ledger.md`, Commits).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("ledger store is full: {text}")]
    Full {
        /// SQLite's words.
        text: String,
    },
    /// The disk failed.
    #[error("ledger store failed to read or write: {text}")]
    Io {
        /// SQLite's words.
        text: String,
    },
    /// A row broke a rule of its table.
    #[error("ledger store refused a row: {text}")]
    Constraint {
        /// SQLite's words.
        text: String,
    },
    /// The store has something in it that does not belong there.
    #[error("ledger store is damaged: {text}")]
    Damaged {
        /// What.
        text: String,
    },
    /// Anything else that SQLite says.
    #[error("ledger store: {text}")]
    Sql {
        /// SQLite's words.
        text: String,
    },
    /// A piece of work panicked. The host's fault.
    #[error("work on the ledger panicked: {text}")]
    Panicked {
        /// Its last words.
        text: String,
    },
    /// A work that others wait for cannot wait itself.
    #[error("ledger is written to from within its own writer")]
    WithinWriter,
    /// The ledger is closed.
    #[error("ledger is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as C;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(C::DiskFull) => Self::Full { text },
            Some(C::SystemIoFailure | C::CannotOpen | C::ReadOnly) => Self::Io { text },
            Some(C::ConstraintViolation) => Self::Constraint { text },
            Some(C::DatabaseCorrupt | C::NotADatabase) => Self::Damaged { text },
            // rusqlite's enum is open; all of these are "not done", whatever their name.
            Some(_) => Self::Sql { text },
            None => match error {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..) => Self::Damaged { text },
                _ => Self::Sql { text },
            },
        }
    }
}

/// Why a piece of work on the ledger came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The rules forbid it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A ledger that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("ledger {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Another process, or another part of this one, writes to it.
    #[error("ledger {path} is open for writing elsewhere: its lock {lock} is held")]
    Locked {
        /// Where.
        path: PathBuf,
        /// The file that is locked.
        lock: PathBuf,
    },
    /// The file is another program's database.
    #[error("{path} is no ledger: application id {found:#x}, expected {expected:#x}")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// The id in the file.
        found: i32,
        /// That of ledgers.
        expected: i32,
    },
    /// A newer version of this program made its tables.
    #[error(
        "ledger {path} is newer than this program: tables of '{component}' have version {found}, known up \
         to {known}"
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// Whose tables.
        component: String,
        /// Their version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// An older version of this program made its tables, and whoever only reads cannot change them.
    #[error(
        "ledger {path} is older than this program: tables of '{component}' have version {found}, needed \
         {needed}; open it for writing first"
    )]
    Older {
        /// Where.
        path: PathBuf,
        /// Whose tables.
        component: String,
        /// Their version.
        found: u32,
        /// The version that is needed.
        needed: u32,
    },
    /// The tables could not be brought to the version of this program. They are as they were.
    #[error("ledger {path}: migration of '{component}' to version {version}: {source}")]
    Migration {
        /// Where.
        path: PathBuf,
        /// Whose tables.
        component: String,
        /// The version that was not reached.
        version: u32,
        /// What went wrong.
        source: StoreError,
    },
    /// The store failed.
    #[error("ledger {path}: {source}")]
    Store {
        /// Where.
        path: PathBuf,
        /// How.
        source: StoreError,
    },
}
