//! Good packages, good inputs: the way from a file to an answer.

pub(crate) mod cli;
mod determinism;
mod examples;
mod images;
mod layers;
mod loads;
mod money;
mod nnef;
pub(crate) mod packages;
mod server;
mod shapes;
