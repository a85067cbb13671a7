//! Memory and its price: pages at the start, growth, and what a large memory makes of a guest's own fuel.

use fuelbox_engine::{
    Codegen, DISTANCE_PAGES, JobLimits, Options, Outcome, PAGE_FUEL, PAGES_FREE, Tensor,
};
use fuelbox_test_support::{
    guest::Guest,
    host::{Host, fp32, run},
};

const PAGE_BYTES: u64 = 64 << 10;
/// A guest's own fuel between two looks at it.
const INTERVAL: u64 = fuelbox_engine::constants::CANCEL_INTERVAL_FUEL;

/// What the request, a byte 1, and the reply, a byte 4, cost: 68 bytes each.
const MESSAGES: u64 = 68 + 4 * 68;

fn input() -> [Tensor; 1] {
    [fp32("x", &[1], &[1.0])]
}

fn fuel(fuel: u64) -> JobLimits {
    JobLimits { fuel, ..JobLimits::default() }
}

/// How it ended, the fuel that was billed, and the pages at the peak.
fn ended(outcome: &Outcome) -> (&'static str, u64, u64) {
    (outcome.verdict.name(), outcome.usage.fuel, outcome.usage.memory_bytes_peak / PAGE_BYTES)
}

fn check(guest: &Guest, limits: JobLimits) -> (&'static str, u64, u64) {
    let model = Host::fresh(Options::default()).open(guest.wasm()).unwrap();
    ended(&run(&model, &input(), &limits))
}

fn with_pages(pages: u64, run: &str) -> Guest {
    Guest { memory: pages.to_string(), ..Guest::running(run) }
}

/// Asks for pages and goes on whatever the answer.
fn growing(pages: u64) -> String {
    format!("(drop (memory.grow (i32.const {pages})))")
}

/// So many turns of a loop.
fn turns(count: u64) -> String {
    format!(
        "(local.set 2 (i32.const {count}))
         (loop (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))"
    )
}

#[test]
fn pages_of_the_start_are_paid_for_by_whoever_runs() {
    let (_, base, _) = check(&with_pages(PAGES_FREE, ""), fuel(1_000));
    assert!(base < MESSAGES + 20, "{base}");
    let needed = PAGE_FUEL + base;
    let more = |limit| check(&with_pages(PAGES_FREE + 1, ""), fuel(limit));
    assert_eq!(more(needed), ("completed", needed, PAGES_FREE + 1));
    assert_eq!(more(PAGE_FUEL), ("out_of_fuel", PAGE_FUEL, PAGES_FREE + 1));
    assert_eq!(more(PAGE_FUEL - 1), ("out_of_fuel", PAGE_FUEL - 1, PAGES_FREE + 1));
    assert_eq!(more(5), ("out_of_fuel", 5, PAGES_FREE + 1));
}

#[test]
fn growth_that_cannot_be_paid_ends_the_job_before_there_is_a_page() {
    let grow = |pages, limit| check(&with_pages(PAGES_FREE, &growing(pages)), fuel(limit));
    // Up to what is free, a page costs what wasmtime takes for it.
    let small = check(&with_pages(PAGES_FREE - 3, &growing(3)), fuel(10_000));
    assert!(small.1 < 3 * 255 + 100 + MESSAGES, "{small:?}");
    for pages in [1, 2, 100] {
        let (verdict, used, peak) = grow(pages, 10_000_000);
        assert_eq!((verdict, peak), ("completed", PAGES_FREE + pages));
        let rest = used - pages * PAGE_FUEL - MESSAGES;
        // The guest's own fuel weighs more in the larger memory.
        let weighed = (pages * 255 + 100) * (DISTANCE_PAGES + pages) / DISTANCE_PAGES;
        assert!(rest > pages * 255 && rest < weighed, "{pages}: {rest}");
        assert_eq!(grow(pages, pages * PAGE_FUEL - 1).0, "out_of_fuel");
        assert_eq!(grow(pages, pages * PAGE_FUEL - 1).2, PAGES_FREE, "no page was given");
        assert_eq!(grow(pages, used).0, "completed");
        assert_eq!(grow(pages, used - 1), ("out_of_fuel", used - 1, PAGES_FREE + pages));
    }
    // A limit on memory is no question of fuel: the guest is told, and pays nothing for what it did not get.
    let limits = JobLimits { memory_bytes: PAGES_FREE * PAGE_BYTES, ..fuel(100_000) };
    let (verdict, used, peak) = check(&with_pages(PAGES_FREE, &growing(200)), limits);
    assert_eq!((verdict, peak), ("completed", PAGES_FREE));
    assert!(used < 200 * 255 + 100 + MESSAGES, "{used}");
    // Neither is the module's own maximum.
    let most = Guest { memory: format!("{PAGES_FREE} 100"), ..Guest::running(&growing(200)) };
    assert_eq!(check(&most, fuel(100_000)), ("completed", used, PAGES_FREE));
}

