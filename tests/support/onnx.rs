//! ONNX models made on the spot: the shapes that benches need and the faults that tests need.

pub mod models;

pub use self::models::{big_mlp, mlp, mobilenet_v2};
pub use fuelbox_attack::onnx::*;
