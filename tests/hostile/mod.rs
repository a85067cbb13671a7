//! Guests and packages that mean harm, and callers that make mistakes.

mod verdicts;
mod memory;
mod overrun;
mod kernels;
mod isolation;
mod modules;
mod workers;
mod packages;
mod onnx;
mod faults;
mod attack;
