//! `cargo xtask compare`: fuelbox beside native tract, onnxruntime and onnxruntime-web, on models made
//! on the spot, in one sitting.
//!
//! In: nothing but this tree, a package index for Python and a registry for Node. Out: a page of
//! figures and a chart. The command fails when answers differ by more than a tolerance, and when
//! variants of fuelbox differ at all; no figure of speed makes it fail.

mod protocol;
mod peer;
mod results;
mod environment;
mod rounds;
mod answers;
mod variants;
mod throughput;
mod goals;
mod report;
mod chart;

use crate::{machine, statistics, units};
use anyhow::{Context, Result, bail};
use environment::{Environment, ModelFiles, Variant};
use machine::Machine;
use peer::Peer;
use protocol::Answer;
use results::{BOX, Bill, Comparison, ModelResult, PEERS, REFERENCE, SPEED, UNMETERED, WARM};
use rounds::{Effort, Timed};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// Where people write what the figures mean.
const NOTES: &str = "docs/performance-notes.md";

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Compare on these models alone.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Rounds that count.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One round, one load, no slow variants: says whether it works, not how fast it is.
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Compare on small models of the same operators: what happens around a model weighs more.
    #[arg(long)]
    small: bool,
    /// Write the page and the chart here [default: docs; target/compare for a part, --quick and --small].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let environment = Environment::prepare()?;
    let models = environment.models(&arguments.models, arguments.small)?;
    let results = compare(&environment, &models, arguments)?;
    let whole = arguments.models.is_empty() && !arguments.quick && !arguments.small;
    let docs = environment.root.join("docs");
    let default = if whole { docs } else { environment.folder.clone() };
    let out = arguments.out.clone().unwrap_or(default);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let notes = fs::read_to_string(environment.root.join(NOTES)).ok();
    fs::write(out.join("performance.md"), report::markdown(&results, notes.as_deref()))?;
    fs::write(out.join("performance.svg"), chart::svg(&results))?;
    let json = serde_json::to_string_pretty(&results)?;
    fs::write(environment.folder.join("results.json"), json)?;
    println!("written: {}", out.join("performance.md").display());
    for goal in goals::goals(&results) {
        println!("{}: {}, goal {} {}", goal.what, goal.found(), goal.bound(), goal.verdict());
    }
    match results.failures.as_slice() {
        [] => Ok(()),
        failures => bail!("{} checks failed:\n  {}", failures.len(), failures.join("\n  ")),
    }
}

fn compare(
    environment: &Environment,
    models: &[ModelFiles],
    arguments: &Arguments,
) -> Result<Comparison> {
    let mut machine = Machine::here();
    if !arguments.quick {
        environment.forget_code(SPEED)?; // so that its compilation is timed
    }
    let mut peers = environment.peers()?;
    let (variants, skipped) = variants::all(&machine, arguments.quick);
    let rounds = if arguments.quick { 1 } else { arguments.rounds as usize };
    let effort = Effort { rounds, loads: if arguments.quick { 1 } else { 3 } };
    let mut versions = tools()?;
    for peer in &mut peers {
        versions.extend(peer.ask::<BTreeMap<String, String>>("version")?);
    }
    let mut results = Comparison {
        rounds,
        machine: Machine::default(),
        versions,
        models: Vec::new(),
        compile_ns: None,
        throughput: None,
        skipped,
        failures: Vec::new(),
    };
    for model in models {
        eprintln!("{} ...", model.name);
        let timed = rounds::time(environment, &mut peers, model, effort)
            .with_context(|| model.name.clone());
        match timed.and_then(|timed| {
            results.compile_ns = results.compile_ns.max(timed.compile_ns());
            checked(environment, &mut peers, model, timed, &variants, &mut results.failures)
        }) {
            Ok(result) => results.models.push(result),
            Err(error) => results.failures.push(format!("{error:#}")),
        }
        if model.name == throughput::MODEL {
            let fuelbox = peers.iter_mut().find(|peer| peer.name == BOX);
            let fuelbox = fuelbox.context("fuelbox is a peer")?;
            results.throughput = Some(throughput::measure(fuelbox, rounds.min(7))?);
        }
    }
    machine.done();
    results.machine = machine;
    Ok(results)
}

/// Checks the answers of peers that have the model loaded, and those of all variants.
fn checked(
    environment: &Environment,
    peers: &mut [Peer],
    model: &ModelFiles,
    Timed { timings, waited, loaded, .. }: Timed,
    variants: &[Variant],
    failures: &mut Vec<String>,
) -> Result<ModelResult> {
    let file = environment.folder.join("outputs.raw");
    let mut fail = |name: &str, error: anyhow::Error| {
        failures.push(format!("{}: {name}: {error:#}", model.name));
    };
    let mut outputs = BTreeMap::new();
    let mut shapes = BTreeMap::new();
    let mut bill: Option<Bill> = None;
    for peer in peers {
        let answer: Answer = peer.ask(&format!("outputs {}", file.display()))?;
        outputs.insert(peer.name, answers::read(&file)?);
        shapes.insert(peer.name, answer.shapes);
        if peer.name == BOX {
            bill = Some(variants::answered(peer, &loaded, &file)?);
        }
    }
    let bill = bill.context("fuelbox is a peer")?;
    let reference = &outputs[REFERENCE];
    let classes = shapes[REFERENCE].first().and_then(|shape| shape.last()).copied().unwrap_or(1);
    let character = answers::character(reference, model.logits, classes as usize)
        .with_context(|| format!("{}: {REFERENCE}", model.name))?;
    let mut differences = BTreeMap::new();
    for name in PEERS {
        if shapes[name] != shapes[REFERENCE] {
            let (found, expected) = (&shapes[name], &shapes[REFERENCE]);
            fail(
                name,
                anyhow::anyhow!("outputs of shape {found:?}, the reference has {expected:?}"),
            );
        }
        match answers::compare(&outputs[name], reference) {
            Ok(difference) => drop(differences.insert(name, difference)),
            Err(error) => fail(name, error),
        }
    }
    for name in [WARM, UNMETERED] {
        if bits(&outputs[name]) != bits(&outputs[BOX]) {
            fail(name, anyhow::anyhow!("other bits than a fresh job"));
        }
    }
    let mut same = Vec::new();
    for &variant in variants {
        eprintln!("{}: {} ...", model.name, variant.name);
        let compared = variants::bill(environment, variant, model, &file)
            .and_then(|other| variants::compare(&other, &bill));
        match compared {
            Ok(()) => same.push(variant.name),
            Err(error) => fail(variant.name, error),
        }
    }
    let (name, file_bytes) = (model.name.clone(), model.bytes);
    Ok(ModelResult { name, file_bytes, peers: timings, waited, bill, character, differences, same })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What the tree is built with.
fn tools() -> Result<BTreeMap<String, String>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split(' ').nth(1).unwrap_or("of an unknown version");
    Ok(BTreeMap::from([("rustc".to_owned(), version.to_owned())]))
}
