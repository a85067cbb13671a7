//! Views: what the store says to each who asks. What somebody may not see is not there for him.

use crate::{
    fault::HostFault,
    job::{JobId, JobRecord},
    records::{
        PACKAGE_COLUMNS, PAGE_ROWS_MAX, PackageRecord, Records, UsageBy, UsageLine, package_record,
    },
    tables::{self, credits, unsigned},
};
use fuelbox_digest::Digest;
use fuelbox_ledger::{AccountId, Credits};
use rusqlite::params;
use std::{fmt, str::FromStr};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Sees everything.
    Operator,
    /// Sees what is its own, and what is public.
    Account(AccountId),
    /// Sees what is public.
    Nobody,
}

impl Viewer {
    fn account(&self) -> Option<&str> {
        match self {
            Self::Account(account) => Some(account.as_str()),
            Self::Operator | Self::Nobody => None,
        }
    }
}

/// Whether a package is visible: `?1` is whether everything is, `?2` the account that asks.
const VISIBLE: &str = "(?1 OR visibility = 'public' OR publisher = ?2 OR EXISTS
    (SELECT 1 FROM reader WHERE reader.package = package.digest AND reader.account = ?2))";

/// Which packages are wanted.
#[derive(Clone, Debug, Default)]
pub struct PackageFilter {
    /// Of this name alone.
    pub name: Option<String>,
    /// Behind this place: that of the last of the page before.
    pub after: Option<PackageCursor>,
}

/// A place in a list of packages. Stays a place when the package there goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageCursor {
    published_unix_ms: u64,
    digest: Digest,
}

impl PackageCursor {
    /// The place of a package.
    pub fn of(package: &PackageRecord) -> Self {
        Self { published_unix_ms: package.published_unix_ms, digest: package.digest }
    }
}

impl fmt::Display for PackageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.published_unix_ms, self.digest.hex())
    }
}

/// The text is no place in a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("place '{found}' is none in a list of packages")]
pub struct ParsePackageCursorError {
    found: String,
}

impl FromStr for PackageCursor {
    type Err = ParsePackageCursorError;

    fn from_str(text: &str) -> Result<Self, ParsePackageCursorError> {
        let read = || -> Option<Self> {
            let (time, hex) = text.split_once('-')?;
            let digest = format!("sha256:{hex}").parse().ok()?;
            let published_unix_ms =
                time.parse().ok().filter(|ms| *ms <= i64::MAX.cast_unsigned())?;
            Some(Self { published_unix_ms, digest })
        };
        let found = || text.escape_debug().take(80).collect();
        let read = read().filter(|cursor| cursor.to_string() == text);
        read.ok_or_else(|| ParsePackageCursorError { found: found() })
    }
}

/// Which jobs are added up.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Those that ended since then.
    pub since_unix_ms: u64,
    /// Those of this account alone.
    pub account: Option<AccountId>,
}

/// What a publisher is told of the jobs of one of his packages: nothing of who they were for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarningLine {
    /// The package.
    pub digest: Digest,
    /// Of the manifest.
    pub name: String,
    /// Of the manifest.
    pub version: String,
    /// Jobs that ended, of every kind.
    pub jobs: u64,
    /// Of which the model answered.
    pub succeeded: u64,
    /// Of which the guest failed.
    pub failed: u64,
    /// Fuel of runs.
    pub fuel: u64,
    /// The publisher's part of what was paid.
    pub earned: Credits,
}

