//! Kernels in place of tract's operators: a decluttered model becomes a list of kernel calls over
//! buffers whose places are fixed when the model is loaded. A job makes the calls, one after the other.
//!
//! ```text
//! model -> lower (ops, products, repeat) -> steps -> split -> memory -> program -> run
//! ```
//!
//! What no kernel does is run by tract, between the calls.

mod array;
mod plan;
mod lower;
mod ops;
mod products;
mod repeat;
mod split;
mod memory;
mod run;

pub(super) use run::Program;

use anyhow::Result;
use tract_onnx::prelude::TypedModel;

/// Whether a program can be made of a model: all its sizes are known.
pub(super) fn is_known(model: &TypedModel) -> bool {
    lower::is_known(model)
}

/// Makes a program of a decluttered model.
pub(super) fn program(model: TypedModel) -> Result<Program> {
    Program::new(lower::lower(model)?)
}
