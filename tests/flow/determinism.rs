//! One job, one answer, one count of fuel: over many runs, threads, slots, compilers.

use fuelbox_engine::{
    Cancel, Codegen, Compiler, DataType, JobLimits, Model, OptLevel, Options, Outcome, ResetPolicy,
    Shape, Tensor, Verdict,
};
use fuelbox_test_support::host::{Host, fp32};
use std::{fs, path::Path};

/// A file of the examples.
pub(crate) fn example(path: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    fs::read(root.join("examples").join(path)).unwrap()
}

fn int64(name: &str, shape: &[u64], values: impl Iterator<Item = i64>) -> Tensor {
    let bytes = values.flat_map(i64::to_le_bytes).collect();
    let shape = Shape::new(shape).unwrap();
    Tensor { name: name.into(), datatype: DataType::Int64, shape, bytes }
}

/// The digits model with three drawings, and the encoder with two sentences.
fn jobs() -> [(Vec<u8>, Vec<Tensor>); 2] {
    let pixels: Vec<f32> = (0..3 * 64).map(|index| (index * 7 % 17) as f32).collect();
    let ids = (0..2 * 12).map(|index| (index * 37 + 1) % 512);
    let mask = (0..2 * 12).map(|index| i64::from(index % 12 < 9));
    [
        (example("digits/digits.onnx"), vec![fp32("image", &[3, 64], &pixels)]),
        (
            example("encoder/encoder.onnx"),
            vec![int64("input_ids", &[2, 12], ids), int64("attention_mask", &[2, 12], mask)],
        ),
    ]
}

fn run(model: &Model, inputs: &[Tensor]) -> Outcome {
    let limits = JobLimits::default();
    let prepared = model.prepare(inputs, &[], &limits, &limits).unwrap();
    prepared.run(&limits, 0, &Cancel::default()).unwrap()
}

fn assert_completed(outcome: &Outcome) {
    let Verdict::Completed { outputs, .. } = &outcome.verdict else { panic!("{outcome:?}") };
    let floats =
        outputs[0].bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    assert!(floats.clone().all(f32::is_finite), "{outputs:?}");
    assert!(floats.clone().any(|value| value != 0.0), "{outputs:?}");
}

#[test]
fn two_hundred_runs_and_eight_threads_agree() {
    let host = Host::shared(Options::default());
    for (onnx, inputs) in jobs() {
        let model = host.open_onnx(onnx).unwrap();
        let first = run(&model, &inputs); // a fresh slot
        assert_completed(&first);
        for _ in 0..200 {
            assert_eq!(run(&model, &inputs), first); // a reused one
        }
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..5).for_each(|_| assert_eq!(run(&model, &inputs), first)));
            }
        });
        let limits = JobLimits::default();
        let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
        let (slots, pristine) = prepared.image().audit_slots();
        assert!(pristine && slots >= 1, "{slots} slots");
    }
}

#[test]
fn compilers_and_the_interpreter_agree() {
    let outcomes = |codegen| {
        let host = Host::shared(Options { codegen, ..Options::default() });
        jobs().map(|(onnx, inputs)| {
            let model = host.open_onnx(onnx).unwrap();
            let limits = JobLimits::default();
            let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
            let image = (prepared.image().digest(), prepared.image().load_usage());
            (image, prepared.run(&limits, 0, &Cancel::default()).unwrap())
        })
    };
    let speed = outcomes(Codegen::Native);
    speed.iter().for_each(|(_, outcome)| assert_completed(outcome));
    assert_eq!(outcomes(Codegen::NativeAt(OptLevel::None)), speed, "unoptimised");
    assert_eq!(outcomes(Codegen::Pulley), speed, "interpreted");
}

#[test]
fn hosts_with_empty_caches_and_other_resets_agree() {
    let (onnx, inputs) = jobs().into_iter().next().unwrap();
    let warm = Host::shared(Options::default());
    let expected = run(&warm.open_onnx(onnx.clone()).unwrap(), &inputs);
    let options = Options {
        reset: ResetPolicy::Discard,
        compiler: Compiler::InProcess,
        slots_max: 0,
        ..Options::default()
    };
    let cold = Host::fresh(options);
    let model = cold.open_onnx(onnx).unwrap();
    assert_eq!(run(&model, &inputs), expected);
    assert_eq!(run(&model, &inputs), expected);
}