impl Records<'_> {
    /// As [`Records::find_package`], for somebody: the latest version is the latest that he may see.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find_package_for(
        &self,
        viewer: &Viewer,
        text: &str,
    ) -> Result<Option<PackageRecord>, HostFault> {
        let (all, account) = (*viewer == Viewer::Operator, viewer.account());
        if let Ok(digest) = text.parse::<Digest>() {
            let condition = format!("{VISIBLE} AND digest = ?3");
            return self.package_where(&condition, params![all, account, digest.as_bytes()]);
        }
        match text.split_once(':') {
            Some((name, version)) => {
                let condition = format!("{VISIBLE} AND name = ?3 AND version = ?4");
                self.package_where(&condition, params![all, account, name, version])
            }
            None => {
                let condition = format!(
                    "{VISIBLE} AND name = ?3
                     ORDER BY deprecated IS NOT NULL, published_unix_ms DESC, digest LIMIT 1"
                );
                self.package_where(&condition, params![all, account, text])
            }
        }
    }

    /// Packages that somebody may see, the latest first, up to `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn packages_for(
        &self,
        viewer: &Viewer,
        filter: &PackageFilter,
        limit: usize,
    ) -> Result<Vec<PackageRecord>, HostFault> {
        let sql = format!(
            "SELECT {PACKAGE_COLUMNS} FROM package WHERE {VISIBLE} AND (?3 IS NULL OR name = ?3)
             AND (?4 IS NULL OR (published_unix_ms, digest) < (?4, ?5))
             ORDER BY published_unix_ms DESC, digest DESC LIMIT ?6"
        );
        let after = filter.after.as_ref();
        let mut select = self.connection.prepare_cached(&sql)?;
        let rows = select.query_map(
            params![
                *viewer == Viewer::Operator,
                viewer.account(),
                filter.name,
                after.map(|after| after.published_unix_ms.cast_signed()),
                after.map(|after| *after.digest.as_bytes()),
                limit.min(PAGE_ROWS_MAX) as i64
            ],
            package_record,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Versions of a name that somebody may see, the latest first, up to [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn versions(&self, viewer: &Viewer, name: &str) -> Result<Vec<PackageRecord>, HostFault> {
        let filter = PackageFilter { name: Some(name.to_owned()), after: None };
        self.packages_for(viewer, &filter, PAGE_ROWS_MAX)
    }

    /// Accounts that see and run a package besides its publisher while it is private.
    ///
    /// # Errors
    /// When the store fails.
    pub fn readers(&self, package: &Digest) -> Result<Vec<AccountId>, HostFault> {
        let sql = "SELECT account FROM reader WHERE package = ?1 ORDER BY account";
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map([package.as_bytes()], |row| {
            tables::parsed::<AccountId>(&row.get::<_, String>(0)?)
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A job that somebody may see: his own, or any for the operator.
    ///
    /// # Errors
    /// When the store fails.
    pub fn job_for(&self, viewer: &Viewer, id: &JobId) -> Result<Option<JobRecord>, HostFault> {
        let found = self.job(id)?;
        Ok(found.filter(|job| match viewer {
            Viewer::Operator => true,
            Viewer::Account(account) => job.account == *account,
            Viewer::Nobody => false,
        }))
    }

    /// Jobs added up, the most expensive first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn usage_of(&self, by: UsageBy, filter: &UsageFilter) -> Result<Vec<UsageLine>, HostFault> {
        self.usage_where(by, filter.since_unix_ms, filter.account.as_ref())
    }

    /// Jobs of a publisher's packages that ended since then, added up by package, the one that earned
    /// most first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn earnings(
        &self,
        publisher: &AccountId,
        since_unix_ms: u64,
    ) -> Result<Vec<EarningLine>, HostFault> {
        let sql = "SELECT digest, name, version, count(*), sum(state = 'succeeded'),
            sum(state = 'failed'), coalesce(sum(fuel), 0), coalesce(sum(share), 0) AS earned
            FROM package CROSS JOIN job ON job.package = package.digest
            WHERE publisher = ?1 AND finished_unix_ms >= ?2
            GROUP BY digest ORDER BY earned DESC, name, version";
        let mut select = self.connection.prepare_cached(sql)?;
        let values = params![publisher.as_str(), since_unix_ms.cast_signed()];
        let rows = select.query_map(values, |row| {
            Ok(EarningLine {
                digest: Digest::from_bytes(row.get(0)?),
                name: row.get(1)?,
                version: row.get(2)?,
                jobs: unsigned(row, 3)?,
                succeeded: unsigned(row, 4)?,
                failed: unsigned(row, 5)?,
                fuel: unsigned(row, 6)?,
                earned: credits(row, 7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
