//! The peer: one model, jobs of it one by one, in one of three modes.

use crate::{models, queue};
use anyhow::{Context, Result, bail};
use fuelbox_engine::{
    Cache, Cancel, Codegen, Engine, Isa, JobLimits, Model, OptLevel, Options, Outcome, Prepared,
    Profile, Tensor, Verdict, Warm, output_digest,
};
use fuelbox_test_support::host::onnx_package;
use serde_json::{Value, json};
use std::{
    cell::Cell,
    env, fs,
    io::{BufRead, Lines, StdinLock, stdin},
    path::Path,
    time::{Duration, Instant},
};

/// What of a sandbox is made anew for each job.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// All of it: what fuelbox does.
    Fresh,
    /// Nothing: the same instance again, as a host without isolation would.
    Warm,
}

pub(crate) fn serve(cache: &Path, mode: &str, codegen: &str) -> Result<()> {
    let mode = match mode {
        "fresh" => Mode::Fresh,
        "warm" => Mode::Warm,
        other => bail!("unknown mode '{other}'"),
    };
    let codegen = match codegen {
        "speed" => Codegen::Native,
        "none" => Codegen::NativeAt(OptLevel::None),
        "pulley" => Codegen::Pulley,
        "unmetered" => Codegen::Unmetered,
        other => bail!("unknown codegen '{other}'"),
    };
    let options = Options { codegen, kernels: kernels()?, ..Options::default() };
    let engine = Engine::new(Cache::open(cache)?, options)?;
    let mut lines = stdin().lock().lines();
    let mut next = lines.next().transpose()?;
    // Each `load` ends the model before it; what follows it is served until the next one.
    while let Some(line) = next {
        let (command, argument) = split(&line);
        next = match command {
            "version" => {
                say(versions(&engine));
                lines.next().transpose()?
            }
            "load" => match Loaded::open(&engine, Path::new(argument)) {
                Ok(loaded) => loaded.serve(mode, &mut lines)?,
                Err(error) => {
                    say(Err(error));
                    lines.next().transpose()?
                }
            },
            other => {
                say(Err(anyhow::anyhow!("'{other}' before a model is loaded")));
                lines.next().transpose()?
            }
        };
    }
    Ok(())
}

/// The kernels that the environment asks for, as for the command line.
fn kernels() -> Result<Option<Isa>> {
    let Some(name) = env::var_os("FUELBOX_KERNELS") else {
        return Ok(None);
    };
    let found = name.to_str().and_then(Isa::from_name);
    Ok(Some(found.with_context(|| format!("FUELBOX_KERNELS is {name:?}"))?))
}

/// The kernels that jobs run on.
fn kernels_in_use(engine: &Engine) -> &'static str {
    engine.options().kernels.unwrap_or_else(Isa::detect).name()
}

fn versions(engine: &Engine) -> Result<Value> {
    let profile = Profile::current();
    let described: Value = serde_json::from_str(&profile.json())?;
    Ok(json!({
        "fuelbox": env!("CARGO_PKG_VERSION"),
        "engine profile": profile.digest().to_string(),
        "host kernels": kernels_in_use(engine),
        "wasmtime": described["wasmtime"],
    }))
}

fn split(line: &str) -> (&str, &str) {
    line.split_once(' ').unwrap_or((line, ""))
}

fn say(reply: Result<Value>) {
    println!("{}", reply.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })));
}

struct Loaded {
    model: Model,
    tensors: Vec<Tensor>,
    reply: Value,
}

