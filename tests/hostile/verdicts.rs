//! Every verdict, at the limit and one past it, with the bill that goes with it.

use fuelbox_abi::{Dim, Envelope, Kind, Status, pack_reply};
use fuelbox_engine::{
    Cancel, GuestModule, JobLimits, Model, ModelError, Options, Outcome, Package, TrapKind, Usage,
    Verdict,
};
use fuelbox_test_support::{
    guest::{self, Guest, OUTPUTS_AT},
    host::{Host, fp32, run},
};
use std::time::{Duration, Instant};

const PAGE_BYTES: u64 = 64 << 10;

/// An endless loop.
const SPIN: &str = "(loop (br 0))";

/// Runs a guest and describes how it ended.
fn check(guest: &Guest, limits: JobLimits) -> String {
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    describe(&run(&model, &input(), &limits))
}

fn input() -> [fuelbox_engine::Tensor; 1] {
    [fp32("x", &[1], &[1.0])]
}

fn describe(outcome: &Outcome) -> String {
    let Usage { fuel, .. } = outcome.usage;
    match &outcome.verdict {
        Verdict::Completed { outputs, .. } => {
            format!("completed {:?}, fuel {fuel}", outputs[0].bytes)
        }
        verdict => {
            let detail = verdict.detail().unwrap_or_default();
            format!("{}: {detail}, fuel {fuel}", verdict.name())
        }
    }
}

/// What a byte of the request, and one of the reply, cost: there are 68 of each.
const REQUEST: u64 = 68;
const REPLY_BYTE: u64 = 4;
const MESSAGES: u64 = REQUEST + 68 * REPLY_BYTE;

fn fuel(fuel: u64) -> JobLimits {
    JobLimits { fuel, ..JobLimits::default() }
}

#[test]
fn completed_bills_the_fuel_used() {
    // `alloc`: one constant; `run`: two constants dropped, one constant: each costs 1, and each call
    // costs 1 for its function's entry; the messages, their bytes.
    let guest = Guest::running("(drop (i32.const 1)) (drop (i32.const 2))");
    assert_eq!(
        check(&guest, fuel(1000)),
        format!("completed [0, 0, 40, 66], fuel {}", 6 + MESSAGES)
    );
}

#[test]
fn fuel_at_the_limit_completes_and_one_less_is_out_of_fuel() {
    let guest = Guest::running("(drop (i32.const 1)) (drop (i32.const 2))");
    let model = Host::fresh(Options::default()).open(guest.wasm()).unwrap();
    let ended = |limit| describe(&run(&model, &input(), &fuel(limit)));
    let needed = 6 + MESSAGES;
    assert!(ended(needed).starts_with("completed"));
    for limit in 0..needed {
        assert_eq!(ended(limit), format!("out_of_fuel: all fuel was used, fuel {limit}"));
    }
}

#[test]
fn endless_loops_bill_the_limit() {
    for limit in [1, 1000, 25_000_000] {
        let expected = format!("out_of_fuel: all fuel was used, fuel {limit}");
        assert_eq!(check(&Guest::running(SPIN), fuel(limit)), expected);
    }
}

#[test]
fn guest_errors_bill_the_fuel_used_and_carry_the_guests_words() {
    let failure = Envelope::failure(Status::InvalidInput, "x is odd\x1b[2J");
    let guest = Guest { outputs: guest::encode(&failure), ..Guest::default() };
    let guest = Guest { reply: reply(OUTPUTS_AT, guest.outputs.len()), ..guest };
    assert_eq!(check(&guest, fuel(1000)), "guest_error: x is odd\\u{1b}[2J, fuel 328");
}

#[test]
fn unreachable_bills_the_fuel_used() {
    let text = "trap: wasm `unreachable` instruction executed, fuel ";
    let ended = check(&Guest::running("(drop (i32.const 1)) unreachable"), fuel(1000));
    assert!(ended.starts_with(text), "{ended}");
    let billed: u64 = ended.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(billed < REQUEST + 10, "{ended}");
}

