//! What a host allows any job, and what it keeps of it.

use fuelbox_engine::{
    JobLimits, Manifest,
    constants::{MEMORY_PAGES_MAX, WASM_PAGE_BYTES},
};
use std::time::Duration;

/// The most that a caller may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Fuel of a run.
    pub fuel: u64,
    /// Linear memory of a run.
    pub memory_bytes: u64,
    /// Fuel of a load.
    pub load_fuel: u64,
    /// Fuel of a load whose payer did not say: the price of it is held, so it should not be far above
    /// what loads take.
    pub load_fuel_default: u64,
}

impl Default for HostLimits {
    /// A million million fuel, three minutes of one core as models burn it; all that 32 bits address; loads of
    /// 100 G fuel, some ten seconds; 20 G when nobody says, enough for an ONNX file of 300 MB.
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000_000,
            memory_bytes: MEMORY_PAGES_MAX * WASM_PAGE_BYTES,
            load_fuel: JobLimits::default().fuel,
            load_fuel_default: 20_000_000_000,
        }
    }
}

/// What is kept of a job's inputs and outputs when it has ended. Its receipt stays in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// For so long.
    pub time: Duration,
    /// No more than this in all; the oldest makes room. Looked at once a minute.
    pub bytes_max: u64,
    /// Whether large inputs and outputs (above 64 KiB) of jobs whose callers waited are kept: the
    /// caller has them, and an audit by this host alone needs them.
    pub large_of_waiting: bool,
}

impl Default for Keep {
    /// Everything for a week, up to 10 GiB.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(7 * 24 * 3_600),
            bytes_max: 10 << 30,
            large_of_waiting: true,
        }
    }
}

/// What a job of a package may use when nobody chooses: what the package asks for; where it asks for
/// nothing, what there is.
pub(crate) fn limits_asked(manifest: &Manifest) -> JobLimits {
    let (default, asked) = (JobLimits::default(), manifest.limits);
    let chosen = |asked, default| if asked == 0 { default } else { asked };
    JobLimits {
        fuel: chosen(asked.fuel, default.fuel),
        memory_bytes: chosen(asked.memory_bytes, default.memory_bytes),
        ..default
    }
}
