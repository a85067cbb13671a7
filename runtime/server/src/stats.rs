//! Statistics: how often each model was asked, and where the time went.

use crate::refusal::Code;
use fuelbox_jobs::Times;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// A count with the time that it took.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Phase {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How often.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long in all, in nanoseconds.
    pub(crate) fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}

/// Where the time of a request went, beside what its job says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// From the whole request to its tensors.
    pub(crate) decode: Duration,
    /// From the outputs to the whole answer.
    pub(crate) encode: Duration,
    /// From the whole request to the whole answer.
    pub(crate) total: Duration,
}

/// Why a request was not answered, as Triton tells reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not taken in.
    Rejected,
    /// The client went away, or the deadline passed.
    Canceled,
    /// The model failed, or the host.
    Backend,
    /// The request was wrong.
    Other,
}

impl Reason {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The label's value.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

impl From<Code> for Reason {
    fn from(code: Code) -> Self {
        match code {
            Code::PaymentRequired
            | Code::InFlight
            | Code::RateLimited
            | Code::Busy
            | Code::Stopping
            | Code::Unavailable => Self::Rejected,
            Code::Deadline | Code::RequestTimeout => Self::Canceled,
            Code::ModelFailed | Code::HostFault => Self::Backend,
            Code::BadInput
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::Conflict
            | Code::TooLarge
            | Code::UnsupportedMedia
            | Code::KeyReused
            | Code::PackageRefused
            | Code::NotSupported => Self::Other,
        }
    }
}

/// The statistics of one model, since the server started.
#[derive(Debug, Default)]
pub(crate) struct ModelStats {
    /// Answered, from the whole request to the whole answer.
    pub(crate) success: Phase,
    /// Not answered, whatever the reason.
    pub(crate) fail: Phase,
    /// The same by reason, in the order of [`Reason::ALL`].
    reasons: [AtomicU64; Reason::ALL.len()],
    /// From admission to a worker.
    pub(crate) queue: Phase,
    /// Decoding requests.
    pub(crate) compute_input: Phase,
    /// In the box.
    pub(crate) compute_infer: Phase,
    /// Encoding answers.
    pub(crate) compute_output: Phase,
    /// Inferences: one a request, as models are not batched here.
    pub(crate) inferences: AtomicU64,
    /// Fuel of jobs that were settled.
    pub(crate) fuel: AtomicU64,
    /// Their bills, in micro-credits.
    pub(crate) credits_micro: AtomicU64,
    /// When the last one was answered.
    pub(crate) last_unix_ms: AtomicU64,
}

impl ModelStats {
    /// Counts an answer.
    pub(crate) fn succeeded(&self, took: Took, times: Option<Times>) {
        self.success.add(took.total);
        self.compute_input.add(took.decode);
        self.compute_output.add(took.encode);
        if let Some(times) = times {
            self.queue.add(times.waited);
            self.compute_infer.add(times.ran);
        }
        self.inferences.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last_unix_ms.store(now, Ordering::Relaxed);
    }

    /// Counts a request that came to nothing because it was wrong.
    pub(crate) fn failed(&self, total: Duration) {
        self.failed_for(total, Reason::Other);
    }

    /// Counts a request that came to nothing.
    pub(crate) fn failed_for(&self, total: Duration, reason: Reason) {
        self.fail.add(total);
        self.reasons[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that came to nothing for this reason.
    pub(crate) fn failures(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts what was paid.
    pub(crate) fn billed(&self, fuel: u64, credits_micro: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
        self.credits_micro.fetch_add(credits_micro, Ordering::Relaxed);
    }
}
