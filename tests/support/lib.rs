//! What tests and benches share: guests in text form, models written on the spot, hosts with a cache.

pub mod guest;
pub mod host;
pub mod onnx;
