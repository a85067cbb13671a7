//! Chores that take more than a line: `cargo xtask CHORE`.

mod tools;
mod statistics;
mod units;
mod machine;
mod guests;
mod guide;
mod clients;
mod compare;
mod calibrate;
mod serving;
mod compare_server;
mod soak;
mod siege;
mod fuzz;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Chores of the fuelbox workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the Wasm guests and write them to guest/prebuilt.
    Guests(guests::Arguments),
    /// Do what docs/guests.md says, as it is written.
    Guide,
    /// Run clients that others wrote, and our own, against a real server.
    Clients(clients::Arguments),
    /// Compare fuelbox with native tract, onnxruntime and onnxruntime-web.
    Compare(compare::Arguments),
    /// Compare `fuelbox serve` with MLServer and onnxruntime.
    CompareServer(compare_server::Arguments),
    /// Measure what a unit of fuel takes, and search for what takes longer.
    Calibrate(calibrate::Arguments),
    /// Offer a server twice what it can do, for minutes, and check its books.
    Soak(soak::Arguments),
    /// Attack a server over and over, and see whether honest jobs notice.
    Siege(siege::Arguments),
    /// Build the fuzz targets and run them for a while.
    Fuzz(fuzz::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Guests(arguments) => guests::run(&arguments),
        Chore::Guide => guide::run(),
        Chore::Clients(arguments) => clients::run(&arguments),
        Chore::Compare(arguments) => compare::run(&arguments),
        Chore::CompareServer(arguments) => compare_server::run(&arguments),
        Chore::Calibrate(arguments) => calibrate::run(&arguments),
        Chore::Soak(arguments) => soak::run(&arguments),
        Chore::Siege(arguments) => siege::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
    }
}
