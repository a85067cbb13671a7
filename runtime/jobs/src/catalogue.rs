//! The catalogue: published packages, their models, and the shapes that they are prepared for.
//!
//! What is in memory of a package is what the store says of it: whoever changes a package says so here,
//! and what was read before is not kept.
//!
//! Models are opened when their first job comes and closed when others are used more. What is open
//! changes no job's output, fuel or bill.

use crate::{fault::HostFault, records::Records, tables::Tables};
use fuelbox_digest::Digest;
use fuelbox_engine::{
    Archive, Engine, JobLimits, Manifest, Model, Signature, constants::SHAPE_IMAGES_MAX,
};
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
    /// Shapes that somebody paid for, the one used last at the end.
    shapes: Mutex<Vec<Digest>>,
    model: Mutex<Option<Arc<Model>>>,
    used: AtomicU64,
    /// Fuel of the job that ended last; 0 before the first.
    last_fuel: AtomicU64,
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
        shapes: Vec<Digest>,
    ) -> Self {
        let (shapes, model) = (Mutex::new(shapes), Mutex::new(None));
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

    /// Notes what a job burned.
    pub(crate) fn burned(&self, fuel: u64) {
        self.last_fuel.store(fuel, Ordering::Relaxed);
    }

    /// Whether a load for these shapes would be new.
    pub(crate) fn is_new(&self, shapes: &Digest) -> bool {
        let known = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        self.signature().needs_shapes() && !known.contains(shapes)
    }

    /// Notes that shapes are used, and gives a claim to them when they were new. The engine keeps the
    /// images of as many shapes, in the same order: so whoever makes it load anew has paid for that.
    pub(crate) fn use_shapes(self: &Arc<Self>, shapes: &Digest) -> Option<NewShapes> {
        if !self.signature().needs_shapes() {
            return None;
        }
        let mut known = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|other| other == shapes);
        if let Some(at) = at {
            known.remove(at);
        }
        known.push(*shapes);
        if known.len() > SHAPE_IMAGES_MAX {
            known.remove(0);
        }
        let new = || NewShapes { published: self.clone(), shapes: *shapes, paid: false };
        at.is_none().then(new)
    }
}

/// Shapes that a job is the first to bring. Unless it pays for them, they are new to the next one.
pub(crate) struct NewShapes {
    published: Arc<Published>,
    pub(crate) shapes: Digest,
    paid: bool,
}

impl NewShapes {
    /// They are prepared, and paid for.
    pub(crate) fn paid(mut self) {
        self.paid = true;
    }
}

impl Drop for NewShapes {
    fn drop(&mut self) {
        if !self.paid {
            let known = self.published.shapes.lock();
            known.unwrap_or_else(PoisonError::into_inner).retain(|other| *other != self.shapes);
        }
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

    /// A package's model, opened when it is not.
    pub(crate) fn model(&self, published: &Published) -> Result<Arc<Model>, HostFault> {
        published.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut model = published.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*model {
            return Ok(model.clone());
        }
        let path = self.path(&published.digest);
        let lost = |error: io::Error| HostFault::Package {
            digest: published.digest,
            text: error.to_string(),
        };
        let file = fs::File::open(path).map_err(lost)?;
        let archive = Archive::read(BufReader::new(file)).map_err(|error| HostFault::Package {
            digest: published.digest,
            text: error.to_string(),
        })?;
        let found = archive.manifest().digest();
        if found != published.digest {
            let text = format!("its file has the package {found}");
            return Err(HostFault::Package { digest: published.digest, text });
        }
        // It loaded when it was published; a load that fails now is this host's doing.
        let opened = Model::open(&self.engine, archive.package(), &JobLimits::default(), || ())?;
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
