//! Work without a bill: burn and then end in each way, bulk operations, kernels, growth.

use super::{TWO, VECTORS, wasi};
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, floats, plain, x},
    guest::{Guest, encode},
    kernels::{self, BLOCK_AT, INPUT_WORDS, good, subnormal_steps},
    package::Package,
    suite::{Case, Group},
    target::{Broken, Job, Ran},
};
use fuelbox_abi::{Envelope, Status, pack_reply};
use fuelbox_engine::{DISTANCE_MAX, DISTANCE_PAGES, PAGE_FUEL, PAGES_FREE};
use fuelbox_kernels::{
    Call, Conv, Depthwise, Gemm, KERNEL_CALL_FUEL, Kernel, Map, Pool, Rows, SUBNORMAL_FUEL, Window,
};

/// Rounds of [`burn`], and less than what they burn.
const ROUNDS: u32 = 1_000_000;
const BURNED: u64 = 5 * ROUNDS as u64;

/// Instructions that count down.
fn burn() -> String {
    format!(
        "(local.set 2 (i32.const {ROUNDS}))
         (loop $again
           (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
           (br_if $again (local.get 2)))"
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (how, end, verdict) in [
        ("an answer", "", "completed"),
        ("unreachable", "unreachable", "trap"),
        ("a load beyond memory", "(drop (i32.load (i32.const -1)))", "trap"),
        ("a division by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "trap"),
        ("an overflow of the stack", "(call $deep)", "trap"),
        ("an indirect call of nothing", "(call_indirect (i32.const 0))", "trap"),
        ("an exit", "(call $host (i32.const 3))", "trap"),
        ("an endless loop", "(loop (br 0))", "out_of_fuel"),
        ("a reply from nowhere", "(return (i64.const -1))", "bad_output"),
    ] {
        cases.push(Case::new(Group::FreeRide, format!("work, then {how}"), move |attempt| {
            let guest = Guest {
                imports: wasi("proc_exit", "(param i32)"),
                extra: "(table 1 funcref) (func $deep (call $deep))".into(),
                ..Guest::running(&format!("{}{end}", burn()))
            };
            let model = attempt.open(&guest)?;
            // Enough for the deepest stack.
            let end = attempt.run_plain(&model, 1_000_000_000)?;
            ended(&end, verdict, "")?;
            ensure(end.fuel >= BURNED, || format!("{} fuel for {BURNED}", end.fuel))?;
            Ok(format!("{}, {} fuel billed", end.verdict, end.fuel))
        }));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::FreeRide, name, attack));
    };
    add("work, then a failure in the guest's own words", |attempt| {
        let outputs = encode(&Envelope::failure(Status::Failed, "sorry"));
        let reply =
            format!("(i64.const {})", pack_reply(crate::guest::OUTPUTS_AT, outputs.len() as u32));
        let guest = Guest { outputs, reply, ..Guest::running(&burn()) };
        let end = attempt.ends(&guest, "guest_error", "sorry")?;
        ensure(end.fuel >= BURNED, || format!("{} fuel for {BURNED}", end.fuel))?;
        Ok(format!("{} fuel billed", end.fuel))
    });
    add("work, then a deadline", |attempt| {
        let model = attempt.open(&Guest::running(&format!("{}(loop (br 0))", burn())))?;
        let inputs = [x(1.0)];
        // A busy host may come to it too late for the work, or for any of it.
        for deadline_ms in [300, 1_000, 3_000] {
            let job = plain(&model.name, &inputs, 10_000_000_000);
            match attempt.run_or_not(&Job { deadline_ms: Some(deadline_ms), ..job })? {
                Ran::Ended(end) => {
                    ended(&end, "cancelled", "")?;
                    if end.fuel >= BURNED {
                        return Ok(format!("cancelled, {} fuel billed", end.fuel));
                    }
                }
                Ran::Refused(refusal) => ensure(refusal.code == "deadline", || refusal.text)?,
            }
        }
        Err(Broken(format!("never cancelled after {BURNED} fuel")))
    });
    add("work in a load that fails", |attempt| {
        let before = attempt.target().paid_micro()?;
        let guest = Guest { load: format!("{} unreachable", burn()), ..Guest::default() };
        attempt.refused(&Package::of(&guest), "unreachable")?;
        let paid = attempt.target().paid_micro()?.saturating_sub(before);
        ensure(paid > 0, || "nothing was paid".into())?;
        Ok(format!("refused, {paid} millionths of a credit paid"))
    });
    add("work in an allocator and in an initializer", |attempt| {
        let guest = Guest {
            extra: format!(
                "(func (export \"_initialize\") (local i32 i32 i32) {})
                 (func $burn (local i32 i32 i32) {})",
                burn(),
                burn()
            ),
            alloc: "(call $burn) (i32.const 65536)".into(),
            ..Guest::default()
        };
        let model = attempt.open(&guest)?;
        ensure(model.fuel >= 2 * BURNED, || format!("load of {} fuel", model.fuel))?;
        let end = attempt.run_plain(&model, FUEL)?;
        ensure(end.fuel >= BURNED, || format!("{} fuel", end.fuel))?;
        Ok(format!("load {}, job {} fuel", model.fuel, end.fuel))
    });
    add("work on the way back from calls within calls", |attempt| {
        const DEEP: u64 = 1_000;
        const PIECES: u64 = 500;
        let piece = "(local.set 1 (i32.mul (local.get 1) (i32.const 3)))"; // costs 5
        let extra = format!(
            "(func $deep (param $n i32) (local i32)
               (if (local.get $n) (then (call $deep (i32.sub (local.get $n) (i32.const 1)))))
               {})",
            piece.repeat(PIECES as usize)
        );
        let guest = Guest { extra, ..Guest::running(&format!("(call $deep (i32.const {DEEP}))")) };
        beyond(attempt, &guest, DEEP * PIECES * 5)
    });
    add("work in a straight line", |attempt| {
        const PIECES: u64 = 50_000;
        let piece = "(local.set 2 (i32.mul (local.get 2) (i32.const 3)))";
        beyond(attempt, &Guest::running(&piece.repeat(PIECES as usize)), PIECES * 5)
    });
    add("a reply that lies there from the start", |attempt| {
        const BYTES: u32 = 180_000;
        let reply = pack_reply(crate::guest::OUTPUTS_AT, BYTES);
        let guest = Guest { reply: format!("(i64.const {reply})"), ..Guest::default() };
        let end = attempt.ends(&guest, "bad_output", "bytes too many")?;
        let owed = 4 * u64::from(BYTES);
        ensure(end.fuel >= owed, || format!("{} fuel for {owed}", end.fuel))?;
        Ok(format!("{} fuel billed", end.fuel))
    });
    add("values that are computed before there is fuel", |attempt| {
        let extra = "(global i32 (i32.add (i32.const 1) (i32.const 2)))
            (table 1 funcref) (func $f) (elem (i32.add (i32.const 0) (i32.const 0)) func $f)";
        let package = Package::of(&Guest { extra: extra.into(), ..Guest::default() });
        attempt.refused(&package, "begins with a computed value")?;
        attempt.refused(&package, "active with a computed offset")
    });
    add("memory.fill of megabytes in one instruction", |attempt| {
        per_byte(attempt, "(memory.fill (i32.const 131072) (i32.const 1) (i32.const 4194304))")
    });
    add("memory.copy of megabytes in one instruction", |attempt| {
        per_byte(attempt, "(memory.copy (i32.const 131072) (i32.const 262144) (i32.const 4194304))")
    });
    add("bulk operations that are cut off by the end of memory", |attempt| {
        // What is asked for is paid for, also where it would end in a trap.
        let run = "(memory.fill (i32.const 131072) (i32.const 1) (i32.const -1))";
        let end = attempt.ends(&Guest::running(run), "out_of_fuel", "")?;
        Ok(format!("{} fuel billed", end.fuel))
    });
    add("growth, touch, and growth that fails", |attempt| {
        const GROWN: u64 = 512;
        const BYTES: u64 = 32 << 20;
        // Distance costs no more from here on.
        const { assert!(GROWN >= PAGES_FREE + DISTANCE_PAGES * DISTANCE_MAX) };
        // More than there can be: -1, and the job goes on.
        let run = format!(
            "(if (i32.ne (memory.grow (i32.const {GROWN})) (i32.const 3)) (then unreachable))
             (memory.fill (i32.const 196608) (i32.const 7) (i32.const {BYTES}))
             (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))"
        );
        let model = attempt.open(&Guest::running(&run))?;
        let end = attempt.run_plain(&model, 1_000_000_000)?;
        ended(&end, "completed", "")?;
        let pages = 3 + GROWN;
        let least = (pages - PAGES_FREE) * PAGE_FUEL + BYTES * DISTANCE_MAX;
        ensure(end.fuel >= least, || format!("{} fuel for 32 MiB, not {least}", end.fuel))?;
        Ok(format!("{} fuel for {pages} pages and 32 MiB", end.fuel))
    });
    for kernel in Kernel::ALL {
        cases.push(Case::new(
            Group::FreeRide,
            format!("{} of huge sizes", kernel.name()),
            move |attempt| huge(attempt, kernel),
        ));
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::FreeRide, name, attack));
    };
    add("a kernel that cannot be paid for", |attempt| {
        let model = attempt.open(&kernels::guest(Kernel::Gemm))?;
        let block = good(Kernel::Gemm).write().map_err(Broken::new)?;
        let input = [block_input(&block)];
        let end = attempt.run(&plain(&model.name, &input, 300))?;
        ended(&end, "out_of_fuel", "")?;
        ensure(end.fuel == 300, || format!("{} fuel", end.fuel))?;
        Ok("out_of_fuel before any work".into())
    });
    add("products of subnormal numbers", |attempt| {
        let model = attempt.open(&kernels::guest(Kernel::Gemm))?;
        let call = good(Kernel::Gemm);
        let steps = subnormal_steps(&call);
        let work = call.check(kernels::MEMORY_BYTES as usize).map_err(Broken::new)?.fuel();
        let input = [block_input(&call.write().map_err(Broken::new)?)];
        let end = attempt.run(&plain(&model.name, &input, FUEL))?;
        ended(&end, "completed", "")?;
        let least = work + steps * SUBNORMAL_FUEL;
        ensure(steps > 0 && end.fuel > least, || format!("{} fuel for {steps} steps", end.fuel))?;
        // Some of it can be paid, and all that there is is.
        let fuel = end.fuel - SUBNORMAL_FUEL * steps / 2;
        let end = attempt.run(&plain(&model.name, &input, fuel))?;
        ended(&end, "out_of_fuel", "")?;
        ensure(end.fuel == fuel, || format!("{} of {fuel} fuel", end.fuel))?;
        Ok(format!("{} fuel for {steps} steps", steps * SUBNORMAL_FUEL))
    });
    add("randomness that cannot be paid for", |attempt| {
        let guest = Guest {
            imports: wasi("random_get", TWO),
            memory: "64".into(),
            ..Guest::running("(drop (call $host (i32.const 0) (i32.const 4194304)))")
        };
        let model = attempt.open(&guest)?;
        let end = attempt.run_plain(&model, 1_000_000)?;
        ended(&end, "out_of_fuel", "")?;
        Ok(format!("{} fuel billed", end.fuel))
    });
    add("a thousand vectors of a megabyte in one write", |attempt| {
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            memory: "32".into(),
            ..Guest::running(
                "(local.set 2 (i32.const 1024))
                 (loop
                   (i32.store (i32.add (i32.const 16384) (i32.mul (local.get 2) (i32.const 8))) (i32.const 65536))
                   (i32.store (i32.add (i32.const 16388) (i32.mul (local.get 2) (i32.const 8))) (i32.const 1048576))
                   (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))
                 (drop (call $host (i32.const 1) (i32.const 16392) (i32.const 1024) (i32.const 512)))",
            )
        };
        let end = attempt.ends(&guest, "completed", "")?;
        ensure(end.fuel >= 1 << 20, || format!("{} fuel for a megabyte", end.fuel))?;
        Ok(format!("one slice written, {} fuel", end.fuel))
    });
    add("a job with less fuel than its entry costs", |attempt| {
        let model = attempt.open(&Guest::default())?;
        let end = attempt.run_plain(&model, 1)?;
        ended(&end, "out_of_fuel", "")?;
        ensure(end.fuel == 1, || format!("{} fuel", end.fuel))?;
        Ok("out_of_fuel, 1 billed".into())
    });
    add("a job with more fuel than anybody can pay", |attempt| {
        let model = attempt.open(&Guest::default())?;
        let inputs = [x(1.0)];
        let job = Job { fuel: u64::MAX, ..plain(&model.name, &inputs, 0) };
        match attempt.target().run(&job)? {
            Ran::Refused(refusal) => Ok(format!("refused: {}", refusal.text)),
            Ran::Ended(end) => Err(Broken(format!("ran: {end:?}"))),
        }
    });
    cases
}

