//! The steps of a job that a crash may come between, by name.
//!
//! With the feature `crash-points`, a process that is started with `FUELBOX_CRASH_AT=STEP:N` kills
//! itself, without any chance to clean up, when it comes to a step for the N-th time. Without the
//! feature the calls are empty. Tests restart the process after each and look at the books.

/// Where a crash may come. What is true at each is in ARCHITECTURE.md, under "Crashes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    /// A package's file is there, its rows are not.
    PackageStored,
    /// A package's rows are written, not committed.
    PackageStaged,
    /// A package is committed, nobody knows.
    PackageCommitted,
    /// Funds are reserved in memory for a job whose caller waits.
    Reserved,
    /// Blobs of a job are stored, its rows are not.
    BlobsStored,
    /// A queued job's hold and rows are written, not committed.
    AdmitStaged,
    /// A queued job is committed, its owner does not know.
    AdmitCommitted,
    /// A worker has the job.
    Dequeued,
    /// The guest is done.
    Executed,
    /// The receipt is signed.
    Signed,
    /// Posting, receipt and log are written, not committed.
    SettleStaged,
    /// The last look before a commit of any kind.
    BeforeCommit,
    /// Settled, nobody knows.
    SettleCommitted,
    /// A hold's release is written, not committed.
    VoidStaged,
    /// Released, nobody knows.
    VoidCommitted,
    /// The answer is on its way.
    Answered,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::PackageStored,
        Self::PackageStaged,
        Self::PackageCommitted,
        Self::Reserved,
        Self::BlobsStored,
        Self::AdmitStaged,
        Self::AdmitCommitted,
        Self::Dequeued,
        Self::Executed,
        Self::Signed,
        Self::SettleStaged,
        Self::BeforeCommit,
        Self::SettleCommitted,
        Self::VoidStaged,
        Self::VoidCommitted,
        Self::Answered,
    ];
}

/// The variable that names a step and how often it is passed.
#[cfg(feature = "crash-points")]
pub const CRASH_VARIABLE: &str = "FUELBOX_CRASH_AT";

/// Says that a job has come to a step.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn reach(_: Step) {}

/// Says that a job has come to a step: the end of the process, when that was asked for.
#[cfg(feature = "crash-points")]
pub(crate) fn reach(step: Step) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(CRASH_VARIABLE).ok()?;
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    if let Some((name, count)) = wanted
        && *name == format!("{step:?}")
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // As a crash would: no destructors, no flushing.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
