//! `fuelbox`: runs models in the box, from a terminal.
//!
//! The modules stand in the order of the data's flow:
//!
//! ```text
//! arguments -> source (package or model), input (tensors) -> host (engine, cache), data (accounts,
//! jobs, receipts), client (a server) -> command -> output (table, JSON, npz) -> exit code
//! ```
//!
//! stdout carries data, stderr everything else. Knows nothing of Wasm: that is the engine's.

mod units;
mod time;
mod exit;
mod file;
mod args;
mod source;
mod input;
mod progress;
mod host;
mod data;
mod proof;
mod client;
mod output;
mod commands;

use clap::Parser;
use std::process::ExitCode;

/// A request's memory is taken on one thread and given back on another, or on a third. The system's
/// allocator is slow at that, and others never give back what lies between what is used:
/// docs/decisions/0016-server.md has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