#[test]
fn other_traps_bill_the_limit() {
    for (run, kind) in [
        ("(drop (i32.load (i32.const -4)))", TrapKind::MemoryOutOfBounds),
        ("(i32.store (i32.const 196608) (i32.const 1))", TrapKind::MemoryOutOfBounds),
        ("(drop (i32.load offset=4294967295 (i32.const -1)))", TrapKind::MemoryOutOfBounds),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", TrapKind::Arithmetic),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", TrapKind::Arithmetic),
        ("(call_indirect (i32.const 0))", TrapKind::BadCall),
        ("(call_indirect (i32.const 9))", TrapKind::BadCall),
        ("(call $deep)", TrapKind::StackOverflow),
    ] {
        let extra = "(table 1 funcref) (func $deep (call $deep))".into();
        let host = Host::fresh(Options::default());
        let model = host.open(Guest { extra, ..Guest::running(run) }.wasm()).unwrap();
        let outcome = self::run(&model, &input(), &fuel(50_000_000));
        let Verdict::Trap { kind: found, .. } = outcome.verdict else { panic!("{outcome:?}") };
        assert_eq!((found, outcome.usage.fuel), (kind, 50_000_000), "{run}");
        assert_eq!(outcome.verdict.replayable(), kind != TrapKind::StackOverflow);
    }
}

#[test]
fn last_byte_of_memory_is_the_guests_and_the_next_is_not() {
    let store = |at| Guest::running(&format!("(i32.store8 (i32.const {at}) (i32.const 1))"));
    let end = 3 * PAGE_BYTES;
    assert!(check(&store(end - 1), fuel(1000)).starts_with("completed"));
    assert!(check(&store(end), fuel(1000)).starts_with("trap: out of bounds memory access"));
}

#[test]
fn memory_grows_to_the_limit_and_not_past_it() {
    // Grows by two pages and fails when it may not.
    let guest = Guest::running(
        "(if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))",
    );
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    for (pages, ends) in [(5, "completed"), (4, "trap"), (3, "trap")] {
        let limits = JobLimits { memory_bytes: pages * PAGE_BYTES, ..fuel(10_000) };
        let outcome = run(&model, &input(), &limits);
        assert_eq!(outcome.verdict.name(), ends, "{pages} pages");
        let peak = if ends == "completed" { 5 } else { 3 };
        assert_eq!(outcome.usage.memory_bytes_peak, peak * PAGE_BYTES);
    }
    let limits = JobLimits { memory_bytes: 3 * PAGE_BYTES - 1, ..fuel(10_000) };
    let error = model.prepare(&input(), &[], &limits, &limits).unwrap_err().to_string();
    assert_eq!(
        error,
        "memory over limit: the loaded model takes 196608 bytes, the limit is 196607"
    );
}

#[test]
fn four_gib_are_the_most_that_any_guest_gets() {
    let guest = Guest::running(
        "(drop (memory.grow (i32.const 65533)))
         (i32.store (i32.const -4) (i32.const 1))
         (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))",
    );
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let outcome = run(&model, &input(), &fuel(1 << 32));
    assert_eq!(outcome.verdict.name(), "completed", "{outcome:?}");
    assert_eq!(outcome.usage.memory_bytes_peak, 4 << 30);
    assert_eq!(model.image().audit_slots(), (1, true));
}

#[test]
fn bad_outputs_bill_the_fuel_used() {
    let len = guest::outputs(42.0).len();
    // What cannot be read is not paid for.
    let unread = |detail: &str| detail.starts_with("reply of ") && !detail.contains("kind");
    for (reply_at, reply_len, detail) in [
        (OUTPUTS_AT, len - 1, "reply: tensor 0: offset 0 and length 4"),
        (OUTPUTS_AT, len + 1, "reply: 1 bytes too many"),
        (OUTPUTS_AT + 4, len - 4, "reply: message starts with"),
        (196_608 - 8, len, "reply of 68 bytes at 0x2fff8, the memory has 196608"),
        (u32::MAX, usize::MAX >> 32, "reply of 4294967295 bytes, allowed are 1073741824"),
        (0, 0, "reply: message has 0 bytes, at least 8 are needed"),
        (guest::SIGNATURE_AT, guest::signature(&[Dim::Fixed(1)]).len(), "reply of kind Signature"),
    ] {
        let guest = Guest { reply: reply(reply_at, reply_len), ..Guest::default() };
        let ended = check(&guest, fuel(1000));
        assert!(ended.starts_with(&format!("bad_output: {detail}")), "{ended}");
        let reply = if unread(detail) { 0 } else { reply_len as u64 * REPLY_BYTE };
        assert!(ended.ends_with(&format!(", fuel {}", 4 + REQUEST + reply)), "{ended}");
    }
}

