//! Tables, and the way of a database from any older version to this one.
//!
//! `docs/formats/ledger.md` has the meaning of every column.

use crate::error::{OpenError, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::Path;

/// Tables that are versioned together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) migrations: &'static [&'static str],
}

/// The ledger's own tables.
pub(crate) const LEDGER: Component = Component { name: "ledger", migrations: &[VERSION_1] };

/// `fbld`: what tells a ledger from another program's database.
pub(crate) const APPLICATION_ID: i32 = 0x6662_6c64;

/// The versions themselves. Has no version of its own: it never changes.
const COMPONENTS: &str = "
CREATE TABLE component (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT, WITHOUT ROWID";

const VERSION_1: &str = "
CREATE TABLE account (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
    kind TEXT NOT NULL CHECK (kind IN ('operator', 'publisher', 'caller', 'revenue', 'escrow')),
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    created_unix_ms INTEGER NOT NULL CHECK (created_unix_ms >= 0),
    CONSTRAINT debits_are_covered
        CHECK (kind = 'operator' OR debits_pending <= credits_posted - debits_posted)
) STRICT;

CREATE TABLE transfer (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 88),
    purpose TEXT NOT NULL
        CHECK (purpose IN ('top_up', 'payout', 'refund', 'hold', 'charge', 'share', 'fee')),
    action TEXT NOT NULL CHECK (action IN ('direct', 'pending', 'post', 'void')),
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0 OR (amount = 0 AND action = 'post')),
    pending INTEGER,
    expires_unix_ms INTEGER CHECK (expires_unix_ms >= 0),
    recorded_unix_ms INTEGER NOT NULL CHECK (recorded_unix_ms >= 0),
    CHECK (debit <> credit),
    CHECK ((pending IS NOT NULL) = (action IN ('post', 'void'))),
    CHECK (expires_unix_ms IS NULL OR action = 'pending')
) STRICT;

CREATE UNIQUE INDEX transfer_pending ON transfer (pending) WHERE pending IS NOT NULL;

CREATE TABLE open_pending (
    seq INTEGER PRIMARY KEY,
    expires_unix_ms INTEGER
) STRICT;

CREATE INDEX open_pending_expires ON open_pending (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;

CREATE TABLE history (
    account INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID";

/// Brings the tables of every component to its newest version.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    components: &[Component],
) -> Result<(), OpenError> {
    let store = |error: rusqlite::Error| at(path)(error.into());
    if is_new(connection).map_err(store)? {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        transaction.execute_batch(COMPONENTS).map_err(store)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(store)?;
        transaction.commit().map_err(store)?;
    }
    // All are looked at before the first is changed.
    check_versions(connection, path, components)?;
    for component in components {
        let from = version(connection, component.name).map_err(store)?;
        let steps = component.migrations.iter().zip(1u32..).skip(from as usize);
        for (statements, to) in steps {
            let failed = |error: rusqlite::Error| OpenError::Migration {
                path: path.to_owned(),
                component: component.name.to_owned(),
                version: to,
                source: error.into(),
            };
            // Dropped before its commit, it rolls back.
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(failed)?;
            step(&transaction, component.name, statements, to).map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
    }
    Ok(())
}

fn step(
    transaction: &Transaction<'_>,
    component: &str,
    statements: &str,
    to: u32,
) -> rusqlite::Result<()> {
    transaction.execute_batch(statements)?;
    transaction.execute(
        "INSERT INTO component (name, version) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        (component, to),
    )?;
    Ok(())
}

/// Whether this is a ledger whose tables this program can read. `known` are those that may be newer
/// than the program; older ones are for [`migrate`].
pub(crate) fn check_versions(
    connection: &Connection,
    path: &Path,
    known: &[Component],
) -> Result<(), OpenError> {
    let store = |error: rusqlite::Error| at(path)(error.into());
    let found: i32 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(store)?;
    if found != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned(), found, expected: APPLICATION_ID });
    }
    for component in known {
        let found = version(connection, component.name).map_err(store)?;
        let known = component.migrations.len() as u32;
        if found > known {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                component: component.name.to_owned(),
                found,
                known,
            });
        }
    }
    Ok(())
}

/// As [`check_versions`], for those who cannot change what is older.
pub(crate) fn check_current(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    check_versions(connection, path, &[LEDGER])?;
    let found = version(connection, LEDGER.name).map_err(|error| at(path)(error.into()))?;
    let needed = LEDGER.migrations.len() as u32;
    if found < needed {
        let (path, component) = (path.to_owned(), LEDGER.name.to_owned());
        return Err(OpenError::Older { path, component, found, needed });
    }
    Ok(())
}

/// The version of a component's tables; 0 when there are none.
fn version(connection: &Connection, component: &str) -> rusqlite::Result<u32> {
    let query = "SELECT version FROM component WHERE name = ?1";
    let found = connection.query_row(query, [component], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// Whether nothing was ever written to this database.
fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(id == 0 && tables == 0)
}

/// The store failed while this file was opened.
pub(crate) fn at(path: &Path) -> impl Fn(StoreError) -> OpenError + '_ {
    move |source| OpenError::Store { path: path.to_owned(), source }
}
