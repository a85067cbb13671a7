//! The engine: one wasmtime engine of the profile, the cache, and the way from a guest module to code
//! that can be instantiated.

use crate::{
    cache::{Cache, CacheError, Kind, Opened},
    compile::{CompileError, Compiler},
    frame::Compiled,
    image::ImageFile,
    kernels,
    package::GuestModule,
    profile::{self, Codegen, Profile},
    sandbox::State,
    slot::{ResetPolicy, SlotPool},
    split::global_export,
    wasi,
};
use fuelbox_abi::export;
use fuelbox_digest::{Digest, Hasher};
use fuelbox_kernels::Isa;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wasmtime::{InstancePre, Linker, Module, ModuleExport};

/// What a host chooses. None of it changes outputs or fuel.
#[derive(Clone, Debug)]
pub struct Options {
    /// How machine code is made.
    pub codegen: Codegen,
    /// Who makes it.
    pub compiler: Compiler,
    /// How slots are made pristine.
    pub reset: ResetPolicy,
    /// Slots that wait for jobs, per image.
    pub slots_max: usize,
    /// What host kernels are made of; none for the fastest that this CPU has.
    pub kernels: Option<Isa>,
}

impl Default for Options {
    /// Native code made in this process, slots reset by scanning, up to 16 of them: enough for the
    /// cores of most machines, and half a gigabyte at most that waiting slots keep for an image.
    fn default() -> Self {
        Self {
            codegen: Codegen::Native,
            compiler: Compiler::InProcess,
            reset: ResetPolicy::Scan,
            slots_max: 16,
            kernels: None,
        }
    }
}

/// Makes models ready. One per process is enough; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    profile: Digest,
    options: Options,
    cache: Cache,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EngineError {
    /// The publisher's fault, or the host's: see [`CompileError`].
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The host's fault.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The guest module's bytes are not to be had. The publisher's fault.
    #[error("guest module: {0}")]
    Module(String),
    /// The host chose kernels that its CPU cannot run.
    #[error("kernels '{found}' are chosen, this CPU has {allowed}")]
    Kernels { found: &'static str, allowed: String },
    /// wasmtime failed. The host's fault.
    #[error("wasm engine: {0:#}")]
    Wasmtime(wasmtime::Error),
}

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasmtime(error)
    }
}

impl EngineError {
    /// Whether the host failed, not the package.
    pub fn is_host_fault(&self) -> bool {
        match self {
            Self::Module(_) => false,
            Self::Compile(CompileError::Worker(_)) => true,
            Self::Compile(
                CompileError::Invalid { .. }
                | CompileError::Refused { .. }
                | CompileError::Stopped { .. },
            ) => false,
            Self::Cache(_) | Self::Kernels { .. } | Self::Wasmtime(_) => true,
        }
    }
}

/// A guest's compiled code with its initial image: what every load of every model on it starts from.
pub struct Code {
    pre: InstancePre<State>,
    exports: Exports,
    initial: Arc<SlotPool>,
    module: Digest,
    wasm_bytes: u64,
}

/// Where a guest's exports are.
pub(crate) struct Exports {
    pub(crate) memory: ModuleExport,
    pub(crate) initialize: Option<ModuleExport>,
    pub(crate) abi: ModuleExport,
    pub(crate) alloc: ModuleExport,
    pub(crate) load: ModuleExport,
    pub(crate) run: ModuleExport,
    pub(crate) globals: Vec<ModuleExport>,
}

/// What is stored beside an artifact.
#[derive(Serialize, Deserialize)]
struct CodeMeta {
    mutable_globals: u32,
    wasm_bytes: u64,
}

const ARTIFACT_FILE: &str = "artifact.cwasm";
const INITIAL_FILE: &str = "initial.img";

impl Engine {
    /// An engine of the current profile with this cache.
    ///
    /// # Errors
    /// When this machine cannot run it, or not the kernels that were chosen.
    pub fn new(cache: Cache, options: Options) -> Result<Self, EngineError> {
        let isa = options.kernels.unwrap_or_else(Isa::detect);
        if !isa.is_available() {
            let allowed = Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ");
            return Err(EngineError::Kernels { found: isa.name(), allowed });
        }
        let profile = Profile::current();
        let config = profile::config(&profile, options.codegen)?;
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::link(&mut linker)?;
        kernels::link(&mut linker, isa)?;
        let profile = profile.digest();
        // What is loaded without fuel says so in its bill: not an image of the profile.
        #[cfg(feature = "unmetered")]
        let profile = match options.codegen {
            Codegen::Unmetered => Digest::of(profile.as_bytes()),
            Codegen::Native | Codegen::NativeAt(_) | Codegen::Pulley => profile,
        };
        Ok(Self { inner: Arc::new(Inner { wasmtime, linker, profile, options, cache }) })
    }

