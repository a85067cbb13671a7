//! Good packages, good inputs: the way from a file to an answer.

mod determinism;
