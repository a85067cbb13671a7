//! Records: what the store says of packages, jobs, receipts and their cost. Reading only.

use crate::{
    catalogue::{Published, Quote},
    fault::HostFault,
    job::{End, JobId, JobRecord, Priority, State},
    packages::Visibility,
    tables::{self, LogTiles, credits, unsigned},
};
use fuelbox_digest::Digest;
use fuelbox_engine::Manifest;
use fuelbox_ledger::{AccountId, Credits, Reader};
use fuelbox_receipt::{Envelope, KeyId, PackageSignature, SignedPackage, log::Tree};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::collections::HashMap;

/// The store, for reading.
pub struct Records<'a> {
    pub(crate) connection: &'a Connection,
}

/// A published package.
#[derive(Clone, Debug, PartialEq)]
pub struct PackageRecord {
    /// Its identity.
    pub digest: Digest,
    /// Of the manifest.
    pub name: String,
    /// Of the manifest.
    pub version: String,
    /// Who earns by it.
    pub publisher: AccountId,
    /// Fuel of the loads when it was published.
    pub load_fuel: u64,
    /// What publishing cost.
    pub load_credits: Credits,
    /// When.
    pub published_unix_ms: u64,
    /// Who sees and runs it.
    pub visibility: Visibility,
    /// Why it should not be used any more; none: it may be.
    pub deprecated: Option<String>,
    /// By a key of its publisher.
    pub signature: Option<PackageSignature>,
}

/// Which jobs are wanted.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this account alone.
    pub account: Option<AccountId>,
    /// In this state alone.
    pub state: Option<State>,
    /// Older than this one: the last of the page before.
    pub before: Option<JobId>,
}

/// What usage is added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// Who paid.
    Account,
    /// What ran.
    Package,
}

/// Jobs, fuel and money of one account or package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageLine {
    /// The account, or `NAME:VERSION` of the package.
    pub name: String,
    /// Jobs that ended, of every kind.
    pub jobs: u64,
    /// Of which the model answered.
    pub succeeded: u64,
    /// Of which the guest failed.
    pub failed: u64,
    /// Fuel of runs.
    pub fuel: u64,
    /// Fuel of loads that jobs paid for.
    pub load_fuel: u64,
    /// All that was paid.
    pub credits: Credits,
}

/// A receipt in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its place.
    pub index: u64,
    /// The job's.
    pub job: JobId,
    /// Signed.
    pub envelope: Envelope,
}

/// What a job was asked and what it said, for its owner and for replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) parameters: Vec<u8>,
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) log: Option<String>,
    pub(crate) request: Digest,
    pub(crate) attempts: u64,
    pub(crate) load_limit: Option<u64>,
    pub(crate) hold: Credits,
    pub(crate) deadline_unix_ms: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) schedule: Digest,
}

const JOB_COLUMNS: &str = "id, account, package, state, priority, submitted_unix_ms, finished_unix_ms, seed,
    input, fuel_limit, memory_limit, verdict, output, fuel, memory_bytes, load_fuel, credits, receipt, detail,
    access_key";

/// Rows of a page, at most.
pub const PAGE_ROWS_MAX: usize = 1_000;

impl<'a> Records<'a> {
    /// Reads through a reader of the ledger.
    pub fn new(reader: &'a Reader) -> Self {
        Self { connection: reader.connection() }
    }

    /// A package by name and version.
    ///
    /// # Errors
    /// When the store fails.
    pub fn package(&self, name: &str, version: &str) -> Result<Option<PackageRecord>, HostFault> {
        self.package_where("name = ?1 AND version = ?2", params![name, version])
    }

    /// The package of this name that was published last; of the deprecated ones only when there is no
    /// other.
    ///
    /// # Errors
    /// When the store fails.
    pub fn latest(&self, name: &str) -> Result<Option<PackageRecord>, HostFault> {
        self.package_where(
            "name = ?1 ORDER BY deprecated IS NOT NULL, published_unix_ms DESC, digest LIMIT 1",
            params![name],
        )
    }

