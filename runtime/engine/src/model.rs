//! Models: a package whose guest has loaded it, ready for jobs of any shape that it takes.
//!
//! Invariant: a job's image depends on the package, the engine profile and, for models with symbolic
//! dimensions, the request's shapes; on nothing else. So whether it came from the cache or was made
//! for this job cannot be seen in the job's output or fuel.

use crate::{
    cache::{CacheError, Kind, Opened},
    engine::{Code, Engine, EngineError},
    image::{ImageMeta, ModelImage, image_digest},
    limits::{JobLimits, constants::SHAPE_IMAGES_MAX},
    load::{LoadRequest, load},
    package::{Archive, Asset, GuestModule, Manifest, NamedPart, Package},
    sandbox::{Cancel, HostFault, Request, Sandbox},
    signature::{InputError, Signature, shape_specs},
    tensor::{OwnedParameter, Tensor},
    verdict::{Outcome, Usage, Verdict},
};
use fuelbox_abi::TensorSpec;
use fuelbox_digest::{Digest, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// A package that is loaded.
pub struct Model {
    engine: Engine,
    code: Arc<Code>,
    /// Gets the package, to load it for other shapes; none when the model has no use for that. What it
    /// gives is dropped after the load: assets unpack to a thousand times their size on disk, and many
    /// models are open at once.
    fetch: Option<Box<Fetch>>,
    key: Digest,
    /// Loaded without shapes: what the model says of itself, and the image for jobs when it has no
    /// symbolic dimensions.
    described: Arc<ModelImage>,
    /// Loaded for shapes, the most recently used last; at most [`SHAPE_IMAGES_MAX`].
    planned: Mutex<Vec<(Digest, Arc<ModelImage>)>>,
}

/// A package that need not be in memory: what it is, and how to get at its bytes when they are needed.
pub struct StoredPackage {
    module: GuestModule,
    /// Names and digests, in order.
    assets: Vec<(String, Digest)>,
    fetch: Box<Fetch>,
}

type Fetch = dyn Fn() -> Result<Package, String> + Send + Sync;

impl StoredPackage {
    /// The package of this manifest. `read` reads its file: for the module when its code is not in the
    /// cache, and for the assets when an image is not. A failure of it is the host's.
    pub fn new(
        manifest: &Manifest,
        read: impl Fn() -> Result<Archive, String> + Send + Sync + 'static,
    ) -> Self {
        let read = Arc::new(read);
        let (guest, read_guest) = (manifest.guest, read.clone());
        let module = move || Ok(read_guest()?.part(&guest).to_vec());
        let asset = |asset: &NamedPart| (asset.name.clone(), asset.part.digest);
        Self {
            module: GuestModule::lazy(manifest.guest.digest, module),
            assets: manifest.assets.iter().map(asset).collect(),
            fetch: Box::new(move || Ok(read()?.package())),
        }
    }
}

impl From<Package> for StoredPackage {
    /// One that is in memory, and stays there.
    fn from(package: Package) -> Self {
        let asset = |asset: &Asset| (asset.name.clone(), asset.digest);
        Self {
            module: package.module.clone(),
            assets: package.assets.iter().map(asset).collect(),
            fetch: Box::new(move || Ok(package.clone())),
        }
    }
}

/// What a load may use, and when it is to stop.
///
/// A load that ends by its own limits ends the same on every host; one that is stopped is a
/// [`ModelError::Load`] with the verdict `cancelled`, and may be tried again.
#[derive(Clone, Debug, Default)]
pub struct LoadTerms {
    /// Fuel, memory, reply and log.
    pub limits: JobLimits,
    /// Stops it before it is done.
    pub cancel: Cancel,
}

impl From<&JobLimits> for LoadTerms {
    /// Without a deadline.
    fn from(&limits: &JobLimits) -> Self {
        Self { limits, cancel: Cancel::default() }
    }
}

/// A request that fits its model, with the image for its shapes.
#[derive(Debug)]
pub struct Prepared<'a> {
    image: Arc<ModelImage>,
    request: Request<'a>,
    loaded: bool,
}

/// Why there is no model, or no job.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelError {
    /// The guest module is refused, or the host failed: see [`EngineError::is_host_fault`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The guest did not load the model. Billed like a job.
    #[error("the guest did not load the model: {}: {}", .0.verdict.name(), .0.verdict.detail().unwrap_or_default())]
    Load(Box<Outcome>),
    /// The caller's tensors do not fit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The caller's request is beyond what a message may be.
    #[error("request: {0}")]
    Request(#[from] fuelbox_abi::EncodeError),
    /// The caller's request is too large.
    #[error("request of {found} bytes, allowed are {allowed}")]
    InputTooLarge { found: u64, allowed: u64 },
    /// The model alone takes more memory than the job may.
    #[error("memory over limit: the loaded model takes {found} bytes, the limit is {allowed}")]
    MemoryLimit { found: u64, allowed: u64 },
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
    /// The host failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The package's bytes are not to be had. The host failed.
    #[error("{0}")]
    Package(String),
}

