//! The box: turns an uploaded package into jobs that are sealed, metered and repeatable.
//!
//! The modules stand in the order of the data's flow:
//!
//! ```text
//! bytes -> package -> validate -> split -> compile -> load -> ModelImage
//! tensors -> signature -> sandbox (slot, image) -> run (meter, wasi, kernels) -> Outcome
//! ```
//!
//! A stage's output type is the proof that the stage happened. A guest's failure is a value
//! ([`Verdict`]), a host's failure is an error ([`HostFault`]).
//!
//! Knows nothing of money, networks, terminals or tract.

mod limits;
mod tensor;
mod canonical;
mod fuel_checks;
mod signature;
mod cost;
mod profile;
mod package;
mod cache;
mod validate;
mod split;
mod frame;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod confine;
mod compile;
mod pagemap;
mod faults;
mod shelf;
mod slot;
mod image;
mod imports;
mod stack;
mod log;
mod meter;
mod wasi;
mod kernels;
mod verdict;
mod sandbox;
mod load;
mod engine;
mod model;

pub use cache::{Cache, CacheEntry, CacheError};
pub use canonical::{
    CanonicalError, Place, decode_parameters, decode_tensors, encode_parameters, encode_tensors,
    output_digest, tensors_digest,
};
pub use compile::{CompileError, Compiler, WorkerLimits, worker_main};
pub use confine::Walls;
pub use cost::{
    COST_SCHEDULE_VERSION, DISTANCE_MAX, DISTANCE_PAGES, OPERATOR_CLASSES, PAGE_FUEL, PAGES_FREE,
};
pub use engine::{Code, Engine, EngineError, Options};
pub use fuelbox_abi::{DataType, Dim, Dims, Role, Shape};
pub use fuelbox_digest::{Digest, Hasher, ParseDigestError};
pub use fuelbox_kernels::Isa;
pub use image::{ImageError, ModelImage};
pub use imports::allowed_imports;
pub use limits::{JobLimits, constants};
pub use log::is_active;
#[cfg(feature = "warm-reuse")]
pub use model::Warm;
pub use model::{LoadTerms, Model, ModelError, Prepared, StoredPackage, shapes_digest};
pub use package::{
    Archive, ArchiveError, Asset, GoldenCase, GuestModule, LimitsAsked, Manifest, ManifestError,
    NamedPart, Package, PartRef, write_archive,
};
pub use profile::{Codegen, OptLevel, Profile};
pub use sandbox::{Cancel, HostFault, Request, Sandbox};
pub use signature::{InputError, OwnedDim, Signature, TensorSignature};
pub use slot::ResetPolicy;
pub use tensor::{OwnedParameter, OwnedValue, Tensor};
pub use verdict::{Outcome, TrapKind, Usage, Verdict};
