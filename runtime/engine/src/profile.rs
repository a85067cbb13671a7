//! The engine profile: all that decides output bytes and fuel, under one digest.
//!
//! Two hosts with the same profile give the same outputs and fuel for the same job, whatever their
//! CPU and whatever [`Codegen`] they chose. The digest is in every cache key and every receipt.

use crate::{cost, kernels, limits::constants, slot::SlotCreator, stack::StackPool};
use fuelbox_digest::Digest;
use serde::Serialize;
use std::sync::Arc;
use wasmtime::{Config, ModuleVersionStrategy, WasmFeatures};

/// What outputs and fuel depend on. Changing any of it makes another profile.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Of this structure.
    version: u32,
    wasmtime: &'static str,
    wasm_features: [&'static str; 9],
    pub(crate) nan_canonicalization: bool,
    cost_schedule: u32,
    guest_abi: u32,
    /// The version of the kernels' blocks and of what they compute.
    kernels: u32,
    /// wasi-common's version, and that of the deterministic parts that fuelbox gives it.
    wasi: &'static str,
    wasm_stack_bytes: usize,
    memory_pages_max: u64,
}

/// The Wasm features that guests may use, as the profile names them and as the engine does.
const FEATURES: [(&str, WasmFeatures); 9] = [
    ("mutable-global", WasmFeatures::MUTABLE_GLOBAL),
    ("saturating-float-to-int", WasmFeatures::SATURATING_FLOAT_TO_INT),
    ("sign-extension", WasmFeatures::SIGN_EXTENSION),
    ("reference-types", WasmFeatures::REFERENCE_TYPES),
    ("multi-value", WasmFeatures::MULTI_VALUE),
    ("bulk-memory", WasmFeatures::BULK_MEMORY),
    ("simd", WasmFeatures::SIMD),
    ("extended-const", WasmFeatures::EXTENDED_CONST),
    ("floats", WasmFeatures::FLOATS),
];

/// The features that the engine compiles.
pub(crate) fn wasmtime_features() -> WasmFeatures {
    FEATURES.iter().fold(WasmFeatures::empty(), |all, (_, feature)| all | *feature)
}

/// The same features for validation. (Two crate versions, so two types of flags.)
pub(crate) fn validator_features() -> wasmparser::WasmFeatures {
    use wasmparser::WasmFeatures as F;
    F::MUTABLE_GLOBAL
        | F::SATURATING_FLOAT_TO_INT
        | F::SIGN_EXTENSION
        | F::REFERENCE_TYPES
        | F::MULTI_VALUE
        | F::BULK_MEMORY
        | F::SIMD
        | F::EXTENDED_CONST
        | F::FLOATS
}

impl Profile {
    /// The profile of this build.
    pub fn current() -> Self {
        Self {
            version: 1,
            wasmtime: "48.0.8",
            wasm_features: FEATURES.map(|(name, _)| name),
            nan_canonicalization: true,
            cost_schedule: cost::COST_SCHEDULE_VERSION,
            guest_abi: fuelbox_abi::ABI_VERSION,
            kernels: kernels::VERSION,
            wasi: "wasi-common 36.0.20, fuelbox 2",
            wasm_stack_bytes: constants::WASM_STACK_BYTES,
            memory_pages_max: constants::MEMORY_PAGES_MAX,
        }
    }

    /// The profile as JSON, the bytes that [`Profile::digest`] covers.
    pub fn json(&self) -> String {
        // Cannot fail: strings, numbers and arrays only.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name under which receipts know the profile.
    pub fn digest(&self) -> Digest {
        Digest::of(self.json().as_bytes())
    }
}

/// How machine code is made. Does not change outputs or fuel, so it is not in the profile; it does
/// change the code, so it is in the key of the code cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codegen {
    /// Machine code for this CPU, optimised.
    #[default]
    Native,
    /// Machine code for this CPU at a given level.
    NativeAt(OptLevel),
    /// Byte code for wasmtime's interpreter: slow, for any CPU, a second opinion.
    Pulley,
    /// Optimised code that counts no fuel, so that benches can say what counting costs. Nothing stops
    /// a guest that loops.
    #[cfg(feature = "unmetered")]
    Unmetered,
}