impl Loaded {
    /// Loads a model, which has to be new to the cache for its time to say something.
    fn open(engine: &Engine, folder: &Path) -> Result<Self> {
        let (onnx, tensors) = models::read(folder)?;
        let package = onnx_package(onnx);
        let compile = Cell::new(Duration::ZERO);
        struct Compiling<'a>(Instant, &'a Cell<Duration>);
        impl Drop for Compiling<'_> {
            fn drop(&mut self) {
                self.1.set(self.0.elapsed());
            }
        }
        let start = Instant::now();
        let compiling = || Compiling(Instant::now(), &compile);
        let model = Model::open(engine, package, &JobLimits::default(), compiling)?;
        let limits = JobLimits::default();
        let prepared = model.prepare(&tensors, &[], &limits, &limits)?;
        let load = start.elapsed().saturating_sub(compile.get());
        let image = prepared.image();
        let usage = image.load_usage();
        let reply = json!({
            "load_ns": load.as_nanos() as u64,
            "compile_ns": compile.get().as_nanos() as u64,
            "load_fuel": usage.fuel,
            "load_memory_bytes": usage.memory_bytes_peak,
            "image_bytes": image.len_bytes(),
            "image_digest": image.digest().to_string(),
            "kernels": kernels_in_use(engine),
        });
        Ok(Self { model, tensors, reply })
    }

    /// Serves commands on the model until the next `load`, which is given back.
    fn serve(self, mode: Mode, lines: &mut Lines<StdinLock<'_>>) -> Result<Option<String>> {
        let Self { model, tensors, reply } = self;
        let limits = JobLimits::default();
        let prepared = model.prepare(&tensors, &[], &limits, &limits)?;
        let mut warm = match mode {
            Mode::Fresh => None,
            Mode::Warm => Some(prepared.warm(&limits)?),
        };
        say(Ok(reply));
        for line in lines {
            let line = line?;
            if line.starts_with("load ") {
                return Ok(Some(line));
            }
            say(answer(&prepared, &mut warm, &limits, &line));
        }
        Ok(None)
    }
}

fn answer(
    prepared: &Prepared<'_>,
    warm: &mut Option<Warm<'_>>,
    limits: &JobLimits,
    line: &str,
) -> Result<Value> {
    let (command, argument) = split(line);
    match command {
        "outputs" => outputs(&job(prepared, limits)?, Path::new(argument)),
        "time" => {
            let runs = argument.parse().context("number of runs")?;
            Ok(json!({ "ns": time(prepared, warm, limits, runs)? }))
        }
        "queue" => {
            let (workers, jobs) = argument.split_once(' ').context("workers and jobs")?;
            let (workers, jobs) = (workers.parse()?, jobs.parse()?);
            Ok(serde_json::to_value(queue::run(prepared, limits, workers, jobs)?)?)
        }
        other => bail!("unknown command '{other}'"),
    }
}

fn job(prepared: &Prepared<'_>, limits: &JobLimits) -> Result<Outcome> {
    Ok(prepared.run(limits, 0, &Cancel::default())?)
}

fn outputs(outcome: &Outcome, file: &Path) -> Result<Value> {
    let Verdict::Completed { outputs, .. } = &outcome.verdict else {
        let detail = outcome.verdict.detail().unwrap_or_default();
        bail!("the job ended as {}: {detail}", outcome.verdict.name());
    };
    let bytes: Vec<u8> = outputs.iter().flat_map(|tensor| tensor.bytes.iter().copied()).collect();
    fs::write(file, bytes)?;
    let shapes: Vec<&[u64]> = outputs.iter().map(|tensor| &*tensor.shape).collect();
    Ok(json!({
        "shapes": shapes,
        "fuel": outcome.usage.fuel,
        "memory_bytes": outcome.usage.memory_bytes_peak,
        "output_digest": output_digest(outputs).to_string(),
    }))
}

fn time(
    prepared: &Prepared<'_>,
    warm: &mut Option<Warm<'_>>,
    limits: &JobLimits,
    runs: usize,
) -> Result<Vec<u64>> {
    let mut ns = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        let verdict = match warm {
            Some(warm) => warm.run()?,
            None => job(prepared, limits)?.verdict,
        };
        ns.push(start.elapsed().as_nanos() as u64);
        if !matches!(verdict, Verdict::Completed { .. }) {
            bail!("a job ended as {}", verdict.name());
        }
    }
    Ok(ns)
}
