//! The data folder: where a host keeps things, and what it chooses.
//!
//! ```text
//! DATA/fuelbox.db     accounts, jobs, receipts, the log's tiles (and SQLite's files beside it)
//! DATA/prices.json    the price schedule
//! DATA/keys/          the host's keys
//! DATA/packages/      published packages, by digest
//! DATA/blobs/         large inputs and outputs, by digest
//! ```
//!
//! Whoever only reads needs no more than this.

use crate::{
    fault::FolderError,
    limits::{HostLimits, Keep},
    queue::QueueLimits,
    tables,
};
use fuelbox_digest::Digest;
use fuelbox_ledger::Reader;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What a host chooses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers; one for each core that the process may use when not given. None at all is for those
    /// who only look after accounts and jobs.
    pub workers: Option<usize>,
    /// What may wait.
    pub queue: QueueLimits,
    /// What callers may ask for.
    pub limits: HostLimits,
    /// What is kept of inputs and outputs after their job.
    pub keep: Keep,
    /// Models that stay open between their jobs.
    pub models_open: usize,
    /// The name of the SQLite VFS; the default one when there is none.
    pub vfs: Option<String>,
}

impl Default for Config {
    /// Everything is kept for a while, and 64 models stay open.
    fn default() -> Self {
        Self {
            workers: None,
            queue: QueueLimits::default(),
            limits: HostLimits::default(),
            keep: Keep::default(),
            models_open: 64,
            vfs: None,
        }
    }
}

/// Where things are in a data folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// The data folder at this place. Nothing is looked at.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether somebody made it.
    pub fn exists(&self) -> bool {
        self.database().exists()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("fuelbox.db")
    }

    pub(crate) fn prices(&self) -> PathBuf {
        self.root.join("prices.json")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(crate) fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The file of a published package.
    pub fn package(&self, digest: &Digest) -> PathBuf {
        self.packages().join(format!("{}.fbx", digest.hex()))
    }

    /// Opens the database for reading, beside whoever works on it.
    ///
    /// # Errors
    /// When it is not there, or its tables are newer or older than this program.
    pub fn reader(&self) -> Result<Reader, FolderError> {
        let reader = Reader::open(self.database())?;
        tables::check_version(reader.connection(), &self.database())?;
        Ok(reader)
    }

    /// Makes the folder, private to its owner, or looks whether it still is.
    pub(crate) fn make(&self) -> Result<(), FolderError> {
        let io = |source| FolderError::Io { path: self.root.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(MODE).create(&self.root).map_err(io)?;
        let found = fs::metadata(&self.root).map_err(io)?.permissions().mode() & 0o777;
        if found & 0o077 != 0 {
            return Err(FolderError::Open { path: self.root.display().to_string(), found });
        }
        Ok(())
    }
}

/// Nobody else reads what callers sent, or the keys.
const MODE: u32 = 0o700;
