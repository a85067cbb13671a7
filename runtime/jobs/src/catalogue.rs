//! The catalogue: published packages and their models.
//!
//! What is in memory of a package is what the store says of it: whoever changes a package says so here,
//! and what was read before is not kept.
//!
//! Models are opened when their first job comes and closed when others are used more. What is open
//! changes no job's output, fuel or bill.

use crate::{fault::HostFault, records::Records, shapes::Shapes, tables::Tables};
use fuelbox_digest::Digest;
use fuelbox_engine::{Archive, Engine, JobLimits, Manifest, Model, Signature, StoredPackage};
use fuelbox_ledger::{AccountId, Ledger};
use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// A published package.
pub(crate) struct Published {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) publisher: AccountId,
    /// Fuel and memory of jobs that were run when it was published, by the digest of their shapes.
    pub(crate) quotes: HashMap<Digest, Quote>,
    /// Who may see and run it, besides its publisher; none: everybody.
    readers: RwLock<Option<Vec<AccountId>>>,
    /// What it is loaded for.
    pub(crate) shapes: Shapes,
    model: Mutex<Option<Arc<Model>>>,
    used: AtomicU64,
    /// Fuel of the job that ended last; 0 before the first.
    last_fuel: AtomicU64,
    /// Fuel of the load that came to its end last: at first, of the one paid for last, in publishing or
    /// by a job.
    last_load_fuel: AtomicU64,
}

/// What a job with these shapes took when its package was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Fuel of the run.
    pub fuel: u64,
    /// Linear memory at its largest.
    pub memory_bytes: u64,
}

impl Published {
    pub(crate) fn new(
        digest: Digest,
        manifest: Manifest,
        publisher: AccountId,
        quotes: HashMap<Digest, Quote>,
        readers: Option<Vec<AccountId>>,
        paid_shapes: Vec<Digest>,
        last_load_fuel: u64,
    ) -> Self {
        let (shapes, model) = (Shapes::new(paid_shapes), Mutex::new(None));
        Self {
            digest,
            manifest,
            publisher,
            quotes,
            readers: RwLock::new(readers),
            shapes,
            model,
            used: AtomicU64::new(0),
            last_fuel: AtomicU64::new(0),
            last_load_fuel: AtomicU64::new(last_load_fuel),
        }
    }

    /// Whether an account may see and run it.
    pub(crate) fn is_visible_to(&self, account: &AccountId) -> bool {
        let readers = self.readers.read().unwrap_or_else(PoisonError::into_inner);
        let reads = |readers: &Vec<AccountId>| readers.contains(account);
        *account == self.publisher || readers.as_ref().is_none_or(reads)
    }

    /// What the model takes and gives.
    pub(crate) fn signature(&self) -> &Signature {
        &self.manifest.signature
    }

    /// What a job with these shapes will probably burn: as much as when it was published, or as the
    /// last job of this package; none when nobody knows.
    pub(crate) fn expected_fuel(&self, shapes: &Digest) -> Option<u64> {
        let last = || match self.last_fuel.load(Ordering::Relaxed) {
            0 => None,
            fuel => Some(fuel),
        };
        self.quotes.get(shapes).map(|quote| quote.fuel).or_else(last)
    }

    /// What a load for new shapes will probably burn, when it may burn so much at most: as much as the
    /// last one.
    pub(crate) fn expected_load_fuel(&self, limit: u64) -> u64 {
        match self.last_load_fuel.load(Ordering::Relaxed) {
            // Nobody knows: no load of a package burns nothing.
            0 => limit / 2,
            fuel => fuel.min(limit),
        }
    }

    /// Notes what a load burned that came to its end. One that failed says nothing of the next: its
    /// limit may have been anything.
    pub(crate) fn loaded(&self, fuel: u64) {
        self.last_load_fuel.store(fuel, Ordering::Relaxed);
    }

    /// Notes what a job burned.
    pub(crate) fn burned(&self, fuel: u64) {
        self.last_fuel.store(fuel, Ordering::Relaxed);
    }

    /// Whether nobody has paid for a load for these shapes.
    pub(crate) fn is_new(&self, shapes: &Digest) -> bool {
        self.signature().needs_shapes() && !self.shapes.is_paid(shapes)
    }
}

/// The packages of one host.
pub(crate) struct Catalogue {
    folder: PathBuf,
    engine: Engine,
    ledger: Ledger<Tables>,
    models_open_max: usize,
    packages: Mutex<Known>,
    uses: AtomicU64,
    /// Held alone while a package changes or goes, and shared while one is stored: so rows, memory and
    /// files change together.
    changes: RwLock<()>,
}

/// The packages in memory.
#[derive(Default)]
struct Known {
    packages: HashMap<Digest, Arc<Published>>,
    /// Those that are being removed: they are not there any more.
    leaving: HashSet<Digest>,
    /// Raised whenever a package changes or goes: what was read before is not kept.
    generation: u64,
}

