//! Attacks on a host: packages and jobs that try to get out, to get in others' way, to pay nothing, to
//! learn what is not theirs, or to be believed what is not so.
//!
//! ```text
//! guest (text form), onnx -> package -> Target (a host) -> what became of it -> Report
//! ```
//!
//! A case holds when the host did what it promises, and an honest job afterwards comes out as before.
//! Which host that is, and how it is reached, is the caller's business: see [`Target`].

pub mod guest;
pub mod kernels;
pub mod leftovers;
pub mod onnx;

mod attempt;
mod cases;
mod package;
mod suite;
mod target;

pub use suite::{Case, Group, Report, Suite, cases};
pub use target::{Broken, Dripped, End, Job, Published, Ran, Refusal, Target, Upload, Work};
