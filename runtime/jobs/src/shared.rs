//! What workers, callers and the janitor share.

use crate::{
    access::AccessCache,
    admit::Admitted,
    blobs::Blobs,
    books::{Books, Hold},
    catalogue::Catalogue,
    claims::{Claim, Claims},
    fault::{HostFault, JobError},
    job::{JobId, Settled, State},
    keys_in_flight::KeysInFlight,
    limits::Keep,
    price::PriceList,
    queue::{Full, Queue},
    spending::{SpendHold, Spending},
    tables,
};
use fuelbox_digest::Digest;
use fuelbox_engine::Cancel;
use fuelbox_receipt::{Envelope, KeyStore, Receipt};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::SystemTime,
};

pub(crate) struct Shared {
    pub(crate) books: Books,
    pub(crate) catalogue: Catalogue,
    pub(crate) queue: Queue<Admitted>,
    pub(crate) prices: Arc<PriceList>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) claims: Claims,
    /// Bytes that went into files since the janitor last looked at how much is kept.
    pub(crate) fresh_bytes: AtomicU64,
    pub(crate) keys: RwLock<KeyStore>,
    pub(crate) keys_in_flight: KeysInFlight,
    pub(crate) access: AccessCache,
    pub(crate) spending: Arc<Spending>,
    pub(crate) keep: Keep,
    /// How to stop each job that waits or runs.
    pub(crate) live: Mutex<HashMap<JobId, Cancel>>,
    /// Jobs that the host stopped on its own account.
    pub(crate) interrupted: Mutex<HashSet<JobId>>,
    pub(crate) desk: Arc<Desk>,
}

/// Who hears of what. Apart from the rest, as the writer calls here after its commits: it must not own
/// the ledger that it belongs to.
#[derive(Default)]
pub(crate) struct Desk {
    waiters: Mutex<HashMap<JobId, Vec<(u64, Waiter)>>>,
    /// Counts those who ever listened.
    tickets: AtomicU64,
    /// Jobs whose hold could not be given back when their worker tried.
    to_void: Mutex<Vec<ToVoid>>,
    /// Who counts what was settled.
    pub(crate) settled: OnceLock<Hearer>,
    /// Rung when there is something for the janitor; true when it is to go.
    pub(crate) janitor_bell: (Mutex<bool>, Condvar),
}

impl Shared {
    /// The one clock of this crate.
    pub(crate) fn now_unix_ms(&self) -> u64 {
        now_unix_ms()
    }

    /// When content that is stored now may go.
    pub(crate) fn expires(&self) -> u64 {
        let keep = u64::try_from(self.keep.time.as_millis()).unwrap_or(u64::MAX);
        self.now_unix_ms().saturating_add(keep).min(i64::MAX.cast_unsigned())
    }

