//! The rows of jobs, receipts and packages, beside those of the ledger in one database: so a posting,
//! its receipt and its place in the log are one transaction.
//!
//! Invariant: a receipt's row number is its index in the log, and the log's tree covers all of them
//! after every commit.
//!
//! `docs/formats/store.md` has the columns.

use crate::{
    job::{JobId, State},
    steps::{Step, reach},
};
use fuelbox_digest::Digest;
use fuelbox_ledger::{Credits, Extension, OpenError};
use fuelbox_receipt::{
    Envelope, KeyId,
    log::{ENTRY_BYTES, HASH_BYTES, TILE_WIDTH, Tiles, Tree, bundle_entries, leaf_hash},
};
use rusqlite::{
    Connection, OptionalExtension, Row, params,
    types::{FromSql, Type},
};
use std::{cmp::Ordering, path::Path};

/// Content up to this size lies in the database, in the transaction of its job; larger content in a
/// file. SQLite reads and writes blobs below about 100 kB faster than a file system does
/// (sqlite.org/intern-v-extern-blob.html), and a file costs a sync of its own.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;

/// The tables, one script for each version.
pub(crate) const MIGRATIONS: &[&str] = &[
    VERSION_1,
    include_str!("migration-2.sql"),
    include_str!("migration-3.sql"),
    include_str!("migration-4.sql"),
];

const VERSION_1: &str = "
CREATE TABLE schedule (
    version INTEGER PRIMARY KEY,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    content BLOB NOT NULL
) STRICT;

CREATE TABLE package (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    publisher TEXT NOT NULL,
    manifest BLOB NOT NULL,
    load_fuel INTEGER NOT NULL CHECK (load_fuel >= 0),
    load_credits INTEGER NOT NULL CHECK (load_credits >= 0),
    published_unix_ms INTEGER NOT NULL,
    UNIQUE (name, version)
) STRICT;

CREATE TABLE quote (
    package BLOB NOT NULL REFERENCES package (digest),
    shapes BLOB NOT NULL CHECK (length(shapes) = 32),
    fuel INTEGER NOT NULL CHECK (fuel >= 0),
    memory_bytes INTEGER NOT NULL CHECK (memory_bytes >= 0),
    PRIMARY KEY (package, shapes)
) STRICT, WITHOUT ROWID;

CREATE TABLE shape (
    package BLOB NOT NULL REFERENCES package (digest),
    shapes BLOB NOT NULL CHECK (length(shapes) = 32),
    load_fuel INTEGER NOT NULL CHECK (load_fuel >= 0),
    paid_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (package, shapes)
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    account TEXT NOT NULL,
    package BLOB NOT NULL REFERENCES package (digest),
    state TEXT NOT NULL CHECK
        (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'faulted')),
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    submitted_unix_ms INTEGER NOT NULL,
    deadline_unix_ms INTEGER,
    finished_unix_ms INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    seed INTEGER NOT NULL,
    fuel_limit INTEGER NOT NULL,
    memory_limit INTEGER NOT NULL,
    load_limit INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    input BLOB NOT NULL CHECK (length(input) = 32),
    parameters BLOB NOT NULL,
    key TEXT,
    request BLOB NOT NULL CHECK (length(request) = 32),
    schedule BLOB NOT NULL CHECK (length(schedule) = 32),
    verdict TEXT,
    detail TEXT,
    output BLOB CHECK (length(output) = 32),
    fuel INTEGER,
    memory_bytes INTEGER,
    load_fuel INTEGER,
    credits INTEGER,
    receipt BLOB CHECK (length(receipt) = 32),
    receipt_idx INTEGER,
    reply BLOB,
    log TEXT,
    -- What was billed has a receipt, and nothing else has one.
    CHECK ((receipt IS NULL) = (credits IS NULL)),
    CHECK ((receipt IS NULL) = (receipt_idx IS NULL)),
    CHECK (state NOT IN ('succeeded', 'failed') OR receipt IS NOT NULL),
    CHECK (state NOT IN ('queued', 'running', 'faulted') OR receipt IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_account ON job (account, id);
CREATE INDEX job_open ON job (state) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX job_key ON job (account, key) WHERE key IS NOT NULL;

CREATE TABLE receipt (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    job BLOB NOT NULL CHECK (length(job) = 16),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    key_id BLOB NOT NULL CHECK (length(key_id) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE tile (
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    content BLOB, -- null when it is in a file
    bytes INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    UNIQUE (epoch, digest)
) STRICT;
CREATE INDEX blob_expires ON blob (expires_unix_ms);
";

/// The name of these tables' version in the ledger.
const COMPONENT: &str = "jobs";

/// Whether the tables are those of this program, for those who cannot change them.
pub(crate) fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sql = "SELECT coalesce(max(version), 0) FROM component WHERE name = ?1";
    let found = connection.query_row(sql, [COMPONENT], |row| row.get::<_, u32>(0));
    let store =
        |error: rusqlite::Error| OpenError::Store { path: path.into(), source: error.into() };
    let (found, needed) = (found.map_err(store)?, MIGRATIONS.len() as u32);
    let (path, component) = (path.into(), COMPONENT.into());
    match found.cmp(&needed) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(OpenError::Older { path, component, found, needed }),
        Ordering::Greater => Err(OpenError::Newer { path, component, found, known: needed }),
    }
}

/// What the writer keeps in memory beside the rows.
pub(crate) struct Tables {
    tree: Tree,
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self { tree: Tree::new() }
    }
}

