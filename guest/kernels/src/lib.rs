//! Compute kernels with one meaning, to the bit: what the host offers to guests as `fuelbox_kernels`,
//! and what guests do themselves where no host offers them.
//!
//! A call goes this way: words in a guest's memory -> [`Call`] -> [`Checked`] (all that it touches is
//! inside of memory, its cost is known) -> run, with the fastest instructions that are there.
//!
//! Every kernel is written once, over vectors of 16 numbers (`simd`); [`Isa`] says what those are
//! made of. A sum is one chain of fused multiply-adds in a fixed order for each element, so the result
//! depends neither on the instructions nor on how the work is cut into tiles.
//!
//! `docs/formats/kernels.md` defines all of it.

#[macro_use]
mod simd;
mod error;
mod call;
mod words;
mod cost;
mod check;
mod math;
mod program;
mod scratch;
mod subnormal;
mod gemm;
mod tile;
mod window;
mod map;
mod rows;
mod isa;
pub mod reference;

pub use call::*;
pub use check::Checked;
pub use cost::KERNEL_CALL_FUEL;
pub use error::KernelError;
pub use isa::Isa;
pub use subnormal::SUBNORMAL_FUEL;
pub use words::{OP_WORDS, WORDS_MAX};