/// Pages of the guests that work in bulk: distance costs no more from here on.
const BULK_PAGES: u64 = PAGES_FREE + DISTANCE_PAGES * (DISTANCE_MAX - 1);

/// Bulk operations cost by the byte, in a memory of which pages and distance cost besides.
fn per_byte(attempt: &mut Attempt<'_>, run: &str) -> Held {
    let guest = Guest { memory: BULK_PAGES.to_string(), ..Guest::running(run) };
    let model = attempt.open(&guest)?;
    let end = attempt.run_plain(&model, 100_000_000)?;
    ended(&end, "completed", "")?;
    let bytes = 4 << 20;
    let least = (BULK_PAGES - PAGES_FREE) * PAGE_FUEL + bytes * DISTANCE_MAX;
    ensure(end.fuel >= least, || format!("{} fuel for {bytes} bytes, not {least}", end.fuel))?;
    Ok(format!("{} fuel for {bytes} bytes", end.fuel))
}

/// Sizes of a call: how many of what there are.
fn sizes(call: &mut Call) -> Vec<&mut u32> {
    fn of_window(window: &mut Window) -> Vec<&mut u32> {
        let Window { images, input, output, kernel, stride: _, dilation: _, pad: _ } = window;
        let mut sizes = vec![images];
        sizes.extend(input.iter_mut().chain(output).chain(kernel));
        sizes
    }
    match call {
        Call::Gemm(Gemm { batch: [b0, b1], m, n, k, .. }) => vec![b0, b1, m, n, k],
        Call::Conv(Conv { window, channels, outputs, .. }) => {
            let mut sizes = of_window(window);
            sizes.extend([channels, outputs]);
            sizes
        }
        Call::Depthwise(Depthwise { window, channels, .. })
        | Call::Pool(Pool { window, channels, .. }) => {
            let mut sizes = of_window(window);
            sizes.push(channels);
            sizes
        }
        Call::Map(Map { dims, .. }) | Call::Rows(Rows { dims, .. }) => dims.iter_mut().collect(),
    }
}

