//! The eight families, small: every kind of host kernel gives the same bits and fuel, and they are
//! near what onnxruntime 1.31.1 gives on the same files (`families/NAME.f32`: all outputs' elements,
//! little-endian).

use fuelbox_engine::{Codegen, JobLimits, OptLevel, Options, Outcome, Verdict};
use fuelbox_kernels::Isa;
use fuelbox_test_support::{
    host::{Host, inputs, run},
    onnx::models,
};
use std::{fs, path::Path};

fn outcomes(options: Options) -> Vec<(&'static str, Outcome)> {
    let host = Host::shared(options);
    let each = models::small().map(|(name, sample)| {
        let model = host.open_onnx(sample.onnx.clone()).unwrap();
        (name, run(&model, &inputs(&sample), &JobLimits::default()))
    });
    each.collect()
}

fn elements(outcome: &Outcome) -> Vec<f32> {
    let Verdict::Completed { outputs, .. } = &outcome.verdict else { panic!("{outcome:?}") };
    let bytes = outputs.iter().flat_map(|output| output.bytes.chunks_exact(4));
    bytes.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn answers_are_those_of_another_runtime() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    for (name, outcome) in outcomes(Options::default()) {
        let file = folder.join("tests/golden/families").join(format!("{name}.f32"));
        let expected: Vec<f32> = fs::read(file)
            .unwrap()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let found = elements(&outcome);
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        assert!(largest > 0.01, "{name}: {largest}");
        for (found, expected) in found.iter().zip(&expected) {
            let off = (found - expected).abs();
            assert!(off <= 1e-4 * largest, "{name}: {found} found, {expected} expected");
        }
    }
}

#[test]
fn every_kind_of_kernel_and_code_gives_the_same_bits_and_fuel() {
    let first = outcomes(Options { kernels: Some(Isa::Portable), ..Options::default() });
    for isa in Isa::available() {
        let found = outcomes(Options { kernels: Some(isa), ..Options::default() });
        assert_eq!(found, first, "{}", isa.name());
    }
    for codegen in [Codegen::NativeAt(OptLevel::None), Codegen::Pulley] {
        let found = outcomes(Options { codegen, ..Options::default() });
        assert_eq!(found, first, "{codegen:?}");
    }
}