impl Extension for Tables {
    fn component(&self) -> &'static str {
        COMPONENT
    }

    fn migrations(&self) -> &'static [&'static str] {
        MIGRATIONS
    }

    fn load(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let size = log_size(connection)?;
        self.tree = Tree::load(size, &LogTiles(connection)).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, error.to_string().into())
        })?;
        Ok(())
    }

    fn before_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO tile (level, idx, hashes) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
        )?;
        // Entries are the receipts' own digests, and hashes of the last 256 are made of those: writing
        // them out again with every commit would be an eighth of what a commit writes.
        for tile in self.tree.take_changed().tiles {
            if tile.level == 0 && tile.hashes.len() < TILE_WIDTH * HASH_BYTES {
                continue;
            }
            insert.execute(params![tile.level, tile.index.cast_signed(), tile.hashes])?;
        }
        reach(Step::BeforeCommit);
        Ok(())
    }
}

/// How many receipts there are.
pub(crate) fn log_size(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(idx) + 1, 0) FROM receipt";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// The log's tiles as they lie in the database. Entries are the receipts' digests.
pub(crate) struct LogTiles<'a>(pub(crate) &'a Connection);

impl Tiles for LogTiles<'_> {
    type Error = rusqlite::Error;

    fn hashes(&self, level: u8, index: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT hashes FROM tile WHERE level = ?1 AND idx = ?2";
        let mut select = self.0.prepare_cached(sql)?;
        let values = params![level, index.cast_signed()];
        let stored: Option<Vec<u8>> = select.query_row(values, |row| row.get(0)).optional()?;
        if stored.is_some() || level > 0 {
            return Ok(stored);
        }
        let entries = self.entries(index)?.and_then(|bytes| bundle_entries(&bytes));
        Ok(entries.map(|entries| entries.iter().flat_map(|e| *leaf_hash(e).as_bytes()).collect()))
    }

    fn entries(&self, index: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let width = TILE_WIDTH as u64;
        let first = index.saturating_mul(width);
        let sql = "SELECT digest FROM receipt WHERE idx >= ?1 AND idx < ?2 ORDER BY idx";
        let mut select = self.0.prepare_cached(sql)?;
        let end = first.saturating_add(width);
        let mut rows = select.query(params![first.cast_signed(), end.cast_signed()])?;
        let mut bytes = Vec::new();
        while let Some(row) = rows.next()? {
            let digest: [u8; HASH_BYTES] = row.get(0)?;
            bytes.extend_from_slice(&ENTRY_PREFIX);
            bytes.extend_from_slice(&digest);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// What stands before each entry of a bundle: its length, big-endian.
const ENTRY_PREFIX: [u8; ENTRY_BYTES - HASH_BYTES] = [0, HASH_BYTES as u8];

/// Adds a receipt to the log.
pub(crate) fn insert_receipt(
    tables: &mut Tables,
    connection: &Connection,
    job: &JobId,
    envelope: &Envelope,
    digest: &Digest,
) -> rusqlite::Result<u64> {
    let index = tables.tree.append(digest);
    let sql = "INSERT INTO receipt (idx, job, digest, key_id, signature, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        index.cast_signed(),
        job.as_bytes(),
        digest.as_bytes(),
        envelope.key_id().as_bytes(),
        envelope.signature(),
        envelope.payload(),
    ])?;
    Ok(index)
}

/// A receipt with its place in the log.
pub(crate) fn receipt(
    connection: &Connection,
    job: &JobId,
) -> rusqlite::Result<Option<(u64, Envelope)>> {
    let sql = "SELECT idx, key_id, signature, payload FROM receipt
        WHERE idx = (SELECT receipt_idx FROM job WHERE id = ?1)";
    let mut select = connection.prepare_cached(sql)?;
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), envelope(row, 1)?));
    select.query_row([job.as_bytes()], read).optional()
}

