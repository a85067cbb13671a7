//! The host: a data folder with an engine on it, open for work.
//!
//! ```text
//! DATA/fuelbox.db     accounts, jobs, receipts, the log's tiles (and SQLite's files beside it)
//! DATA/prices.json    the price schedule
//! DATA/keys/          the host's keys
//! DATA/packages/      published packages, by digest
//! DATA/blobs/         large inputs and outputs, by digest
//! ```

use crate::{
    accounts::{self, house_accounts},
    admit::{Admitted, Checked, Source, check},
    blobs::{BlobFolder, Blobs},
    books::{Books, Hold, JobRow},
    catalogue::Catalogue,
    fault::{FolderError, HostFault, JobError, PublishError},
    janitor::Janitor,
    job::{Finished, JobId, JobRecord, JobRequest, State, stop_at},
    keys_in_flight::{KeyGuard, KeysInFlight},
    limits::{HostLimits, Keep},
    look,
    price::{PriceList, Schedule},
    publish::{Publication, Publisher},
    queue::{Queue, QueueLimits, Ticket},
    records::Records,
    schedule_file,
    shared::{Shared, now_unix_ms},
    steps::{Step, reach},
    tables::{INLINE_BYTES_MAX, Tables},
    worker,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{Cancel, Engine, decode_parameters};
use fuelbox_ledger::{AccountId, Ledger, Options, Reader};
use fuelbox_receipt::{KeyId, KeyRing, KeyStore, PublicKey, log::Checkpoint, log::CheckpointError};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What a host chooses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers; one for each core that the process may use when not given. None at all is for those
    /// who only look after accounts and jobs.
    pub workers: Option<usize>,
    /// What may wait.
    pub queue: QueueLimits,
    /// What callers may ask for.
    pub limits: HostLimits,
    /// What is kept of inputs and outputs after their job.
    pub keep: Keep,
    /// Models that stay open between their jobs.
    pub models_open: usize,
    /// The name of the SQLite VFS; the default one when there is none.
    pub vfs: Option<String>,
}

impl Default for Config {
    /// Everything is kept for a while, and 64 models stay open.
    fn default() -> Self {
        Self {
            workers: None,
            queue: QueueLimits::default(),
            limits: HostLimits::default(),
            keep: Keep::default(),
            models_open: 64,
            vfs: None,
        }
    }
}

