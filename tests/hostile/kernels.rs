//! Guests that call host kernels by hand: the defined result or a trap with a word, the same with all
//! instructions, and fuel is charged for both.
//!
//! What the results are is tested in `guest/kernels`; here it is that nothing of it hurts the host.

use fuelbox_attack::kernels::{
    BLOCK_AT, INPUT_WORDS, MEMORY_BYTES, NUMBERS_AT, data, good, guest, subnormal_steps, view,
};
use fuelbox_engine::{
    DataType, Isa, JobLimits, Model, Options, Outcome, Shape, Tensor, TrapKind, Verdict,
};
use fuelbox_kernels::{
    CALL_FUEL_MAX, Call, KERNEL_CALL_FUEL, Kernel, Map, Program, SUBNORMAL_FUEL, WORDS_MAX,
};
use fuelbox_test_support::{
    guest::{Guest, OUTPUTS_AT},
    host::{Host, fp32, run},
};
use std::time::{Duration, Instant};

/// The guest of a kernel on hosts with all instructions that this CPU has.
fn models(kernel: Kernel) -> Vec<(Host, Model)> {
    let models = Isa::available().map(|isa| {
        let host = Host::fresh(Options { kernels: Some(isa), ..Options::default() });
        let model = host.open(guest(kernel).wasm()).unwrap();
        (host, model)
    });
    models.collect()
}

/// Runs a call on all hosts, which agree.
fn call_at(models: &[(Host, Model)], address: u32, block: &[u32], limits: &JobLimits) -> Outcome {
    let mut words = vec![0; INPUT_WORDS];
    words[0] = address;
    words[1..=block.len()].copy_from_slice(block);
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let shape = Shape::new(&[INPUT_WORDS as u64]).unwrap();
    let input = [Tensor { name: "x".into(), datatype: DataType::Fp32, shape, bytes }];
    let mut outcomes = models.iter().map(|(_, model)| run(model, &input, limits));
    let first = outcomes.next().unwrap();
    outcomes.for_each(|outcome| assert_eq!(outcome, first, "{address:#x} {block:x?}"));
    first
}

fn call(models: &[(Host, Model)], block: &[u32]) -> Outcome {
    call_at(models, BLOCK_AT, block, &JobLimits::default())
}

/// What the checksum costs, all in all: a little more than what a job costs whose kernel does nothing.
const REST_FUEL_MAX: u64 = 1_000_000;

fn trapped(outcome: &Outcome) -> Option<&str> {
    match &outcome.verdict {
        Verdict::Trap { kind, detail } => {
            assert_eq!(*kind, TrapKind::Kernel, "{detail}");
            assert!(outcome.verdict.replayable());
            Some(detail)
        }
        _ => None,
    }
}

/// A size of a block without which there is no output.
fn none_of(kernel: Kernel) -> usize {
    match kernel {
        Kernel::Gemm => 2,       // m
        Kernel::Conv => 14,      // outputs
        Kernel::Depthwise => 13, // channels
        Kernel::Pool => 14,      // channels
        Kernel::Map => 4,
        Kernel::Rows => 7,
    }
}

#[test]
fn every_kernel_can_be_called() {
    for kernel in Kernel::ALL {
        let models = models(kernel);
        let done = call(&models, &good(kernel).write().unwrap());
        assert_eq!(done.verdict.name(), "completed", "{kernel:?} {done:?}");
        // A block of a size that is none: the call is done, and nothing is written.
        let mut nothing = good(kernel).write().unwrap();
        nothing[none_of(kernel)] = 0;
        let idle = call(&models, &nothing);
        assert_eq!(idle.verdict.name(), "completed", "{kernel:?} {idle:?}");
        assert_ne!(idle.verdict, done.verdict, "{kernel:?}: the call wrote something");
        assert!(idle.usage.fuel < done.usage.fuel, "{kernel:?}: work costs fuel");
    }
}

#[test]
fn blocks_are_read_where_they_may_be() {
    let models = models(Kernel::Map);
    let block = good(Kernel::Map).write().unwrap();
    let end = MEMORY_BYTES;
    let words = |count: u32| end - 4 * count;
    for (address, expected) in [
        // Zeros: no elements, so nothing to do.
        (0, None),
        (words(21), None),
        (words(20), Some("kernel map: parameters lie outside of memory")),
        (words(1), Some("kernel map: parameters lie outside of memory")),
        (end, Some("kernel map: parameters lie outside of memory")),
        (end + 4, Some("kernel map: parameters lie outside of memory")),
        (u32::MAX - 3, Some("kernel map: parameters lie outside of memory")),
        (end - 1, Some("kernel map: parameters are at 0x2ffff, multiples of 4 are allowed")),
        (u32::MAX, Some("kernel map: parameters are at 0xffffffff, multiples of 4 are allowed")),
        (BLOCK_AT + 1, Some("kernel map: parameters are at 0x10045, multiples of 4 are allowed")),
        (BLOCK_AT, None),
    ] {
        let outcome = call_at(&models, address, &block, &JobLimits::default());
        assert_eq!(trapped(&outcome), expected, "{address:#x}");
        let fuel = outcome.usage.fuel;
        assert!((KERNEL_CALL_FUEL..REST_FUEL_MAX).contains(&fuel), "{address:#x}: {fuel}");
    }
}

