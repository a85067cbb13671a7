//! Time by fuel: what a unit of fuel takes, for every operator, for work of one kind after the other, for
//! kernels, and for whole models.
//!
//! `calibrate CACHE ROUNDS` prints a line of JSON for each: the fuel of a job, what it costs, its memory, and its CPU time
//! in nanoseconds: the least of the rounds, which is what it takes when nothing is in its way, and the
//! median. The first line has the weights. `cargo xtask calibrate` makes `docs/fuel.md` of it. `search CACHE SECONDS SEED` looks for what
//! is worse.

mod cases;
mod kernels;
mod operators;
mod search;

use anyhow::{Context, Result, bail};
use cpu_time::ThreadTime;
use fuelbox_engine::{
    COST_SCHEDULE_VERSION, Cache, Cancel, DISTANCE_MAX, DISTANCE_PAGES, Engine, GuestModule,
    JobLimits, Model, OPERATOR_CLASSES, Options, PAGE_FUEL, PAGES_FREE, Package, Tensor, Usage,
    Verdict,
};
use fuelbox_jobs::Schedule;
use fuelbox_test_support::{
    guest::Guest,
    host::{fp32, inputs, onnx_package},
    onnx::models::FAMILIES,
};
use serde_json::json;
use std::path::Path;

pub(crate) use search::search;

/// A kind of work.
struct Work {
    name: String,
    /// What is decided by its figure.
    class: &'static str,
    guest: Guest,
    /// What a step of a chain executes, and how many steps there are; for operators only.
    operators: Vec<String>,
    turns: u64,
}

impl Work {
    fn new(name: impl Into<String>, class: &'static str, guest: Guest) -> Self {
        Self { name: name.into(), class, guest, operators: Vec::new(), turns: 0 }
    }
}

pub(crate) fn run(cache: &Path, rounds: usize) -> Result<()> {
    let engine = Engine::new(Cache::open(cache)?, Options::default())?;
    let classes = OPERATOR_CLASSES.iter().map(
        |(name, weight, operators)| json!({"name": name, "weight": weight, "operators": operators}),
    );
    println!(
        "{}",
        json!({
            "cost_schedule": COST_SCHEDULE_VERSION,
            "pages_free": PAGES_FREE,
            "page_fuel": PAGE_FUEL,
            "distance_pages": DISTANCE_PAGES,
            "distance_max": DISTANCE_MAX,
            "classes": classes.collect::<Vec<_>>(),
        })
    );
    for work in operators::works().into_iter().chain(cases::works()).chain(kernels::works()) {
        let measured = Prepared::guest(&engine, &work.guest)
            .and_then(|prepared| prepared.measure(rounds))
            .with_context(|| work.name.clone())?;
        measured.print(&work)?;
    }
    for family in FAMILIES {
        let sample = (family.full)();
        let package = onnx_package(sample.onnx.clone());
        let model = Model::open(&engine, package, &JobLimits::default(), || ())
            .with_context(|| family.name.to_owned())?;
        let measured = Prepared { model, inputs: inputs(&sample) }.measure(rounds)?;
        measured.print(&Work::new(family.name, "model", Guest::default()))?;
    }
    Ok(())
}

/// A model and what it is asked.
struct Prepared {
    model: Model,
    inputs: Vec<Tensor>,
}

struct Measured {
    usage: Usage,
    /// In order.
    times_ns: Vec<u64>,
}

impl Prepared {
    fn guest(engine: &Engine, guest: &Guest) -> Result<Self> {
        let module = GuestModule::new(guest.wasm());
        let package = Package { module, assets: Vec::new() };
        let model = Model::open(engine, package, &JobLimits::default(), || ())?;
        Ok(Self { model, inputs: vec![fp32("x", &[1], &[1.0])] })
    }

    fn measure(&self, rounds: usize) -> Result<Measured> {
        let limits = JobLimits { fuel: 1 << 44, ..JobLimits::default() };
        let prepared = self.model.prepare(&self.inputs, &[], &limits, &limits)?;
        let (mut times_ns, mut usage) = (Vec::new(), None);
        for _ in 0..=rounds {
            let started = ThreadTime::now();
            let outcome = prepared.run(&limits, 0, &Cancel::default())?;
            times_ns.push(started.elapsed().as_nanos() as u64);
            let Verdict::Completed { .. } = outcome.verdict else {
                bail!("{:?}", outcome.verdict);
            };
            usage = Some(outcome.usage);
        }
        // The first one warms up.
        times_ns.remove(0);
        times_ns.sort_unstable();
        Ok(Measured { usage: usage.context("a round")?, times_ns })
    }
}

impl Measured {
    fn ns(&self) -> u64 {
        self.times_ns[0]
    }

    fn micro_credits(&self) -> Result<u64> {
        let Usage { fuel, memory_bytes_peak } = self.usage;
        Ok(Schedule::default().run(fuel, memory_bytes_peak)?.micros())
    }

    fn print(&self, work: &Work) -> Result<()> {
        println!(
            "{}",
            json!({
                "name": work.name,
                "class": work.class,
                "operators": work.operators,
                "turns": work.turns,
                "fuel": self.usage.fuel,
                "memory_bytes": self.usage.memory_bytes_peak,
                "micro_credits": self.micro_credits()?,
                "ns": self.ns(),
                "ns_median": self.times_ns[self.times_ns.len() / 2],
            })
        );
        Ok(())
    }
}
