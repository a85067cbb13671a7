//! Time and memory of the host: bombs for the compiler, for memory and tables, loops everywhere, floods.

use super::{TWO, VECTORS, wasi};
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, is_harmless, plain, x},
    guest::{Guest, OUTPUTS_AT, parse},
    package::Package,
    suite::{Case, Group},
    target::{Job, Ran, Upload},
};
use fuelbox_abi::pack_reply;
use std::time::Instant;

/// An endless loop.
const SPIN: &str = "(loop (br 0))";

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
            "nested blocks",
        )
    });
    add("a function with a million locals", |attempt| {
        let wasm = patched_locals(1_000_000);
        attempt.refused(&Package::module(wasm), "locals of one function")
    });
    add("a function with four thousand million locals", |attempt| {
        let wasm = patched_locals(u32::MAX);
        attempt.refused(&Package::module(wasm), "")
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
        taken_or_refused(attempt, &function.repeat(12))
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
        taken_or_refused(attempt, &format!("(func (param i32) {body})"))
    });
    add("a table of four thousand million elements", |attempt| {
        bomb(attempt, "(table 4294967295 funcref)", "table elements")
    });
    add("a hundred tables", |attempt| {
        taken_or_refused(attempt, &"(table 1000 funcref)".repeat(100))
    });
    add("four gigabytes of memory from the start", |attempt| {
        let guest = Guest { memory: "65536".into(), ..Guest::default() };
        attempt.refused(&Package::of(&guest), "bytes of initial memory")
    });
    add("growth beyond the limit, in steps", |attempt| {
        let run = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 100)) (i32.const -1))))";
        let model = attempt.open(&Guest::running(run))?;
        let inputs = [x(1.0)];
        let fuel = 1_000_000_000;
        let job = Job { memory_bytes: Some(64 << 20), ..plain(&model.name, &inputs, fuel) };
        let end = attempt.run(&job)?;
        // The step beyond the limit fails, and the guest goes on.
        ended(&end, "completed", "")?;
        Ok(format!("grown to its limit of 64 MiB, {} fuel", end.fuel))
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
            let said = attempt.refused(&package, "fuel")?;
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
            ..Guest::running(
                "(local.set 2 (i32.const 10000))
                 (i32.store (i32.const 600) (i32.const 608))
                 (loop (drop (call $host (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 512)))
                   (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))",
            )
        };
        let end = attempt.ends(&guest, "completed", "")?;
        Ok(format!("kept to its limit, {} fuel", end.fuel))
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
        let mut outputs = Guest::default().outputs;
        for byte in outputs.iter_mut().skip(8).take(8) {
            *byte = 0xff;
        }
        let guest = Guest {
            reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32)),
            outputs,
            ..Guest::default()
        };
        let end = attempt.ends(&guest, "bad_output", "")?;
        Ok(end.detail)
    });
    add("a name of a tensor that is all of memory", |attempt| {
        let mut signature = Guest::default().signature;
        let len = signature.len();
        for byte in signature.iter_mut().take(len - 8).skip(16) {
            *byte = 0xff;
        }
        let guest = Guest { signature, ..Guest::default() };
        attempt.refused(
            &Package { signature: Package::module(vec![]).signature, ..Package::of(&guest) },
            "",
        )
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
        Ok(format!("{refused} refused, {published} other models"))
    });
    add("sizes of inputs beyond the signature", |attempt| {
        let model = attempt.open(&Guest::default())?;
        let inputs = [crate::attempt::floats("x", &vec![1.0; 1 << 20])];
        match attempt.target().run(&plain(&model.name, &inputs, FUEL))? {
            Ran::Refused(refusal) => Ok(format!("refused: {}", refusal.text)),
            Ran::Ended(end) => Err(crate::target::Broken(format!("ran: {end:?}"))),
        }
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

/// More definitions that are within the limits: compiled in time, or refused in a sentence.
fn taken_or_refused(attempt: &mut Attempt<'_>, extra: &str) -> Held {
    let guest = Guest { extra: extra.into(), ..Guest::default() };
    let started = Instant::now();
    let upload = attempt.publish(&Package::of(&guest))?;
    let time = started.elapsed().as_millis();
    match upload {
        Upload::Refused(refusal) => {
            is_harmless(&refusal.text)?;
            Ok(format!("refused after {time} ms: {}", refusal.text))
        }
        Upload::Published(model) => {
            attempt.run_plain(&model, FUEL)?;
            Ok(format!("compiled and loaded in {time} ms"))
        }
    }
}

/// A guest whose first function claims so many locals of one type, which takes a few bytes to say.
fn patched_locals(count: u32) -> Vec<u8> {
    // A function of its own module: type () -> (), one body with one group of locals.
    let mut number = Vec::new();
    let mut rest = count;
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            number.push(byte);
            break;
        }
        number.push(byte | 0x80);
    }
    let mut body = vec![1];
    body.extend(&number);
    body.extend([0x7f, 0x0b]);
    let mut code = vec![1, body.len() as u8];
    code.extend(&body);
    let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
    wasm.push(code.len() as u8);
    wasm.extend(code);
    wasm
}
