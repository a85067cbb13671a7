//! Time by fuel: what a unit of fuel takes, for work of one kind after the other, and for whole models.
//!
//! `calibrate CACHE ROUNDS` prints a line of JSON for each: the fuel of a job, its time in nanoseconds (the least of
//! the rounds, which is what it takes when nothing is in its way, and the median), and its memory. A guest
//! does its work in one function, in a loop whose own part is small; each operator of a chain needs what the one
//! before it gave, so that time is latency, which is the most that an operator takes.

use anyhow::{Context, Result, bail};
use fuelbox_engine::{
    Cache, Cancel, Engine, GuestModule, JobLimits, Model, Options, Package, Tensor, Verdict,
};
use fuelbox_test_support::{
    guest::{Guest, parse},
    host::{fp32, inputs, onnx_package},
    onnx::models::FAMILIES,
};
use serde_json::json;
use std::{path::Path, time::Instant};

/// Operators of a chain, between two turns of its loop.
const CHAIN: usize = 64;

/// A kind of work.
struct Work {
    name: &'static str,
    /// What is decided by its figure.
    class: &'static str,
    guest: Guest,
}

pub(crate) fn run(cache: &Path, rounds: usize) -> Result<()> {
    let engine = Engine::new(Cache::open(cache)?, Options::default())?;
    for work in works() {
        let module = GuestModule::new(parse(&work.guest.wat()));
        let package = Package { module, assets: Vec::new() };
        let model = Model::open(&engine, package, &JobLimits::default(), || ())
            .with_context(|| work.name.to_owned())?;
        measure(work.name, work.class, &model, &[fp32("x", &[1], &[1.0])], rounds)?;
    }
    for family in FAMILIES {
        let sample = (family.full)();
        let package = onnx_package(sample.onnx.clone());
        let model = Model::open(&engine, package, &JobLimits::default(), || ())
            .with_context(|| family.name.to_owned())?;
        measure(family.name, "model", &model, &inputs(&sample), rounds)?;
    }
    Ok(())
}

fn measure(name: &str, class: &str, model: &Model, inputs: &[Tensor], rounds: usize) -> Result<()> {
    let limits = JobLimits { fuel: 1 << 44, ..JobLimits::default() };
    let prepared = model.prepare(inputs, &[], &limits, &limits)?;
    let (mut times, mut usage) = (Vec::new(), None);
    for _ in 0..=rounds {
        let started = Instant::now();
        let outcome = prepared.run(&limits, 0, &Cancel::default())?;
        times.push(started.elapsed().as_nanos() as u64);
        let Verdict::Completed { .. } = outcome.verdict else {
            bail!("{name}: {:?}", outcome.verdict);
        };
        usage = Some(outcome.usage);
    }
    // The first one warms up.
    times.remove(0);
    times.sort_unstable();
    let usage = usage.context("a round")?;
    let (least, median) = (times[0], times[times.len() / 2]);
    println!(
        "{}",
        json!({
            "name": name, "class": class, "fuel": usage.fuel, "ns": least,
            "ns_median": median, "memory_bytes": usage.memory_bytes_peak,
            "ns_per_fuel": least as f64 / usage.fuel as f64,
        })
    );
    Ok(())
}