#[test]
fn output_bytes_at_the_limit_pass_and_one_less_is_bad_output() {
    let len = guest::outputs(42.0).len() as u64;
    let limits = |output_bytes| JobLimits { output_bytes, ..fuel(1000) };
    assert!(check(&Guest::default(), limits(len)).starts_with("completed"));
    let ended = check(&Guest::default(), limits(len - 1));
    assert_eq!(
        ended,
        format!("bad_output: reply of {len} bytes, allowed are {}, fuel 72", len - 1)
    );
}

#[test]
fn outputs_that_break_the_signature_are_bad() {
    let envelope = Envelope::new(Kind::Outputs);
    let outputs = guest::encode(&envelope);
    let reply = reply(OUTPUTS_AT, outputs.len());
    let ended = check(&Guest { outputs, reply, ..Guest::default() }, fuel(1000));
    assert_eq!(ended, "bad_output: 0 outputs, the signature has 1, fuel 328");
}

#[test]
fn input_bytes_at_the_limit_pass_and_one_less_is_refused() {
    let host = Host::fresh(Options::default());
    let model = host.open(Guest::default().wasm()).unwrap();
    let prepare = |input_bytes| {
        let limits = JobLimits { input_bytes, ..fuel(1000) };
        model.prepare(&input(), &[], &limits, &limits).map(drop)
    };
    let len = 64 + 4; // header and padding, one FP32
    prepare(len).unwrap();
    let error = prepare(len - 1).unwrap_err();
    assert!(matches!(error, ModelError::InputTooLarge { found: 68, allowed: 67 }), "{error}");
}

#[test]
fn bad_pointers_from_alloc_are_bad_output() {
    for (alloc, detail) in [
        ("(i32.const 196544)", None),
        ("(i32.const 196608)", Some("fuelbox_alloc(68) gave 0x30000")),
        ("(i32.const -64)", Some("fuelbox_alloc(68) gave 0xffffffc0")),
        ("(i32.const 65540)", Some("fuelbox_alloc(68) gave 0x10004")),
        ("(i32.const 0)", None),
    ] {
        let host = Host::fresh(Options::default());
        // The load's request has no tensors and is 64 bytes long, the run's has 68.
        let alloc = alloc.to_owned();
        let ended = match host.open(Guest { alloc: alloc.clone(), ..Guest::default() }.wasm()) {
            Ok(model) => describe(&run(&model, &input(), &fuel(1000))),
            Err(ModelError::Load(outcome)) => describe(&outcome),
            Err(other) => panic!("{other}"),
        };
        match detail {
            Some(detail) => {
                let detail = detail.replace("(68)", "(64)");
                assert!(ended.replace("(68)", "(64)").contains(&detail), "{alloc}: {ended}");
            }
            None if alloc == "(i32.const 0)" => {
                assert!(
                    ended.starts_with("guest_error: request of 64 bytes: the guest has no"),
                    "{ended}"
                );
            }
            None => assert!(ended.contains("gave 0x2ffc0"), "{ended}"),
        }
    }
}

#[test]
fn cancelled_jobs_end_soon_and_bill_what_they_used() {
    let host = Host::fresh(Options::default());
    let model = host.open(Guest::running(SPIN).wasm()).unwrap();
    let limits = fuel(u64::MAX / 2);
    let inputs = input();
    let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
    // On a busy machine a short deadline may pass before the first instruction: then a longer one.
    let outcome = [20, 200, 2000, 20_000].map(Duration::from_millis).into_iter().find_map(|wait| {
        let outcome = prepared.run(&limits, 0, &Cancel::at(Instant::now() + wait)).unwrap();
        assert_eq!(outcome.verdict, Verdict::Cancelled);
        (outcome.usage.fuel > 0).then_some(outcome)
    });
    let outcome = outcome.expect("twenty seconds are enough for one instruction");
    assert!(outcome.usage.fuel < limits.fuel, "{outcome:?}");
    assert!(!outcome.verdict.replayable());
    // From another thread, and before the start.
    let cancel = Cancel::default();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| prepared.run(&limits, 0, &cancel).unwrap());
        cancel.cancel();
        assert_eq!(job.join().unwrap().verdict, Verdict::Cancelled);
    });
    assert_eq!(prepared.run(&limits, 0, &cancel).unwrap().usage.fuel, 0);
    assert_eq!(model.image().audit_slots(), (1, true));
}