#[test]
fn own_fuel_weighs_by_the_size_of_memory() {
    let own = |pages| check(&with_pages(pages, &turns(10_000)), fuel(1 << 40)).1 - MESSAGES;
    let base = own(3);
    assert_eq!(own(PAGES_FREE), base);
    for (pages, times) in [(1, 2), (4, 5), (7, 8), (195, 8)]
        .map(|(steps, times)| (PAGES_FREE + steps * DISTANCE_PAGES, times))
    {
        let found = own(pages) - (pages - PAGES_FREE) * PAGE_FUEL;
        // Each settlement drops less than a unit.
        assert!((base * times - 10..=base * times).contains(&found), "{pages}: {found}, {base}");
    }
}

/// A guest that grows and then never calls the host cannot run for long on fuel that is due already.
#[test]
fn who_never_settles_ends_when_it_cannot_pay() {
    let pages = 8 * PAGES_FREE;
    let spin = format!("{} (loop (br 0))", growing(pages));
    let grown = pages * PAGE_FUEL;
    for limit in [grown + 1_000, grown + 3 * INTERVAL, grown + 40 * INTERVAL] {
        let guest = with_pages(PAGES_FREE, &spin);
        let found = check(&guest, fuel(limit));
        assert_eq!(found, ("out_of_fuel", limit, PAGES_FREE + pages));
    }
    // One that ends before somebody looks pays when it ends.
    let work = |limit| {
        let run = format!("{} {}", growing(pages), turns(10_000));
        check(&with_pages(PAGES_FREE, &run), fuel(limit))
    };
    let (verdict, needed, _) = work(1 << 40);
    assert_eq!(verdict, "completed");
    assert_eq!(work(needed).0, "completed");
    assert_eq!(work(needed - 1), ("out_of_fuel", needed - 1, PAGES_FREE + pages));
}

/// A trap in a large memory bills what it used, weighed, and never more than the limit.
#[test]
fn traps_are_weighed_as_well() {
    let trap = |limit| {
        let run = format!("{} {} unreachable", growing(8 * PAGES_FREE), turns(10_000));
        check(&with_pages(PAGES_FREE, &run), fuel(limit))
    };
    let (verdict, used, _) = trap(1 << 40);
    assert_eq!(verdict, "trap");
    assert!(used > 8 * PAGES_FREE * PAGE_FUEL + 8 * 10_000 * 4, "{used}");
    assert_eq!((trap(used).0, trap(used).1), ("trap", used));
    // What it did beyond its limit counts for nothing, a trap neither.
    for limit in [used - 1, 8 * PAGES_FREE * PAGE_FUEL + 100_000] {
        assert_eq!((trap(limit).0, trap(limit).1), ("out_of_fuel", limit));
    }
}

#[test]
fn loads_pay_for_pages_and_not_for_distance() {
    let host = Host::fresh(Options::default());
    let load = |pages: u64, load: String| {
        let guest = Guest { load, memory: pages.to_string(), ..Guest::default() };
        host.open(guest.wasm()).unwrap().image().load_usage().fuel
    };
    let base = load(3, turns(10_000));
    assert!(base > 10_000 * 5);
    let pages = 10 * PAGES_FREE;
    assert_eq!(load(pages, turns(10_000)), base + (pages - PAGES_FREE) * PAGE_FUEL);
    let grown = load(PAGES_FREE, format!("{} {}", growing(100), turns(10_000)));
    let rest = grown - base - 100 * PAGE_FUEL;
    assert!(rest > 100 * 255 && rest < 100 * 255 + 100, "{rest}");
}

/// Settlements are at the same places whatever the code is made of.
#[test]
fn another_compiler_counts_the_same() {
    let run = format!(
        "{} {} {} (drop (call $yield)) {}",
        turns(5_000),
        growing(100),
        turns(700_000),
        turns(5_000)
    );
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))"#
            .into(),
        memory: "90".into(),
        ..Guest::running(&run)
    };
    let found: Vec<_> = [Codegen::Native, Codegen::Pulley]
        .into_iter()
        .map(|codegen| {
            let host = Host::fresh(Options { codegen, ..Options::default() });
            let model = host.open(guest.wasm()).unwrap();
            let whole = ended(&run_with(&model, fuel(1 << 40)));
            let needed = whole.1;
            [
                whole,
                ended(&run_with(&model, fuel(needed - 1))),
                ended(&run_with(&model, fuel(needed / 2))),
            ]
        })
        .collect();
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0][0].0, "completed");
    assert_eq!(found[0][1].0, "out_of_fuel");
}

fn run_with(model: &fuelbox_engine::Model, limits: JobLimits) -> Outcome {
    run(model, &input(), &limits)
}
