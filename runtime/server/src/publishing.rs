//! Publishing beside serving: one package at a time, on a thread that gives way to all others.

use crate::refusal::{Code, Refusal};
use fuelbox_jobs::{
    AccessKeyId, Host, HostFault, Publication, PublishError, PublishRequest, Visibility,
};
use fuelbox_ledger::AccountId;
use fuelbox_receipt::PackageSignature;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::oneshot;

/// Packages are compiled and tried out in seconds.
const RETRY: Duration = Duration::from_secs(10);

/// How much the thread gives way (`nice`); compile workers, which it starts, inherit it.
const NICE: i32 = 10;

/// A package that came in, whole.
pub(crate) struct Upload {
    /// Whose it is.
    pub(crate) account: AccountId,
    /// The key that it came with.
    pub(crate) access_key: AccessKeyId,
    /// Where it lies; read when its turn comes, so that one at a time is in memory.
    pub(crate) file: PathBuf,
    pub(crate) signature: Option<PackageSignature>,
    pub(crate) visibility: Visibility,
    /// Most fuel of each load.
    pub(crate) load_fuel: Option<u64>,
}

struct Work {
    upload: Upload,
    answer: oneshot::Sender<Result<Publication, PublishError>>,
}

/// The thread that publishes.
pub(crate) struct Publishing {
    sender: Mutex<Option<SyncSender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waiting: Arc<AtomicUsize>,
    allowed: usize,
}

impl Publishing {
    pub(crate) fn start(host: Arc<Host>, allowed: usize) -> Self {
        let (sender, receiver) = sync_channel(allowed.max(1));
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = waiting.clone();
        let work = move || work(&host, &receiver, &counted);
        // Without the thread every upload is told that the host is stopping.
        let thread = thread::Builder::new().name("publisher".into()).spawn(work).ok();
        let sender = Mutex::new(Some(sender));
        Self { sender, thread: Mutex::new(thread), waiting, allowed }
    }

    /// Publishes, when those before it are done.
    pub(crate) async fn publish(&self, upload: Upload) -> Result<Publication, Refusal> {
        let (answer, published) = oneshot::channel();
        let stopping =
            || Refusal::new(Code::Stopping, "the host is shutting down").retry_after(RETRY);
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match sender.ok_or_else(stopping)?.try_send(Work { upload, answer }) {
            Ok(()) => {}
            Err(error) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Err(match error {
                    TrySendError::Disconnected(_) => stopping(),
                    TrySendError::Full(_) => {
                        let sentence = format!(
                            "too many packages wait to be published: allowed are {}",
                            self.allowed
                        );
                        Refusal::new(Code::Busy, sentence).retry_after(RETRY)
                    }
                });
            }
        }
        let published = published.await.map_err(|_| stopping())?;
        Ok(published?)
    }

    /// Packages that wait or are being published.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes no more, and waits for the one that is being published.
    pub(crate) fn stop(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught by whoever waits.
            let _ = thread.join();
        }
    }
}

fn work(host: &Host, receiver: &Receiver<Work>, waiting: &AtomicUsize) {
    // Of this thread alone, on Linux. Not every system allows it.
    let _ = rustix::process::nice(NICE);
    while let Ok(Work { upload, answer }) = receiver.recv() {
        // Whoever went away meanwhile does not want it any more.
        if !answer.is_closed() {
            let _ = answer.send(publish(host, upload));
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn publish(host: &Host, upload: Upload) -> Result<Publication, PublishError> {
    let Upload { account, access_key, file, signature, visibility, load_fuel } = upload;
    let file = fs::read(&file).map_err(HostFault::Blobs)?;
    host.publish_signed(&PublishRequest {
        signature,
        // What comes over the network is signed, whatever its name.
        signature_required: true,
        visibility,
        load_fuel,
        access_key: Some(access_key),
        ..PublishRequest::new(account, &file)
    })
}
