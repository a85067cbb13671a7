//! Time and memory of the host: bombs for the compiler, for memory and tables, loops everywhere, floods.

use super::{TWO, VECTORS, declined, wasi};
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, is_harmless, plain, x},
    guest::{Guest, NAME_LEN_AT, OUTPUTS_AT, TENSORS_AT, parse, with_field},
    package::Package,
    suite::{Case, Group},
    target::{Job, Ran, Upload},
};
use fuelbox_abi::pack_reply;
use std::time::Instant;

/// An endless loop.
const SPIN: &str = "(loop (br 0))";

/// Lines of ten bytes that a guest prints: many times what is kept of them.
const LOG_LINES: usize = 100_000;
/// Bytes of what a job prints that are kept: the first half and the last.
const LOG_BYTES: usize = 64 << 10;

/// In messages, what a number of four bytes begins with.
const WIDE: u8 = 0xfc;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Denial, name, attack));
    };
    add("a function of a hundred thousand nested blocks", |attempt| {
        let depth = 100_000;
        bomb(
            attempt,
            &format!("(func {}{})", "block ".repeat(depth), "end ".repeat(depth)),
            "nested blocks: found 100000, allowed",
        )
    });
    add("a function with a million locals", |attempt| {
        // The same module is taken with as many as there may be.
        attempt.open_package(&Package::module(claiming_locals(1_024)))?;
        let wasm = claiming_locals(1_000_000);
        attempt.refused(&Package::module(wasm), "locals of one function: found 1000000, allowed")
    });
    add("a function with four thousand million locals", |attempt| {
        let wasm = claiming_locals(u32::MAX);
        attempt.refused(&Package::module(wasm), "locals of one function: found 4294967295, allowed")
    });
    add("a function of a megabyte", |attempt| {
        let body = "(drop (i64.const 0x7fffffffffffffff))".repeat(100_000);
        bomb(attempt, &format!("(func {body})"), "bytes of one function")
    });
    add("a branch table with a hundred thousand targets", |attempt| {
        bomb(
            attempt,
            &format!("(func (br_table{} (i32.const 0)))", " 0".repeat(100_001)),
            "br_table targets",
        )
    });
    add("more functions than any model has", |attempt| {
        bomb(attempt, &"(func)".repeat(100_001), "functions")
    });
    add("functions that are dear to compile, at every limit", |attempt| {
        // Each within the limits: functions whose locals are all alive at once across a branch.
        let locals = 1_024;
        let body: String = (0..locals)
            .map(|local| {
                format!(
                    "(local.set {local} (i64.add (local.get {local}) (local.get {})))",
                    (local + 1) % locals
                )
            })
            .collect();
        let function = format!(
            "(func (local{}) (loop {body} (br_if 0 (i64.eqz (local.get 0)))))",
            " i64".repeat(locals)
        );
        taken(attempt, &function.repeat(12))
    });
    add("a ladder of branches for the register allocator", |attempt| {
        let depth = 1_000;
        let mut body = "block ".repeat(depth);
        for level in 0..depth {
            body.push_str(&format!(
                "local.get 0 br_if {} end local.get 0 i32.const {level} i32.add local.set 0 ",
                level % 3
            ));
        }
        taken(attempt, &format!("(func (param i32) {body})"))
    });
    add("a table of four thousand million elements", |attempt| {
        bomb(attempt, "(table 4294967295 funcref)", "table elements: found 4294967295, allowed")
    });
    add("a hundred tables", |attempt| {
        bomb(attempt, &"(table 1000 funcref)".repeat(100), "tables: found 100, allowed are 1")
    });
    add("four gigabytes of memory from the start", |attempt| {
        let guest = Guest { memory: "65536".into(), ..Guest::default() };
        attempt.refused(&Package::of(&guest), "bytes of initial memory")
    });
    add("growth beyond the limit, in steps", |attempt| {
        // The output is how many pages there are in the end.
        let run = format!(
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 100)) (i32.const -1))))
             (f32.store (i32.const {}) (f32.convert_i32_u (memory.size)))",
            OUTPUTS_AT + 64
        );
        let model = attempt.open(&Guest::running(&run))?;
        let inputs = [x(1.0)];
        let fuel = 1_000_000_000;
        let job = Job { memory_bytes: Some(64 << 20), ..plain(&model.name, &inputs, fuel) };
        let end = attempt.run(&job)?;
        // The step beyond the limit fails, and the guest goes on.
        ended(&end, "completed", "")?;
        // 64 MiB are 1,024 pages, and the guest has three from the start.
        let pages = end.outputs.first().map(|y| y.bytes.clone());
        ensure(pages == Some(1_003f32.to_le_bytes().to_vec()), || format!("{:?}", end.outputs))?;
        Ok(format!("1003 pages within its limit of 64 MiB, {} fuel", end.fuel))
    });
    add("growth by all that there is, at once", |attempt| {
        let run = "(drop (memory.grow (i32.const -1)))";
        let end = attempt.ends(&Guest::running(run), "out_of_fuel", "")?;
        Ok(format!("what is asked for is paid for: {} fuel", end.fuel))
    });
    add("recursion without an end", |attempt| {
        let guest = Guest {
            extra: "(func $deep (param i64) (local v128 v128 v128) (call $deep (local.get 0)))"
                .into(),
            ..Guest::running("(call $deep (i64.const 0))")
        };
        let model = attempt.open(&guest)?;
        let end = attempt.run_plain(&model, 1_000_000_000)?;
        ended(&end, "trap", "stack")?;
        Ok(end.detail)
    });
    for (place, package) in loops() {
        let name = format!("an endless loop in {place}");
        cases.push(Case::new(Group::Denial, name, move |attempt| {
            let started = Instant::now();
            let said = attempt.refused(&package, "the model: out_of_fuel: all fuel was used")?;
            Ok(format!("{said} ({} ms)", started.elapsed().as_millis()))
        }));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Denial, name, attack));
    };
    add("an endless loop in run", |attempt| {
        let model = attempt.open(&Guest::running(SPIN))?;
        let end = attempt.run_plain(&model, 200_000_000)?;
        ended(&end, "out_of_fuel", "")?;
        ensure(end.fuel == 200_000_000, || format!("{} fuel", end.fuel))?;
        Ok("out_of_fuel, all of it billed".into())
    });
    add("an endless loop in the allocator of a job", |attempt| {
        let guest = Guest {
            extra: "(global $asked (mut i32) (i32.const 0))".into(),
            alloc: format!(
                "(if (global.get $asked) (then {SPIN}))
                 (global.set $asked (i32.const 1)) (i32.const 65536)"
            ),
            ..Guest::default()
        };
        let end = attempt.ends(&guest, "out_of_fuel", "")?;
        Ok(format!("out_of_fuel, {} billed", end.fuel))
    });
    add("an endless loop under a deadline", |attempt| {
        let model = attempt.open(&Guest::running(SPIN))?;
        let inputs = [x(1.0)];
        let fuel = 10_000_000_000;
        let job = Job { deadline_ms: Some(300), ..plain(&model.name, &inputs, fuel) };
        let started = Instant::now();
        let ran = attempt.target().run(&job)?;
        let text = match ran {
            Ran::Ended(end) => {
                ended(&end, "cancelled", "")?;
                ensure(end.fuel < fuel, || "ran until its fuel was gone".into())?;
                format!("cancelled after {} fuel", end.fuel)
            }
            // It waited for its turn until then.
            Ran::Refused(refusal) => {
                ensure(refusal.code == "deadline", || refusal.text.clone())?;
                refusal.text
            }
        };
        Ok(format!("{text}, {} ms", started.elapsed().as_millis()))
    });
    for (name, kind, call) in [
        ("sched_yield", "(result i32)", "(call $host)"),
        ("random_get", TWO, "(call $host (i32.const 65536) (i32.const 131072))"),
        (
            "fd_write",
            VECTORS,
            "(i32.store (i32.const 604) (i32.const 196608))
             (call $host (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        (
            "clock_time_get",
            "(param i32 i64 i32) (result i32)",
            "(call $host (i32.const 1) (i64.const 0) (i32.const 512))",
        ),
    ] {
        cases.push(Case::new(
            Group::Denial,
            format!("an endless loop of calls of {name}"),
            move |attempt| {
                let guest = Guest {
                    imports: wasi(name, kind),
                    ..Guest::running(&format!("(loop {call} drop (br 0))"))
                };
                let end = attempt.ends(&guest, "out_of_fuel", "")?;
                Ok(format!("out_of_fuel, {} billed", end.fuel))
            },
        ));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Denial, name, attack));
    };
    add("a flood of log lines", |attempt| {
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            extra: r#"(data (i32.const 600) "\60\02\00\00\0a\00\00\00abcdefghi\n")"#.into(),
            ..Guest::running(&format!(
                "(local.set 2 (i32.const {LOG_LINES}))
                 (loop (drop (call $host (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 512)))
                   (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))"
            ))
        };
        let printed = attempt.printed(&Package::of(&guest))?;
        let text = String::from_utf8_lossy(&printed);
        let note = format!("[{} bytes of log dropped]", 10 * LOG_LINES - LOG_BYTES);
        ensure(text.contains(&note), || format!("not noted among {} bytes: {note}", text.len()))?;
        // Each line comes with a word in front, and after all of them comes the answer.
        ensure(text.len() < 5 * LOG_BYTES, || format!("{} bytes were printed", text.len()))?;
        let fuel = 1_000_000_000;
        let model = attempt.open(&guest)?;
        let end = attempt.run_plain(&model, fuel)?;
        ended(&end, "completed", "")?;
        Ok(format!("{note}, {} bytes printed", text.len()))
    });
    add("a reply as large as memory can be", |attempt| {
        let guest = Guest {
            reply: format!("(i64.const {})", pack_reply(0, u32::MAX)),
            ..Guest::running("(drop (memory.grow (i32.const 1000)))")
        };
        let end = attempt.ends(&guest, "bad_output", "reply of 4294967295 bytes")?;
        Ok(end.detail)
    });
    add("a reply whose header says a million tensors", |attempt| {
        let million = [&[WIDE], &1_000_000u32.to_le_bytes()[..]].concat();
        let outputs = with_field(&Guest::default().outputs, TENSORS_AT, &[1], &million);
        let guest = Guest {
            reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32)),
            outputs,
            ..Guest::default()
        };
        let end =
            attempt.ends(&guest, "bad_output", "too many tensor: 1000000, allowed are 1024")?;
        Ok(end.detail)
    });
    add("a name of a tensor that is all of memory", |attempt| {
        // What the guest has, what 32 bits can say, and one that is there and too long.
        let there = [&[0xfb, 1, 2], &[b'x'; 513][..]].concat();
        let mut said = String::new();
        for (len, found, words) in [
            (
                [&[WIDE], &(3u32 << 16).to_le_bytes()[..]].concat(),
                &[1][..],
                "spec 0: UnexpectedEnd",
            ),
            ([&[WIDE], &u32::MAX.to_le_bytes()[..]].concat(), &[1], "spec 0: LimitExceeded"),
            (there, b"\x01x", "too many name bytes: 513, allowed are 512"),
        ] {
            let signature = with_field(&Guest::default().signature, NAME_LEN_AT, found, &len);
            let guest = Guest { signature, ..Guest::default() };
            said = attempt.refused(&Package::module(guest.wasm()), &format!("reply: {words}"))?;
        }
        Ok(said)
    });
    add("a module that is cut off at every length", |attempt| {
        let wasm = Guest::default().wasm();
        let mut refused = 0;
        for len in (0..wasm.len()).step_by(wasm.len().div_ceil(25)) {
            attempt.refused(&Package::module(wasm[..len].to_vec()), "module: ")?;
            refused += 1;
        }
        Ok(format!("{refused} modules refused"))
    });
    add("a module with any bit flipped", |attempt| {
        let wasm = Guest::default().wasm();
        let (mut refused, mut published) = (0, 0);
        for bit in (0..wasm.len() * 8).step_by(wasm.len() * 8 / 40) {
            let mut wasm = wasm.clone();
            wasm[bit / 8] ^= 1 << (bit % 8);
            match attempt.publish(&Package::module(wasm))? {
                Upload::Refused(refusal) => {
                    is_harmless(&refusal.text)?;
                    refused += 1;
                }
                Upload::Published(model) => {
                    attempt.run_plain(&model, FUEL)?;
                    published += 1;
                }
            }
        }
        // A bit of what the guest computes or says makes another model, which is as good; most bits are
        // of what makes it a module.
        ensure(refused > published, || format!("{refused} refused, {published} published"))?;
        Ok(format!("{refused} refused, {published} other models"))
    });
    add("sizes of inputs beyond the signature", |attempt| {
        let model = attempt.open(&Guest::default())?;
        let inputs = [crate::attempt::floats("x", &vec![1.0; 1 << 20])];
        let job = plain(&model.name, &inputs, FUEL);
        declined(attempt, &job, "input 'x': shape [1048576], the model takes [1]")
    });
    cases
}