fn works() -> Vec<Work> {
    let mut works = Vec::new();
    let mut chain = |name, kind: &str, start: &str, step: &str, turns: u32| {
        works.push(Work { name, class: "operators", guest: chained(kind, start, step, turns) });
    };
    chain("i64.add", "i64", "i64.const 7", "local.get $y i64.add", 200_000);
    chain("i64.mul", "i64", "i64.const 7", "local.get $y i64.mul", 200_000);
    chain(
        "i64.div_u",
        "i64",
        "i64.const -7",
        "local.get $y i64.div_u local.get $z i64.xor",
        20_000,
    );
    chain(
        "i64.rem_s",
        "i64",
        "i64.const -7",
        "local.get $y i64.rem_s local.get $z i64.xor",
        20_000,
    );
    chain("i64.popcnt", "i64", "i64.const -7", "i64.popcnt", 200_000);
    chain("f32.add", "f32", "f32.const 1", "local.get $y f32.add", 200_000);
    chain("f32.div", "f32", "f32.const 1", "local.get $y f32.div", 50_000);
    chain("f32.sqrt", "f32", "f32.const 2", "f32.sqrt", 50_000);
    chain("f64.div", "f64", "f64.const 1", "local.get $y f64.div", 50_000);
    chain("f64.sqrt", "f64", "f64.const 2", "f64.sqrt", 50_000);
    chain("f64.min", "f64", "f64.const 2", "local.get $y f64.min", 50_000);
    chain("f64.nearest", "f64", "f64.const 2.5", "f64.nearest", 50_000);
    chain("f64x2.sqrt", "v128", "v128.const f64x2 2 3", "f64x2.sqrt", 50_000);
    // The bits of small whole numbers are subnormal numbers.
    let subnormal = "f32x4.div by subnormal numbers";
    chain(subnormal, "v128", "v128.const f32x4 1 2 3 4", "local.get $y f32x4.div", 50_000);
    chain("f32x4.mul", "v128", "v128.const f32x4 1 2 3 4", "local.get $y f32x4.mul", 50_000);
    chain("i64x2.mul", "v128", "v128.const i64x2 1 2", "local.get $y i64x2.mul", 50_000);
    chain("i8x16.swizzle", "v128", "v128.const i64x2 1 2", "local.get $y i8x16.swizzle", 50_000);
    chain("i8x16.popcnt", "v128", "v128.const i64x2 1 2", "i8x16.popcnt", 50_000);
    chain(
        "i64.trunc_sat_f64_u",
        "f64",
        "f64.const 5",
        "i64.trunc_sat_f64_u f64.convert_i64_u",
        20_000,
    );
    chain("call", "i64", "i64.const 7", "call $next", 50_000);
    chain("call_indirect", "i64", "i64.const 7", "i32.const 0 call_indirect (type $next)", 50_000);
    chain("call, 1,000 locals", "i64", "i64.const 7", "call $locals", 500);
    chain("i64.load, in cache", "i64", "i64.const 0", "i32.wrap_i64 i64.load", 50_000);
    works.extend([
        memory("first touch, grown", 3, touching(true), "memory"),
        memory("first touch, from the start", 4_000, touching(false), "memory"),
        memory("memory.grow", 3, "(drop (memory.grow (i32.const 4000)))".into(), "memory"),
        memory("memory.fill, grown", 3, filling(true), "memory"),
        memory("memory.fill, from the start", 4_000, filling(false), "memory"),
        memory("loads that miss", 4_000, missing(), "memory"),
        host("sched_yield", "(result i32)", "(call $host)"),
        host(
            "clock_time_get",
            "(param i32 i64 i32) (result i32)",
            "(call $host (i32.const 1) (i64.const 0) (i32.const 512))",
        ),
        host(
            "random_get, 8 bytes",
            "(param i32 i32) (result i32)",
            "(call $host (i32.const 512) (i32.const 8))",
        ),
        host(
            "fd_write, 1 byte",
            "(param i32 i32 i32 i32) (result i32)",
            "(call $host (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        host(
            "fd_read, nothing",
            "(param i32 i32 i32 i32) (result i32)",
            "(call $host (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        Work { name: "nothing", class: "entry", guest: Guest::default() },
    ]);
    works
}

/// A guest that goes on from a number, step by step, for so many turns.
fn chained(kind: &str, start: &str, step: &str, turns: u32) -> Guest {
    let other = match kind {
        "i64" => ["i64.const 3", "i64.const -6148914691236517206"],
        "f32" => ["f32.const 1.0000001", "f32.const 3"],
        "f64" => ["f64.const 1.0000001", "f64.const 3"],
        _ => ["v128.const i64x2 3 5", "v128.const i64x2 7 9"],
    };
    let steps = format!("{step} ").repeat(CHAIN);
    let locals = " i64".repeat(1_000);
    let extra = format!(
        "(type $next (func (param i64) (result i64)))
         (table 1 funcref) (elem (i32.const 0) $next)
         (func $next (type $next) local.get 0)
         (func $locals (param i64) (result i64) (local{locals}) local.get 0)
         (func $work (local $n i32) (local $x {kind}) (local $y {kind}) (local $z {kind})
           {start} local.set $x
           {} local.set $y
           {} local.set $z
           i32.const {turns} local.set $n
           loop $again
             local.get $x {steps} local.set $x
             local.get $n i32.const 1 i32.sub local.tee $n br_if $again
           end
           i32.const 512 local.get $x {kind}.store)",
        other[0], other[1]
    );
    Guest { extra, ..Guest::running("(call $work)") }
}

fn memory(name: &'static str, pages: u32, run: String, class: &'static str) -> Work {
    Work { name, class, guest: Guest { memory: pages.to_string(), ..Guest::running(&run) } }
}

/// A byte in each page of the host's, 256 MB of them.
fn touching(grown: bool) -> String {
    let grow = if grown { "(drop (memory.grow (i32.const 3900)))" } else { "" };
    format!(
        "{grow} (local.set 2 (i32.const 262144))
         (loop
           (i32.store8 (local.get 2) (i32.const 1))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 4096))) (i32.const 255000000))))"
    )
}

fn filling(grown: bool) -> String {
    let grow = if grown { "(drop (memory.grow (i32.const 3900)))" } else { "" };
    format!("{grow} (memory.fill (i32.const 262144) (i32.const 1) (i32.const 250000000))")
}

/// Loads from all over, each of which says where the next one is; pages are touched before.
fn missing() -> String {
    format!(
        "{}
         (local.set 3 (i32.const 20000000))
         (loop
           (local.set 2 (i32.load (i32.and (i32.mul (i32.add (local.get 2) (local.get 3))
             (i32.const -1640531535)) (i32.const 0x07fffffc))))
           (br_if 0 (local.tee 3 (i32.sub (local.get 3) (i32.const 1)))))",
        touching(false)
    )
}

/// A call of the host, many times.
fn host(name: &'static str, kind: &str, call: &str) -> Work {
    let import = name.split(',').next().unwrap_or(name);
    let guest = Guest {
        imports: format!(r#"(import "wasi_snapshot_preview1" "{import}" (func $host {kind}))"#),
        extra: r#"(data (i32.const 600) "\60\02\00\00\01\00\00\00")"#.into(),
        ..Guest::running(&format!(
            "(local.set 2 (i32.const 200000))
             (loop (drop {call})
               (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))"
        ))
    };
    Work { name, class: "host calls", guest }
}
