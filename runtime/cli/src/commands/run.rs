//! `fuelbox run`: one job, or the same job several times.
//!
//! file and inputs -> model (loaded or from the cache) -> prepared request -> outcome -> report.

use super::to_stdout;
use crate::{
    args::Global,
    exit::{Exit, Failure, OrExit, Result, print_error},
    file,
    host::{self, LoadTime},
    input::{InputArgs, Inputs},
    output::{self, Report, RunFacts, npz::Npz},
    progress::Verbosity,
    source::Source,
    units,
};
use fuelbox_engine::{Cancel, Engine, HostFault, JobLimits, Model, ModelError, Outcome, Prepared};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const EXAMPLES: &str = "\
Examples:
  fuelbox run digits.onnx --input seven.npy
  fuelbox run encoder.fbx --input tokens.npz --output vectors.npz
  fuelbox run wine.onnx --input request.json --json
  fuelbox run model.onnx --random 1 --dim batch=8 --repeat 100
  fuelbox run label.fbx --input photo.png --fuel-limit 2G --deadline 5s
";

/// Run a model once, or the same job several times.
///
/// FILE is a package (.fbx) or a bare model (.onnx, .nnef, .nnef.tgz). The first run on a host
/// compiles the guest, which takes seconds; later ones take it from the cache.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Package or model.
    file: PathBuf,

    #[command(flatten)]
    inputs: InputArgs,

    /// Names of a classifier's classes, one a line.
    ///
    /// Otherwise those of the package, or of STEM.labels.txt beside a bare model.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,

    /// Write the outputs to this .npz file as well.
    #[arg(long, short, value_name = "FILE.npz", value_parser = parse_npz)]
    output: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,

    /// Seed of the randomness that the model is given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Run the job so often, each time in a fresh sandbox, and fail if any run differs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
}

/// Limits of a run. Loading has limits of its own, the same for everybody.
#[derive(clap::Args, Debug)]
struct LimitArgs {
    /// Most fuel of a run: 250000, 500M, 2G, 1.5T (decimal units) [default: 100G].
    #[arg(long, value_name = "FUEL", value_parser = units::fuel)]
    fuel_limit: Option<u64>,

    /// Most linear memory: bytes, or 500M, 2G (decimal), 512MiB, 2GiB (binary) [default: 4GiB].
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    memory_limit: Option<u64>,

    /// Most wall-clock time of a run: 500ms, 5s, 2m. A run that it stops is not repeatable.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    deadline: Option<Duration>,
}

impl LimitArgs {
    fn limits(&self) -> JobLimits {
        let default = JobLimits::default();
        JobLimits {
            fuel: self.fuel_limit.unwrap_or(default.fuel),
            memory_bytes: self.memory_limit.unwrap_or(default.memory_bytes),
            ..default
        }
    }
}

pub(super) fn parse_npz(text: &str) -> Result<PathBuf, String> {
    let is_npz = text.to_ascii_lowercase().ends_with(".npz");
    if is_npz { Ok(text.into()) } else { Err("a name in .npz was expected".into()) }
}

/// Runs the command.
pub(crate) fn run(args: RunArgs, global: Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    // All files first: nothing is compiled for a typo.
    let source = Source::open(&args.file)?;
    let found =
        |path: &std::path::Path| verbosity.detail(format_args!("labels: {}", path.display()));
    let labels = source.labels(args.labels.as_deref(), found)?;
    let inputs = args.inputs.read().or_exit(Exit::BadInput)?;
    let engine = host::engine(host::cache(global.cache_dir)?)?;
    verbosity.detail(format_args!("cache: {}", engine.cache().path().display()));

    let (model, time) = host::model(&engine, source.package(), verbosity);
    let report = match model {
        Ok(model) => {
            let InputArgs { random, dim, .. } = &args.inputs;
            let inputs = inputs.bind(model.signature(), *random, dim).or_exit(Exit::BadInput)?;
            job(&engine, &model, &inputs, &args, time, verbosity)?
        }
        Err(ModelError::Load(outcome)) => Report::of_failed_load(*outcome, time, engine.profile()),
        Err(error) => return Err(error.into()),
    };

    let exit = Exit::of_verdict(report.verdict());
    if let Some(path) = args.output.as_deref().filter(|_| exit == Exit::Completed) {
        // What such a file cannot hold is for another option; the rest is between us and the disk.
        let npz = Npz::of(report.outputs()).or_exit(Exit::Usage)?;
        file::write(path, |file| npz.write(file)).or_exit(Exit::Host)?;
    }
    to_stdout(|out| {
        if args.json {
            output::json::write(&report, out)
        } else {
            Ok(out.write_all(output::table::table(&report, labels.as_ref()).as_bytes())?)
        }
    })?;
    tell(&report, verbosity);
    Ok(exit)
}