    /// The digest of the profile.
    pub fn profile(&self) -> Digest {
        self.inner.profile
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// What the host chose.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Makes a guest module ready: from the cache, or by validating, splitting and compiling it, once
    /// for all processes that use the cache. `compiling` is called before the compiler, which takes
    /// seconds, or before the wait for another process' one, and what it gives is dropped after it.
    ///
    /// # Errors
    /// When the module is not allowed or cannot be compiled, and when the host fails.
    pub fn code<G>(
        &self,
        module: &GuestModule,
        compiling: impl FnOnce() -> G,
    ) -> Result<Arc<Code>, EngineError> {
        let group = module.digest();
        let key = self.code_key();
        if let Some(code) = self.cached_code(&group, &key)? {
            return Ok(code);
        }
        let bytes = module.bytes().map_err(EngineError::Module)?;
        let guard = compiling();
        let making = self.inner.cache.making(Kind::Code, &group);
        if let Some(code) = self.cached_code(&group, &key)? {
            return Ok(code);
        }
        let options = &self.inner.options;
        let compiled = options.compiler.compile(&self.inner.wasmtime, options.codegen, &bytes)?;
        drop(guard);
        let Compiled { artifact, mutable_globals, initial } = compiled;
        let meta = CodeMeta { mutable_globals, wasm_bytes: bytes.len() as u64 };
        let files = [(ARTIFACT_FILE, artifact.as_slice()), (INITIAL_FILE, initial.as_slice())];
        let opened = self.inner.cache.put(Kind::Code, &group, &key, &files, || meta)?;
        drop(making);
        Ok(Arc::new(self.open_code(group, opened)?))
    }

    /// Whether a process compiles this module right now.
    pub fn is_compiling(&self, module: &GuestModule) -> bool {
        self.inner.cache.is_making(Kind::Code, &module.digest())
    }

    fn cached_code(&self, group: &Digest, key: &Digest) -> Result<Option<Arc<Code>>, EngineError> {
        let files = [ARTIFACT_FILE, INITIAL_FILE];
        let opened = self.inner.cache.get(Kind::Code, group, key, &files)?;
        Ok(opened.and_then(|opened| self.open_code(*group, opened).ok()).map(Arc::new))
    }

    /// What compiled code depends on besides the module: the profile, the codegen, and all that
    /// wasmtime says it does (its own version, its settings, this CPU's features).
    fn code_key(&self) -> Digest {
        /// Collects what is hashed, to hash it with SHA-256.
        struct Collect(Vec<u8>);
        impl std::hash::Hasher for Collect {
            fn finish(&self) -> u64 {
                0
            }
            fn write(&mut self, bytes: &[u8]) {
                self.0.extend_from_slice(bytes);
            }
        }
        let mut settings = Collect(Vec::new());
        let compatibility = self.inner.wasmtime.precompile_compatibility_hash();
        std::hash::Hash::hash(&compatibility, &mut settings);
        let mut hasher = Hasher::new("fuelbox code 1");
        hasher.field(self.inner.profile.as_bytes());
        hasher.field(self.inner.options.codegen.name().as_bytes());
        hasher.field(&settings.0).finish()
    }

    fn open_code(&self, module: Digest, opened: Opened<CodeMeta>) -> wasmtime::Result<Code> {
        let Opened { meta, files } = opened;
        let Ok([artifact, initial]) = <[ImageFile; 2]>::try_from(files) else {
            return Err(wasmtime::format_err!("two files were asked for"));
        };
        let file = artifact.file().try_clone()?;
        // SAFETY: the cache's seal fits, so this artifact was written whole by this engine's compiler
        // (see `Cache`), for these very settings (they are in the key, and wasmtime checks its own).
        let compiled = unsafe { Module::deserialize_open_file(&self.inner.wasmtime, file)? };
        let pre = self.inner.linker.instantiate_pre(&compiled)?;
        let optional = |name: &str| compiled.get_export_index(name);
        let export = |name: &str| {
            optional(name).ok_or_else(|| wasmtime::format_err!("export '{name}' is gone"))
        };
        let exports = Exports {
            memory: export(export::MEMORY)?,
            initialize: optional(export::INITIALIZE),
            abi: export(export::ABI)?,
            alloc: export(export::ALLOC)?,
            load: export(export::LOAD)?,
            run: export(export::RUN)?,
            globals: (0..meta.mutable_globals)
                .map(|index| export(&global_export(index)))
                .collect::<wasmtime::Result<_>>()?,
        };
        let initial = self.pool(initial);
        Ok(Code { pre, exports, initial, module, wasm_bytes: meta.wasm_bytes })
    }

    /// A pool of slots for an image, as this host wants them.
    pub(crate) fn pool(&self, image: ImageFile) -> Arc<SlotPool> {
        let Options { reset, slots_max, .. } = self.inner.options;
        SlotPool::new(Arc::new(image), reset, slots_max)
    }
}

impl Code {
    /// The digest of the guest module.
    pub fn module(&self) -> Digest {
        self.module
    }

    /// Size of the guest module.
    pub fn wasm_bytes(&self) -> u64 {
        self.wasm_bytes
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.module().engine()
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(crate) fn initial_pool(&self) -> &Arc<SlotPool> {
        &self.initial
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("module", &self.module).finish_non_exhaustive()
    }
}