impl ModelError {
    /// Whether the host failed, not the package or the caller.
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_host_fault(),
            Self::Fault(_) | Self::Cache(_) | Self::Package(_) => true,
            Self::Load(_)
            | Self::Input(_)
            | Self::Request(_)
            | Self::InputTooLarge { .. }
            | Self::MemoryLimit { .. } => false,
        }
    }
}

impl Model {
    /// Makes a package ready: compiles its guest and loads it, or takes both from the cache; then the
    /// bytes of a stored one are not read. `compiling` is called before the former, which takes seconds,
    /// and what it gives is dropped after it.
    ///
    /// # Errors
    /// When the package is refused, when its guest fails to load it within `terms`, and when the host
    /// fails.
    pub fn open<G>(
        engine: &Engine,
        package: impl Into<StoredPackage>,
        terms: impl Into<LoadTerms>,
        compiling: impl FnOnce() -> G,
    ) -> Result<Self, ModelError> {
        let StoredPackage { module, assets, fetch } = package.into();
        let code = engine.code(&module, compiling)?;
        let key = model_key(engine, &module, &assets);
        let (described, _) =
            image(engine, &code, fetch.as_ref(), &key, &Wanted::default(), &terms.into())?;
        let fetch = described.signature().needs_shapes().then_some(fetch);
        Ok(Self { engine: engine.clone(), code, fetch, key, described, planned: Mutex::default() })
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        self.described.signature()
    }

    /// The model loaded without shapes.
    pub fn image(&self) -> &Arc<ModelImage> {
        &self.described
    }

    /// The guest's code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Checks a request against the model and finds the image for its shapes, loading the model for
    /// them when they are new, within `load_terms`.
    ///
    /// # Errors
    /// When the request does not fit or is over its limits, when the load fails, and when the host
    /// fails.
    pub fn prepare<'a>(
        &self,
        tensors: &'a [Tensor],
        parameters: &'a [OwnedParameter],
        limits: &JobLimits,
        load_terms: impl Into<LoadTerms>,
    ) -> Result<Prepared<'a>, ModelError> {
        self.signature().check_inputs(tensors)?;
        let request = Request::new(tensors, parameters);
        let found = request.encode()?.len() as u64;
        if found > limits.input_bytes {
            return Err(ModelError::InputTooLarge { found, allowed: limits.input_bytes });
        }
        let (image, loaded) = match &self.fetch {
            Some(fetch) => self.planned(fetch, &shape_specs(tensors), &load_terms.into())?,
            None => (self.described.clone(), false),
        };
        let (found, allowed) = (image.len_bytes(), limits.memory_bytes);
        if found > allowed {
            return Err(ModelError::MemoryLimit { found, allowed });
        }
        Ok(Prepared { image, request, loaded })
    }

    fn planned(
        &self,
        fetch: &Fetch,
        shapes: &[TensorSpec<'_>],
        terms: &LoadTerms,
    ) -> Result<(Arc<ModelImage>, bool), ModelError> {
        let key = shapes_key(shapes);
        // A poisoned lock is harmless: the list is only ever changed by whole entries.
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = planned.iter().position(|(other, _)| *other == key) {
            let entry = planned.remove(at);
            let image = entry.1.clone();
            planned.push(entry);
            return Ok((image, false));
        }
        drop(planned); // others go on while this one loads; two that load the same agree
        let wanted = Wanted { shapes, signature: Some(self.signature()) };
        let image = image(&self.engine, &self.code, fetch, &self.key, &wanted, terms)?;
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.push((key, image.0.clone()));
        if planned.len() > SHAPE_IMAGES_MAX {
            planned.remove(0);
        }
        Ok(image)
    }
}

impl Prepared<'_> {
    /// The image that the job will start from.
    pub fn image(&self) -> &Arc<ModelImage> {
        &self.image
    }

    /// Whether the model had to be loaded for this request's shapes.
    pub fn loaded(&self) -> bool {
        self.loaded
    }

    /// Runs one job, from a pristine image.
    ///
    /// # Errors
    /// The host's own failures.
    pub fn run(
        &self,
        limits: &JobLimits,
        seed: u64,
        cancel: &Cancel,
    ) -> Result<Outcome, HostFault> {
        let sandbox = Sandbox::open(&self.image, limits, seed)?;
        sandbox.run(self.image.signature(), &self.request, cancel)
    }
}

/// An instance that is used again and again, as a host without isolation would. For comparison only:
/// what one job leaves, the next one finds.
#[cfg(feature = "warm-reuse")]
pub struct Warm<'a> {
    prepared: &'a Prepared<'a>,
    sandbox: Sandbox,
}

#[cfg(feature = "warm-reuse")]
impl Prepared<'_> {
    /// Opens an instance to be reused.
    ///
    /// # Errors
    /// The host's own failures.
    pub fn warm(&self, limits: &JobLimits) -> Result<Warm<'_>, HostFault> {
        Ok(Warm { prepared: self, sandbox: Sandbox::open(&self.image, limits, 0)? })
    }
}

