//! `cargo xtask compare-server`: `fuelbox serve` beside MLServer with onnxruntime, on the same model, with
//! the same client, in one sitting.
//!
//! In: nothing but this tree and a package index for Python. Out: tables on stdout, and all figures as
//! JSON. fuelbox runs as it is sold: each job in a fresh sandbox, paid for, signed, in the log, on disk.
//! The command fails when answers differ by more than a tolerance or requests fail; no figure of speed
//! makes it fail.

mod mlserver;
mod rounds;
mod startup;
mod overhead;
mod report;

use crate::{
    machine::Machine,
    serving::{Built, FUELBOX, Folder, Ground},
};
use anyhow::{Context, Result, ensure};
use mlserver::MlServer;
use overhead::Overhead;
use rounds::{Round, Series, Target};
use serde::Serialize;
use startup::Startup;
use std::{collections::BTreeMap, fs, path::PathBuf};

/// What is served: 784-128-64-10, the smallest model of `compare`, so that the server weighs most.
const MODEL: &str = "mlp";
const CALLER: &str = "caller";

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds that count.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each series in a round, after one second of warm-up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Connections, each of which sends its next request when the answer has come.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Servers that are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [Server::Fuelbox, Server::Mlserver])]
    servers: Vec<Server>,
    /// Packages in the folder on which a server's start is timed.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    packages: u32,
    /// One round of a second, nothing but the servers side by side: says whether it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "packages"])]
    quick: bool,
    /// The file for all figures [default: target/compare-server/results.json].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Serve with this fuelbox, and build none.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
enum Server {
    Fuelbox,
    Mlserver,
}

impl std::fmt::Display for Server {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Fuelbox => "fuelbox",
            Self::Mlserver => "mlserver",
        })
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Results {
    rounds: usize,
    seconds: u32,
    connections: u32,
    machine: Machine,
    /// Of MLServer and what it runs on.
    versions: BTreeMap<String, String>,
    /// What MLServer's settings were chosen from.
    workers: Vec<mlserver::Trial>,
    series: Vec<Series>,
    startup: Option<Startup>,
    overhead: Option<Overhead>,
    failures: Vec<String>,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let with = |server| arguments.servers.contains(&server);
    let (rounds, seconds) =
        if arguments.quick { (1, 1) } else { (arguments.rounds, arguments.seconds) };
    let packages: &[&str] = if with(Server::Fuelbox) { &[FUELBOX] } else { &[] };
    let ground =
        Ground::prepare("compare-server", packages, arguments.bin.as_deref(), Built::Release)?;
    let round = Round { seconds, connections: arguments.connections };
    let mut results = Results {
        rounds: rounds as usize,
        seconds,
        connections: arguments.connections,
        machine: Machine::here(),
        versions: BTreeMap::new(),
        workers: Vec::new(),
        series: Vec::new(),
        startup: None,
        overhead: None,
        failures: Vec::new(),
    };
    side_by_side(&ground, arguments, (round, rounds), &mut results)?;
    if with(Server::Fuelbox) && !arguments.quick {
        eprintln!("the server's own share ...");
        results.overhead = Some(overhead::measure(&ground, rounds)?);
        eprintln!("starts with {} packages ...", arguments.packages);
        results.startup = Some(startup::measure(&ground, arguments.packages)?);
    }
    results.machine.done();
    let out = arguments.out.clone().unwrap_or_else(|| ground.folder.join("results.json"));
    fs::write(&out, serde_json::to_string_pretty(&results)?)
        .with_context(|| out.display().to_string())?;
    print!("{}", report::markdown(&results));
    eprintln!("written: {}", out.display());
    let failures = &results.failures;
    ensure!(failures.is_empty(), "{} checks failed:\n  {}", failures.len(), failures.join("\n  "));
    Ok(())
}

/// Both servers are up all the time; the one that is not asked does nothing.
fn side_by_side(
    ground: &Ground,
    arguments: &Arguments,
    (round, rounds): (Round, u32),
    results: &mut Results,
) -> Result<()> {
    let model = ground.model(MODEL)?;
    let mut targets = Vec::new();
    let fuelbox = if arguments.servers.contains(&Server::Fuelbox) {
        let folder = Folder::new(ground, "data", &[CALLER])?;
        folder.publish(&model, MODEL)?;
        let key = folder.key(CALLER)?;
        let server = folder.serve()?;
        targets.extend(Target::of_fuelbox(&server, &key));
        Some(server)
    } else {
        None
    };
    let mlserver = if arguments.servers.contains(&Server::Mlserver) {
        let (server, trials) = MlServer::best(ground, &model, round)?;
        results.versions = server.versions()?;
        results.workers = trials;
        targets.extend(Target::of_mlserver(&server));
        Some(server)
    } else {
        None
    };
    let series = rounds::interleaved(ground, &model, &targets, round, rounds)?;
    results.failures.extend(rounds::checked(&series));
    results.series = series;
    if let Some(server) = mlserver {
        server.stop()?;
    }
    if let Some(server) = fuelbox {
        server.stop()?;
    }
    Ok(())
}