/// Where things are in a data folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// The data folder at this place. Nothing is looked at.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether somebody made it.
    pub fn exists(&self) -> bool {
        self.database().exists()
    }

    fn database(&self) -> PathBuf {
        self.root.join("fuelbox.db")
    }

    pub(crate) fn prices(&self) -> PathBuf {
        self.root.join("prices.json")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The file of a published package.
    pub fn package(&self, digest: &Digest) -> PathBuf {
        self.root.join(PACKAGES).join(format!("{}.fbx", digest.hex()))
    }

    /// Opens the database for reading, beside whoever works on it.
    ///
    /// # Errors
    /// When it is not there, or its tables are newer than this program.
    pub fn reader(&self) -> Result<Reader, FolderError> {
        Ok(Reader::open(self.database())?)
    }

    /// Makes the folder, private to its owner, or looks whether it still is.
    fn make(&self) -> Result<(), FolderError> {
        let io = |source| FolderError::Io { path: self.root.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(MODE).create(&self.root).map_err(io)?;
        let found = fs::metadata(&self.root).map_err(io)?.permissions().mode() & 0o777;
        if found & 0o077 != 0 {
            return Err(FolderError::Open { path: self.root.display().to_string(), found });
        }
        Ok(())
    }
}

const PACKAGES: &str = "packages";

/// Nobody else reads what callers sent, or the keys.
const MODE: u32 = 0o700;

/// How often a job is started again after the process died with it: once is the machine, three times
/// is the job.
const ATTEMPTS_MAX: u64 = 3;

/// A host at work. Dropping it lets running jobs end; queued ones wait for the next start.
pub struct Host {
    shared: Arc<Shared>,
    limits: HostLimits,
    workers: Vec<JoinHandle<()>>,
    janitor: Janitor,
}

/// A job that somebody waits for.
pub struct Waiting {
    shared: Weak<Shared>,
    id: JobId,
    cancel: Cancel,
    input: Option<Arc<crate::admit::Input>>,
    answer: Receiver<Result<Finished, JobError>>,
    repeated: Option<Box<Finished>>,
}

impl Host {
    /// Opens a data folder, making it when it is not there, puts in order what a crash left, and
    /// starts the workers.
    ///
    /// # Errors
    /// When another process has it, when it is newer than this program, and when the system refuses.
    pub fn open(folder: &DataFolder, engine: Engine, config: Config) -> Result<Self, FolderError> {
        folder.make()?;
        let blobs = BlobFolder::open(folder.blobs());
        let io = |source| FolderError::Io { path: folder.root.display().to_string(), source };
        Self::open_with(folder, engine, config, Arc::new(blobs.map_err(io)?))
    }

    /// As [`Host::open`], with blobs in another place.
    ///
    /// # Errors
    /// See [`Host::open`].
    pub fn open_with(
        folder: &DataFolder,
        engine: Engine,
        config: Config,
        blobs: Arc<dyn Blobs>,
    ) -> Result<Self, FolderError> {
        folder.make()?;
        let io = |source| FolderError::Io { path: folder.root.display().to_string(), source };
        let mut options = Options::default();
        options.vfs = config.vfs.clone();
        let ledger = Ledger::open(folder.database(), Tables::new(), options)?;
        let keys = KeyStore::open(&folder.keys(), now_unix_ms())?;
        let house = house_accounts(&ledger).map_err(FolderError::Recovery)?;
        let schedule = schedule_file::read(&folder.prices(), &ledger)?;
        let catalogue =
            Catalogue::open(folder.root.join(PACKAGES), engine, ledger.clone(), config.models_open);
        let shared = Arc::new(Shared {
            books: Books { ledger, house: Arc::new(house) },
            catalogue: catalogue.map_err(io)?,
            queue: Queue::new(config.queue),
            prices: Arc::new(PriceList::from(schedule)),
            blobs,
            keys: RwLock::new(keys),
            keys_in_flight: KeysInFlight::default(),
            keep: config.keep,
            running: Mutex::default(),
            desk: Arc::default(),
        });
        let mut host = Self {
            janitor: Janitor::start(shared.clone()),
            shared,
            limits: config.limits,
            workers: Vec::new(),
        };
        host.recover().map_err(FolderError::Recovery)?;
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        for number in 0..config.workers.unwrap_or_else(cores) {
            let shared = host.shared.clone();
            let name = format!("worker {number}");
            let worker = thread::Builder::new().name(name);
            host.workers.push(worker.spawn(move || worker::work(&shared, number)).map_err(io)?);
        }
        Ok(host)
    }

    /// Publishes a package file. `load_fuel` is the most that each load of it may burn.
    ///
    /// # Errors
    /// When it is refused; what its guest burned is billed all the same.
    pub fn publish(
        &self,
        account: &AccountId,
        file: &[u8],
        load_fuel: Option<u64>,
    ) -> Result<Publication, PublishError> {
        let publisher = Publisher {
            catalogue: &self.shared.catalogue,
            ledger: &self.shared.books.ledger,
            house: &self.shared.books.house,
            schedule: &self.shared.prices.schedule,
            now_unix_ms: self.shared.now_unix_ms(),
        };
        let load_fuel = load_fuel.unwrap_or(self.limits.load_fuel).min(self.limits.load_fuel);
        publisher.publish(account, file, load_fuel)
    }

    /// Runs a job and waits for it: when this returns, it is paid for and its receipt is in the log.
    ///
    /// # Errors
    /// When the job is refused, and when the host fails. Then nothing was billed.
    pub fn run(&self, request: JobRequest) -> Result<Finished, JobError> {
        self.start(request)?.wait()
    }

    /// Starts a job that its caller waits for.
    ///
    /// # Errors
    /// When the job is refused.
    pub fn start(&self, request: JobRequest) -> Result<Waiting, JobError> {
        let checked = self.check(request)?;
        let shared = &self.shared;
        let key = match self.take_key(&checked)? {
            Key::None => None,
            Key::Taken(guard) => Some(guard),
            Key::Done(id) => return self.repeated(&id),
        };
        let bytes = checked.input.bytes();
        shared.queue.room(bytes)?;
        let reservation = shared.books.ledger.reserve(&checked.request.account, checked.price)?;
        reach(Step::Reserved);
        // A large input is hashed while the job runs, by the thread that waits for it.
        let large = bytes > INLINE_BYTES_MAX as u64;
        let digest = checked.request.key.is_some().then(|| checked.input.encoded().digest);
        let (id, input, row) = (checked.id, checked.input.clone(), checked.row(digest));
        let ticket = checked.ticket(bytes);
        let (sender, answer) = sync_channel(1);
        let job = checked.admitted(row, Hold::Reserved(reservation), Some(sender), key);
        let cancel = job.cancel.clone();
        shared.queue.push(ticket, job)?;
        let (shared, input) = (Arc::downgrade(shared), large.then_some(input));
        Ok(Waiting { shared, id, cancel, input, answer, repeated: None })
    }

    /// Takes a job in and returns at once: its price is held, and it is there after any crash.
    ///
    /// # Errors
    /// When the job is refused.
    pub fn submit(&self, request: JobRequest) -> Result<JobRecord, JobError> {
        let checked = self.check(request)?;
        let shared = &self.shared;
        let key = match self.take_key(&checked)? {
            Key::None => None,
            Key::Taken(guard) => Some(guard),
            Key::Done(id) => return self.job(&id),
        };
        shared.queue.room(0)?;
        let encoded = checked.input.encoded();
        let blob = encoded.blob(shared.expires());
        if encoded.bytes.len() > INLINE_BYTES_MAX {
            let put = shared.blobs.put(&encoded.digest, &encoded.bytes, true);
            put.map_err(HostFault::Blobs)?;
        }
        reach(Step::BlobsStored);
        let (id, row) = (checked.id, checked.row(Some(encoded.digest)));
        shared.books.admit(row.clone(), Some(blob))?;
        reach(Step::AdmitCommitted);
        // The key is in the store now.
        drop(key);
        let ticket = checked.ticket(0);
        let job = checked.admitted(row, Hold::Pending, None, None);
        // A queue that was closed meanwhile leaves the job for the next start.
        let _ = shared.queue.push_promised(ticket, job);
        self.job(&id)
    }

    fn check(&self, request: JobRequest) -> Result<Checked, JobError> {
        let shared = &self.shared;
        let published = shared
            .catalogue
            .find(&request.package)?
            .ok_or_else(|| JobError::UnknownPackage { found: request.package.to_string() })?;
        check(request, published, &self.limits, shared.prices.clone(), shared.now_unix_ms())
    }

    fn take_key(&self, checked: &Checked) -> Result<Key, JobError> {
        let Some(key) = &checked.request.key else {
            return Ok(Key::None);
        };
        let account = &checked.request.account;
        let request = checked.request_digest();
        let guard = self.shared.keys_in_flight.take(account, key, request);
        // In the store first: a job that is being settled has its key in both places.
        let known = self.read(|records| -> Result<_, HostFault> {
            let Some(id) = records.keyed(account, key)? else {
                return Ok(None);
            };
            Ok(records.details(&id)?.map(|details| (id, details.request)))
        })??;
        let reused = |job: String| JobError::KeyReused { key: key.clone(), job };
        match (known, guard) {
            (Some((id, stored)), _) if stored == request => Ok(Key::Done(id)),
            (Some((id, _)), _) => Err(reused(id.to_string())),
            (None, Ok(guard)) => Ok(Key::Taken(guard)),
            (None, Err(other)) if other == request => Err(JobError::InFlight { key: key.clone() }),
            (None, Err(_)) => Err(reused("that is not done yet".into())),
        }
    }

    /// The answer to an earlier request with the same key.
    fn repeated(&self, id: &JobId) -> Result<Waiting, JobError> {
        let finished =
            self.result(id)?.ok_or_else(|| JobError::InFlight { key: id.to_string() })?;
        let (_, answer) = sync_channel(1);
        Ok(Waiting {
            shared: Arc::downgrade(&self.shared),
            id: *id,
            cancel: Cancel::default(),
            input: None,
            answer,
            repeated: Some(Box::new(Finished { repeated: true, ..finished })),
        })
    }

    /// A job as it is now.
    ///
    /// # Errors
    /// When there is none, and when the store fails.
    pub fn job(&self, id: &JobId) -> Result<JobRecord, JobError> {
        let found = self.read(|records| records.job(id))??;
        found.ok_or_else(|| JobError::UnknownJob { found: id.to_string() })
    }

    /// What a job that ran came to; none when it has no receipt, or has not yet.
    ///
    /// # Errors
    /// When there is no such job, and when the store fails.
    pub fn result(&self, id: &JobId) -> Result<Option<Finished>, JobError> {
        let job = self.job(id)?;
        let read = self.read(|records| -> Result<_, HostFault> {
            Ok((records.receipt(id)?, records.details(id)?))
        })??;
        let (Some(end), (Some(logged), Some(details))) = (&job.end, read) else {
            return Ok(None);
        };
        let output = match job.state {
            State::Succeeded => self.shared.blob(&end.output)?,
            State::Queued | State::Running | State::Failed | State::Cancelled | State::Faulted => {
                None
            }
        };
        Ok(Some(look::finished(job, logged, details, output)?))
    }

    /// Waits until a job has ended, at most so long. Gives the job as it is then.
    ///
    /// # Errors
    /// When there is no such job, and when the store fails.
    pub fn wait(&self, id: &JobId, at_most: Duration) -> Result<JobRecord, JobError> {
        let until = Instant::now().checked_add(at_most);
        loop {
            // First the ear, then the look: nothing happens in between unheard.
            let ended = self.shared.desk.listen(id);
            let job = self.job(id)?;
            if job.state.is_final() {
                return Ok(job);
            }
            let left = until.map_or(Duration::from_secs(3_600), |until| {
                until.saturating_duration_since(Instant::now())
            });
            match ended.recv_timeout(left) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
                Err(RecvTimeoutError::Timeout) => return self.job(id),
            }
        }
    }

    /// Cancels a job. One that waits ends here, without a bill; one that runs stops soon, and is
    /// billed what it burned.
    ///
    /// # Errors
    /// When there is no such job, or when it has ended.
    pub fn cancel(&self, id: &JobId) -> Result<(), JobError> {
        if let Some((_, job)) = self.shared.queue.remove(id) {
            self.shared.drop_unstarted(job, State::Cancelled, JobError::CancelledEarly);
            return Ok(());
        }
        if let Some(cancel) = self.shared.running().get(id) {
            cancel.cancel();
            return Ok(());
        }
        let job = self.job(id)?;
        if job.state.is_final() {
            return Err(JobError::Ended { job: id.to_string(), state: job.state.name() });
        }
        // Between the queue and its worker, or between its worker and the books.
        Ok(())
    }

    /// Jobs that wait for a worker.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Reads what the store says.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read<T>(&self, read: impl FnOnce(&Records<'_>) -> T) -> Result<T, HostFault> {
        Ok(self.shared.books.ledger.read(|reader| read(&Records::new(reader)))?)
    }

    /// The accounts of this host.
    pub fn accounts(&self) -> accounts::Accounts<'_> {
        accounts::Accounts::new(&self.shared.books)
    }

    /// What things cost.
    pub fn prices(&self) -> &Schedule {
        &self.shared.prices.schedule
    }

    /// Stored inputs or outputs, in canonical encoding; none when they are no longer kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, HostFault> {
        self.shared.blob(digest)
    }

    /// The log as it is now, signed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn checkpoint(&self) -> Result<String, HostFault> {
        let (size, root) = self.read(|records| -> Result<_, HostFault> {
            let size = records.log_size()?;
            Ok((size, records.log_root(size)?))
        })??;
        let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
        let checkpoint = Checkpoint { origin: keys.origin().to_owned(), size, root };
        let signed = checkpoint.sign(keys.current());
        signed.map_err(|error: CheckpointError| HostFault::Books(error.to_string()))
    }

    /// The name of the log.
    pub fn log_origin(&self) -> String {
        let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.origin().to_owned()
    }

    /// All public keys of this host, the current one last.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).public_keys()
    }

    /// What this host's receipts are checked with.
    pub fn key_ring(&self) -> KeyRing {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).ring()
    }

    /// Makes a new key for the receipts to come.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn rotate_key(&self) -> Result<KeyId, FolderError> {
        let mut keys = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.rotate(self.shared.now_unix_ms())?)
    }

    /// Queues again what was open when the process ended.
    fn recover(&self) -> Result<(), HostFault> {
        for id in self.read(|records| records.open_jobs())?? {
            let read = self.read(|records| -> Result<_, HostFault> {
                Ok(records.job(&id)?.zip(records.details(&id)?))
            })??;
            let Some((job, details)) = read else {
                continue;
            };
            if details.attempts >= ATTEMPTS_MAX {
                let fault = HostFault::Attempts { attempts: details.attempts };
                self.shared.books.void(
                    id,
                    State::Faulted,
                    fault.to_string(),
                    self.shared.now_unix_ms(),
                )?;
                continue;
            }
            match self.requeued(job, details) {
                Ok((ticket, job)) => {
                    // Nobody has closed the queue.
                    let _ = self.shared.queue.push_promised(ticket, job);
                }
                Err(fault) => {
                    let (text, now) = (fault.to_string(), self.shared.now_unix_ms());
                    self.shared.books.void(id, State::Faulted, text, now)?;
                }
            }
        }
        Ok(())
    }

    fn requeued(
        &self,
        job: JobRecord,
        details: crate::records::Details,
    ) -> Result<(Ticket, Admitted), HostFault> {
        let shared = &self.shared;
        let published = shared.catalogue.find(&job.package)?;
        let lost = |text: &str| HostFault::Package { digest: job.package, text: text.into() };
        let published = published.ok_or_else(|| lost("it is not published here"))?;
        let prices = if details.schedule == shared.prices.digest {
            shared.prices.clone()
        } else {
            // The price of the day on which it was taken in.
            let bytes = self.read(|records| records.schedule(&details.schedule))??;
            let bytes = bytes.ok_or_else(|| HostFault::Books("a price schedule is lost".into()))?;
            let schedule = Schedule::parse(&bytes);
            Arc::new(schedule.map_err(|error| HostFault::Books(error.to_string()))?.into())
        };
        let left = details
            .deadline_unix_ms
            .map(|deadline| Duration::from_millis(deadline.saturating_sub(shared.now_unix_ms())));
        let ticket = Ticket {
            id: job.id,
            account: job.account.clone(),
            priority: job.priority,
            expected_fuel: job.fuel_limit / 2,
            bytes: 0,
        };
        let row = JobRow {
            id: job.id,
            account: job.account,
            package: job.package,
            priority: job.priority,
            submitted_unix_ms: job.submitted_unix_ms,
            deadline_unix_ms: details.deadline_unix_ms,
            seed: job.seed,
            fuel_limit: job.fuel_limit,
            memory_limit: job.memory_limit_bytes,
            load_limit: details.load_limit,
            hold: details.hold,
            input: job.input,
            parameters: details.parameters,
            key: details.key,
            request: details.request,
            schedule: details.schedule,
        };
        let admitted = Admitted {
            parameters: decode_parameters(&row.parameters)?,
            row,
            hold: Hold::Pending,
            published,
            input: Source::Stored,
            prices,
            cancel: stop_at(left),
            answer: None,
            key: None,
        };
        Ok((ticket, admitted))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for (_, job) in self.shared.queue.close() {
            // Queued jobs stay in the store; those whose callers wait are told.
            if let (Hold::Reserved(_), Some(answer)) = (&job.hold, &job.answer) {
                let _ = answer.try_send(Err(crate::queue::Full::Closed.into()));
            }
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; one of its own was shown when it happened.
            let _ = worker.join();
        }
        self.janitor.stop();
    }
}

enum Key {
    None,
    Taken(KeyGuard),
    Done(JobId),
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
            input.encoded();
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
