//! What the author of a guest links: a model is loaded once from its assets, says what goes in and
//! out, and runs.
//!
//! ```
//! use fuelbox_sdk::{DataType, Load, Model, Outputs, Result, Run, Signature};
//!
//! /// `sum[i] = x[i] + bias`
//! struct AddBias {
//!     bias: f32,
//! }
//!
//! impl Model for AddBias {
//!     fn load(load: Load) -> Result<Self> {
//!         let bias = std::str::from_utf8(load.asset("bias.txt")?)?;
//!         Ok(Self { bias: bias.trim().parse()? })
//!     }
//!
//!     fn signature(&self) -> Signature {
//!         Signature::new()
//!             .input("x", DataType::Fp32, [4])
//!             .output("sum", DataType::Fp32, [4])
//!     }
//!
//!     fn run(&self, run: &Run<'_>) -> Result<Outputs> {
//!         let x = run.elements::<f32>("x")?;
//!         Outputs::new().with("sum", &[4], x.iter().map(|x| x + self.bias).collect::<Vec<_>>())
//!     }
//! }
//!
//! fuelbox_sdk::export!(AddBias);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip1` (`docs/guests.md` has the steps). The host loads the
//! model once and keeps the memory as it is then; every job runs on a copy of it, once. So whatever
//! can be prepared belongs into `load`, and what `run` changes is gone afterwards.
//!
//! Inputs have been checked against the signature before `run` sees them. An error of `load` or
//! `run` reaches the caller as text, with the [`Status`] of the [`Error`] in its chain. A panic ends
//! the job: its message goes to the log.

mod error;
mod wipe;
mod buffer;
mod elements;
mod parameters;
mod shapes;
mod signature;
mod load;
mod run;
mod outputs;
mod guest;
mod export;
#[cfg(feature = "tract")]
pub mod tract;

pub use anyhow::Result;
pub use elements::{Element, Elements, view};
pub use error::Error;
pub use fuelbox_abi::{DataType, Shape, Status, TensorView};
pub use load::{Asset, Load};
pub use outputs::Outputs;
pub use parameters::{Parameters, Value};
pub use run::Run;
pub use shapes::Shapes;
pub use signature::{Dim, Signature, TensorSpec};
pub use wipe::Wiping;

/// What [`export!`] expands to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::{guest::Guest, wipe::end_load};
    pub use fuelbox_abi::ABI_VERSION;
}

/// A model that a guest makes of its assets.
pub trait Model: Sized {
    /// Makes the model, once per package (and per set of input shapes, if its inputs have symbolic
    /// dimensions). Everything that is in memory afterwards is what each job starts from.
    ///
    /// `load` owns the request: dropping it early gives its memory back before more is taken.
    ///
    /// # Errors
    /// When the assets make no model. [`Error`] carries the reason's kind.
    fn load(load: Load) -> Result<Self>;

    /// What goes in and what comes out. Asked once, after `load`.
    fn signature(&self) -> Signature;

    /// One job: the inputs passed [`Signature::check`].
    ///
    /// # Errors
    /// When this job cannot be done. [`Error`] carries the reason's kind.
    fn run(&self, run: &Run<'_>) -> Result<Outputs>;
}