    pub(crate) fn sign(&self, receipt: &Receipt) -> Result<Envelope, HostFault> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Envelope::sign(receipt, keys.current()).map_err(|error| HostFault::Books(error.to_string()))
    }

    /// Stores content in a file, which nobody removes until the claim is dropped: when the row that
    /// names it is committed.
    pub(crate) fn store(
        &self,
        digest: &Digest,
        content: &[u8],
        durable: bool,
    ) -> Result<Claim, HostFault> {
        let claim = self.claims.claim(digest);
        self.blobs.put(digest, content, durable).map_err(HostFault::Blobs)?;
        self.fresh_bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
        Ok(claim)
    }

    /// Stored content.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, HostFault> {
        let found =
            self.books.ledger.read(|reader| tables::blob(reader.connection(), digest))??;
        match found {
            None => Ok(None),
            Some(Some(content)) => Ok(Some(content)),
            Some(None) => self.blobs.get(digest).map_err(HostFault::Blobs),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, HashMap<JobId, Cancel>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more jobs. Queued ones stay in the store; those whose callers wait are told.
    pub(crate) fn close_queue(self: &Arc<Self>) {
        for (_, job) in self.queue.close() {
            self.leave(job);
        }
    }

    /// Stops all jobs that run, as the host's own doing: nobody pays for them.
    pub(crate) fn interrupt(&self) {
        let live = self.live();
        let mut interrupted = self.interrupted();
        for (id, cancel) in live.iter() {
            // One that its owner stopped, or its deadline, is on its way.
            if !cancel.is_due() {
                interrupted.insert(*id);
                cancel.cancel();
            }
        }
    }

    pub(crate) fn interrupted(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a job that this host will not run any more before it stops.
    pub(crate) fn leave(self: &Arc<Self>, job: Admitted) {
        match &job.hold {
            Hold::Reserved(_) => self.drop_unstarted(job, State::Cancelled, Full::Closed.into()),
            Hold::Pending => {
                self.live().remove(&job.row.id);
                self.desk.wake(&job.row.id);
            }
        }
    }

    /// Lets go of a job that will not be settled: its hold is free, and its owner hears why.
    pub(crate) fn drop_unstarted(self: &Arc<Self>, job: Admitted, state: State, error: JobError) {
        let Admitted { row, hold, answer, key, spend, .. } = job;
        self.live().remove(&row.id);
        match hold {
            Hold::Reserved(reservation) => drop((reservation, spend)),
            Hold::Pending => self.void(row.id, state, &error.to_string(), spend),
        }
        drop(key);
        if let Some(answer) = answer {
            answer(Err(error));
        }
        self.desk.wake(&row.id);
    }

    /// Gives a queued job's hold back, and then what it holds of its access key, now or as soon as the
    /// store works again.
    pub(crate) fn void(&self, id: JobId, state: State, detail: &str, spend: Option<SpendHold>) {
        let voided = self.books.void(id, state, detail.to_owned(), self.now_unix_ms());
        if let Err(crate::books::BooksError::Ledger(_)) = voided {
            self.desk.void_later(id, detail.to_owned(), spend);
        }
    }
}

impl Desk {
    /// Leaves it to the janitor to give a hold back.
    pub(crate) fn void_later(&self, id: JobId, detail: String, spend: Option<SpendHold>) {
        self.to_void.lock().unwrap_or_else(PoisonError::into_inner).push((id, detail, spend));
        self.janitor_bell.1.notify_all();
    }

    /// Holds that wait to be given back.
    pub(crate) fn take_to_void(&self) -> Vec<ToVoid> {
        std::mem::take(&mut *self.to_void.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there are any.
    pub(crate) fn has_to_void(&self) -> bool {
        !self.to_void.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Registers somebody who waits for a job's end, until the ear is dropped.
    pub(crate) fn listen(self: &Arc<Self>, id: &JobId, waiter: Waiter) -> Ear {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.entry(*id).or_default().push((ticket, waiter));
        Ear { desk: self.clone(), id: *id, ticket }
    }

    /// As [`Desk::listen`], for a thread that waits.
    pub(crate) fn listen_here(self: &Arc<Self>, id: &JobId) -> (Ear, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        // The receiver may be gone.
        let waiter = Box::new(move || {
            let _ = sender.try_send(());
        });
        (self.listen(id, waiter), receiver)
    }

    /// Wakes all who wait for a job.
    pub(crate) fn wake(&self, id: &JobId) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = waiters.remove(id).unwrap_or_default();
        drop(waiters);
        for (_, waiter) in woken {
            waiter();
        }
    }
}

/// Called for each job that was settled, by the thread that commits: it must be quick, and must not wait.
pub(crate) type Hearer = Box<dyn Fn(&Settled<'_>) + Send + Sync>;

/// A job, why it ends, and what it holds of its access key until then.
type ToVoid = (JobId, String, Option<SpendHold>);

/// Called once, when a job ends or is about to. It must be quick, and must not wait.
pub(crate) type Waiter = Box<dyn FnOnce() + Send>;

/// Somebody listens for a job's end; dropped, he is forgotten.
pub struct Ear {
    desk: Arc<Desk>,
    id: JobId,
    ticket: u64,
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut waiters = self.desk.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listeners) = waiters.get_mut(&self.id) {
            listeners.retain(|(ticket, _)| *ticket != self.ticket);
            if listeners.is_empty() {
                waiters.remove(&self.id);
            }
        }
    }
}

/// Milliseconds since 1970 in UTC.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_leaves_nothing_behind() {
        let (desk, id) = (Arc::new(Desk::default()), JobId::new());
        let (first, second) = (desk.listen_here(&id), desk.listen_here(&id));
        drop(first);
        assert_eq!(desk.waiters.lock().expect("a lock")[&id].len(), 1);
        desk.wake(&id);
        assert!(second.1.recv().is_ok());
        drop(second);
        let third = desk.listen_here(&id);
        drop(third);
        assert!(desk.waiters.lock().expect("a lock").is_empty());
    }
}