#[cfg(feature = "warm-reuse")]
impl Warm<'_> {
    /// Runs the request once more.
    ///
    /// # Errors
    /// The host's own failures.
    pub fn run(&mut self) -> Result<crate::verdict::Verdict, HostFault> {
        let Prepared { image, request, .. } = self.prepared;
        self.sandbox.run_warm(image.signature(), request, &Cancel::default())
    }
}

const MEMORY_FILE: &str = "memory.img";

/// What a model is loaded for.
#[derive(Default)]
struct Wanted<'a> {
    /// Of its inputs; none to learn its signature.
    shapes: &'a [TensorSpec<'a>],
    /// What it said of itself without shapes: names and datatypes hold with them, too.
    signature: Option<&'a Signature>,
}

/// The image of a model, from the cache or by loading it; and whether it was loaded.
fn image(
    engine: &Engine,
    code: &Arc<Code>,
    fetch: &Fetch,
    model: &Digest,
    wanted: &Wanted<'_>,
    terms: &LoadTerms,
) -> Result<(Arc<ModelImage>, bool), ModelError> {
    let Wanted { shapes, signature } = *wanted;
    let key = shapes_key(shapes);
    let cache = engine.cache();
    let open = |opened: Opened<ImageMeta>| -> Option<Arc<ModelImage>> {
        let Opened { meta, mut files } = opened;
        let pool = engine.pool(files.pop()?);
        Some(Arc::new(ModelImage { code: code.clone(), meta, pool }))
    };
    if let Some(image) = cache.get(Kind::Image, model, &key, &[MEMORY_FILE])?.and_then(open) {
        return Ok((image, false));
    }
    if terms.limits.fuel == 0 {
        // As it would end: entering the guest takes fuel. But no package is unpacked for that.
        let (verdict, usage) = (Verdict::OutOfFuel, Usage::default());
        return Err(ModelError::Load(Box::new(Outcome { verdict, usage, log: String::new() })));
    }
    let package = fetch().map_err(ModelError::Package)?;
    let assets: Vec<_> =
        package.assets.iter().map(|asset| (asset.name.as_str(), &*asset.bytes)).collect();
    let request = LoadRequest { assets: &assets, shapes, parameters: &[] };
    let mut loaded = load(code, &request, &terms.limits, &terms.cancel)?
        .map_err(|outcome| ModelError::Load(Box::new(outcome)))?;
    drop(package); // the guest has its copy
    if signature.is_some_and(|signature| !loaded.signature.names_the_same(signature)) {
        let detail = "loaded for shapes, the model has other names or datatypes".into();
        let (verdict, usage) = (Verdict::BadOutput { detail }, loaded.usage);
        return Err(ModelError::Load(Box::new(Outcome { verdict, usage, log: loaded.log })));
    }
    let mut meta = ImageMeta {
        digest: Digest::from_bytes([0; 32]), // follows below
        globals: loaded.globals.clone(),
        signature: loaded.signature.clone(),
        load_fuel: loaded.usage.fuel,
        load_memory_bytes: loaded.usage.memory_bytes_peak,
        load_log: loaded.log.clone(),
    };
    // A model that waits for shapes runs nothing: what it says of itself is all there is to keep.
    let runs = !shapes.is_empty() || !loaded.signature.needs_shapes();
    let memory = if runs { loaded.memory() } else { &[] };
    let opened = cache.put(Kind::Image, model, &key, &[(MEMORY_FILE, memory)], || {
        meta.digest = image_digest(memory);
        meta
    })?;
    drop(loaded);
    // The model without shapes stays: it is what the next one opens the model with, for nothing.
    cache.evict(Kind::Image, model, &shapes_key(&[]), SHAPE_IMAGES_MAX)?;
    let lost = || HostFault::Engine(wasmtime::format_err!("one file was asked for"));
    Ok((open(opened).ok_or_else(lost)?, true))
}

/// What a model is: its guest, its assets, and the rules that it runs by.
fn model_key(engine: &Engine, module: &GuestModule, assets: &[(String, Digest)]) -> Digest {
    let mut hasher = Hasher::new("fuelbox model 1");
    hasher.field(engine.profile().as_bytes()).field(module.digest().as_bytes());
    for (name, digest) in assets {
        hasher.field(name.as_bytes()).field(digest.as_bytes());
    }
    hasher.finish()
}

/// The digest of the shapes of a request's inputs: what a model with named dimensions is prepared
/// for (`docs/formats/digests.md`).
pub fn shapes_digest(inputs: &[Tensor]) -> Digest {
    shapes_key(&shape_specs(inputs))
}

fn shapes_key(shapes: &[TensorSpec<'_>]) -> Digest {
    let mut hasher = Hasher::new("fuelbox shapes 1");
    for spec in shapes {
        hasher.field(spec.name.as_bytes()).number(spec.datatype.code().into());
        let shape = spec.dims.and_then(|dims| dims.fixed()).unwrap_or_default();
        hasher.number(shape.len() as u64);
        for &dim in shape.iter() {
            hasher.number(dim);
        }
    }
    hasher.finish()
}