impl Catalogue {
    pub(crate) fn open(
        folder: PathBuf,
        engine: Engine,
        ledger: Ledger<Tables>,
        models_open_max: usize,
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let packages = Mutex::default();
        let uses = AtomicU64::new(0);
        let changes = RwLock::default();
        Ok(Self { folder, engine, ledger, models_open_max, packages, uses, changes })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where a package's file is.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.fbx", digest.hex()))
    }

    /// Where all of them are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A package, when it is published here.
    pub(crate) fn find(&self, digest: &Digest) -> Result<Option<Arc<Published>>, HostFault> {
        loop {
            let known = self.known();
            if let Some(found) = known.packages.get(digest) {
                return Ok(Some(found.clone()));
            }
            if known.leaving.contains(digest) {
                return Ok(None);
            }
            let generation = known.generation;
            drop(known);
            let found = self.ledger.read(|reader| Records::new(reader).published(digest))??;
            let Some(published) = found else {
                return Ok(None);
            };
            let mut known = self.known();
            // Otherwise a package changed since it was read, perhaps this one.
            if known.generation == generation {
                // Two that look at once agree on the first.
                let entry = known.packages.entry(*digest);
                return Ok(Some(entry.or_insert_with(|| Arc::new(published)).clone()));
            }
        }
    }

    /// Lets nobody change or remove packages for as long as it is held.
    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nobody else change, remove or store packages for as long as it is held.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.changes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says who may see and run a package from now on. The store says so already.
    pub(crate) fn changed(&self, digest: &Digest, readers: Option<Vec<AccountId>>) {
        let mut known = self.known();
        known.generation += 1;
        if let Some(published) = known.packages.get(digest) {
            *published.readers.write().unwrap_or_else(PoisonError::into_inner) = readers;
        }
    }

    /// Takes a package away, unless somebody uses it now. It is not found for as long as the guard is
    /// there; then the store says whether it is.
    pub(crate) fn take_away(&self, digest: &Digest) -> Option<Leaving<'_>> {
        let mut known = self.known();
        // Whoever has one of these may yet write a row of a job.
        if known.packages.get(digest).is_some_and(|published| Arc::strong_count(published) > 1) {
            return None;
        }
        let closed = known.packages.remove(digest);
        known.generation += 1;
        known.leaving.insert(*digest);
        drop(known);
        drop(closed);
        Some(Leaving { catalogue: self, digest: *digest })
    }

    /// A package's model, opened when it is not. Its file is read for what is not in the cache alone.
    pub(crate) fn model(&self, published: &Published) -> Result<Arc<Model>, HostFault> {
        published.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut model = published.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*model {
            return Ok(model.clone());
        }
        let (path, digest) = (self.path(&published.digest), published.digest);
        let stored = StoredPackage::new(&published.manifest, move || read(&path, &digest));
        // It loaded when it was published; a load that fails now is this host's doing.
        let opened = Model::open(&self.engine, stored, &JobLimits::default(), || ())?;
        let opened = Arc::new(opened);
        *model = Some(opened.clone());
        drop(model);
        self.close_some();
        Ok(opened)
    }

    /// Closes a model, when it is open.
    pub(crate) fn close(&self, package: &Digest) {
        let published = self.known().packages.get(package).cloned();
        if let Some(published) = published {
            *published.model.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Closes the models that were used least recently, when there are too many.
    fn close_some(&self) {
        let known = self.known();
        let is_open = |published: &&Arc<Published>| {
            // One that is being opened or looked at is in use.
            published.model.try_lock().is_ok_and(|model| model.is_some())
        };
        let mut open: Vec<_> = known.packages.values().filter(is_open).collect();
        open.sort_by_key(|published| published.used.load(Ordering::Relaxed));
        let surplus = open.len().saturating_sub(self.models_open_max);
        let close = |published: &&Arc<Published>| published.model.try_lock().ok()?.take();
        let closed: Vec<_> = open[..surplus].iter().filter_map(close).collect();
        // Their memory is given back without the lock.
        drop(known);
        drop(closed);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Only whole entries are ever added.
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a package's file.
fn read(path: &Path, digest: &Digest) -> Result<Archive, String> {
    let lost = |text: String| format!("package {digest}: {text}");
    let file = fs::File::open(path).map_err(|error| lost(error.to_string()))?;
    let archive = Archive::read(BufReader::new(file)).map_err(|error| lost(error.to_string()))?;
    let found = archive.manifest().digest();
    if found == *digest {
        Ok(archive)
    } else {
        Err(lost(format!("its file has the package {found}")))
    }
}

/// A package that is being removed.
pub(crate) struct Leaving<'a> {
    catalogue: &'a Catalogue,
    digest: Digest,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut known = self.catalogue.known();
        known.generation += 1;
        known.leaving.remove(&self.digest);
    }
}
