//! A request as those see it who look on: its names, who sent it, which jobs it ran.
//!
//! The request's task carries it, so that a layer far below says something of the request without
//! knowing of requests. Work on other threads is outside of it.

use super::context::{RequestId, Trace};
use crate::access::Caller;
use fuelbox_jobs::{AccessKeyId, JobId, JobRecord, Times};
use fuelbox_ledger::AccountId;
use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// Jobs of one request that are remembered: a stream may have any number.
const JOBS_MAX: usize = 32;

/// What is known of a request while it is under way.
pub(super) struct Seen {
    pub(super) trace: Trace,
    pub(super) id: RequestId,
    /// Whether its spans are wanted.
    pub(super) sampled: bool,
    caller: OnceLock<(AccessKeyId, AccountId)>,
    jobs: Mutex<Vec<JobSeen>>,
}

/// A job that a request waited for.
pub(super) struct JobSeen {
    pub(super) id: JobId,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// None when it is the job of an earlier request.
    pub(super) times: Option<Times>,
    pub(super) details: Option<Details>,
}

/// What spans say of a job.
pub(super) struct Details {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) verdict: &'static str,
    pub(super) fuel: u64,
}

impl Seen {
    pub(super) fn new(trace: Trace, id: RequestId, sampled: bool) -> Self {
        Self { trace, id, sampled, caller: OnceLock::new(), jobs: Mutex::default() }
    }

    /// Whose key it had; none when it had no valid one.
    pub(super) fn caller(&self) -> Option<&(AccessKeyId, AccountId)> {
        self.caller.get()
    }

    /// The job, when there was one.
    pub(super) fn first_job(&self) -> Option<JobId> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).first().map(|job| job.id)
    }

    /// All its jobs; none are left.
    pub(super) fn take_jobs(&self) -> Vec<JobSeen> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A future that carries what is seen of its request.
pub(super) fn carrying<F: Future>(seen: Arc<Seen>, future: F) -> impl Future<Output = F::Output> {
    SEEN.scope(seen, future)
}

/// The same for a step of a body.
pub(super) fn carrying_step<T>(seen: &Arc<Seen>, step: impl FnOnce() -> T) -> T {
    SEEN.sync_scope(seen.clone(), step)
}

/// Asks what is known of the request that this runs for; none when it runs for none.
pub(super) fn current<T>(ask: impl FnOnce(&Seen) -> T) -> Option<T> {
    SEEN.try_with(|seen| ask(seen)).ok()
}

/// Says whose key a request has.
pub(crate) fn note_caller(caller: &Caller) {
    let _ = SEEN.try_with(|seen| {
        let _ = seen.caller.set((caller.key(), caller.account().clone()));
    });
}

/// Says that a request waited for a job, which was asked for then.
pub(crate) fn note_job(job: &JobRecord, times: Option<Times>, key: (&str, &str), asked: Instant) {
    let _ = SEEN.try_with(|seen| {
        let mut jobs = seen.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_MAX {
            return;
        }
        let details = seen.sampled.then(|| Details {
            model: key.0.to_owned(),
            version: key.1.to_owned(),
            verdict: job.end.as_ref().map_or("none", |end| super::jobs::verdict(&end.verdict)),
            fuel: job.end.as_ref().map_or(0, |end| end.fuel),
        });
        jobs.push(JobSeen { id: job.id, asked, answered: Instant::now(), times, details });
    });
}

impl JobSeen {
    /// Where its time went, one behind the other: in the queue, in the box, and until its answer.
    pub(super) fn phases(&self) -> [(&'static str, Instant, Instant); 3] {
        let Times { waited, ran } =
            self.times.unwrap_or(Times { waited: Duration::ZERO, ran: Duration::ZERO });
        // Clocks of several threads: no phase ends after the answer.
        let begun = (self.asked + waited).min(self.answered);
        let ended = (begun + ran).min(self.answered);
        [("queue", self.asked, begun), ("run", begun, ended), ("settle", ended, self.answered)]
    }
}