    /// A package by what people call it: a digest, `NAME`, or `NAME:VERSION`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find_package(&self, text: &str) -> Result<Option<PackageRecord>, HostFault> {
        if let Ok(digest) = text.parse::<Digest>() {
            return self.package_where("digest = ?1", params![digest.as_bytes()]);
        }
        match text.split_once(':') {
            Some((name, version)) => self.package(name, version),
            None => self.latest(text),
        }
    }

    /// All packages, the latest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn packages(&self) -> Result<Vec<PackageRecord>, HostFault> {
        let sql = format!(
            "SELECT {PACKAGE_COLUMNS} FROM package ORDER BY published_unix_ms DESC, digest"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let rows = select.query_map([], package_record)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn package_where(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Option<PackageRecord>, HostFault> {
        let sql = format!("SELECT {PACKAGE_COLUMNS} FROM package WHERE {condition}");
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row(values, package_record).optional()?)
    }

    /// A package with all that jobs of it need.
    pub(crate) fn published(&self, digest: &Digest) -> Result<Option<Published>, HostFault> {
        let sql =
            "SELECT manifest, publisher, visibility, load_fuel FROM package WHERE digest = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        let read = |row: &Row<'_>| {
            let (manifest, publisher) = (row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?);
            Ok((manifest, publisher, visibility(row, 2)?, unsigned(row, 3)?))
        };
        let Some((manifest, publisher, visibility, published_load_fuel)) =
            select.query_row([digest.as_bytes()], read).optional()?
        else {
            return Ok(None);
        };
        let damaged = |text: String| HostFault::Package { digest: *digest, text };
        let manifest = Manifest::parse(&manifest).map_err(|error| damaged(error.to_string()))?;
        let publisher = tables::parsed(&publisher)?;
        let quotes = self.quotes(digest)?;
        let sql = "SELECT shapes, load_fuel FROM shape WHERE package = ?1 ORDER BY paid_unix_ms";
        let mut select = self.connection.prepare_cached(sql)?;
        let shapes = select.query_map([digest.as_bytes()], |row| {
            Ok((Digest::from_bytes(row.get(0)?), unsigned(row, 1)?))
        })?;
        let (shapes, load_fuels) = shapes.collect::<Result<(Vec<_>, Vec<_>), _>>()?;
        let last_load_fuel = load_fuels.last().copied().unwrap_or(published_load_fuel);
        let readers = match visibility {
            Visibility::Public => None,
            Visibility::Private => Some(self.readers(digest)?),
        };
        let published =
            Published::new(*digest, manifest, publisher, quotes, readers, shapes, last_load_fuel);
        Ok(Some(published))
    }

    /// What jobs of a package took when it was published, by the digest of their shapes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn quotes(&self, package: &Digest) -> Result<HashMap<Digest, Quote>, HostFault> {
        let sql = "SELECT shapes, fuel, memory_bytes FROM quote WHERE package = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map([package.as_bytes()], |row| {
            let quote = Quote { fuel: unsigned(row, 1)?, memory_bytes: unsigned(row, 2)? };
            Ok((Digest::from_bytes(row.get(0)?), quote))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A job.
    ///
    /// # Errors
    /// When the store fails.
    pub fn job(&self, id: &JobId) -> Result<Option<JobRecord>, HostFault> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM job WHERE id = ?1");
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_row([id.as_bytes()], job_record).optional()?)
    }

    /// Jobs, the latest first, up to `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn jobs(&self, filter: &JobFilter, limit: usize) -> Result<Vec<JobRecord>, HostFault> {
        let sql = format!(
            "SELECT {JOB_COLUMNS} FROM job WHERE (?1 IS NULL OR account = ?1)
             AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let rows = select.query_map(
            params![
                filter.account.as_ref().map(AccountId::as_str),
                filter.state.map(State::name),
                filter.before.as_ref().map(JobId::as_bytes),
                limit.min(PAGE_ROWS_MAX) as i64
            ],
            job_record,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The job of an account's key.
    pub(crate) fn keyed(&self, account: &AccountId, key: &str) -> Result<Option<JobId>, HostFault> {
        let sql = "SELECT id FROM job WHERE account = ?1 AND key = ?2";
        let mut select = self.connection.prepare_cached(sql)?;
        let id =
            select.query_row([account.as_str(), key], |row| Ok(JobId::from_bytes(row.get(0)?)));
        Ok(id.optional()?)
    }

    /// Jobs that have not ended, the earliest first.
    pub(crate) fn open_jobs(&self) -> Result<Vec<JobId>, HostFault> {
        let sql = "SELECT id FROM job WHERE state IN ('queued', 'running') ORDER BY id";
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map([], |row| Ok(JobId::from_bytes(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn details(&self, id: &JobId) -> Result<Option<Details>, HostFault> {
        let sql = "SELECT parameters, reply, log, request, attempts, load_limit, hold, deadline_unix_ms, key,
            schedule FROM job WHERE id = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        let details = select.query_row([id.as_bytes()], |row| {
            Ok(Details {
                parameters: row.get(0)?,
                reply: row.get(1)?,
                log: row.get(2)?,
                request: Digest::from_bytes(row.get(3)?),
                attempts: unsigned(row, 4)?,
                load_limit: u64::try_from(row.get::<_, i64>(5)?).ok(),
                hold: credits(row, 6)?,
                deadline_unix_ms: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
                key: row.get(8)?,
                schedule: Digest::from_bytes(row.get(9)?),
            })
        });
        Ok(details.optional()?)
    }

    /// What the guest of a job printed, and the error text, if any.
    ///
    /// # Errors
    /// When the store fails.
    pub fn log_text(&self, id: &JobId) -> Result<Option<String>, HostFault> {
        Ok(self.details(id)?.and_then(|details| details.log))
    }

    /// A job's receipt.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt(&self, id: &JobId) -> Result<Option<Logged>, HostFault> {
        let found = tables::receipt(self.connection, id)?;
        Ok(found.map(|(index, envelope)| Logged { index, job: *id, envelope }))
    }

    /// Receipts in the log's order, from an index on.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipts(&self, first: u64, limit: usize) -> Result<Vec<Logged>, HostFault> {
        let sql = "SELECT idx, job, key_id, signature, payload FROM receipt WHERE idx >= ?1
            ORDER BY idx LIMIT ?2";
        let mut select = self.connection.prepare_cached(sql)?;
        let limit = limit.min(PAGE_ROWS_MAX) as i64;
        let rows = select.query_map(params![first.cast_signed(), limit], |row| {
            Ok(Logged {
                index: unsigned(row, 0)?,
                job: JobId::from_bytes(row.get(1)?),
                envelope: tables::envelope(row, 2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many receipts the log has.
    ///
    /// # Errors
    /// When the store fails.
    pub fn log_size(&self) -> Result<u64, HostFault> {
        Ok(tables::log_size(self.connection)?)
    }

    /// The root of the log's tree at this size.
    ///
    /// # Errors
    /// When the store fails, or the log is shorter.
    pub fn log_root(&self, size: u64) -> Result<Digest, HostFault> {
        let tree = Tree::load(size, &LogTiles(self.connection));
        Ok(tree.map_err(|error| HostFault::Books(error.to_string()))?.root())
    }

    /// The log's tiles.
    pub fn tiles(&self) -> impl fuelbox_receipt::log::Tiles<Error = rusqlite::Error> + use<'a> {
        LogTiles(self.connection)
    }

    /// A price schedule that receipts name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn schedule(&self, digest: &Digest) -> Result<Option<Vec<u8>>, HostFault> {
        let sql = "SELECT content FROM schedule WHERE digest = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        Ok(select.query_row([digest.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Jobs that ended since then, added up, the most expensive first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn usage(&self, by: UsageBy, since_unix_ms: u64) -> Result<Vec<UsageLine>, HostFault> {
        self.usage_where(by, since_unix_ms, None)
    }

    pub(crate) fn usage_where(
        &self,
        by: UsageBy,
        since_unix_ms: u64,
        account: Option<&AccountId>,
    ) -> Result<Vec<UsageLine>, HostFault> {
        let name = match by {
            UsageBy::Account => "account",
            UsageBy::Package => {
                "(SELECT name || ':' || version FROM package WHERE package.digest = job.package)"
            }
        };
        // Names of jobs begin with their time: those of the index before it are not looked at. A job
        // may take a while from its name to its end, so the end decides.
        let sql = format!(
            "SELECT {name} AS name, count(*), sum(state = 'succeeded'), sum(state = 'failed'),
             coalesce(sum(fuel), 0), coalesce(sum(load_fuel), 0), coalesce(sum(credits), 0) AS paid
             FROM job WHERE finished_unix_ms >= ?1 AND (?2 IS NULL OR account = ?2) GROUP BY name ORDER BY paid DESC, name"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let rows = select.query_map(
            params![since_unix_ms.cast_signed(), account.map(AccountId::as_str)],
            |row| {
                Ok(UsageLine {
                    name: row.get(0)?,
                    jobs: unsigned(row, 1)?,
                    succeeded: unsigned(row, 2)?,
                    failed: unsigned(row, 3)?,
                    fuel: unsigned(row, 4)?,
                    load_fuel: unsigned(row, 5)?,
                    credits: credits(row, 6)?,
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(crate) const PACKAGE_COLUMNS: &str =
    "digest, name, version, publisher, load_fuel, load_credits,
    published_unix_ms, visibility, deprecated, signature_key, signature";

pub(crate) fn package_record(row: &Row<'_>) -> rusqlite::Result<PackageRecord> {
    let digest = Digest::from_bytes(row.get(0)?);
    let (name, version): (String, String) = (row.get(1)?, row.get(2)?);
    let signature = match (row.get::<_, Option<[u8; 32]>>(9)?, row.get(10)?) {
        (Some(key), Some(signature)) => {
            let (name, version) = (name.clone(), version.clone());
            let package = SignedPackage { digest, name, version };
            Some(PackageSignature::from_parts(package, KeyId::from_bytes(key), signature))
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    Ok(PackageRecord {
        digest,
        name,
        version,
        publisher: tables::parsed(&row.get::<_, String>(3)?)?,
        load_fuel: unsigned(row, 4)?,
        load_credits: credits(row, 5)?,
        published_unix_ms: unsigned(row, 6)?,
        visibility: visibility(row, 7)?,
        deprecated: row.get(8)?,
        signature,
    })
}

fn visibility(row: &Row<'_>, column: usize) -> rusqlite::Result<Visibility> {
    let name = row.get::<_, String>(column)?;
    let unknown = || format!("visibility '{name}'").into();
    Visibility::from_name(&name)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, unknown()))
}

fn job_record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let end = match row.get::<_, Option<[u8; 32]>>(17)? {
        None => None,
        Some(receipt) => Some(End {
            verdict: row.get(11)?,
            output: Digest::from_bytes(row.get(12)?),
            fuel: unsigned(row, 13)?,
            memory_bytes_peak: unsigned(row, 14)?,
            load_fuel: row.get::<_, Option<i64>>(15)?.map(i64::cast_unsigned),
            credits: credits(row, 16)?,
            receipt: Digest::from_bytes(receipt),
        }),
    };
    let access_key = row.get::<_, Option<String>>(19)?;
    Ok(JobRecord {
        id: JobId::from_bytes(row.get(0)?),
        account: tables::parsed(&row.get::<_, String>(1)?)?,
        package: Digest::from_bytes(row.get(2)?),
        state: tables::state(&row.get::<_, String>(3)?)?,
        priority: Priority::new(row.get(4)?).unwrap_or_default(),
        submitted_unix_ms: unsigned(row, 5)?,
        finished_unix_ms: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
        seed: unsigned(row, 7)?,
        input: Digest::from_bytes(row.get(8)?),
        fuel_limit: unsigned(row, 9)?,
        memory_limit_bytes: unsigned(row, 10)?,
        end,
        detail: row.get(18)?,
        access_key: access_key.map(|id| tables::parsed(&id)).transpose()?,
    })
}