pub(crate) fn envelope(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Envelope> {
    let key_id = KeyId::from_bytes(row.get(first)?);
    let signature: [u8; 64] = row.get(first + 1)?;
    Ok(Envelope::from_parts(row.get(first + 2)?, key_id, signature))
}

/// Text as a value that is spelled like it.
pub(crate) fn parsed<T: std::str::FromStr>(text: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// All 64 bits of a column.
pub(crate) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// An amount.
pub(crate) fn credits(row: &Row<'_>, column: usize) -> rusqlite::Result<Credits> {
    let micros = row.get::<_, i64>(column)?;
    let credits = u64::try_from(micros).ok().and_then(Credits::from_micros);
    credits.ok_or_else(|| {
        let text = format!("an amount of {micros} micro-credits").into();
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, text)
    })
}

/// A state by its name.
pub(crate) fn state(name: &str) -> rusqlite::Result<State> {
    let unknown = || format!("job state '{name}'").into();
    State::from_name(name)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, unknown()))
}

/// Blobs of an epoch, 2 to this. Digests are random: in an index of all of them, every blob would write
/// a page of its own with each commit. Those of an epoch are on a dozen pages, which a commit writes once.
/// Equal content is there once in an epoch; to find content is to look into each, a few microseconds.
const EPOCH_BITS: u32 = 10;

/// Stores content, or lets what is there stay longer. `content` is none when it is in a file.
pub(crate) fn keep_blob(
    connection: &Connection,
    digest: &Digest,
    content: Option<&[u8]>,
    bytes: u64,
    expires_unix_ms: u64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO blob (epoch, digest, content, bytes, expires_unix_ms)
        VALUES ((SELECT coalesce(max(seq), 0) >> ?5 FROM blob), ?1, ?2, ?3, ?4)
        ON CONFLICT (epoch, digest) DO UPDATE
        SET expires_unix_ms = max(expires_unix_ms, excluded.expires_unix_ms)";
    connection.prepare_cached(sql)?.execute(params![
        digest.as_bytes(),
        content,
        bytes.cast_signed(),
        expires_unix_ms.cast_signed(),
        EPOCH_BITS
    ])?;
    Ok(())
}

/// Whether content is in the database, and the content if so: none when it is unknown, `Some(None)`
/// when it is in a file.
pub(crate) fn blob(
    connection: &Connection,
    digest: &Digest,
) -> rusqlite::Result<Option<Option<Vec<u8>>>> {
    let sql = "SELECT content FROM blob WHERE epoch = ?1 AND digest = ?2";
    of_blob(connection, sql, digest)
}

/// Bytes of content, wherever it is; none when it is unknown.
pub(crate) fn blob_bytes(
    connection: &Connection,
    digest: &Digest,
) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT bytes FROM blob WHERE epoch = ?1 AND digest = ?2";
    Ok(of_blob(connection, sql, digest)?.map(i64::cast_unsigned))
}

/// A column of the latest row of some content.
fn of_blob<T: FromSql>(
    connection: &Connection,
    sql: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<T>> {
    // One look at each end: both at once would read every row between them.
    let end = |sql: &str| -> rusqlite::Result<Option<i64>> {
        connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    };
    let (first, last) = (end("SELECT min(epoch) FROM blob")?, end("SELECT max(epoch) FROM blob")?);
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(None);
    };
    let mut select = connection.prepare_cached(sql)?;
    // Most are asked for soon after they came.
    for epoch in (first..=last).rev() {
        let found = select.query_row(params![epoch, digest.as_bytes()], |row| row.get(0));
        if let Some(found) = found.optional()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether content in a file has a row.
pub(crate) fn is_file_named(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM blob WHERE digest = ?1 AND content IS NULL)";
    connection.prepare_cached(sql)?.query_row([digest.as_bytes()], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_in_every_epoch_and_is_there_once_in_each() {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch(VERSION_1).expect("tables");
        assert_eq!(blob(&connection, &Digest::of(b"")).expect("read"), None);
        assert_eq!(blob_bytes(&connection, &Digest::of(b"")).expect("read"), None);
        let keep = |content: &[u8], expires| {
            keep_blob(&connection, &Digest::of(content), Some(content), 1, expires).expect("kept");
        };
        for number in 0..3_000_u32 {
            keep(&number.to_le_bytes(), 5);
            keep(b"again", number.into());
        }
        for number in 0..3_000_u32 {
            let content = number.to_le_bytes();
            let found = blob(&connection, &Digest::of(&content)).expect("read");
            assert_eq!(found, Some(Some(content.to_vec())), "{number}");
        }
        assert_eq!(blob(&connection, &Digest::of(b"none")).expect("read"), None);
        keep_blob(&connection, &Digest::of(b"file"), None, 1 << 40, 5).expect("kept");
        assert_eq!(blob(&connection, &Digest::of(b"file")).expect("read"), Some(None));
        assert_eq!(blob_bytes(&connection, &Digest::of(b"file")).expect("read"), Some(1 << 40));
        let sql = "SELECT count(*), count(DISTINCT epoch), max(expires_unix_ms) FROM blob
            WHERE digest = ?1";
        let again = connection.query_row(sql, [Digest::of(b"again").as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        assert_eq!(again, Ok((3, 3, 2_999)));
    }
}
