//! Jobs: every job is paid for, exactly once, and leaves a signed receipt that anyone can replay.
//!
//! Joins the box, the ledger and the proof:
//!
//! ```text
//! package  -> publish -> catalogue (model, shapes, quotes)
//! request  -> admit (check, price, hold) -> queue -> worker (execute, bill, receipt)
//!          -> books (post, log, rows: one transaction) -> answer
//! receipt  -> replay -> differences
//! ```
//!
//! A guest's failure is a value and is billed. A host's failure is a [`HostFault`] and is not.
//! Only `price` knows fuel and credits. Knows nothing of networks, terminals or async.

mod steps;
mod fault;
mod limits;
mod price;
mod job;
mod folder;
mod tables;
mod records;
mod blobs;
mod schedule_file;
mod accounts;
mod access_key;
mod access_rows;
mod access;
mod publishers;
mod spending;
mod webhooks;
mod views;
mod shapes;
mod catalogue;
mod claims;
mod packages;
mod package_rows;
mod publish;
mod keys_in_flight;
mod admit;
mod queue;
mod execute;
mod books;
mod worker;
mod shared;
mod sweep;
mod janitor;
mod waiting;
mod recover;
mod host;
mod look;
mod replay;

pub use access::{ACCESS_REFUSED, Access, AccessError, AccessKeyError, NewAccessKey};
pub use access_key::{
    AccessKey, AccessKeyId, Grant, ParseAccessKeyIdError, Scope, Scopes, Secret, space_of,
};
pub use accounts::Accounts;
pub use blobs::{BlobFolder, Blobs, Seen};
pub use books::BooksError;
pub use catalogue::Quote;
pub use execute::unpack_fuel;
pub use fault::{FolderError, HostFault, JobError, PublishError};
pub use folder::{Config, DataFolder};
pub use host::Host;
pub use job::{
    End, Finished, JobId, JobRecord, JobRequest, LimitsWanted, ParseJobIdError, Priority, Settled,
    State, Times,
};
pub use limits::{HostLimits, Keep};
pub use look::Look;
pub use packages::{PackageChange, PackageError, Packages, Visibility};
pub use price::{Bill, PriceError, Schedule};
pub use publish::{Publication, PublishRequest};
pub use publishers::{PublisherError, PublisherKey, Publishers, Space, SpaceError};
pub use queue::{Full, QueueLimits};
pub use records::{JobFilter, Logged, PAGE_ROWS_MAX, PackageRecord, Records, UsageBy, UsageLine};
pub use replay::{Replay, ReplayError, Sample, can_replay, replay};
pub use shared::Ear;
pub use spending::SpendError;
#[cfg(feature = "crash-points")]
pub use steps::CRASH_VARIABLE;
pub use steps::Step;
pub use views::{
    EarningLine, PackageCursor, PackageFilter, ParsePackageCursorError, UsageFilter, Viewer,
};
pub use waiting::{Begun, Canceller, Started, Waiting};
pub use webhooks::{Webhook, WebhookState, Webhooks};
