//! The SDK without a host: a guest that brings its kernels gives the bits that the box gives with the
//! host's.
//!
//! Natively, the SDK makes kernel calls in its own process, as a guest without the feature
//! `host-kernels` does. So a guest needs not be built for Wasm to see that both ways of making a call
//! agree, on plans of all families. That the kernels themselves do not depend on what they are made of
//! is another test's (`guest/kernels/tests/results.rs`).

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use fuelbox_engine::{JobLimits, Options, Tensor, Verdict};
use fuelbox_sdk::{Shapes, tract::TractModel};
use fuelbox_test_support::{
    host::{Host, inputs, run},
    onnx::models::{self, Sample},
};

fn in_the_box(host: &Host, sample: &Sample) -> Vec<Tensor> {
    let model = host.open_onnx(sample.onnx.clone()).unwrap();
    match run(&model, &inputs(sample), &JobLimits::default()).verdict {
        Verdict::Completed { outputs, .. } => outputs,
        other => panic!("{other:?}"),
    }
}

fn in_this_process(sample: &Sample) -> Vec<Tensor> {
    let inputs = inputs(sample);
    let shapes = inputs
        .iter()
        .fold(Shapes::new(), |shapes, input| shapes.with(&*input.name, &input.shape).unwrap());
    let model = TractModel::from_onnx(sample.onnx.clone(), &shapes).unwrap();
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let outputs = model.run(&views).unwrap();
    let owned = outputs.tensors().map(|output| Tensor {
        name: output.name.into(),
        datatype: output.datatype,
        shape: output.shape,
        bytes: output.bytes.to_vec(),
    });
    owned.collect()
}

#[test]
fn kernels_of_ones_own_give_the_bits_of_the_box() {
    let host = Host::shared(Options::default());
    for (name, sample) in models::small() {
        let outputs = in_this_process(&sample);
        assert!(outputs.iter().any(|output| output.bytes.iter().any(|&byte| byte != 0)), "{name}");
        assert_eq!(outputs, in_the_box(&host, &sample), "{name}");
    }
}