#[test]
fn every_word_of_every_block_may_be_anything() {
    let values = |word: u32| {
        [
            0,
            1,
            3,
            word.wrapping_add(1),
            word.wrapping_sub(1),
            word.wrapping_neg(),
            word ^ 0x100,
            MEMORY_BYTES - 4,
            MEMORY_BYTES,
            i32::MAX as u32,
            1 << 31,
            u32::MAX - 3,
            u32::MAX,
        ]
    };
    for kernel in Kernel::ALL {
        let models = models(kernel);
        let block = good(kernel).write().unwrap();
        let mut refused = 0;
        for (index, word) in block.iter().enumerate() {
            for value in values(*word) {
                let mut block = block.clone();
                block[index] = value;
                let outcome = call(&models, &block);
                match trapped(&outcome) {
                    Some(detail) => {
                        assert!(detail.starts_with(&format!("kernel {}: ", kernel.name())));
                        // The fee, the message with the block, and what the guest did before.
                        let fuel = outcome.usage.fuel;
                        assert!(
                            (KERNEL_CALL_FUEL..KERNEL_CALL_FUEL + 1_200).contains(&fuel),
                            "{fuel}"
                        );
                        refused += 1;
                    }
                    None => {
                        // An output may well have landed on the reply.
                        let name = outcome.verdict.name();
                        assert!(matches!(name, "completed" | "bad_output"), "{outcome:?}");
                        let fuel = outcome.usage.fuel;
                        assert!(fuel < CALL_FUEL_MAX + REST_FUEL_MAX, "{fuel}");
                    }
                }
            }
        }
        assert!(refused > block.len(), "{kernel:?}: {refused} blocks refused");
        models.iter().for_each(|(_, model)| assert_eq!(model.image().audit_slots(), (1, true)));
    }
}

#[test]
fn all_words_may_be_the_same() {
    for kernel in Kernel::ALL {
        let models = models(kernel);
        for word in [0, 1, 2, 3, 4, 8, 16, 0x8000, 1 << 31, u32::MAX - 3, u32::MAX] {
            let outcome = call(&models, &[word; WORDS_MAX]);
            let ended = trapped(&outcome).is_some() || outcome.verdict.name() == "completed";
            assert!(ended, "{kernel:?} {word:#x} {outcome:?}");
        }
    }
}

#[test]
fn empty_work_of_enormous_sizes_ends_at_once() {
    // One size is zero, all others are as large as they can be: nothing to do, and no loop to do it in.
    const HUGE: u32 = u32::MAX;
    for kernel in Kernel::ALL {
        let models = models(kernel);
        let sizes = match kernel {
            Kernel::Gemm => vec![0, 1, 2, 3, 4],
            Kernel::Conv => (0..5).chain([13, 14]).collect(),
            Kernel::Depthwise => (0..5).chain([13]).collect(),
            Kernel::Pool => (1..6).chain([14]).collect(),
            Kernel::Map => (0..6).collect(),
            Kernel::Rows => (2..8).collect(),
        };
        for none in &sizes {
            let mut block = good(kernel).write().unwrap();
            for size in &sizes {
                let window = matches!(kernel, Kernel::Conv | Kernel::Depthwise | Kernel::Pool);
                let first = usize::from(kernel == Kernel::Pool);
                let in_window = window && (first + 1..first + 5).contains(size);
                block[*size] = if in_window { 1 << 24 } else { HUGE };
            }
            block[*none] = 0;
            let started = Instant::now();
            let outcome = call(&models, &block);
            // A loop over any of the sizes takes hours.
            assert!(started.elapsed() < Duration::from_secs(20), "{kernel:?} {none}");
            let ended = trapped(&outcome).is_some() || outcome.verdict.name() == "completed";
            assert!(ended, "{kernel:?} {none} {outcome:?}");
        }
    }
}

