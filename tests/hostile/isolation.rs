//! What one job leaves must not be there for the next, however it ended.

use fuelbox_attack::leftovers::{ENDINGS, TAINTED, guest};
use fuelbox_engine::{Cancel, JobLimits, Options, ResetPolicy, Verdict};
use fuelbox_test_support::host::{Host, fp32};
use std::time::{Duration, Instant};

fn check(options: Options) {
    let host = Host::fresh(options);
    let model = host.open(guest()).unwrap();
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
            let detail = outcome.verdict.detail().unwrap_or_default();
            assert!(!detail.contains(TAINTED), "round {round}, after {input}: {outcome:?}");
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
    let host = Host::fresh(Options::default());
    let model = host.open(guest()).unwrap();
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
                        assert!(!detail.contains(TAINTED), "{detail}");
                    }
                }
            });
        }
    });
    let (slots, pristine) = model.image().audit_slots();
    assert!(pristine && (1..=8).contains(&slots));
}
