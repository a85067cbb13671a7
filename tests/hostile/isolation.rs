//! What one job leaves must not be there for the next, however it ended.

use fuelbox_abi::pack_reply;
use fuelbox_engine::{Cancel, JobLimits, Options, ResetPolicy, Verdict};
use fuelbox_test_support::{
    guest::{Guest, OUTPUTS_AT},
    host::{Host, fp32},
};
use std::time::{Duration, Instant};

const PAGES: u32 = 40;

/// Ways to end, chosen by the input: number, instructions, verdict.
const ENDINGS: [(f32, &str, &str); 7] = [
    (1.0, "", "completed"),
    (2.0, "unreachable", "trap"),
    (3.0, "(drop (i32.load (i32.const -1)))", "trap"),
    (4.0, "(loop (br 0))", "out_of_fuel"),
    (5.0, "(return (i64.const 12345678))", "bad_output"),
    (6.0, "(call $deep)", "trap"),
    (7.0, "(loop (br 0))", "cancelled"),
];

/// A guest that finds out whether it starts pristine, writes a secret everywhere, grows, writes the
/// secret there too, changes its global, and ends as its input says. It answers 42 when it was
/// pristine, and traps with an integer overflow when it was not.
fn guest() -> Guest {
    let endings: String = ENDINGS
        .iter()
        .map(|(input, end, _)| {
            format!("(if (f32.eq (local.get 4) (f32.const {input})) (then {end}))\n")
        })
        .collect();
    let run = format!(
        "(local.set 4 (f32.load (i32.add (local.get 0) (i32.const 64))))
         ;; the image: zero from page 2 on, but for the marker and the request itself
         (local.set 2 (i32.const 131072))
         (loop
           (if (i64.ne (i64.load (local.get 2)) (i64.const 0)) (then (call $tainted)))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 8))) (i32.const {old_end}))))
         (if (i32.ne (i32.load (i32.const 512)) (i32.const 0x5eed)) (then (call $tainted)))
         (if (i32.ne (memory.size) (i32.const {PAGES})) (then (call $tainted)))
         (if (i32.ne (global.get $state) (i32.const 99)) (then (call $tainted)))
         (global.set $state (i32.const 666))
         (drop (memory.grow (i32.const 8)))
         ;; grown memory is zero
         (local.set 2 (i32.const {old_end}))
         (loop
           (if (i64.ne (i64.load (local.get 2)) (i64.const 0)) (then (call $tainted)))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 8))) (i32.const {new_end}))))
         ;; the secret, over everything but the reply
         (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 8192))
         (memory.fill (i32.const 16384) (i32.const 0xa5) (i32.sub (i32.const {new_end}) (i32.const 16384)))
         {endings}",
        old_end = PAGES * 65536,
        new_end = (PAGES + 8) * 65536,
    );
    let plain = Guest::default();
    Guest {
        load: "(i32.store (i32.const 512) (i32.const 0x5eed)) (global.set $state (i32.const 99))"
            .into(),
        run,
        reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, plain.outputs.len() as u32)),
        extra: "(func $deep (call $deep))
                (func $tainted (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))"
            .into(),
        memory: PAGES.to_string(),
        ..plain
    }
}

fn check(options: Options) {
    let wat = guest()
        .wat()
        .replace("(local i32 i32)\n    (local.set 4", "(local i32 i32 f32)\n    (local.set 4");
    let host = Host::fresh(options);
    let model = host.open(fuelbox_test_support::guest::parse(&wat)).unwrap();
    let limits = JobLimits { fuel: 50_000_000, ..JobLimits::default() };
    for round in 0..3 {
        for (input, _, expected) in ENDINGS {
            let inputs = [fp32("x", &[1], &[input])];
            let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
            let (limits, cancel) = if expected == "cancelled" {
                let soon = Instant::now() + Duration::from_millis(50);
                (JobLimits { fuel: u64::MAX / 2, ..limits }, Cancel::at(soon))
            } else {
                (limits, Cancel::default())
            };
            let outcome = prepared.run(&limits, 0, &cancel).unwrap();
            assert_eq!(outcome.verdict.name(), expected, "round {round}: {outcome:?}");
            let tainted = "integer overflow";
            let detail = outcome.verdict.detail().unwrap_or_default();
            assert!(!detail.contains(tainted), "round {round}, after {input}: {outcome:?}");
            assert_eq!(model.image().audit_slots(), (1, true), "round {round}, after {input}");
        }
    }
}

#[test]
fn slots_are_pristine_after_every_verdict_with_pagemap_scan() {
    check(Options { reset: ResetPolicy::Scan, ..Options::default() });
}

#[test]
fn slots_are_pristine_after_every_verdict_without_pagemap_scan() {
    check(Options { reset: ResetPolicy::Discard, ..Options::default() });
}

#[test]
fn jobs_side_by_side_do_not_see_each_other() {
    let wat = guest()
        .wat()
        .replace("(local i32 i32)\n    (local.set 4", "(local i32 i32 f32)\n    (local.set 4");
    let host = Host::fresh(Options::default());
    let model = host.open(fuelbox_test_support::guest::parse(&wat)).unwrap();
    let limits = JobLimits { fuel: 50_000_000, ..JobLimits::default() };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (model, limits) = (&model, &limits);
            scope.spawn(move || {
                for job in 0..10 {
                    let (input, _, expected) = ENDINGS[(thread + job) % 3];
                    let inputs = [fp32("x", &[1], &[input])];
                    let prepared = model.prepare(&inputs, &[], limits, limits).unwrap();
                    let outcome = prepared.run(limits, 0, &Cancel::default()).unwrap();
                    assert_eq!(outcome.verdict.name(), expected);
                    if let Verdict::Trap { detail, .. } = &outcome.verdict {
                        assert!(!detail.contains("integer overflow"), "{detail}");
                    }
                }
            });
        }
    });
    let (slots, pristine) = model.image().audit_slots();
    assert!(pristine && (1..=8).contains(&slots));
}
