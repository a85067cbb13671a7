//! Webhooks: who asked for it is told of a job's end.
//!
//! ```text
//! submit -> url (may it be a receiver?) -> the job's row
//! job ends -> delivery (what is due, who waits for whom) -> sender (address, POST) -> the row again
//! ```
//!
//! The message is the job's JSON, signed by the host's key of receipts (Standard Webhooks, asymmetric).
//! What is due is in the store, so nothing is lost when the host stops; a receiver may hear twice of one
//! job, and knows it by its id.

mod address;
mod url;
mod sender;
mod delivery;

pub(crate) use delivery::deliver;
pub(crate) use url::check_url;

use fuelbox_jobs::{Ear, Host, JobId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Jobs whose ends are listened for. Others are found when the store is looked at.
const EARS_MAX: usize = 10_000;

/// Hears of the ends of jobs that somebody wants to be told of.
#[derive(Default)]
pub(crate) struct Webhooks {
    wake: Arc<Notify>,
    ears: Mutex<HashMap<JobId, Ear>>,
}

impl Webhooks {
    /// Listens for a job's end.
    pub(crate) fn expect(&self, host: &Host, job: &JobId) {
        let wake = self.wake.clone();
        let ear = host.listen(job, move || wake.notify_one());
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        if ears.len() < EARS_MAX {
            ears.insert(*job, ear);
        }
        drop(ears);
        // It may have ended in between: somebody looks.
        self.wake.notify_one();
    }

    /// Listens no more for a job that has ended.
    fn heard(&self, job: &JobId) {
        let ear = self.ears.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
        drop(ear);
    }
}
