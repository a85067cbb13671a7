//! ONNX and NNEF models in a guest, run by tract.
//!
//! The way of a model: bytes -> proto -> checked (operators, weights) -> shapes bound -> tract's model
//! -> kernels -> plan. Each step is a file or a folder.

mod tensor;
mod shape;
mod onnx;
mod nnef;
mod kernels;
mod plan;
mod model;

pub use model::TractModel;
pub use tensor::{from_tract, to_tract};
