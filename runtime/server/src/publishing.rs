//! Publishing beside serving: one package at a time, on a thread that gives way to all others. Accounts
//! take turns, so that nobody's packages keep out those of another.

use crate::{
    refusal::{Code, Refusal},
    turns::{NoPlace, Turns},
};
use fuelbox_jobs::{
    AccessKeyId, Host, HostFault, Publication, PublishError, PublishRequest, Visibility,
};
use fuelbox_ledger::AccountId;
use fuelbox_receipt::PackageSignature;
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
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
    turns: Arc<Turns<Work>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Publishing {
    pub(crate) fn start(host: Arc<Host>, allowed: usize) -> Self {
        // Whoever went away meanwhile does not want it any more.
        let turns = Arc::new(Turns::new(allowed, |work: &Work| work.answer.is_closed()));
        let closing = Closing(turns.clone());
        // Without the thread every upload is told that the host is stopping.
        let thread = thread::Builder::new().name("publisher".into());
        let publish = move || {
            let closing = closing;
            work(&host, &closing.0);
        };
        let thread = thread.spawn(publish).ok();
        Self { turns, thread: Mutex::new(thread) }
    }

    /// Publishes, when it is this account's turn.
    pub(crate) async fn publish(&self, upload: Upload) -> Result<Publication, Refusal> {
        let (answer, published) = oneshot::channel();
        let account = upload.account.clone();
        self.turns.push(&account, Work { upload, answer }).map_err(no_place)?;
        let published = published.await.map_err(|_| no_place(NoPlace::Closed))?;
        Ok(published?)
    }

    /// Packages that wait or are being published.
    pub(crate) fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// Takes no more, and waits for the one that is being published.
    pub(crate) fn stop(&self) {
        self.turns.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught by whoever waits.
            let _ = thread.join();
        }
    }
}

fn no_place(why: NoPlace) -> Refusal {
    let (code, sentence) = match why {
        NoPlace::Closed => (Code::Stopping, "the host is shutting down".into()),
        NoPlace::Account { allowed } => (
            Code::Busy,
            format!(
                "too many packages of this account wait to be published: allowed are {allowed}"
            ),
        ),
        NoPlace::All { allowed } => {
            (Code::Busy, format!("too many packages wait to be published: allowed are {allowed}"))
        }
    };
    Refusal::new(code, sentence).retry_after(RETRY)
}

/// However the thread ends, nobody waits for it any more.
struct Closing(Arc<Turns<Work>>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn work(host: &Host, turns: &Turns<Work>) {
    // Of this thread alone, on Linux. Not every system allows it.
    let _ = rustix::process::nice(NICE);
    while let Some(Work { upload, answer }) = turns.next() {
        if !answer.is_closed() {
            let _ = answer.send(publish(host, upload));
        }
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
