//! `fuelbox quote`: what a run takes and costs, measured here and billed to nobody.
//!
//! model and inputs -> runs in the box -> fuel and memory -> credits by a schedule.

use super::print;
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, OrExit, Result},
    host,
    input::{InputArgs, Inputs},
    output::columns::facts,
    source::Source,
    units::{grouped, show_bytes},
};
use fuelbox_engine::{Cancel, JobLimits, Model, Usage, Verdict, shapes_digest};
use fuelbox_jobs::{HostLimits, Quote, Schedule, unpack_fuel};
use fuelbox_ledger::Credits;
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  fuelbox quote digits.onnx --input seven.npy
  fuelbox quote digits:1.0.0 --samples 100
  fuelbox quote encoder.fbx --random 1 --dim batch=8 --prices next-year.json
";

/// Measure what a model takes, and what that costs.
///
/// MODEL is a file, or a package of the data folder by NAME, NAME:VERSION or digest. It is run here, in
/// the box; nothing is billed. Inputs that are not given are made up.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuoteArgs {
    /// File or published package.
    model: String,

    #[command(flatten)]
    inputs: InputArgs,

    /// Run so many made-up inputs, with seeds from 0 on, to see whether fuel depends on the data.
    #[arg(long, value_name = "N", conflicts_with = "random", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    samples: Option<u64>,

    /// The price schedule; the data folder's when not given.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    fuel: u64,
    memory_bytes_peak: u64,
    credits_micro: u64,
    publisher_micro: u64,
    /// What a job with the package's own limits has to hold, without a load.
    hold_micro: u64,
    /// What it has to hold more when its input shapes are new; none when shapes make no difference.
    hold_load_micro: Option<u64>,
    fuel_limit: u64,
    memory_limit_bytes: u64,
    load_fuel: u64,
    load_micro: u64,
    price_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Published>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Samples>,
}