/// What a kernel says of sizes that are too large: its arrays are not in memory, it is too much work, or a
/// window is larger than any.
const TOO_LARGE: [&str; 3] =
    ["lie outside of memory", "fuel found, at most 16777216 allowed", "found, up to 2^24"];

/// A kernel of which one size after the other, and then all, are huge: refused as a trap for its size, and
/// paid for being read.
fn huge(attempt: &mut Attempt<'_>, kernel: Kernel) -> Held {
    let model = attempt.open(&kernels::guest(kernel))?;
    let good = good(kernel);
    let count = sizes(&mut { good }).len();
    let mut traps = [0; TOO_LARGE.len()];
    // The least is more numbers than the guest has memory for.
    for huge in [1 << 16, 1 << 24, u32::MAX] {
        // The last round is all of them.
        for which in 0..=count {
            let mut call = good;
            for (index, size) in sizes(&mut call).into_iter().enumerate() {
                if index == which || which == count {
                    *size = huge;
                }
            }
            let block = call.write().map_err(Broken::new)?;
            // It is not for its form that the kernel refuses it.
            let read = Call::read(kernel, &block).map_err(Broken::new)?;
            ensure(read == call, || format!("{call:?} reads as {read:?}"))?;
            let input = [block_input(&block)];
            let end = attempt.run(&plain(&model.name, &input, FUEL))?;
            ended(&end, "trap", &format!("kernel {}: ", kernel.name()))?;
            let why = TOO_LARGE.iter().position(|words| end.detail.contains(words));
            let why = why.ok_or_else(|| Broken(format!("{}, and not for its size", end.detail)))?;
            traps[why] += 1;
            ensure((KERNEL_CALL_FUEL..FUEL).contains(&end.fuel), || format!("{} fuel", end.fuel))?;
        }
    }
    // One call alone may cost less than the limit, and there must be no way around its formula.
    let block = good.write().map_err(Broken::new)?;
    let checked = good.check(kernels::MEMORY_BYTES as usize).map_err(Broken::new)?;
    let input = [block_input(&block)];
    let end = attempt.run(&plain(&model.name, &input, FUEL))?;
    ended(&end, "completed", "")?;
    ensure(end.fuel > checked.fuel(), || format!("{} fuel for {}", end.fuel, checked.fuel()))?;
    let end = attempt.run(&plain(&model.name, &input, checked.fuel()))?;
    ended(&end, "out_of_fuel", "")?;
    let [outside, dear, window] = traps;
    Ok(format!(
        "{outside} refused as beyond memory, {} as too large; an honest call costs {}",
        dear + window,
        checked.fuel()
    ))
}

fn block_input(block: &[u32]) -> fuelbox_engine::Tensor {
    let mut words = vec![0.0; INPUT_WORDS];
    words[0] = f32::from_bits(BLOCK_AT);
    for (to, word) in words.iter_mut().skip(1).zip(block) {
        *to = f32::from_bits(*word);
    }
    floats("x", &words)
}

/// Runs a guest that does so much on half of the fuel that it takes, where it must not complete, and on enough.
fn beyond(attempt: &mut Attempt<'_>, guest: &Guest, work: u64) -> Held {
    let model = attempt.open(guest)?;
    ended(&attempt.run_plain(&model, work / 2)?, "out_of_fuel", "")?;
    let end = attempt.run_plain(&model, 2 * work)?;
    ended(&end, "completed", "")?;
    ensure(end.fuel >= work, || format!("{} fuel for {work}", end.fuel))?;
    Ok(format!("{} fuel billed", end.fuel))
}
