//! A search for work that takes more time than it pays for: random programs, and a climb from the best of
//! them by small changes.
//!
//! A program is a loop over statements, each from the palette: a step of any operator on a local, loads and
//! stores at addresses of several kinds, calls, branches, bulk operations, host calls. What it is judged by
//! is its CPU time by what it costs.

use super::{Measured, Prepared, operators};
use anyhow::Result;
use fuelbox_engine::{Cache, Engine, Options};
use fuelbox_test_support::guest::Guest;
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Statements of a loop at most.
const STATEMENTS_MAX: usize = 24;
/// Programs that are changed further.
const BEST: usize = 8;
/// Random programs for each change of a good one.
const RANDOM_ONE_IN: u64 = 4;
/// A program runs for about this much fuel, so that it costs more than the minimum price by far.
const FUEL: u64 = 3_000_000;
/// Rounds of a first look, and of a program that seems to be among the best.
const ROUNDS: [usize; 2] = [2, 7];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[derive(Clone)]
struct Program {
    /// Indices into the palette.
    statements: Vec<usize>,
    pages: u32,
    subnormal: bool,
}

/// Pages that programs have: what caches hold, what they do not, what is charged for and what is not.
const PAGES: [u32; 6] = [5, 32, 64, 128, 512, 2_048];

impl Program {
    fn random(random: &mut Random, palette: usize) -> Self {
        let count = 1 + random.below(6);
        Self {
            statements: (0..count).map(|_| random.below(palette)).collect(),
            pages: PAGES[random.below(PAGES.len())],
            subnormal: random.below(2) == 0,
        }
    }

    fn changed(&self, random: &mut Random, palette: usize) -> Self {
        let mut next = self.clone();
        for _ in 0..=random.below(2) {
            let at = random.below(next.statements.len());
            match random.below(8) {
                0 => next.pages = PAGES[random.below(PAGES.len())],
                1 => next.subnormal = !next.subnormal,
                2 | 3 if next.statements.len() > 1 => {
                    next.statements.remove(at);
                }
                4 if next.statements.len() < STATEMENTS_MAX => {
                    next.statements.insert(at, next.statements[at]);
                }
                5 if next.statements.len() < STATEMENTS_MAX => {
                    next.statements.insert(at, random.below(palette));
                }
                _ => next.statements[at] = random.below(palette),
            }
        }
        next
    }

