//! Guests that go on when their fuel has ended, and hosts that work for nothing: what is between two looks,
//! behind calls within calls, and in messages.

use fuelbox_abi::pack_reply;
use fuelbox_engine::{Codegen, JobLimits, Options, Outcome, Verdict};
use fuelbox_test_support::{
    guest::{Guest, OUTPUTS_AT},
    host::{Host, fp32, run},
};

const CODEGENS: [Codegen; 2] = [Codegen::Native, Codegen::Pulley];

fn job(codegen: Codegen, guest: &Guest, fuel: u64) -> Outcome {
    let host = Host::fresh(Options { codegen, ..Options::default() });
    let model = host.open(guest.wasm()).unwrap();
    run(&model, &[fp32("x", &[1], &[1.0])], &JobLimits { fuel, ..JobLimits::default() })
}

/// Many pieces of work, one after the other.
fn work(pieces: usize) -> String {
    "(local.set 2 (i32.mul (local.get 2) (i32.const 3)))".repeat(pieces)
}

/// A thousand calls within calls, with work on the way back.
fn way_back(pieces: usize) -> Guest {
    let extra = format!(
        "(func $deep (param $n i32) (local i32 i32)
           (if (local.get $n) (then (call $deep (i32.sub (local.get $n) (i32.const 1)))))
           {})",
        work(pieces)
    );
    Guest { extra, ..Guest::running("(call $deep (i32.const 1000))") }
}

/// A job completes exactly when its usage is within its limit; with any less it is out of fuel, wherever it is
/// by then, and has used its limit.
#[test]
fn what_is_beyond_the_limit_is_out_of_fuel() {
    for codegen in CODEGENS {
        for guest in [
            Guest::default(),
            Guest::running(&work(5)),
            Guest::running(&work(50_000)),
            way_back(1),
            way_back(2),
            way_back(200),
            Guest::running("(drop (memory.grow (i32.const 1)))"),
        ] {
            let done = job(codegen, &guest, 1 << 40);
            assert_eq!(done.verdict.name(), "completed");
            let fuel = done.usage.fuel;
            assert_eq!(job(codegen, &guest, fuel).verdict, done.verdict);
            for less in [1, 2, 5, 8, 9, 100] {
                let ended = job(codegen, &guest, fuel - less);
                assert_eq!(ended.verdict, Verdict::OutOfFuel, "{fuel} - {less}");
                assert_eq!(ended.usage.fuel, fuel - less);
            }
        }
    }
}

/// A trap that comes when the fuel has ended already is no trap: with another limit it would cost more.
#[test]
fn a_trap_beyond_the_limit_is_out_of_fuel() {
    for codegen in CODEGENS {
        let guest = Guest::running(&format!("{} unreachable", work(100)));
        let trapped = job(codegen, &guest, 1 << 40);
        assert_eq!(trapped.verdict.name(), "trap");
        let fuel = trapped.usage.fuel;
        assert_eq!(job(codegen, &guest, fuel).verdict.name(), "trap");
        let ended = job(codegen, &guest, fuel - 1);
        assert_eq!((ended.verdict, ended.usage.fuel), (Verdict::OutOfFuel, fuel - 1));
    }
}

/// The whole way back costs what the same work costs anywhere.
#[test]
fn work_on_the_way_back_is_paid_for() {
    let fuel = |pieces| job(Codegen::Native, &way_back(pieces), 1 << 40).usage.fuel;
    // Five a piece.
    assert_eq!(fuel(201) - fuel(101), 1_001 * 100 * 5);
}

#[test]
fn a_reply_costs_by_the_byte_whatever_is_in_it() {
    let replying = |bytes: u32| Guest {
        reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, bytes)),
        ..Guest::default()
    };
    let ended = |bytes, fuel| job(Codegen::Native, &replying(bytes), fuel);
    let [small, large] = [1_000, 101_000].map(|bytes| ended(bytes, 1 << 40));
    assert_eq!((small.verdict.name(), large.verdict.name()), ("bad_output", "bad_output"));
    assert_eq!(large.usage.fuel - small.usage.fuel, 4 * 100_000);
    // It is not even looked at when it cannot be paid.
    let short = ended(101_000, large.usage.fuel - 1);
    assert_eq!(short.verdict, Verdict::OutOfFuel);
}

#[test]
fn a_request_costs_by_the_byte() {
    let guest = Guest {
        signature: fuelbox_test_support::guest::signature(&[fuelbox_abi::Dim::Symbol("n")]),
        ..Guest::default()
    };
    let model = Host::fresh(Options::default()).open(guest.wasm()).unwrap();
    let fuel = |length: usize, limit| {
        let input = [fp32("x", &[length as u64], &vec![1.0; length])];
        run(&model, &input, &JobLimits { fuel: limit, ..JobLimits::default() })
    };
    let [small, large] = [1_000, 11_000].map(|length| fuel(length, 1 << 40).usage.fuel);
    assert_eq!(large - small, 4 * 10_000);
    assert_eq!(fuel(11_000, 40_000).verdict, Verdict::OutOfFuel);
}

#[test]
fn a_printed_byte_costs_what_escaping_it_takes() {
    let printing = |bytes: u32| {
        Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))"#
            .into(),
        ..Guest::running(&format!(
            "(i32.store (i32.const 512) (i32.const 131072)) (i32.store (i32.const 516) (i32.const {bytes}))
             (drop (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 600)))"
        ))
    }
    };
    let [small, large] = [100, 60_100].map(|bytes| job(Codegen::Native, &printing(bytes), 1 << 40));
    assert_eq!(large.usage.fuel - small.usage.fuel, 8 * 60_000);
    assert!(large.log.len() >= 60_100, "{}", large.log.len());
}
