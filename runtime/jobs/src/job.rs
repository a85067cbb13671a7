//! Jobs as their owners see them: what is asked for, what became of it.

use crate::access_key::AccessKeyId;
use fuelbox_digest::Digest;
use fuelbox_engine::{Cancel, OwnedParameter, Tensor};
use fuelbox_ledger::{AccountId, Credits};
use fuelbox_receipt::Envelope;
use std::{fmt, str::FromStr, time::Duration};
use uuid::Uuid;

/// The name of a job: a UUID of version 7, so later jobs have greater names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// A new name, greater than all that this process made before.
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no job's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job '{found}', expected a UUID like 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct ParseJobIdError {
    found: String,
}

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, ParseJobIdError> {
        // One form: the crate would take braces, upper case and no hyphens, too.
        let id = Uuid::parse_str(text).map(Self).ok().filter(|id| id.to_string() == text);
        id.ok_or_else(|| ParseJobIdError { found: text.escape_debug().take(80).collect() })
    }
}

/// Which of an account's jobs comes first: 0 to 9. Accounts take turns whatever their priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const MAX: Self = Self(9);

    /// A priority.
    pub fn new(level: u8) -> Option<Self> {
        (level <= Self::MAX.0).then_some(Self(level))
    }

    /// 0 to 9.
    pub fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// In the middle.
    fn default() -> Self {
        Self(5)
    }
}

/// A job that somebody wants.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// Who pays.
    pub account: AccountId,
    /// What runs.
    pub package: Digest,
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// Settings beside them.
    pub parameters: Vec<OwnedParameter>,
    /// Seed of the job's randomness.
    pub seed: u64,
    /// What the job may use at most; what the package asks for when not given.
    pub limits: LimitsWanted,
    /// Most wall-clock time from now on, waiting included. A job that it stops is not replayable.
    pub deadline: Option<Duration>,
    /// Among the jobs of its account.
    pub priority: Priority,
    /// The caller's name for this request: the same request with the same name is the same job.
    pub key: Option<String>,
    /// The access key that it came with: its spend limit holds for the job.
    pub access_key: Option<AccessKeyId>,
    /// Where word of the job's end is sent to. Not looked at here: whoever sends checks it.
    pub webhook: Option<String>,
}

impl JobRequest {
    /// A request with what every request has.
    pub fn new(account: AccountId, package: Digest, inputs: Vec<Tensor>) -> Self {
        Self {
            account,
            package,
            inputs,
            parameters: Vec::new(),
            seed: 0,
            limits: LimitsWanted::default(),
            deadline: None,
            priority: Priority::default(),
            key: None,
            access_key: None,
            webhook: None,
        }
    }
}

/// Limits that a caller chooses. Each is part of the price that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsWanted {
    /// Fuel of the run.
    pub fuel: Option<u64>,
    /// Linear memory, the loaded model included.
    pub memory_bytes: Option<u64>,
    /// Fuel of a load, should these input shapes be new.
    pub load_fuel: Option<u64>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits, and its price is held.
    Queued,
    /// A worker has it.
    Running,
    /// The model answered. Billed, with a receipt.
    Succeeded,
    /// The guest failed. Billed, with a receipt.
    Failed,
    /// Its owner or its deadline stopped it. Billed, with a receipt, when it had started.
    Cancelled,
    /// The host failed. Not billed, no receipt.
    Faulted,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Faulted,
    ];

    /// The name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Faulted => "faulted",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more will happen to the job.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Faulted => true,
        }
    }
}

/// A job as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its name.
    pub id: JobId,
    /// Who pays.
    pub account: AccountId,
    /// What ran.
    pub package: Digest,
    /// Where it is.
    pub state: State,
    /// Among the jobs of its account.
    pub priority: Priority,
    /// The access key that it came with.
    pub access_key: Option<AccessKeyId>,
    /// When it was taken in.
    pub submitted_unix_ms: u64,
    /// When it ended.
    pub finished_unix_ms: Option<u64>,
    /// Seed of its randomness.
    pub seed: u64,
    /// Digest of its inputs.
    pub input: Digest,
    /// What it may use.
    pub fuel_limit: u64,
    /// What it may use.
    pub memory_limit_bytes: u64,
    /// How it ended; none when it did not run.
    pub end: Option<End>,
    /// What went wrong, for people.
    pub detail: Option<String>,
}

/// What a job that ran came to.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// `completed`, `trap`, ...
    pub verdict: String,
    /// Digest of its outputs.
    pub output: Digest,
    /// Fuel of the run.
    pub fuel: u64,
    /// Linear memory at its largest.
    pub memory_bytes_peak: u64,
    /// Fuel of a load that it paid for.
    pub load_fuel: Option<u64>,
    /// All that was paid.
    pub credits: Credits,
    /// Digest of its receipt.
    pub receipt: Digest,
}

/// A job that ran and is paid for.
#[derive(Clone, Debug)]
pub struct Finished {
    /// As the store has it.
    pub job: JobRecord,
    /// What it gave; none when it did not complete, or when it is no longer kept.
    pub outputs: Option<Vec<Tensor>>,
    /// Settings that the model gave beside its outputs.
    pub parameters: Vec<OwnedParameter>,
    /// What the guest printed.
    pub log: String,
    /// Signed.
    pub receipt: Envelope,
    /// Whether this is the answer to an earlier request with the same key.
    pub repeated: bool,
    /// How long it took; none when this was read from the store.
    pub times: Option<Times>,
}

/// Where the wall-clock time of a job went. No part of its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From admission to its worker, the model's opening included.
    pub waited: Duration,
    /// In the box: placing inputs, the guest, reading outputs.
    pub ran: Duration,
}

/// What a job came to that ran and was settled just now: for whoever counts.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// Name of its package.
    pub name: &'a str,
    /// Version of its package.
    pub version: &'a str,
    /// `completed`, `trap`, ...
    pub verdict: &'static str,
    /// Fuel of the run, and of a load that it paid for.
    pub fuel: u64,
    /// All that was paid.
    pub credits: Credits,
    /// How long it took.
    pub times: Times,
}

/// Says when a job is to stop: at its deadline, or when its owner says so.
pub(crate) fn stop_at(deadline: Option<Duration>) -> Cancel {
    let at = deadline.and_then(|after| std::time::Instant::now().checked_add(after));
    at.map_or_else(Cancel::default, Cancel::at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_are_in_order_and_have_one_form() {
        let names: Vec<_> = (0..1_000).map(|_| JobId::new()).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        let (first, second) = (names[0], names[1]);
        assert!(first.to_string() < second.to_string());
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(JobId::from_bytes(*first.as_bytes()), first);
        let upper = JobId::from_bytes([0xab; 16]).to_string().to_uppercase();
        for bad in ["", "7", &upper, &first.to_string().replace('-', "")] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn states_are_known_by_their_names() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("Queued"), None);
    }
}
