//! Rows of others in the ledger's transactions.

use rusqlite::Connection;

/// Tables, and what is kept in memory of them, that change together with the accounts.
///
/// It lives on the writer's thread. All that it writes is in the transaction of the transfers beside
/// it: both are there after a crash, or neither.
pub trait Extension: Send + 'static {
    /// The name of its tables' version. Never changes; `ledger` is taken.
    fn component(&self) -> &'static str;

    /// The statements that bring its tables from each version to the next, the first from nothing to
    /// version 1. What was released is never changed: a new version is a new entry.
    fn migrations(&self) -> &'static [&'static str];

    /// Reads again what it keeps in memory: after the ledger was opened, and whenever a transaction
    /// was rolled back.
    ///
    /// # Errors
    /// When the store fails. Nothing is written until it succeeds.
    fn load(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Writes what is still to be written, at the end of each transaction that changed anything.
    ///
    /// # Errors
    /// When the store fails: the transaction is rolled back.
    fn before_commit(&mut self, connection: &Connection) -> rusqlite::Result<()>;
}

/// No rows of others.
impl Extension for () {
    fn component(&self) -> &'static str {
        "none"
    }

    fn migrations(&self) -> &'static [&'static str] {
        &[]
    }

    fn load(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn before_commit(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