/// Cranelift's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum OptLevel {
    None,
    Speed,
}

impl Codegen {
    /// How a compile worker is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native | Self::NativeAt(OptLevel::Speed) => "native-speed",
            Self::NativeAt(OptLevel::None) => "native-none",
            Self::Pulley => "pulley",
            #[cfg(feature = "unmetered")]
            Self::Unmetered => "native-unmetered",
        }
    }

    /// Whether code has to look at its fuel.
    pub(crate) fn counts_fuel(self) -> bool {
        match self {
            #[cfg(feature = "unmetered")]
            Self::Unmetered => false,
            _ => true,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Native,
            Self::NativeAt(OptLevel::None),
            Self::Pulley,
            #[cfg(feature = "unmetered")]
            Self::Unmetered,
        ];
        all.into_iter().find(|codegen| codegen.name() == name)
    }
}

/// wasmtime's configuration for a profile.
pub(crate) fn config(profile: &Profile, codegen: Codegen) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(wasmtime_features(), true);
    config.cranelift_nan_canonicalization(profile.nan_canonicalization);
    config.consume_fuel(true).operator_cost(cost::operator_cost());
    // Stacks: a job runs on a stack of its own, of which the guest may use the larger part.
    config.max_wasm_stack(constants::WASM_STACK_BYTES);
    config.async_stack_size(constants::WASM_STACK_BYTES + constants::HOST_STACK_BYTES);
    config.with_host_stack(Arc::new(StackPool));
    // Memories: our slots, never moved, with the whole of 32 bits reserved, so that wasmtime leaves
    // out bounds checks. Its own copy-on-write images cannot be used with host memories.
    config.with_host_memory(Arc::new(SlotCreator));
    config.memory_init_cow(false).memory_may_move(false);
    config.memory_reservation(constants::MEMORY_PAGES_MAX * constants::WASM_PAGE_BYTES);
    config.memory_guard_size(crate::slot::GUARD_BYTES as u64);
    config.table_lazy_init(true);
    // Nothing reads backtraces: a trap's text comes from the guest's log.
    config.wasm_backtrace_max_frames(None).native_unwind_info(false).generate_address_map(true);
    match codegen {
        Codegen::Native | Codegen::NativeAt(OptLevel::Speed) => {
            config.cranelift_opt_level(wasmtime::OptLevel::Speed);
        }
        Codegen::NativeAt(OptLevel::None) => {
            config.cranelift_opt_level(wasmtime::OptLevel::None);
        }
        Codegen::Pulley => {
            config.target("pulley64")?;
        }
        #[cfg(feature = "unmetered")]
        Codegen::Unmetered => {
            config.cranelift_opt_level(wasmtime::OptLevel::Speed).consume_fuel(false);
        }
    }
    let version = format!("fuelbox-{}", profile.digest().hex());
    config.module_version(ModuleVersionStrategy::Custom(version))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_is_pinned() {
        // A change here is a new profile: say so in CHANGELOG.md, and expect every fuel count and
        // every receipt to be of another kind.
        let pinned = concat!(
            r#"{"version":1,"wasmtime":"48.0.8","wasm_features":["mutable-global","#,
            r#""saturating-float-to-int","sign-extension","reference-types","multi-value","#,
            r#""bulk-memory","simd","extended-const","floats"],"nan_canonicalization":true,"#,
            r#""cost_schedule":6,"guest_abi":1,"kernels":1,"#,
            r#""wasi":"wasi-common 36.0.20, fuelbox 2","wasm_stack_bytes":4194304,"#,
            r#""memory_pages_max":65536}"#
        );
        assert_eq!(Profile::current().json(), pinned);
    }

    #[test]
    fn validator_and_engine_know_the_same_features() {
        let validated: Vec<_> = validator_features().iter_names().map(|(name, _)| name).collect();
        let compiled: Vec<_> = wasmtime_features().iter_names().map(|(name, _)| name).collect();
        assert_eq!(validated, compiled);
        assert_eq!(compiled.len(), FEATURES.len());
    }
}