#[test]
fn a_kernel_that_cannot_be_paid_for_is_not_done() {
    let models = models(Kernel::Gemm);
    let block = good(Kernel::Gemm).write().unwrap();
    let run = |fuel| {
        let limits = JobLimits { fuel, ..JobLimits::default() };
        call_at(&models, BLOCK_AT, &block, &limits)
    };
    let Verdict::Completed { .. } = run(REST_FUEL_MAX).verdict else { panic!() };
    for fuel in [KERNEL_CALL_FUEL - 1, KERNEL_CALL_FUEL, KERNEL_CALL_FUEL + 20] {
        let outcome = run(fuel);
        assert_eq!((outcome.verdict, outcome.usage.fuel), (Verdict::OutOfFuel, fuel));
    }
}

#[test]
fn a_call_costs_what_its_formula_says_on_top_of_the_fee() {
    // What the guest itself does, and the fee, are measured with a call of no elements.
    let models = models(Kernel::Map);
    let mut block = good(Kernel::Map).write().unwrap();
    let work = |block: &[u32]| {
        let call = Call::read(Kernel::Map, block).unwrap();
        call.check(MEMORY_BYTES as usize).unwrap().fuel()
    };
    let all = work(&block);
    let whole = call(&models, &block).usage.fuel;
    block[4] = 0;
    let idle = call(&models, &block).usage.fuel;
    // A program is paid for even then.
    assert!(all > work(&block));
    assert_eq!(whole - idle, all - work(&block));
}

#[test]
fn steps_on_subnormal_numbers_are_paid_for() {
    for kernel in [Kernel::Gemm, Kernel::Conv, Kernel::Depthwise] {
        let models = models(kernel);
        let good = good(kernel);
        let steps = subnormal_steps(&good);
        assert!(steps > 0, "{kernel:?}");
        let block = good.write().unwrap();
        let whole = call(&models, &block).usage.fuel;
        let mut nothing = block.clone();
        nothing[none_of(kernel)] = 0;
        let idle = call(&models, &nothing).usage.fuel;
        let work = |block: &[u32]| {
            let call = Call::read(kernel, block).unwrap();
            call.check(MEMORY_BYTES as usize).unwrap().fuel()
        };
        let more = work(&block) - work(&nothing) + steps * SUBNORMAL_FUEL;
        assert_eq!(whole - idle, more, "{kernel:?}");
        // Who cannot pay for the last of them has paid with all that there was.
        let limits = |fuel| JobLimits { fuel, ..JobLimits::default() };
        let outcome = call_at(&models, BLOCK_AT, &block, &limits(whole));
        assert_eq!(outcome.verdict.name(), "completed");
        for fuel in [more, more - 1, work(&block) + steps * SUBNORMAL_FUEL / 2] {
            let outcome = call_at(&models, BLOCK_AT, &block, &limits(fuel));
            assert_eq!((outcome.verdict, outcome.usage.fuel), (Verdict::OutOfFuel, fuel));
        }
    }
}

/// A guest that can call `map`, with a block that copies the first of the numbers to the second.
fn copying() -> Guest {
    let dims = [1; 6];
    let copy = Map { dims, input: view(0, dims), out: view(1, dims), program: Program::default() };
    let block = data(Call::Map(copy).write().unwrap());
    Guest {
        imports: r#"(import "fuelbox_kernels" "map" (func $kernel (param i32)))"#.into(),
        extra: format!(
            r#"(data (i32.const 16384) "{block}") (data (i32.const {NUMBERS_AT}) "{}")"#,
            data([10f32.to_bits()])
        ),
        ..Guest::default()
    }
}

#[test]
fn deadlines_act_between_kernel_calls() {
    let run = "(loop (call $kernel (i32.const 16384)) (br 0))".into();
    let host = Host::fresh(Options::default());
    let model = host.open(Guest { run, ..copying() }.wasm()).unwrap();
    super::verdicts::assert_deadline_acts(&model);
}

#[test]
fn kernels_work_while_a_model_is_loaded() {
    let guest = Guest {
        load: "(call $kernel (i32.const 16384))".into(),
        run: format!(
            "(f32.store (i32.const {}) (f32.load (i32.const {})))",
            OUTPUTS_AT + 64,
            NUMBERS_AT + 4
        ),
        ..copying()
    };
    let host = Host::fresh(Options::default());
    let model = host.open(guest.wasm()).unwrap();
    let outcome = run(&model, &[fp32("x", &[1], &[1.0])], &JobLimits::default());
    let Verdict::Completed { outputs, .. } = outcome.verdict else { panic!("{outcome:?}") };
    assert_eq!(outputs[0].bytes, 10f32.to_le_bytes());
}
