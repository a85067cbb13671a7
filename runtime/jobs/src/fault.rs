//! Errors: the host's own failures, and what a caller or publisher is refused.

use crate::{
    access_key::AccessKeyId, books::BooksError, price::PriceError, queue::Full,
    spending::SpendError,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{ArchiveError, CanonicalError, InputError, ModelError};
use fuelbox_ledger::{LedgerError, OpenError, Rejected, StoreError};
use fuelbox_receipt::{KeyId, KeyStoreError, PackageSignatureError};
use std::io;

/// The host's own failure. Nothing is billed, and what was held is free again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostFault {
    /// The box.
    #[error(transparent)]
    Engine(#[from] ModelError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files of inputs and outputs.
    #[error("blobs: {0}")]
    Blobs(#[source] io::Error),
    /// Content that should be there and is not.
    #[error("content {digest} is not kept any more")]
    BlobMissing { digest: Digest },
    /// Stored content that is not what was stored.
    #[error("stored content: {0}")]
    Content(#[from] CanonicalError),
    /// The file of a published package.
    #[error("package {digest}: {text}")]
    Package { digest: Digest, text: String },
    /// A job that brought its worker down, again and again.
    #[error("job was started {attempts} times and never ended")]
    Attempts { attempts: u64 },
    /// fuelbox itself.
    #[error("a worker failed: {text}")]
    Worker { text: String },
    /// The books say something that cannot be.
    #[error("books: {0}")]
    Books(String),
}

impl From<LedgerError> for HostFault {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => Self::Store(error),
            LedgerError::Rejected(error) => Self::Books(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for HostFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Why there is no job, or nothing to say of one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum JobError {
    /// No such package.
    #[error("no package '{found}' is published here")]
    UnknownPackage { found: String },
    /// No such job.
    #[error("no job '{found}'")]
    UnknownJob { found: String },
    /// The caller's tensors do not fit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A parameter twice.
    #[error("parameter '{name}': given twice")]
    ParameterTwice { name: String },
    /// A limit beyond the host's.
    #[error("{what} limit over the host's: found {found}, allowed {allowed}")]
    Limit { what: &'static str, found: u64, allowed: u64 },
    /// A key that is empty, too long, or has other characters than it should.
    #[error("key '{found}': allowed are 1 to 255 printable ASCII characters")]
    Key { found: String },
    /// The key belongs to another request.
    #[error("key '{key}' was used for another request: job {job}")]
    KeyReused { key: String, job: String },
    /// The key's job is not done yet.
    #[error("key '{key}': its job is not done yet")]
    InFlight { key: String },
    /// No account, no money, or another rule of the ledger.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The access key may not spend that much.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// No price.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// No room.
    #[error(transparent)]
    Busy(#[from] Full),
    /// Its shapes were paid for when it came, and made room for others before it began: nothing is held
    /// for their load.
    #[error(
        "the load for these input shapes was forgotten while the job waited: send it again, it holds the price of one then"
    )]
    Forgotten,
    /// The deadline or the caller ended the job before it began.
    #[error("the job was cancelled before it began")]
    CancelledEarly,
    /// There is nothing left to cancel.
    #[error("job {job} has ended: {state}")]
    Ended { job: String, state: &'static str },
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

impl From<LedgerError> for JobError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Rejected(error) => Self::Rejected(error),
            LedgerError::Store(error) => Self::Fault(error.into()),
        }
    }
}

impl From<BooksError> for JobError {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Ledger(error) => error.into(),
            BooksError::Ended { job, state } => Self::Ended { job: job.to_string(), state },
            BooksError::UnknownJob { job } => Self::UnknownJob { found: job.to_string() },
            BooksError::KeyTaken { key } => Self::InFlight { key },
            BooksError::Name(error) => Self::Fault(HostFault::Books(error.to_string())),
        }
    }
}

impl From<BooksError> for HostFault {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Ledger(error) => error.into(),
            error @ (BooksError::Ended { .. }
            | BooksError::UnknownJob { .. }
            | BooksError::KeyTaken { .. }
            | BooksError::Name(_)) => Self::Books(error.to_string()),
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

/// Why a package is not published.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublishError {
    /// Not a package.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The guest is refused, or does not load the model: billed then.
    #[error(transparent)]
    Model(ModelError),
    /// A load that takes more than it may.
    #[error("the model takes {found} fuel to load, the limit is {allowed}")]
    LoadLimit { found: u64, allowed: u64 },
    /// The model says something else of itself than its manifest.
    #[error("package: its manifest has another signature than its model")]
    Signature,
    /// A golden case that comes out otherwise.
    #[error("package: golden case '{name}': {text}")]
    Golden { name: String, text: String },
    /// The name and version belong to another package.
    #[error(
        "package '{name}' version '{version}' is published already, as {digest}; a change is a new version"
    )]
    Taken { name: String, version: String, digest: Digest },
    /// The name belongs to somebody else.
    #[error("package name '{name}' belongs to another publisher")]
    NameOwned { name: String },
    /// The name is in a name space of somebody else, or of nobody.
    #[error("package name '{name}' is in name space '{space}', which is not the publisher's")]
    Space { name: String, space: String },
    /// The access key is for other name spaces.
    #[error("access key {key} may not publish '{name}': it is for its name spaces alone")]
    KeySpaces { key: AccessKeyId, name: String },
    /// No signature where one is needed.
    #[error("package name '{name}' needs a signature by a key of its publisher")]
    Unsigned { name: String },
    /// Signed by a key that is not the account's, or was revoked.
    #[error("package signature: key {id} is not among the publisher's keys")]
    PublisherKey { id: KeyId },
    /// A signature of something else, or none at all.
    #[error(transparent)]
    PackageSignature(#[from] PackageSignatureError),
    /// The access key may not spend that much.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// The account is no publisher's.
    #[error("account '{account}' is of kind {kind}, publishers have the kind publisher")]
    NoPublisher { account: String, kind: String },
    /// No account, no money.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// No price.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

impl From<LedgerError> for PublishError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Rejected(error) => Self::Rejected(error),
            LedgerError::Store(error) => Self::Fault(error.into()),
        }
    }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<ModelError> for PublishError {
    fn from(error: ModelError) -> Self {
        if error.is_host_fault() { Self::Fault(error.into()) } else { Self::Model(error) }
    }
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FolderError {
    /// The system refused.
    #[error("data folder {path}: {source}")]
    Io { path: String, source: io::Error },
    /// Others can read it.
    #[error("data folder {path}: mode {found:o} lets others in, allowed is 700")]
    Open { path: String, found: u32 },
    /// The database.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The host's keys.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The price schedule.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// What a crash left could not be put in order.
    #[error("recovery: {0}")]
    Recovery(#[from] HostFault),
}