/// What the guest printed, and why it failed.
fn tell(report: &Report, verbosity: Verbosity) {
    let verdict = report.verdict();
    let failed = Exit::of_verdict(verdict) != Exit::Completed;
    for line in report.outcome.log.lines() {
        if failed {
            verbosity.note(format_args!("log: {line}"));
        } else {
            verbosity.detail(format_args!("log: {line}"));
        }
    }
    if failed {
        print_error(&format!("{}: {}", verdict.name(), verdict.detail().unwrap_or_default()));
    }
}

/// Runs the job as often as asked.
fn job(
    engine: &Engine,
    model: &Model,
    inputs: &Inputs,
    args: &RunArgs,
    mut load_time: LoadTime,
    verbosity: Verbosity,
) -> Result<Report> {
    let limits = args.limits.limits();
    let started = Instant::now();
    let prepared =
        model.prepare(&inputs.tensors, &inputs.parameters, &limits, &host::load_limits());
    load_time.wall += started.elapsed();
    let engine_profile = engine.profile();
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(ModelError::Load(outcome)) => {
            return Ok(Report::of_failed_load(*outcome, load_time, engine_profile));
        }
        Err(error) => return Err(error.into()),
    };
    verbosity.detail(format_args!("model image: {}", prepared.image().digest()));

    let (outcome, first) = timed(&prepared, &limits, args)?;
    let mut runs = vec![first];
    for _ in 1..args.repeat {
        let (again, facts) = timed(&prepared, &limits, args)?;
        same(&outcome, &again)?;
        runs.push(facts);
    }
    Ok(Report {
        fuel_load: prepared.image().load_usage().fuel,
        fuel_run: first.fuel,
        load_time,
        wall_run: first.wall,
        runs: (args.repeat > 1).then_some(runs),
        engine_profile,
        outcome,
    })
}

fn timed(
    prepared: &Prepared<'_>,
    limits: &JobLimits,
    args: &RunArgs,
) -> Result<(Outcome, RunFacts), HostFault> {
    let started = Instant::now();
    let cancel = match args.limits.deadline.and_then(|time| started.checked_add(time)) {
        Some(deadline) => Cancel::at(deadline),
        None => Cancel::default(),
    };
    let outcome = prepared.run(limits, args.seed, &cancel)?;
    let facts = RunFacts { fuel: outcome.usage.fuel, wall: started.elapsed() };
    Ok((outcome, facts))
}

/// Whether two runs of one job agree, as they must. If they do not, the host is not to be trusted.
pub(crate) fn same(first: &Outcome, second: &Outcome) -> Result<()> {
    if !first.verdict.replayable() || !second.verdict.replayable() {
        return Ok(());
    }
    let facts = |outcome: &Outcome| {
        let Outcome { verdict, usage, .. } = outcome;
        let digest = output::digest(verdict);
        format!(
            "{}, {} fuel, {} bytes, outputs {digest}",
            verdict.name(),
            usage.fuel,
            usage.memory_bytes_peak
        )
    };
    let (first, second) = (facts(first), facts(second));
    if first == second {
        return Ok(());
    }
    let text = format!("two runs of one job differ: first {first}; then {second}");
    Err(Failure::message(Exit::Host, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_engine::{Usage, Verdict};

    #[test]
    fn runs_that_differ_are_the_hosts_fault() {
        let outcome = |verdict, fuel| {
            let usage = Usage { fuel, memory_bytes_peak: 1 };
            Outcome { verdict, usage, log: String::new() }
        };
        let completed = || Verdict::Completed { outputs: vec![], parameters: vec![] };
        assert!(same(&outcome(completed(), 7), &outcome(completed(), 7)).is_ok());
        assert!(same(&outcome(completed(), 7), &outcome(completed(), 8)).is_err());
        assert!(same(&outcome(completed(), 7), &outcome(Verdict::OutOfFuel, 7)).is_err());
        // A deadline depends on a clock.
        assert!(same(&outcome(completed(), 7), &outcome(Verdict::Cancelled, 3)).is_ok());
    }
}
