//! Waiting: the caller's end of a job that is under way.

use crate::{
    admit::Input,
    fault::{HostFault, JobError},
    job::{Finished, JobId, State},
    shared::Shared,
};
use fuelbox_engine::Cancel;
use std::sync::{Arc, Weak, mpsc::Receiver};

/// A job that was admitted.
pub struct Started {
    pub(crate) canceller: Canceller,
    /// There when it is large.
    pub(crate) input: Option<Arc<Input>>,
}

impl Started {
    pub(crate) fn repeated(shared: Weak<Shared>, id: JobId) -> Self {
        Self { canceller: Canceller { shared, id, cancel: Cancel::default() }, input: None }
    }

    /// The job's name.
    pub fn id(&self) -> JobId {
        self.canceller.id
    }

    /// Something to stop the job with.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// What can be done beside the job while it runs, when its input is large: hashing it. Whoever
    /// has a thread to spare calls this; the worker does it otherwise.
    pub fn side_work(&self) -> Option<impl FnOnce() + Send + use<>> {
        let input = self.input.clone()?;
        Some(move || {
            input.digest();
        })
    }
}

/// What became of a request for a job.
pub enum Begun<A> {
    /// A job that was admitted.
    Started(Started),
    /// The request's key is that of a job that is done.
    Earlier {
        /// The job.
        job: JobId,
        /// Whoever was to hear of the job's end, not called.
        answer: A,
    },
}

/// A job that somebody waits for.
pub struct Waiting {
    pub(crate) started: Started,
    pub(crate) answer: Receiver<Result<Finished, JobError>>,
}

impl Waiting {
    /// The job's name.
    pub fn id(&self) -> JobId {
        self.started.id()
    }

    /// Something to stop the job with while another thread waits for it.
    pub fn canceller(&self) -> Canceller {
        self.started.canceller()
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// When the host failed, or the job was cancelled before it began. Then nothing was billed.
    pub fn wait(self) -> Result<Finished, JobError> {
        if let Some(work) = self.started.side_work() {
            work();
        }
        self.answer.recv().unwrap_or_else(|_| {
            let text = "the job was lost on its way".into();
            Err(HostFault::Worker { text }.into())
        })
    }
}

/// Stops a job: what a server calls when its client goes away.
#[derive(Clone)]
pub struct Canceller {
    pub(crate) shared: Weak<Shared>,
    pub(crate) id: JobId,
    pub(crate) cancel: Cancel,
}

impl Canceller {
    /// Stops the job. One that waits ends without a bill; one that runs is billed what it burned.
    pub fn cancel(&self) {
        self.cancel.cancel();
        // A host that is gone has answered everybody.
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if let Some((_, job)) = shared.queue.remove(&self.id) {
            shared.drop_unstarted(job, State::Cancelled, JobError::CancelledEarly);
        }
    }
}
