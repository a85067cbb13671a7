//! Connections to the database file, set up for writing or for reading.

use crate::error::StoreError;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{path::Path, time::Duration};

/// How long a statement waits for a lock. Locks are held for moments: while another process recovers
/// the log, or closes the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements that stay prepared: all of the ledger's, and as many of an extension.
const STATEMENTS: usize = 64;

/// The writer's pages in memory, in KiB: the inner pages of every table and index up to some ten
/// million transfers, and the leaves that are written to. No more: when pages of a B-tree were put in
/// order, SQLite looks at each page in its cache at the end of the transaction.
const WRITER_CACHE_KIB: i64 = 8_192;

/// A reader's pages in memory, in KiB. Beside it there is the kernel's cache.
const READER_CACHE_KIB: i64 = 4_096;

/// What is left of the log's file when it starts again, in bytes: twice the size at which it is
/// brought back. A reader that held on to the log for long leaves no large file behind.
const LOG_BYTES_MAX: i64 = 128 << 20;

/// The one that writes.
pub(crate) fn for_writing(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let connection =
        open(path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let text = format!("journal mode {mode}, expected wal");
        return Err(StoreError::Sql { text });
    }
    // Every commit is on the disk before it is answered.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    // The writer does it itself, after the answers.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

/// The one that brings the log back while another writes.
pub(crate) fn for_checkpoints(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let connection = open(path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// One of those that read.
pub(crate) fn for_reading(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let connection = open(path, vfs, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

fn open(path: &Path, vfs: Option<&str>, flags: OpenFlags) -> Result<Connection, StoreError> {
    // A connection is used by one thread at a time: no lock of SQLite's own.
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Plans do not depend on the values that are bound. Without this, a table with a partial index has
    // its statements prepared again for every execution: a quarter of the writer's time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
