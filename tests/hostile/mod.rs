//! Guests and packages that mean harm, and callers that make mistakes.

mod verdicts;
mod kernels;
mod isolation;
mod modules;
mod packages;
mod onnx;
mod faults;
