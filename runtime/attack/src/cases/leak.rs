//! What others left in memory, what the host knows, and words that do something to whoever reads them.

use super::{TWO, VECTORS, wasi};
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, is_harmless, plain, x},
    guest::{Guest, OUTPUTS_AT, encode},
    leftovers::{self, ENDINGS, FAILURE, TAINTED},
    package::Package,
    suite::{Case, Group},
    target::{Broken, End, Job, Published, Ran},
};
use fuelbox_abi::{Envelope, Status, pack_reply};
use fuelbox_engine::is_active;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // One case is about those that are cancelled; a failure in the guest's own words comes in between
    // in all of them.
    for (input, _, verdict) in ENDINGS
        .into_iter()
        .filter(|(input, _, verdict)| *verdict != "cancelled" && *input != FAILURE)
    {
        let name = format!("what a job left that ended as {verdict} ({input})");
        cases.push(Case::new(Group::Leak, name, move |attempt| {
            let model = attempt.open_package(&Package::module(leftovers::guest()))?;
            for value in [input, 1.0, input, FAILURE, input, 1.0] {
                look(attempt, &model, value)?;
            }
            Ok("the next job found its image, and nothing else".into())
        }));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Leak, name, attack));
    };
    add("what a cancelled job left", |attempt| {
        let model = attempt.open_package(&Package::module(leftovers::guest()))?;
        let mut cancelled = 0;
        // One whose deadline passed while it waited did not run.
        for _ in 0..10 {
            let inputs = [x(7.0)];
            let job = Job { deadline_ms: Some(200), ..plain(&model.name, &inputs, 10_000_000_000) };
            match attempt.target().run(&job)? {
                Ran::Ended(end) => {
                    ended(&end, "cancelled", "")?;
                    cancelled += 1;
                }
                Ran::Refused(refusal) => ensure(refusal.code == "deadline", || refusal.text)?,
            }
            look(attempt, &model, 1.0)?;
            if cancelled == 3 {
                return Ok("the next job found its image, and nothing else".into());
            }
        }
        Err(Broken(format!("{cancelled} of 10 jobs ran until their deadline")))
    });
    add("what another model left", |attempt| {
        let first = attempt.open_package(&Package::module(leftovers::guest()))?;
        look(attempt, &first, 1.0)?;
        // The same instructions, and another module: what it has of its own is a custom section.
        let mut wasm = leftovers::guest();
        wasm.extend([0, 4, 1, b'x', b'y', b'z']);
        let second = attempt.open_package(&Package::module(wasm))?;
        look(attempt, &second, 1.0)?;
        look(attempt, &first, 1.0)?;
        Ok("each found its own image".into())
    });
    add("time, by every clock", |attempt| {
        // Both clocks, before and after some work; the outputs hold what was seen.
        let guest = |clock: u32| {
            Guest {
            imports: wasi("clock_time_get", "(param i32 i64 i32) (result i32)"),
            ..Guest::running(&format!(
                "(drop (call $host (i32.const {clock}) (i64.const 0) (i32.const 512)))
                 (local.set 2 (i32.const 2000000))
                 (loop (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))
                 (drop (call $host (i32.const {clock}) (i64.const 0) (i32.const 520)))
                 (if (i64.ne (i64.load (i32.const 512)) (i64.load (i32.const 520))) (then unreachable))
                 (i32.store (i32.const {at}) (i32.load (i32.const 520)))",
                at = OUTPUTS_AT + 64
            ))
        }
        };
        for clock in 0..4 {
            same_twice(attempt, &guest(clock))?;
        }
        Ok("every clock stands still".into())
    });
    add("randomness of other jobs", |attempt| {
        let guest = Guest {
            imports: wasi("random_get", TWO),
            ..Guest::running(&format!(
                "(drop (call $host (i32.const {}) (i32.const 4)))",
                OUTPUTS_AT + 64
            ))
        };
        same_twice(attempt, &guest)?;
        let model = attempt.open(&guest)?;
        let inputs = [x(1.0)];
        let seeded = |seed| Job { seed, ..plain(&model.name, &inputs, FUEL) };
        let (first, other) = (attempt.run(&seeded(1))?, attempt.run(&seeded(2))?);
        ensure(first.outputs != other.outputs, || "seeds 1 and 2 give the same".into())?;
        Ok("it comes from the job's seed alone".into())
    });
    add("arguments, environment and open files of the host", |attempt| {
        let guest = Guest {
            imports: r#"(import "wasi_snapshot_preview1" "environ_sizes_get" (func $env (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "fd_prestat_get" (func $pre (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))"#
                .into(),
            ..Guest::running(
                "(memory.fill (i32.const 512) (i32.const 255) (i32.const 16))
                 (drop (call $env (i32.const 512) (i32.const 516)))
                 (drop (call $args (i32.const 520) (i32.const 524)))
                 (if (i32.or (i32.or (i32.load (i32.const 512)) (i32.load (i32.const 516)))
                             (i32.or (i32.load (i32.const 520)) (i32.load (i32.const 524))))
                   (then unreachable))
                 (local.set 2 (i32.const 3))
                 (loop
                   (if (i32.eqz (call $pre (local.get 2) (i32.const 528))) (then unreachable))
                   (if (i32.eqz (call $stat (local.get 2) (i32.const 528))) (then unreachable))
                   (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (i32.const 100))))",
            )
        };
        attempt.ends(&guest, "completed", "")?;
        Ok("none".into())
    });
    add("paths of the host", |attempt| {
        let open = |at: u32, len: u32| {
            format!(
                "(if (i32.eqz (call $host (local.get 2) (i32.const 1) (i32.const {at}) (i32.const {len})
                     (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 512)))
                   (then unreachable))"
            )
        };
        let guest = Guest {
            imports: wasi(
                "path_open",
                "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
            ),
            // A folder itself, a file below it, and one above it.
            extra: r#"(data (i32.const 600) "./etc/passwd") (data (i32.const 616) "../etc/passwd")"#
                .into(),
            ..Guest::running(&format!(
                "(loop {} {} {}
                   (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (i32.const 64))))",
                open(600, 1),
                open(602, 10),
                open(616, 13)
            ))
        };
        attempt.ends(&guest, "completed", "")?;
        Ok("none opens".into())
    });
    add("terminal escapes in the words of a failure", |attempt| {
        let outputs = encode(&Envelope::failure(Status::Failed, ESCAPES));
        let reply = format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32));
        let guest = Guest { outputs, reply, ..Guest::default() };
        let end = attempt.ends(&guest, "guest_error", "[2J")?;
        is_harmless(&end.detail)?;
        Ok(end.detail)
    });
    add("terminal escapes in the log", |attempt| {
        let bytes: String = ESCAPES.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            extra: format!(
                r#"(data (i32.const 600) "\60\02\00\00\{:02x}\00\00\00{bytes}")"#,
                ESCAPES.len()
            ),
            ..Guest::running(
                "(drop (call $host (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 512)))",
            )
        };
        let printed = attempt.printed(&Package::of(&guest))?;
        let text = String::from_utf8_lossy(&printed);
        let control = text.chars().find(|char| is_active(*char) && *char != '\n');
        ensure(control.is_none(), || format!("{control:?} was printed"))?;
        ensure(text.contains("[2J"), || "the log was not printed".into())?;
        Ok("printed in words".into())
    });
    add("terminal escapes in names", |attempt| {
        let guest = Guest {
            imports: "(import \"wasi_snapshot_preview1\" \"a\\1b[2J\\0ab\" (func))".into(),
            ..Guest::default()
        };
        attempt.refused(&Package::of(&guest), "[2J")
    });
    add("whether another model is loaded, by fuel", |attempt| {
        // The first job of a model, one right after it, and one after another model's.
        let (guest, other) = (Guest::default(), Guest::running("(drop (i32.const 1))"));
        let (model, other) = (attempt.open(&guest)?, attempt.open(&other)?);
        let first = attempt.run_plain(&model, FUEL)?;
        let again = attempt.run_plain(&model, FUEL)?;
        attempt.run_plain(&other, FUEL)?;
        let later = attempt.run_plain(&model, FUEL)?;
        ensure(first == again && again == later, || format!("{first:?} {again:?} {later:?}"))?;
        Ok("the same fuel each time".into())
    });
    cases
}