/// Places where a load can loop.
fn loops() -> [(&'static str, Package); 4] {
    let initialize = format!("(func (export \"_initialize\") {SPIN})");
    let alloc = format!("{SPIN} unreachable");
    let version = "(result i32) (i32.const 1)";
    let spin = format!("(result i32) {SPIN} unreachable");
    let version = parse(&Guest::default().wat().replacen(version, &spin, 1));
    [
        ("_initialize", Package::of(&Guest { extra: initialize, ..Guest::default() })),
        ("load", Package::of(&Guest { load: SPIN.into(), ..Guest::default() })),
        ("the allocator", Package::of(&Guest { alloc, ..Guest::default() })),
        ("the version", Package::module(version)),
    ]
}

/// More definitions that must be refused for this.
fn bomb(attempt: &mut Attempt<'_>, extra: &str, words: &str) -> Held {
    let guest = Guest { extra: extra.into(), ..Guest::default() };
    attempt.refused(&Package::of(&guest), words)
}

/// More definitions that are within the limits, and so are compiled: what that takes is bounded.
fn taken(attempt: &mut Attempt<'_>, extra: &str) -> Held {
    let guest = Guest { extra: extra.into(), ..Guest::default() };
    let started = Instant::now();
    let model = attempt.open(&guest)?;
    let time = started.elapsed().as_millis();
    let end = attempt.run_plain(&model, FUEL)?;
    ended(&end, "completed", "")?;
    Ok(format!("compiled and loaded in {time} ms"))
}

/// The usual guest with one more function, which claims so many locals of one type: in a few bytes.
fn claiming_locals(count: u32) -> Vec<u8> {
    let guest = Guest { extra: "(func (local i32))".into(), ..Guest::default() };
    let wasm = guest.wasm();
    let (start, mut rest) = wasm.split_at(8);
    let mut other = start.to_vec();
    // A section: what it is, how long it is, and its content.
    while let Some((&id, after)) = rest.split_first() {
        let (len, after) = read_number(after);
        let (content, after) = after.split_at(len as usize);
        other.push(id);
        match (id, content.strip_suffix(&[4, 1, 1, I32, END])) {
            // The last body of the code: one group of locals, and then nothing.
            (CODE, Some(before)) => {
                let count = number(count);
                let body = [&[1], &count[..], &[I32, END]].concat();
                let content = [before, &number(body.len() as u32), &body].concat();
                other.extend(number(content.len() as u32));
                other.extend(content);
            }
            _ => {
                other.extend(number(len));
                other.extend(content);
            }
        }
        rest = after;
    }
    other
}

/// Of the section with the bodies of functions.
const CODE: u8 = 10;
/// The type.
const I32: u8 = 0x7f;
/// The instruction that a body ends with.
const END: u8 = 0x0b;

/// A number as modules have it (LEB128), and what is behind it.
fn read_number(bytes: &[u8]) -> (u32, &[u8]) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).map_or(bytes.len(), |last| last + 1);
    let (number, rest) = bytes.split_at(len);
    (number.iter().rev().fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f)), rest)
}

fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
