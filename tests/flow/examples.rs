//! Every example gives the answer that stands beside it.

use super::cli::{fuelbox, json, root};
use npyz::NpyFile;
use serde_json::Value;
use std::{fs, io::Read};

/// Relative and absolute tolerance against the other runtime that made the expected outputs.
const TOLERANCE: f64 = 1e-4;

fn floats(answer: &Value, name: &str) -> Vec<f64> {
    let outputs = answer["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|output| output["name"] == name);
    let output = output.unwrap_or_else(|| panic!("no output {name} in {answer}"));
    output["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= TOLERANCE * (1.0 + expected.abs());
        assert!(close, "{what}[{index}]: found {found}, expected {expected}");
    }
}

#[test]
fn digits_sees_a_seven() {
    let run = "run --json examples/digits/digits.onnx --input";
    let answer = json(&mut fuelbox(&format!("{run} examples/digits/seven.npy")), 0);
    let probabilities = floats(&answer, "probabilities");
    let best = (0..10).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap();
    assert_eq!(best, 7);
    assert_close(&[probabilities.iter().sum()], &[1.0], "sum");
    // A batch gives each drawing the same answer as it gets alone, but for rounding.
    let batch = json(&mut fuelbox(&format!("{run} examples/digits/batch.npy")), 0);
    assert_eq!(batch["outputs"][0]["shape"], serde_json::json!([8, 10]));
}

#[test]
fn wine_names_its_cultivars() {
    let answer = json(
        &mut fuelbox("run --json examples/wine/wine.onnx --input examples/wine/sample.json"),
        0,
    );
    let expected = fs::read(root().join("examples/wine/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for name in ["label", "probabilities"] {
        assert_close(&floats(&answer, name), &floats(&expected, name), name);
    }
}

#[test]
fn encoder_embeds_its_sentences() {
    let answer = json(
        &mut fuelbox(
            "run --json examples/encoder/encoder.onnx --input examples/encoder/tokens.npz",
        ),
        0,
    );
    let file = fs::File::open(root().join("examples/encoder/expected.npz")).unwrap();
    let mut arrays = zip::ZipArchive::new(file).unwrap();
    for name in ["last_hidden_state", "sentence"] {
        let mut bytes = Vec::new();
        arrays.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        let expected: Vec<f32> = NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap();
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert_close(&floats(&answer, name), &expected, name);
    }
}
