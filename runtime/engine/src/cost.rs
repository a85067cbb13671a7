//! The cost schedule: how much fuel each piece of work takes.
//!
//! Every Wasm operator costs 1, structural ones (`block`, `end`, `drop`, ...) 0: wasmtime's default
//! table, kept because it is cheap to count. What follows is charged on top, by size, and so are the
//! kernels, whose formulas are in `fuelbox-kernels`. A change here or there changes fuel counts: it is
//! a new [`COST_SCHEDULE_VERSION`], which is part of the engine profile.

use wasmtime::{OperatorCost, VariableOperatorCost};

/// Names this table. It is in the engine profile, so receipts of other schedules are told apart.
pub const COST_SCHEDULE_VERSION: u32 = 2;

/// A call out of the sandbox, whatever it does: about the time of as many operators (measured: 8 to
/// 9 ns a call, 0.1 to 0.3 ns an operator).
pub(crate) const WASI_CALL: u64 = 50;
/// Each vector (pointer and length) of a WASI read or write.
pub(crate) const WASI_VECTOR: u64 = 10;
/// Each byte that a WASI call writes to the log.
pub(crate) const WASI_BYTE: u64 = 1;
/// Each byte of randomness: ChaCha20 makes one in about the time of two operators.
pub(crate) const RANDOM_BYTE: u64 = 2;

/// The schedule as wasmtime takes it.
pub(crate) fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.variable = VariableOperatorCost {
        // A byte moved costs as much as an operator. That is dear (one operator moves up to 16),
        // but whole numbers are all there is, and 0 would make `memory.fill` of 4 GiB free.
        memory_copy_per_byte: 1,
        memory_fill_per_byte: 1,
        memory_init_per_byte: 1,
        // A fresh page (64 KiB) has to be zeroed by the kernel: the most that fits the field.
        memory_grow_per_page: u8::MAX,
        ..VariableOperatorCost::new()
    };
    cost
}