/// Runs an endless job of a guest with a deadline.
pub(super) fn assert_deadline_acts(model: &Model) {
    // Enough fuel for many seconds even of writes, which take a hundred units and more in a nanosecond: a
    // deadline that does not act ends out of it.
    let limits = fuel(10_000_000_000_000);
    let inputs = input();
    let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
    let started = Instant::now();
    let cancel = Cancel::at(started + Duration::from_millis(200));
    let outcome = prepared.run(&limits, 0, &cancel).unwrap();
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    assert!(outcome.usage.fuel < limits.fuel, "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(model.image().audit_slots(), (1, true));
}

#[test]
fn deadlines_act_between_host_calls() {
    // Each of these takes fuel, which starts wasmtime's own interval anew.
    for (name, types, call) in [
        ("sched_yield", "(result i32)", "(call $host)"),
        // More than what is written at once, and more randomness than is made at once.
        (
            "fd_write",
            "(param i32 i32 i32 i32) (result i32)",
            "(i32.store (i32.const 604) (i32.const 196608))
             (call $host (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        (
            "random_get",
            "(param i32 i32) (result i32)",
            "(call $host (i32.const 65536) (i32.const 131072))",
        ),
    ] {
        let guest = Guest {
            imports: format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $host {types}))"#),
            ..Guest::running(&format!("(loop {call} drop (br 0))"))
        };
        let host = Host::fresh(Options::default());
        assert_deadline_acts(&host.open(guest.wasm()).unwrap());
    }
}

#[test]
fn deadlines_act_within_one_host_call() {
    // Two GiB of randomness take seconds.
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#.into(),
        ..Guest::running(
            "(drop (memory.grow (i32.const 32765)))
             (loop (drop (call $random (i32.const 0) (i32.const -2147483648))) (br 0))",
        )
    };
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let limits = fuel(20_000_000_000);
    let inputs = input();
    let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
    let cancel = Cancel::at(Instant::now() + Duration::from_millis(200));
    let outcome = prepared.run(&limits, 0, &cancel).unwrap();
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    // The first call alone would be twice 2^31.
    assert!(outcome.usage.fuel < 1 << 32, "{outcome:?}");
}

#[test]
fn writes_and_randomness_come_in_slices() {
    const SLICE: usize = 1 << 20;
    // A write takes a slice and says so; it is paid for alone.
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#.into(),
        extra: r#"(data (i32.const 600) "\00\00\00\00\01\00\08\00\00\00\00\00\00\00\10\00")"#.into(),
        memory: "32".into(),
        ..Guest::running(
            "(if (call $write (i32.const 1) (i32.const 600) (i32.const 2) (i32.const 512)) (then unreachable))
             (if (i32.ne (i32.load (i32.const 512)) (i32.const 1048576)) (then unreachable))",
        )
    };
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let outcome = run(&model, &input(), &fuel(16 << 20));
    assert_eq!(outcome.verdict.name(), "completed", "{outcome:?}");
    assert!(((8 << 20)..(8 << 20) + 800).contains(&outcome.usage.fuel), "{:?}", outcome.usage);
    // Randomness in one call is that of several.
    let random = |calls: &[(usize, usize)]| {
        let calls: String = calls
            .iter()
            .map(|(start, bytes)| {
                let (start, bytes) = (start + (1 << 20), bytes);
                format!(
                    "(if (call $random (i32.const {start}) (i32.const {bytes})) (then unreachable))"
                )
            })
            .collect();
        let guest = Guest {
            imports: r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#.into(),
            memory: "64".into(),
            run: format!(
                "{calls} (i32.store (i32.const {}) (i32.load (i32.const {})))",
                OUTPUTS_AT + 64,
                (1 << 20) + 2 * SLICE + 96,
            ),
            ..Guest::default()
        };
        let host = Host::fresh(Options::default());
        let model = host.open(guest.wasm()).unwrap();
        run(&model, &input(), &fuel(100_000_000))
    };
    let whole = random(&[(0, 2 * SLICE + 100)]);
    let parts = random(&[(0, 64), (64, SLICE), (SLICE + 64, SLICE + 36)]);
    assert_eq!(whole.verdict.name(), "completed", "{whole:?}");
    assert_eq!(whole.verdict, parts.verdict);
    let other = random(&[(0, 128), (64, SLICE), (SLICE + 64, SLICE + 36)]);
    assert_ne!(whole.verdict, other.verdict, "the number says which bytes were made");
}

