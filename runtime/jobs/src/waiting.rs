//! Waiting: the caller's end of a job that is under way.

use crate::{
    admit::Input,
    fault::{HostFault, JobError},
    job::{Finished, JobId, State},
    shared::Shared,
};
use fuelbox_engine::Cancel;
use std::sync::{Arc, Weak, mpsc::Receiver};

/// A job that somebody waits for.
pub struct Waiting {
    pub(crate) shared: Weak<Shared>,
    pub(crate) id: JobId,
    pub(crate) cancel: Cancel,
    pub(crate) input: Option<Arc<Input>>,
    pub(crate) answer: Receiver<Result<Finished, JobError>>,
    pub(crate) repeated: Option<Box<Finished>>,
}

impl Waiting {
    /// The job's name.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Something to stop the job with while another thread waits for it.
    pub fn canceller(&self) -> Canceller {
        Canceller { shared: self.shared.clone(), id: self.id, cancel: self.cancel.clone() }
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// When the host failed, or the job was cancelled before it began. Then nothing was billed.
    pub fn wait(self) -> Result<Finished, JobError> {
        if let Some(finished) = self.repeated {
            return Ok(*finished);
        }
        if let Some(input) = &self.input {
            input.digest();
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
    shared: Weak<Shared>,
    id: JobId,
    cancel: Cancel,
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