/// Clears a screen, sets a title, and begins another line of a log.
const ESCAPES: &str = "\u{1b}[2J\u{1b}]0;gone\u{7}\r\nlevel=ERROR \u{9b}31m\u{202e}";

/// Runs a job of the nosy guest, which must find nothing.
fn look(attempt: &mut Attempt<'_>, model: &Published, value: f32) -> Result<End, Broken> {
    let inputs = [x(value)];
    let end = attempt.run(&plain(&model.name, &inputs, 60_000_000))?;
    ensure(!end.detail.contains(TAINTED), || format!("after {value}: {}", end.detail))?;
    let expected = ENDINGS.iter().find(|(input, _, _)| *input == value);
    ensure(expected.is_some_and(|(_, _, verdict)| *verdict == end.verdict), || {
        format!("{value}: {}: {}", end.verdict, end.detail)
    })?;
    Ok(end)
}

/// Runs a guest twice, which must come to the same.
fn same_twice(attempt: &mut Attempt<'_>, guest: &Guest) -> Result<End, Broken> {
    let model = attempt.open(guest)?;
    let (first, again) = (attempt.run_plain(&model, FUEL)?, attempt.run_plain(&model, FUEL)?);
    ended(&first, "completed", "")?;
    ensure(first == again, || format!("{first:?}, and again {again:?}"))?;
    Ok(first)
}