/// What was measured for these shapes when the package was published.
#[derive(Serialize)]
struct Published {
    fuel: u64,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Samples {
    count: u64,
    fuel_min: u64,
    fuel_median: u64,
    fuel_max: u64,
    distinct: u64,
}

/// Runs the command.
pub(crate) fn quote(args: &QuoteArgs, global: &Global) -> Result<Exit> {
    let source = source(&args.model, global)?;
    let schedule = data::schedule(global, args.prices.as_deref())?;
    // Nothing is compiled for a typo.
    args.inputs.read().or_exit(Exit::BadInput)?;
    let engine = host::engine(host::cache(global.cache_dir.clone())?)?;
    let (model, _) = host::model(&engine, source.package(), global.verbosity());
    let value = measure(args, &model?, &source, &schedule, global)?;
    print(args.json, &value, || table(&value))?;
    Ok(Exit::Completed)
}

/// A file when there is one; otherwise a published package.
fn source(model: &str, global: &Global) -> Result<Source> {
    let path = Path::new(model);
    if path.exists() {
        return Source::open(path);
    }
    let Some((folder, look)) = data::look_if_there(global)? else {
        // The error says that there is no such file.
        return Source::open(path);
    };
    if model.contains('/') {
        return Source::open(path);
    }
    let digest = data::package(&look.records(), model)?.digest;
    data::source(&folder, &digest)
}

fn measure(
    args: &QuoteArgs,
    model: &Model,
    source: &Source,
    schedule: &Schedule,
    global: &Global,
) -> Result<Json> {
    let signature = model.signature();
    let InputArgs { random, dim, .. } = &args.inputs;
    let inputs = |seed| {
        let read = args.inputs.read().or_exit(Exit::BadInput)?;
        read.bind(signature, Some(seed), dim).or_exit(Exit::BadInput)
    };
    let first = inputs(random.unwrap_or(0))?;
    let (usage, load_fuel) = run(model, &first)?;
    let unpack_fuel = match source {
        Source::Package(archive) if signature.needs_shapes() => unpack_fuel(archive.manifest()),
        Source::Package(_) | Source::Bare(_) => 0,
    };
    let load_fuel = load_fuel.saturating_add(unpack_fuel);
    let mut fuels = vec![usage.fuel];
    for seed in 1..args.samples.unwrap_or(1) {
        fuels.push(run(model, &inputs(seed)?)?.0.fuel);
    }
    let bill = schedule.bill(true, usage.fuel, usage.memory_bytes_peak, Some(load_fuel))?;
    let limits = limits(source);
    let hold = schedule.run(limits.fuel, limits.memory_bytes)?;
    let hold_load = match signature.needs_shapes() {
        true => Some(schedule.load(HostLimits::default().load_fuel_default)?),
        false => None,
    };
    let published = match (source, data::look_if_there(global)?) {
        (Source::Package(archive), Some((_, look))) => {
            let quotes = look.records().quotes(&archive.manifest().digest())?;
            quotes.get(&shapes_digest(&first.tensors)).copied()
        }
        (Source::Package(_) | Source::Bare(_), _) => None,
    };
    Ok(Json {
        fuel: usage.fuel,
        memory_bytes_peak: usage.memory_bytes_peak,
        credits_micro: bill.run.micros(),
        publisher_micro: bill.publisher.micros(),
        hold_micro: hold.micros(),
        hold_load_micro: hold_load.map(Credits::micros),
        fuel_limit: limits.fuel,
        memory_limit_bytes: limits.memory_bytes,
        load_fuel,
        load_micro: bill.load.map_or(0, |(_, credits)| credits.micros()),
        price_version: schedule.version,
        published: published.map(|Quote { fuel, memory_bytes }| Published { fuel, memory_bytes }),
        samples: args.samples.map(|_| samples_of(fuels)),
    })
}

/// One run: what it used, and the fuel of the load for its shapes.
fn run(model: &Model, inputs: &Inputs) -> Result<(Usage, u64)> {
    let limits = JobLimits::default();
    let load_limits = host::load_limits();
    let prepared = model.prepare(&inputs.tensors, &inputs.parameters, &limits, &load_limits)?;
    let outcome = prepared.run(&limits, 0, &Cancel::default())?;
    match &outcome.verdict {
        Verdict::Completed { .. } => Ok((outcome.usage, prepared.image().load_usage().fuel)),
        verdict @ (Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled) => {
            let text = format!(
                "{} after {} fuel: {}",
                verdict.name(),
                grouped(outcome.usage.fuel),
                verdict.detail().unwrap_or_default()
            );
            Err(Failure::message(Exit::of_verdict(verdict), text))
        }
    }
}

/// What a job of this package may use when its caller does not say.
fn limits(source: &Source) -> JobLimits {
    let default = JobLimits::default();
    let asked = match source {
        Source::Package(archive) => archive.manifest().limits,
        Source::Bare(_) => return default,
    };
    let chosen = |asked, default| if asked == 0 { default } else { asked };
    JobLimits {
        fuel: chosen(asked.fuel, default.fuel).min(HostLimits::default().fuel),
        memory_bytes: chosen(asked.memory_bytes, default.memory_bytes),
        ..default
    }
}

fn samples_of(mut fuels: Vec<u64>) -> Samples {
    fuels.sort_unstable();
    let at = |index: usize| fuels.get(index).copied().unwrap_or_default();
    let mut distinct = fuels.clone();
    distinct.dedup();
    Samples {
        count: fuels.len() as u64,
        fuel_min: at(0),
        fuel_median: at(fuels.len() / 2),
        fuel_max: at(fuels.len().saturating_sub(1)),
        distinct: distinct.len() as u64,
    }
}

fn table(quote: &Json) -> String {
    let credits = crate::output::answer::show;
    let mut lines = vec![
        (
            "run",
            format!(
                "{} credits for {} fuel, {} at the peak",
                credits(quote.credits_micro),
                grouped(quote.fuel),
                show_bytes(quote.memory_bytes_peak)
            ),
        ),
        ("share", format!("{} credits of it for the publisher", credits(quote.publisher_micro))),
        (
            "load",
            format!("{} credits for {} fuel", credits(quote.load_micro), grouped(quote.load_fuel)),
        ),
        (
            "hold",
            format!(
                "{} credits for the default limits, {} fuel",
                credits(quote.hold_micro),
                grouped(quote.fuel_limit)
            ),
        ),
        (
            "",
            format!("and {}; what is not used is free again", show_bytes(quote.memory_limit_bytes)),
        ),
    ];
    if let Some(micros) = quote.hold_load_micro {
        lines.push(("", format!("{} more when its input shapes are new", credits(micros))));
    }
    lines.push(("prices", format!("version {}", quote.price_version)));
    if let Some(Published { fuel, memory_bytes }) = quote.published {
        let text = format!("{} fuel, {} when published", grouped(fuel), show_bytes(memory_bytes));
        lines.push(("quote", text));
    }
    if let Some(samples) = &quote.samples {
        let Samples { count, fuel_min, fuel_median, fuel_max, distinct } = samples;
        lines.push((
            "samples",
            format!(
                "{}: fuel {} to {}, median {}",
                grouped(*count),
                grouped(*fuel_min),
                grouped(*fuel_max),
                grouped(*fuel_median)
            ),
        ));
        lines.push((
            "",
            match distinct {
                1 => "fuel does not depend on the data: 1 value".into(),
                _ => format!("fuel depends on the data: {} values", grouped(*distinct)),
            },
        ));
    }
    facts(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_counted() {
        let samples = samples_of(vec![5, 3, 5, 9]);
        let Samples { count, fuel_min, fuel_median, fuel_max, distinct } = samples;
        assert_eq!((count, fuel_min, fuel_median, fuel_max, distinct), (4, 3, 5, 9, 3));
    }
}
