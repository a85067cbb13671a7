//! What a host allows any job.

use fuelbox_engine::{
    JobLimits,
    constants::{MEMORY_PAGES_MAX, WASM_PAGE_BYTES},
};

/// The most that a caller may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Fuel of a run.
    pub fuel: u64,
    /// Linear memory of a run.
    pub memory_bytes: u64,
    /// Fuel of a load.
    pub load_fuel: u64,
}

impl Default for HostLimits {
    /// A million million fuel, a quarter of an hour of one core; all that 32 bits address; loads of
    /// 100 G fuel, a minute or two.
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000_000,
            memory_bytes: MEMORY_PAGES_MAX * WASM_PAGE_BYTES,
            load_fuel: JobLimits::default().fuel,
        }
    }
}