#[test]
fn loads_fail_with_verdicts_too() {
    let load = |guest: Guest| -> String {
        let host = Host::fresh(Options::default());
        let package = Package { module: GuestModule::new(guest.wasm()), assets: Vec::new() };
        match Model::open(&host.engine, package, &fuel(1_000_000), || ()) {
            Err(ModelError::Load(outcome)) => {
                assert!(
                    host.engine.cache().list().unwrap().iter().all(|entry| entry.kind == "code")
                );
                describe(&outcome)
            }
            other => panic!("{:?}", other.map(drop)),
        }
    };
    let loading = |load: &str| Guest { load: load.into(), ..Guest::default() };
    assert!(load(loading("unreachable")).starts_with("trap: "));
    assert!(load(loading(SPIN)).starts_with("out_of_fuel"));
    assert!(
        load(loading("(return (i64.const 0))")).starts_with("bad_output: reply: message has 0")
    );
    let wrong_abi = Guest::default().wat().replace(
        "(i32.const 1))\n  (func (export \"fuelbox_alloc",
        "(i32.const 2))\n  (func (export \"fuelbox_alloc",
    );
    let host = Host::fresh(Options::default());
    let error = host.open(guest::parse(&wrong_abi)).map(drop).unwrap_err().to_string();
    assert!(error.contains("the guest speaks ABI version 2, this host 1"), "{error}");
}

#[test]
fn exit_is_a_trap_and_bills_the_fuel_used() {
    let imports =
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#.into();
    let ended =
        check(&Guest { imports, ..Guest::running("(call $exit (i32.const 3))") }, fuel(1000));
    assert!(ended.starts_with("trap: the guest called proc_exit(3), fuel "), "{ended}");
    assert!(!ended.ends_with("fuel 1000"), "{ended}");
}

#[test]
fn seeds_decide_randomness_and_clocks_stand_still() {
    let guest = Guest {
        imports: r#"
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))"#
            .into(),
        // The last four bytes of the reply are the output.
        run: format!(
            "(drop (call $random (i32.const {}) (i32.const 4)))
             (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 512)))
             (if (i64.ne (i64.load (i32.const 512)) (i64.const 1735689600000000000)) (then unreachable))
             (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 512)))
             (if (i64.ne (i64.load (i32.const 512)) (i64.const 0)) (then unreachable))",
            OUTPUTS_AT + 64
        ),
        ..Guest::default()
    };
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let limits = fuel(10_000);
    let inputs = input();
    let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
    let job = |seed| prepared.run(&limits, seed, &Cancel::default()).unwrap();
    let (first, again, other) = (job(1), job(1), job(2));
    assert_eq!(first.verdict.name(), "completed", "{first:?}");
    assert_eq!(first, again);
    assert_ne!(first.verdict, other.verdict);
    assert_eq!(first.usage, other.usage);
}

#[test]
fn wasi_work_is_paid_for_before_it_is_done() {
    // Randomness for all of memory, with fuel for almost all of it.
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#.into(),
        ..Guest::running("(drop (call $random (i32.const 0) (i32.const 1048576)))")
    };
    let guest = Guest { memory: "16".into(), ..guest };
    let needed = 2 * (1 << 20);
    assert!(check(&guest, fuel(needed)).starts_with("out_of_fuel"));
    // With enough fuel it overwrites its own reply.
    assert!(check(&guest, fuel(needed + 1000)).starts_with("bad_output"));
}

#[test]
fn logs_are_kept_to_their_limit() {
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#.into(),
        extra: r#"(data (i32.const 600) "\60\02\00\00\0a\00\00\00abcdefghi\n")"#.into(),
        ..Guest::running(
            "(local.set 2 (i32.const 10))
             (i32.store (i32.const 600) (i32.const 608))
             (loop (drop (call $write (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 512)))
               (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))",
        )
    };
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let log = |log_bytes| run(&model, &input(), &JobLimits { log_bytes, ..fuel(100_000) }).log;
    assert_eq!(log(100), "abcdefghi\n".repeat(10));
    assert_eq!(
        log(99),
        format!(
            "{}\n[1 bytes of log dropped]\n{}",
            &"abcdefghi\n".repeat(5)[..49],
            "abcdefghi\n".repeat(5)
        )
    );
}

