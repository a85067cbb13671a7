//! The request bodies that Triton's own client makes (`tests/triton/README.md`).

#![allow(clippy::unwrap_used)]

mod common;

use common::{limits, signature, tensor};
use fuelbox_engine::{DataType, OwnedParameter, OwnedValue, Tensor};
use fuelbox_oip::{OipError, Request, RequestedOutput};
use std::{fs, path::Path};

/// Reads the fixture of this name, with the length of JSON that is in it.
fn read(file: &str) -> Result<Request, OipError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triton");
    let body = fs::read(folder.join(file)).unwrap();
    let json_bytes = file.split('.').nth(1).unwrap().parse().ok();
    Request::decode(&body, json_bytes, &signature(), &limits())
}

fn singles(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn tensors_are_what_numpy_had() {
    let x = || tensor("x", DataType::Fp32, &[2, 2], &singles(&[0.1, -2.5, f32::MAX, 0.0]));
    let halves =
        [1.0, -0.5, 65504.0].map(|value| half::f16::from_f32(value).to_le_bytes()).concat();
    let tenth = half::f16::from_f32(0.1).to_le_bytes();
    for (file, expected) in [
        (
            "binary.216.bin",
            vec![
                x(),
                tensor("y", DataType::Int64, &[2], &[1i64, -1].map(i64::to_le_bytes).concat()),
            ],
        ),
        ("json.json", vec![x(), tensor("y", DataType::Bool, &[2], &[1, 0])]),
        ("mixed.324.bin", vec![x(), tensor("y", DataType::Uint8, &[2], &[1, 255])]),
        (
            "bytes_binary.134.bin",
            vec![tensor("x", DataType::Bytes, &[3], b"\x02\0\0\0\xc3\xa4\x02\0\0\0\xff\0\0\0\0\0")],
        ),
        (
            "bytes_json.json",
            vec![tensor("x", DataType::Bytes, &[2, 1], b"\x04\0\0\0\xc3\xa4\"\n\x01\0\0\0b")],
        ),
        (
            "half.200.bin",
            vec![
                tensor("x", DataType::Fp16, &[3], &halves),
                tensor("y", DataType::Fp16, &[1], &tenth),
            ],
        ),
        (
            "empty.214.bin",
            vec![
                tensor("x", DataType::Fp64, &[0, 3], &[]),
                tensor("y", DataType::Bytes, &[0], &[]),
            ],
        ),
        ("settings.270.bin", vec![tensor("x", DataType::Int8, &[1], &[7])]),
    ] {
        let inputs: Vec<Tensor> = read(file).unwrap().inputs;
        assert_eq!(inputs, expected, "{file}");
    }
}

#[test]
fn outputs_are_wanted_as_the_client_says() {
    let all = read("binary.216.bin").unwrap().requested;
    assert_eq!((all.outputs.as_slice(), all.binary), (&[][..], true));
    let output = |name: &str, binary, classes| RequestedOutput {
        name: name.into(),
        binary: Some(binary),
        classes,
    };
    let two = read("mixed.324.bin").unwrap().requested;
    assert_eq!(two.outputs, [output("b", true, Some(3)), output("a", false, None)]);
    assert!(!two.binary);
}

#[test]
fn settings_keep_their_kind() {
    let request = read("settings.270.bin").unwrap();
    assert_eq!(request.id.as_deref(), Some("42"));
    let parameter = |name: &str, value| OwnedParameter { name: name.into(), value };
    assert_eq!(
        request.parameters,
        [
            parameter("name", OwnedValue::String("n".into())),
            parameter("on", OwnedValue::Bool(true)),
            parameter("priority", OwnedValue::Int(3)),
            parameter("scale", OwnedValue::Float(0.5)),
            parameter("sequence_end", OwnedValue::Bool(false)),
            parameter("sequence_id", OwnedValue::Int(9)),
            parameter("sequence_start", OwnedValue::Bool(true)),
            parameter("timeout", OwnedValue::Int(1000)),
            parameter("top", OwnedValue::Int(3)),
        ]
    );
}

#[test]
fn what_is_not_offered_is_refused() {
    for (file, expected) in [
        (
            "not_a_number.json",
            "request: NaN at line 1 column 66, JSON has no such number; binary data carries it",
        ),
        ("shared_memory.212.bin", "output 'a': shared memory is not offered; ask for binary data"),
        (
            "shared_memory_input.json",
            "input 'x': shared memory is not offered; send data or binary data",
        ),
    ] {
        assert_eq!(read(file).unwrap_err().to_string(), expected);
    }
}
