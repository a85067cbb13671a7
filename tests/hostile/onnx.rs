//! Model files that the stock guest refuses, in words that help their publisher.

use fuelbox_engine::{JobLimits, Model, Verdict};
use fuelbox_engine::{ModelError, Options};
use fuelbox_test_support::{
    host::{Host, fp32, onnx_package},
    onnx,
};

/// What the stock guest says of a model, as the host passes it on.
fn refusal(file: Vec<u8>) -> String {
    let host = Host::shared(Options::default());
    let limits = JobLimits { fuel: 5_000_000_000, ..JobLimits::default() };
    match Model::open(&host.engine, onnx_package(file), &limits, || ()) {
        Err(error @ ModelError::Load(_)) => {
            assert!(!error.is_host_fault());
            let message = error.to_string();
            assert_eq!(message.lines().count(), 1, "{message}");
            message
        }
        other => panic!("{:?}", other.map(drop)),
    }
}

fn check(file: Vec<u8>, expected: &[&str]) {
    let found = refusal(file);
    assert!(found.starts_with("the guest did not load the model: guest_error: "), "{found}");
    for expected in expected {
        assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
    }
}

#[test]
fn unknown_operators_are_all_named_at_once() {
    check(onnx::unknown_operators(), &onnx::UNKNOWN_OPERATORS);
}

#[test]
fn external_data_is_refused_by_name() {
    check(onnx::external_data(), &[onnx::EXTERNAL_FILE]);
}

#[test]
fn absurd_dimensions_are_refused() {
    check(onnx::absurd_weight(&[1 << 40]), &["1099511627776"]);
    check(onnx::absurd_weight(&[1 << 32, 1 << 32]), &["4294967296"]);
    check(onnx::absurd_weight(&[-1]), &["-1"]);
}

#[test]
fn missing_inputs_are_named() {
    check(onnx::missing_input(), &["nowhere"]);
}

#[test]
fn graphs_without_anything_are_refused() {
    check(onnx::empty_graph(), &[]);
    check(Vec::new(), &[]);
    check(b"not a model".to_vec(), &[]);
}

#[test]
fn a_huge_input_ends_the_load_or_the_job_and_not_the_host() {
    let host = Host::shared(Options::default());
    match host.open_onnx(onnx::absurd_input("1099511627776")) {
        Ok(model) => {
            let limits = JobLimits::default();
            let inputs = [fp32("x", &[1], &[1.0])];
            model.prepare(&inputs, &[], &limits, &limits).map(drop).unwrap_err();
        }
        Err(error) => assert!(!error.is_host_fault(), "{error}"),
    }
}

#[test]
fn cut_models_are_refused_or_fail_as_the_guests_doing() {
    let model = onnx::mlp(&[8, 4, 2]);
    let host = Host::shared(Options::default());
    for len in (0..model.len()).step_by(model.len() / 40) {
        let limits = JobLimits { fuel: 1_000_000_000, ..JobLimits::default() };
        match Model::open(&host.engine, onnx_package(model[..len].to_vec()), &limits, || ()) {
            Err(ModelError::Load(outcome)) => {
                assert!(!matches!(outcome.verdict, Verdict::Completed { .. }), "cut at {len}");
            }
            other => panic!("cut at {len}: {:?}", other.map(drop).map_err(|e| e.to_string())),
        }
    }
}
