//! Models: published packages as the inference protocol names them, with what the server knows of each.
//!
//! Invariant: a caller finds exactly the packages that are visible to it. What is remembered is
//! remembered for each caller apart, and forgotten whenever any package changes.

use crate::{
    access::Caller,
    refusal::{Code, Refusal, excerpt},
    stats::ModelStats,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{Archive, Manifest};
use fuelbox_jobs::{
    DataFolder, Host, HostFault, PAGE_ROWS_MAX, PackageCursor, PackageFilter, PackageRecord, Viewer,
};
use fuelbox_ledger::AccountId;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::BufReader,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::task;

/// A model that somebody asked for.
pub(crate) struct Model {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) stats: ModelStats,
    /// Jobs whose callers wait.
    jobs: AtomicUsize,
    labels: OnceLock<Option<Vec<String>>>,
}

/// Lookups that are remembered: a few megabytes. When there are more, all are forgotten.
const LOOKUPS_MAX: usize = 10_000;

type Lookup = (Option<AccountId>, String, Option<String>);

/// All models.
pub(crate) struct Models {
    host: Arc<Host>,
    folder: DataFolder,
    lookups: RwLock<HashMap<Lookup, Arc<Model>>>,
    known: RwLock<HashMap<Digest, Arc<Model>>>,
    /// Unloaded on request: no jobs until they are loaded again.
    unloaded: RwLock<HashSet<Digest>>,
}

impl Models {
    pub(crate) fn new(host: Arc<Host>, folder: DataFolder) -> Self {
        let (lookups, known, unloaded) = Default::default();
        Self { host, folder, lookups, known, unloaded }
    }

