//! The host: a data folder with an engine on it, open for work.

use crate::{
    access::{Access, AccessCache},
    accounts::{self, house_accounts},
    admit::{Checked, Wait, check},
    blobs::{BlobFolder, Blobs},
    books::{Blob, Books, Hold},
    catalogue::Catalogue,
    claims::Claims,
    fault::{FolderError, HostFault, JobError, PublishError},
    folder::{Config, DataFolder},
    janitor::Janitor,
    job::{Finished, JobId, JobRecord, JobRequest, Settled, State},
    keys_in_flight::{KeyGuard, KeysInFlight},
    limits::HostLimits,
    look,
    packages::Packages,
    price::{PriceList, Schedule},
    publish::{Publication, PublishRequest, Publisher},
    publishers::Publishers,
    queue::Queue,
    records::Records,
    recover::recover,
    schedule_file,
    shared::{Ear, Shared, now_unix_ms},
    steps::{Step, reach},
    tables::{self, INLINE_BYTES_MAX, Tables},
    waiting::{Begun, Canceller, Started, Waiting},
    webhooks::Webhooks,
    worker,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{Cancel, Engine, Manifest};
use fuelbox_ledger::{AccountId, Ledger, Options};
use fuelbox_receipt::{KeyId, KeyRing, KeyStore, PublicKey, log::Checkpoint, log::CheckpointError};
use std::{
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long somebody waits for a job without a look of his own.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// Between two looks at whether all jobs have ended when a host stops.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// A host at work. Dropping it lets running jobs end; queued ones wait for the next start.
pub struct Host {
    shared: Arc<Shared>,
    limits: HostLimits,
    workers: Vec<JoinHandle<()>>,
    janitor: Janitor,
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
        let io = |source| FolderError::Io { path: folder.path().display().to_string(), source };
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
        let io = |source| FolderError::Io { path: folder.path().display().to_string(), source };
        let options = Options { vfs: config.vfs.clone() };
        let ledger = Ledger::open(folder.database(), Tables::new(), options)?;
        let keys = KeyStore::open(&folder.keys(), now_unix_ms())?;
        let house = house_accounts(&ledger).map_err(FolderError::Recovery)?;
        let schedule = schedule_file::read(&folder.prices(), &ledger)?;
        let catalogue =
            Catalogue::open(folder.packages(), engine, ledger.clone(), config.models_open);
        let shared = Arc::new(Shared {
            books: Books { ledger, house: Arc::new(house) },
            catalogue: catalogue.map_err(io)?,
            queue: Queue::new(config.queue),
            prices: Arc::new(PriceList::from(schedule)),
            blobs,
            claims: Claims::default(),
            fresh_bytes: AtomicU64::new(0),
            keys: RwLock::new(keys),
            keys_in_flight: KeysInFlight::default(),
            access: AccessCache::default(),
            spending: Arc::default(),
            keep: config.keep,
            live: Mutex::default(),
            interrupted: Mutex::default(),
            desk: Arc::default(),
        });
        recover(&shared).map_err(FolderError::Recovery)?;
        let mut host = Self {
            janitor: Janitor::start(shared.clone()),
            shared,
            limits: config.limits,
            workers: Vec::new(),
        };
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
        self.publish_signed(&PublishRequest {
            load_fuel,
            ..PublishRequest::new(account.clone(), file)
        })
    }

    /// Publishes a package with all that a publisher can say of it.
    ///
    /// # Errors
    /// When it is refused; what its guest burned is billed all the same.
    pub fn publish_signed(
        &self,
        request: &PublishRequest<'_>,
    ) -> Result<Publication, PublishError> {
        let publisher = Publisher {
            catalogue: &self.shared.catalogue,
            ledger: &self.shared.books.ledger,
            house: &self.shared.books.house,
            schedule: &self.shared.prices.schedule,
            spending: &self.shared.spending,
            now_unix_ms: self.shared.now_unix_ms(),
        };
        let load_fuel =
            request.load_fuel.unwrap_or(self.limits.load_fuel_default).min(self.limits.load_fuel);
        publisher.publish(request, load_fuel)
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
        let (sender, answer) = sync_channel(1);
        // Whoever waited may be gone.
        let started = self.start_with(request, move |result| drop(sender.try_send(result)))?;
        Ok(Waiting { started, answer })
    }

    /// Starts a job whose end `answer` hears of, once: it is called by the thread that commits the job,
    /// so it must be quick. When the key of the request is that of a job that is done, it is called
    /// before this returns. It is not called when this fails, and dropped uncalled when the host fails
    /// badly.
    ///
    /// # Errors
    /// When the job is refused.
    pub fn start_with(
        &self,
        request: JobRequest,
        answer: impl FnOnce(Result<Finished, JobError>) + Send + 'static,
    ) -> Result<Started, JobError> {
        match self.begin(request, answer)? {
            Begun::Started(started) => Ok(started),
            Begun::Earlier { job, answer } => {
                answer(Ok(self.earlier(&job)?));
                Ok(Started::repeated(Arc::downgrade(&self.shared), job))
            }
        }
    }

    /// As [`Host::start_with`], but when the key of the request is that of a job that is done, it only
    /// says which: its answer may be large, and is read by [`Host::earlier`].
    ///
    /// # Errors
    /// When the job is refused.
    pub fn begin<A: FnOnce(Result<Finished, JobError>) + Send + 'static>(
        &self,
        request: JobRequest,
        answer: A,
    ) -> Result<Begun<A>, JobError> {
        let mut checked = self.check(request, Wait::Prompt)?;
        let shared = &self.shared;
        let key = match self.take_key(&checked)? {
            Key::None => None,
            Key::Taken(guard) => Some(guard),
            Key::Done(job) => return Ok(Begun::Earlier { job, answer }),
        };
        let bytes = checked.input.bytes();
        let ticket = checked.ticket(bytes);
        self.hold_spend(&mut checked)?;
        shared.queue.room(&ticket)?;
        let reservation = shared.books.ledger.reserve(&checked.request.account, checked.price)?;
        reach(Step::Reserved);
        // A large input is hashed while the job runs, by the thread that waits for it.
        let large = bytes > INLINE_BYTES_MAX as u64;
        let digest = checked.request.key.is_some().then(|| checked.input.digest());
        let (id, input, row) = (checked.id, checked.input.clone(), checked.row(digest));
        let job = checked.admitted(row, Hold::Reserved(reservation), Some(Box::new(answer)), key);
        let cancel = job.cancel.clone();
        shared.live().insert(id, cancel.clone());
        if let Err(full) = shared.queue.push(ticket, job) {
            shared.live().remove(&id);
            return Err(full.into());
        }
        let (shared, input) = (Arc::downgrade(shared), large.then_some(input));
        Ok(Begun::Started(Started { canceller: Canceller { shared, id, cancel }, input }))
    }

    /// Takes a job in and returns at once: its price is held, and it is there after any crash.
    ///
    /// # Errors
    /// When the job is refused.
    pub fn submit(&self, request: JobRequest) -> Result<JobRecord, JobError> {
        let mut checked = self.check(request, Wait::Submitted)?;
        let shared = &self.shared;
        let key = match self.take_key(&checked)? {
            Key::None => None,
            Key::Taken(guard) => Some(guard),
            Key::Done(id) => return self.job(&id),
        };
        let ticket = checked.ticket(0);
        self.hold_spend(&mut checked)?;
        shared.queue.room(&ticket)?;
        let digest = checked.input.digest();
        let content = Arc::new(checked.input.encode());
        let claim = (content.len() > INLINE_BYTES_MAX)
            .then(|| shared.store(&digest, &content, true))
            .transpose()?;
        let blob = Blob { digest, content, expires_unix_ms: shared.expires() };
        reach(Step::BlobsStored);
        let (id, row) = (checked.id, checked.row(Some(digest)));
        shared.books.admit(row.clone(), Some(blob))?;
        reach(Step::AdmitCommitted);
        // The key is in the store now, and so is the row of the content.
        drop((key, claim));
        // From here on there is a job: a store that cannot be read now is no reason to say otherwise.
        let taken = row.queued();
        let job = checked.admitted(row, Hold::Pending, None, None);
        shared.live().insert(id, job.cancel.clone());
        if shared.queue.push_promised(ticket, job).is_err() {
            // A queue that was closed meanwhile leaves the job for the next start.
            shared.live().remove(&id);
        }
        Ok(taken)
    }

    fn check(&self, request: JobRequest, wait: Wait) -> Result<Checked, JobError> {
        let shared = &self.shared;
        let published = shared
            .catalogue
            .find(&request.package)?
            // To those who may not see it, it is not there.
            .filter(|published| {
                request.account == shared.books.house.operator
                    || published.is_visible_to(&request.account)
            })
            .ok_or_else(|| JobError::UnknownPackage { found: request.package.to_string() })?;
        let (prices, now) = (shared.prices.clone(), shared.now_unix_ms());
        check(request, published, &self.limits, prices, wait, now)
    }

    /// Holds the price against the limit of the access key. Before the look at the queue: one that is
    /// closed has let go of what its jobs held, and must take none that came in between.
    fn hold_spend(&self, checked: &mut Checked) -> Result<(), JobError> {
        let Some(key) = checked.request.access_key else {
            return Ok(());
        };
        let (ledger, account) = (&self.shared.books.ledger, &checked.request.account);
        checked.spend = self.shared.spending.hold(ledger, key, account, checked.price)??;
        Ok(())
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
    ///
    /// # Errors
    /// When there is no such job, when it has no receipt yet, and when the store fails.
    pub fn earlier(&self, id: &JobId) -> Result<Finished, JobError> {
        let finished =
            self.result(id)?.ok_or_else(|| JobError::InFlight { key: id.to_string() })?;
        Ok(Finished { repeated: true, ..finished })
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
            let (ear, ended) = self.shared.desk.listen_here(id);
            let job = self.job(id);
            let left = until.map_or(LONGEST_NAP, |until| {
                until.saturating_duration_since(Instant::now()).min(LONGEST_NAP)
            });
            let goes_on = job.as_ref().is_ok_and(|job| !job.state.is_final());
            if goes_on && !left.is_zero() {
                // Woken, or time to look again.
                let _ = ended.recv_timeout(left);
            }
            drop(ear);
            if !goes_on || left.is_zero() {
                return job;
            }
        }
    }

    /// Calls `waiter` when a job ends, by the thread that commits it: it must be quick. A job that has
    /// ended already is not heard of: listen first, then look.
    pub fn listen(&self, id: &JobId, waiter: impl FnOnce() + Send + 'static) -> Ear {
        self.shared.desk.listen(id, Box::new(waiter))
    }

    /// Cancels a job. One that waits ends here, without a bill; one that runs stops soon, and is
    /// billed what it burned.
    ///
    /// # Errors
    /// When there is no such job, or when it has ended.
    pub fn cancel(&self, id: &JobId) -> Result<(), JobError> {
        // First the word, then the queue: a worker that takes the job in between hears it.
        let known = self.shared.live().get(id).map(Cancel::cancel).is_some();
        if let Some((_, job)) = self.shared.queue.remove(id) {
            self.shared.drop_unstarted(job, State::Cancelled, JobError::CancelledEarly);
            return Ok(());
        }
        let job = self.job(id)?;
        if job.state.is_final() && !known {
            return Err(JobError::Ended { job: id.to_string(), state: job.state.name() });
        }
        // It stops soon, or is on its way to the books already.
        Ok(())
    }

    /// Takes no more jobs. Those that wait are told, or stay for the next start; those that run may end
    /// within `grace`, and are stopped then: nobody pays for them, and those that were submitted are
    /// run again at the next start. Returns when no job runs.
    pub fn stop(&self, grace: Duration) {
        self.shared.close_queue();
        let until = Instant::now() + grace;
        while !self.shared.live().is_empty() && Instant::now() < until {
            thread::sleep(STOP_LOOK);
        }
        self.shared.interrupt();
        while !self.shared.live().is_empty() {
            thread::sleep(STOP_LOOK);
        }
    }

    /// Whether jobs are taken in.
    pub fn is_open(&self) -> bool {
        self.shared.queue.is_open()
    }

    /// Whether a job of somebody new would find a place in the queue.
    pub fn has_room(&self) -> bool {
        self.shared.queue.has_room()
    }

    /// What a published package says of itself.
    ///
    /// # Errors
    /// When the store fails.
    pub fn manifest(&self, package: &Digest) -> Result<Option<Manifest>, HostFault> {
        let found = self.shared.catalogue.find(package)?;
        Ok(found.map(|published| published.manifest.clone()))
    }

    /// Opens a package's model, so that its next job need not. False when there is no such package.
    ///
    /// # Errors
    /// When it cannot be opened: it was when it was published.
    pub fn open_model(&self, package: &Digest) -> Result<bool, HostFault> {
        let Some(published) = self.shared.catalogue.find(package)? else {
            return Ok(false);
        };
        self.shared.catalogue.model(&published)?;
        Ok(true)
    }

    /// Closes a package's model: its memory is free when its last job is done, and the next job opens
    /// it again.
    pub fn close_model(&self, package: &Digest) {
        self.shared.catalogue.close(package);
    }

    /// Calls `hear` for each job that is settled from now on, by the thread that commits it: it must be
    /// quick. The first who asks hears; false for all others.
    pub fn hear_settled(&self, hear: impl Fn(&Settled<'_>) + Send + Sync + 'static) -> bool {
        self.shared.desk.settled.set(Box::new(hear)).is_ok()
    }

    /// How long the job that waits longest for a worker has waited; none when none waits.
    pub fn oldest_waits(&self) -> Option<Duration> {
        self.shared.queue.earliest(|job| job.since).map(|since| since.elapsed())
    }

    /// Jobs that workers have now.
    pub fn running(&self) -> usize {
        self.shared.queue.running()
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

    /// The access keys of this host.
    pub fn access(&self) -> Access<'_> {
        Access::new(&self.shared.books.ledger, &self.shared.access)
    }

    /// Keys and name spaces of publishers.
    pub fn publishers(&self) -> Publishers<'_> {
        Publishers::new(&self.shared.books.ledger)
    }

    /// Published packages, to be changed.
    pub fn packages(&self) -> Packages<'_> {
        Packages::new(&self.shared.catalogue, &self.shared.books.ledger)
    }

    /// Who is to be told of the ends of jobs.
    pub fn webhooks(&self) -> Webhooks<'_> {
        Webhooks::new(&self.shared.books.ledger)
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

    /// Bytes of stored inputs or outputs, without reading them; none when they are no longer kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Option<u64>, HostFault> {
        let ledger = &self.shared.books.ledger;
        Ok(ledger.read(|reader| tables::blob_bytes(reader.connection(), digest))??)
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

    /// Signs the message of a webhook with the key of receipts.
    pub fn sign_webhook(&self, id: &str, timestamp_s: u64, body: &[u8]) -> [u8; 64] {
        let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
        fuelbox_receipt::webhook::sign(keys.current(), id, timestamp_s, body)
    }

    /// Makes a new key for the receipts to come.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn rotate_key(&self) -> Result<KeyId, FolderError> {
        let mut keys = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.rotate(self.shared.now_unix_ms())?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.close_queue();
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