    fn guest(&self, palette: &[String], turns: u64) -> Guest {
        let body: String = self.statements.iter().map(|&at| palette[at].clone() + "\n").collect();
        // Addresses stay within whole powers of two of memory.
        let mask = (self.pages * 65_536 / 2).next_power_of_two() / 2 - 1;
        let body = body.replace("$mask", &(mask & !7).to_string());
        let mut locals = String::new();
        let mut starts = String::new();
        for kind in ["i32", "i64", "f32", "f64", "v128"] {
            for (name, value) in ["x", "y", "z"].iter().zip(operators::values(kind, self.subnormal))
            {
                locals += &format!("(local ${kind}{name} {kind}) ");
                starts += &format!("{value} local.set ${kind}{name} ");
            }
        }
        let extra = format!(
            "(type $next (func (param i64) (result i64)))
             (table 64 funcref) (elem (i32.const 0) func $add $mix)
             (elem declare func $add)
             (global $g (mut i64) (i64.const 1))
             (func $add (type $next) local.get 0 i64.const 7 i64.add)
             (func $mix (type $next) local.get 0 i64.const 9 i64.mul)
             (func $work (local $t i64) (local $n i32) (local $a i32) (local $c i32) {locals}
               {starts}
               i32.const 3 local.set $n
               i64.const {turns} local.set $t
               loop $again
                 {body}
                 local.get $t i64.const 1 i64.sub local.tee $t i64.const 0 i64.ne br_if $again
               end
               i32.const 512 local.get $i64x i64.store
               i32.const 520 local.get $f32x f32.store
               i32.const 528 local.get $f64x f64.store
               i32.const 544 local.get $v128x v128.store
               i32.const 560 local.get $i32x local.get $a i32.add local.get $c i32.add i32.store)"
        );
        Guest {
            imports: r#"(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
                (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#
                .into(),
            extra,
            memory: self.pages.to_string(),
            ..Guest::running("(call $work)")
        }
    }

    fn measure(&self, engine: &Engine, palette: &[String], rounds: usize) -> Result<Measured> {
        // What a turn costs, to know how many there can be.
        let few = Prepared::guest(engine, &self.guest(palette, 100))?.measure(1)?;
        let pages = u64::from(self.pages.saturating_sub(64)) * fuelbox_engine::PAGE_FUEL;
        let each = few.usage.fuel.saturating_sub(pages).max(100) / 100;
        let turns = (FUEL / each.max(1)).clamp(100, 2_000_000);
        Prepared::guest(engine, &self.guest(palette, turns))?.measure(rounds)
    }
}

fn palette() -> Vec<String> {
    let mut palette: Vec<String> = operators::steps()
        .into_iter()
        .map(|step| {
            let kind = step.kind;
            let text = step.text.replace("$y", &format!("${kind}y"));
            let text = text.replace("$z", &format!("${kind}z"));
            format!("local.get ${kind}x {text} local.set ${kind}x")
        })
        .collect();
    // Addresses: all over, in order, where the last load says.
    let anywhere =
        "local.get $a i32.const 1664525 i32.mul i32.const 1013904223 i32.add local.set $a";
    let pages = "local.get $a i32.const 4096 i32.add local.set $a";
    let lines = "local.get $a i32.const 64 i32.add local.set $a";
    let back = "local.get $a local.get $c i32.add i32.const 4160 i32.add local.set $a";
    palette.extend([anywhere, pages, lines, back].map(str::to_owned));
    let at = "local.get $a i32.const $mask i32.and";
    let kinds = [("i32", "i32"), ("i64", "i64"), ("f32", "f32"), ("f64", "f64"), ("v128", "v128")];
    for (kind, name) in kinds {
        for offset in [8_192, 8_221, 12_285] {
            palette.push(format!("{at} {name}.load offset={offset} local.set ${kind}x"));
            palette.push(format!("{at} local.get ${kind}x {name}.store offset={offset}"));
            palette.push(format!("{at} local.get ${kind}y {name}.store offset={offset}"));
        }
    }
    palette.push(format!("{at} i32.load offset=8192 local.set $c"));
    palette.push(format!("{at} i32.load8_u offset=8192 local.set $c"));
    palette.push(format!("{at} local.get $a i32.store8 offset=8192"));
    palette.push(format!("{at} i32.load offset=8192 local.get $a i32.add local.set $a"));
    for bytes in [0, 1, 64, 4_096] {
        palette
            .push(format!("{at} i32.const 8192 i32.add i32.const 1 i32.const {bytes} memory.fill"));
        palette.push(format!(
            "{at} i32.const 8192 i32.add i32.const 16384 i32.const {bytes} memory.copy"
        ));
    }
    palette.extend(
        [
            "local.get $i64x call $add local.set $i64x",
            "local.get $i64x i32.const 1 call_indirect (type $next) local.set $i64x",
            "local.get $i64x local.get $a i32.const 16 i32.shr_u i32.const 1 i32.and call_indirect (type $next) local.set $i64x",
            "local.get $i64x global.set $g global.get $g local.set $i64x",
            "i32.const 0 memory.grow drop",
            "memory.size local.set $c",
            "ref.func $add ref.is_null local.set $c",
            "i32.const 0 table.get 0 ref.is_null local.set $c",
            "call $yield drop",
            "i32.const 512 i32.const 8 call $random drop",
            "local.get $a i32.const 17 i32.shr_u i32.const 1 i32.and if local.get $i64x i64.const 3 i64.xor local.set $i64x end",
            "block block block local.get $a i32.const 17 i32.shr_u i32.const 3 i32.and br_table 0 1 2 end local.get $c i32.const 1 i32.add local.set $c end local.get $c i32.const 3 i32.xor local.set $c end",
            "local.get $i64x i32.wrap_i64 local.set $a",
            "local.get $i32x local.set $a",
            "local.get $f32x i32.reinterpret_f32 local.set $i32x",
            "local.get $i32x f32.reinterpret_i32 local.set $f32x",
            "local.get $f64x i64.reinterpret_f64 local.set $i64x",
            "local.get $v128x f32x4.extract_lane 0 local.set $f32x",
            "local.get $f32x f32x4.splat local.set $v128x",
        ]
        .map(str::to_owned),
    );
    palette
}

/// Searches for so long, from this seed, and prints each program that is worse than all before it.
pub(crate) fn search(cache: &Path, time: Duration, seed: u64) -> Result<()> {
    let engine = Engine::new(Cache::open(cache)?, Options::default())?;
    let (palette, mut random) = (palette(), Random(seed));
    let mut best: Vec<(f64, Program)> = Vec::new();
    let (started, mut looked_at) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        let program = match best.len() {
            0 => Program::random(&mut random, palette.len()),
            _ if random.next().is_multiple_of(RANDOM_ONE_IN) => {
                Program::random(&mut random, palette.len())
            }
            count => best[random.below(count)].1.changed(&mut random, palette.len()),
        };
        looked_at += 1;
        let found = |rounds| -> Result<(f64, Measured)> {
            let measured = program.measure(&engine, &palette, rounds)?;
            Ok((measured.ns() as f64 / measured.micro_credits()? as f64, measured))
        };
        // One that traps, such as a number that is too large for its type, is none.
        let Ok((first, _)) = found(ROUNDS[0]) else { continue };
        let least = best.last().filter(|_| best.len() == BEST).map_or(0.0, |worst| worst.0);
        if first <= least {
            continue;
        }
        let Ok((value, measured)) = found(ROUNDS[1]) else { continue };
        if value <= least {
            continue;
        }
        if best.first().is_none_or(|first| value > first.0) {
            let statements: Vec<_> =
                program.statements.iter().map(|&at| palette[at].as_str()).collect();
            println!(
                "{}",
                json!({
                    "programs": looked_at,
                    "ns_per_micro_credit": value,
                    "fuel": measured.usage.fuel,
                    "ns": measured.ns(),
                    "pages": program.pages,
                    "subnormal": program.subnormal,
                    "statements": statements,
                })
            );
        }
        best.push((value, program));
        best.sort_by(|one, other| other.0.total_cmp(&one.0));
        best.truncate(BEST);
    }
    println!("{}", json!({"programs": looked_at, "seed": seed}));
    Ok(())
}