    /// The model of this name, and version if given; otherwise the version that was published last.
    pub(crate) fn find(
        &self,
        caller: &Caller,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Model>, Refusal> {
        let viewer = caller.viewer();
        let account = (!caller.is_operator()).then(|| caller.account().clone());
        let lookup = (account, name.to_owned(), version.map(str::to_owned));
        let known = self.lookups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = known.get(&lookup) {
            return Ok(model.clone());
        }
        drop(known);
        let record = self.record(&viewer, name, version)?;
        let model = self.of(&record)?;
        let mut lookups = self.lookups.write().unwrap_or_else(PoisonError::into_inner);
        if lookups.len() >= LOOKUPS_MAX {
            lookups.clear();
        }
        lookups.insert(lookup, model.clone());
        Ok(model)
    }

    /// A package's row, when it is visible.
    pub(crate) fn record(
        &self,
        viewer: &Viewer,
        name: &str,
        version: Option<&str>,
    ) -> Result<PackageRecord, Refusal> {
        let text = match version {
            Some(version) => format!("{name}:{version}"),
            None => name.to_owned(),
        };
        let found = self.host.read(|records| records.find_package_for(viewer, &text))??;
        found.ok_or_else(|| match version {
            None => Refusal::not_found("model", name),
            Some(version) => {
                let sentence =
                    format!("no model '{}' version '{}'", excerpt(name), excerpt(version));
                Refusal::new(Code::NotFound, sentence)
            }
        })
    }

    /// The model of a package's row.
    pub(crate) fn of(&self, record: &PackageRecord) -> Result<Arc<Model>, Refusal> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = known.get(&record.digest) {
            return Ok(model.clone());
        }
        drop(known);
        let manifest = self.host.manifest(&record.digest)?;
        let manifest = manifest.ok_or_else(|| Refusal::not_found("model", &record.name))?;
        let model = Arc::new(Model {
            digest: record.digest,
            manifest,
            stats: ModelStats::default(),
            jobs: AtomicUsize::new(0),
            labels: OnceLock::new(),
        });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(record.digest).or_insert(model).clone())
    }

    /// All versions of a name that a caller sees, the latest last.
    pub(crate) fn versions(&self, caller: &Caller, name: &str) -> Result<Vec<String>, Refusal> {
        let viewer = caller.viewer();
        let records = self.host.read(|records| records.versions(&viewer, name))??;
        Ok(records.into_iter().rev().map(|record| record.version).collect())
    }

    /// All packages that a caller sees, the latest first.
    pub(crate) fn records(&self, caller: &Caller) -> Result<Vec<PackageRecord>, Refusal> {
        let viewer = caller.viewer();
        let (mut all, mut filter) = (Vec::new(), PackageFilter::default());
        loop {
            let page = |filter: &PackageFilter| {
                self.host.read(|records| records.packages_for(&viewer, filter, PAGE_ROWS_MAX))
            };
            let page = page(&filter)??;
            filter.after = page.last().map(PackageCursor::of);
            let is_last = page.len() < PAGE_ROWS_MAX;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// All models that a caller sees.
    pub(crate) fn visible(&self, caller: &Caller) -> Result<Vec<Arc<Model>>, Refusal> {
        self.records(caller)?.iter().map(|record| self.of(record)).collect()
    }

    /// Loads or unloads all versions of a name. For its publisher and the operator.
    pub(crate) async fn set_loaded(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        loaded: bool,
    ) -> Result<(), Refusal> {
        let viewer = caller.viewer();
        let records = self.host.read(|records| records.versions(&viewer, name))??;
        if records.is_empty() {
            return Err(Refusal::not_found("model", name));
        }
        for record in records {
            if !caller.is_operator() && record.publisher != *caller.account() {
                let sentence = "models are loaded and unloaded by their publisher and the operator";
                return Err(Refusal::new(Code::Forbidden, sentence));
            }
            let model = self.of(&record)?;
            let models = self.clone();
            let change = move || {
                if loaded {
                    return models.load(&model);
                }
                models.unload(&model);
                Ok(())
            };
            task::spawn_blocking(change).await.map_err(|error| Refusal::fault(&error))??;
        }
        Ok(())
    }

    /// Forgets who sees what: some package changed, or is new.
    pub(crate) fn forget(&self) {
        self.lookups.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All models that anybody asked for since the start, by name and version: for metrics.
    pub(crate) fn all(&self) -> Vec<Arc<Model>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        all.sort_by(|a, b| a.key().cmp(&b.key()));
        all
    }

    /// Whether a model takes jobs.
    pub(crate) fn is_loaded(&self, package: &Digest) -> bool {
        !self.unloaded.read().unwrap_or_else(PoisonError::into_inner).contains(package)
    }

    /// Opens a model and lets it take jobs. Blocks: it may have to be read from disk.
    pub(crate) fn load(&self, model: &Model) -> Result<(), Refusal> {
        self.host.open_model(&model.digest)?;
        self.unloaded.write().unwrap_or_else(PoisonError::into_inner).remove(&model.digest);
        Ok(())
    }

    /// Closes a model; it takes no jobs until it is loaded again.
    pub(crate) fn unload(&self, model: &Model) {
        self.unloaded.write().unwrap_or_else(PoisonError::into_inner).insert(model.digest);
        self.host.close_model(&model.digest);
    }

    /// The names of a classifier's classes. Blocks the first time: the package is read from disk.
    pub(crate) fn labels<'a>(&self, model: &'a Model) -> Result<Option<&'a [String]>, HostFault> {
        if let Some(labels) = model.labels.get() {
            return Ok(labels.as_deref());
        }
        let labels = self.read_labels(model)?;
        Ok(model.labels.get_or_init(|| labels).as_deref())
    }

    fn read_labels(&self, model: &Model) -> Result<Option<Vec<String>>, HostFault> {
        let Some(name) = &model.manifest.labels else {
            return Ok(None);
        };
        let damaged = |text: String| HostFault::Package { digest: model.digest, text };
        let file = File::open(self.folder.package(&model.digest));
        let file = file.map_err(|error| damaged(error.to_string()))?;
        let archive = Archive::read(BufReader::new(file));
        let archive = archive.map_err(|error| damaged(error.to_string()))?;
        let asset = archive.manifest().assets.iter().find(|asset| asset.name == *name);
        let Some(asset) = asset else { return Ok(None) };
        // A publisher's labels may be anything: those that are no text name nothing.
        let text = str::from_utf8(archive.part(&asset.part)).unwrap_or_default();
        Ok(Some(text.lines().map(|line| line.trim_end().to_owned()).collect()))
    }
}

/// A job's place among those of its model.
pub(crate) struct Place(Arc<Model>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Model {
    /// Name and version.
    pub(crate) fn key(&self) -> (&str, &str) {
        (&self.manifest.name, &self.manifest.version)
    }

    /// Takes a place for a job whose caller waits.
    pub(crate) fn place(self: &Arc<Self>, allowed: usize) -> Result<Place, Refusal> {
        let found = self.jobs.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        if found < allowed {
            return Ok(place);
        }
        drop(place);
        let sentence = format!("too many jobs of this model at once: allowed are {allowed}");
        let soon = std::time::Duration::from_secs(1);
        Err(Refusal::new(Code::RateLimited, sentence).retry_after(soon))
    }

    /// Jobs whose callers wait now.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }
}