#[test]
fn wasi_calls_with_bad_pointers_are_traps_and_are_billed() {
    const MEMORY: i64 = 3 * PAGE_BYTES as i64;
    let mut traps = 0;
    for (module, name, kind) in fuelbox_engine::allowed_imports() {
        if module != "wasi_snapshot_preview1" {
            continue;
        }
        let (parameters, result) = kind.split_once(" -> ").unwrap();
        let parameters = parameters.trim_matches(['(', ')']).replace(',', "");
        let import = format!("(func $host (param {parameters}) (result i32))");
        let import = match result {
            "()" => import.replace(" (result i32)", ""),
            _ => import,
        };
        for bad in [0, 1, MEMORY - 4, MEMORY - 1, MEMORY, i32::MAX.into(), -1, -4, -8] {
            let arguments = parameters.split(' ').filter(|kind| !kind.is_empty());
            let arguments: String = arguments.map(|kind| format!("({kind}.const {bad})")).collect();
            let call = format!("(call $host {arguments})");
            let call = if result == "()" { call } else { format!("(drop {call})") };
            let guest = Guest {
                imports: format!(r#"(import "{module}" "{name}" {import})"#),
                ..Guest::running(&format!("(drop (i32.const 1)) {call}"))
            };
            let host = Host::fresh(Options::default());
            let model = host.open(guest.wasm()).unwrap();
            // A fault of the host would be an error here, and a job without a bill.
            let outcome = run(&model, &input(), &fuel(1_000_000));
            if let Verdict::Trap { kind: TrapKind::Wasi, detail } = &outcome.verdict {
                assert!(detail.starts_with(&format!("WASI call {name}: ")), "{detail}");
                assert!(outcome.usage.fuel < 100_000, "{name}: {outcome:?}");
                assert!(outcome.verdict.replayable());
                traps += 1;
            }
            assert!(outcome.usage.fuel > 0, "{name}({bad}): {outcome:?}");
        }
    }
    assert!(traps > 20, "{traps}");
    // Lists of one vector, which are in order but for what it points at, and for where the result goes.
    for (name, descriptor) in [("fd_read", 0), ("fd_write", 1)] {
        let end = |vector: i64, result: i64| {
            let guest = Guest {
                imports: format!(
                    r#"(import "wasi_snapshot_preview1" "{name}" (func $host (param i32 i32 i32 i32) (result i32)))"#
                ),
                ..Guest::running(&format!(
                    "(i32.store (i32.const 600) (i32.const {vector}))
                     (i32.store (i32.const 604) (i32.const 16))
                     (if (call $host (i32.const {descriptor}) (i32.const 600) (i32.const 1) (i32.const {result}))
                       (then unreachable))"
                ))
            };
            check(&guest, fuel(1_000_000))
        };
        let good = end(640, 1200);
        assert!(good.starts_with("completed"), "{name}: {good}");
        for bad in [MEMORY, MEMORY + 4, i32::MAX.into(), -1, -4, -16] {
            for end in [end(bad, 1200), end(640, bad)] {
                assert!(end.starts_with(&format!("trap: WASI call {name}: ")), "{bad}: {end}");
            }
        }
        // Its last byte is outside.
        let end = end(MEMORY - 15, 1200);
        assert!(end.starts_with(&format!("trap: WASI call {name}: ")), "{end}");
    }
}

#[test]
fn more_vectors_than_any_system_takes_are_refused_without_work() {
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#.into(),
        ..Guest::running(
            "(if (i32.ne (call $write (i32.const 2) (i32.const 0) (i32.const 1025) (i32.const 512)) (i32.const 28)) (then unreachable))
             (if (i32.ne (call $write (i32.const 2) (i32.const 0) (i32.const -1) (i32.const 512)) (i32.const 28)) (then unreachable))",
        )
    };
    assert!(check(&guest, fuel(1000)).starts_with("completed"));
}

fn reply(at: u32, len: usize) -> String {
    format!("(i64.const {})", pack_reply(at, len as u32))
}
