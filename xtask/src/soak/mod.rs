//! `cargo xtask soak`: a server that is offered twice what it can do, for minutes, and its books afterwards.
//!
//! In: nothing but this tree. Out: a table, and an exit code. First its capacity is found by a closed loop;
//! then requests come at twice that rate, whether answers do or not: two models, several keys and
//! accounts, REST and gRPC, and callers who go away. The server may refuse; it may not fail, grow, or
//! lose count.

mod load;
mod memory;
mod settled;
mod report;

use crate::{
    machine::Machine,
    serving::{Built, FUELBOX, Folder, Ground},
};
use anyhow::{Result, ensure};
use fuelbox_load::Report;
use load::Mix;
pub(crate) use load::by_account;
pub(crate) use memory::Memory;
pub(crate) use settled::Books;
use std::path::PathBuf;

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long, in minutes; 0.2 says whether it works.
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,
    /// Most milliseconds of 99 of 100 requests that were answered with outputs.
    #[arg(long, default_value_t = 10_000)]
    p99_ms_max: u64,
    /// Receipts that are replayed afterwards, about.
    #[arg(long, default_value_t = 200)]
    replays: u64,
    /// Serve with this fuelbox, and build none.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Build the rest, too, as for tests: to see whether it works.
    #[arg(long)]
    dev: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.1..=1_440.0).contains(&minutes) => Ok(minutes),
        _ => Err("expected a number from 0.1 to 1440".into()),
    }
}

/// What came of it.
struct Outcome {
    machine: Machine,
    seconds: f64,
    capacity_per_s: f64,
    /// Of the soak, by what the generator is called.
    reports: Vec<(&'static str, Report)>,
    memory: Memory,
    books: Books,
    failures: Vec<String>,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let built = if arguments.dev { Built::Dev } else { Built::Release };
    let ground = Ground::prepare("soak", &[FUELBOX], arguments.bin.as_deref(), built)?;
    let outcome = soak(&ground, arguments)?;
    print!("{}", report::table(&outcome));
    let failures = &outcome.failures;
    ensure!(failures.is_empty(), "{} checks failed:\n  {}", failures.len(), failures.join("\n  "));
    Ok(())
}

fn soak(ground: &Ground, arguments: &Arguments) -> Result<Outcome> {
    let mut machine = Machine::here();
    let seconds = arguments.minutes * 60.0;
    let folder = Folder::new(ground, "data", &load::ACCOUNTS)?;
    let mix = Mix::publish(ground, &folder)?;
    let mut server = folder.serve()?;
    eprintln!("capacity ...");
    let closed = mix.capacity(ground, &server, seconds)?;
    let capacity_per_s: f64 = closed.iter().map(|(_, report)| report.requests_per_s).sum();
    eprintln!("{capacity_per_s:.0} requests/s; now twice of that for {seconds:.0} s ...");
    let (reports, memory) = mix.overload(ground, &mut server, &closed, seconds)?;
    server.stop()?;
    let tallies = load::by_account(closed.iter().chain(&reports).map(|(_, report)| report));
    let books = Books::read(&folder, arguments.replays)?;
    let mut failures = load::failures(&reports, arguments.p99_ms_max);
    failures.extend(memory.failures());
    failures.extend(books.failures(&tallies, Folder::given_micro()?));
    machine.done();
    Ok(Outcome { machine, seconds, capacity_per_s, reports, memory, books, failures })
}
