//! The bytes of one message of each kind, pinned: what version 1 wrote stays readable, and is written
//! the same.
//!
//! A new golden file is written by `FUELBOX_BLESS=1 cargo test -p fuelbox-abi --test golden`. Changing
//! an old one means a new ABI version.

use fuelbox_abi::{
    DataType, Dim, Dims, Envelope, Kind, Message, Parameter, ParameterValue, Role, Shape, Status,
    TensorSpec, TensorView, push_string_element,
};
use std::{env, fs, path::Path};

fn tensor<'a>(name: &'a str, datatype: DataType, shape: &[u64], bytes: &'a [u8]) -> TensorView<'a> {
    TensorView { name, datatype, shape: Shape::new(shape).expect("rank"), bytes }
}

fn spec<'a>(
    role: Role,
    name: &'a str,
    datatype: DataType,
    dims: Option<&[Dim<'a>]>,
) -> TensorSpec<'a> {
    TensorSpec { role, name, datatype, dims: dims.map(|dims| Dims::new(dims).expect("rank")) }
}

fn check(file: &str, envelope: Envelope<'_>) {
    let bytes = envelope.encode().expect("within limits").to_vec();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if env::var_os("FUELBOX_BLESS").is_some() {
        fs::write(&path, &bytes).expect("written");
    }
    let golden = fs::read(&path).expect("a golden file");
    assert_eq!(golden, bytes, "{file}");
    let message = Message::decode(&golden).expect("still readable");
    assert_eq!(message.kind(), envelope.kind);
    assert_eq!(message.status(), envelope.status);
    assert_eq!(message.text(), envelope.text);
    assert_eq!(message.tensors().collect::<Vec<_>>(), envelope.tensors);
    assert_eq!(message.specs().collect::<Vec<_>>(), envelope.specs);
    assert_eq!(message.parameters().collect::<Vec<_>>(), envelope.parameters);
}

#[test]
fn every_kind_is_pinned() {
    let parameters = [
        Parameter { name: "sorted", value: ParameterValue::Bool(true) },
        Parameter { name: "top", value: ParameterValue::Int(-5) },
        Parameter { name: "threshold", value: ParameterValue::Float(0.25) },
        Parameter { name: "language", value: ParameterValue::String("mul") },
    ];
    check(
        "load.bin",
        Envelope {
            tensors: &[
                tensor("model.onnx", DataType::Uint8, &[5], b"bytes"),
                tensor("labels.txt", DataType::Uint8, &[9], b"zero\none\n"),
            ],
            specs: &[spec(
                Role::Input,
                "image",
                DataType::Fp32,
                Some(&[Dim::Fixed(1), Dim::Fixed(64)]),
            )],
            parameters: &parameters[..1],
            ..Envelope::new(Kind::Load)
        },
    );
    check(
        "signature.bin",
        Envelope {
            specs: &[
                spec(
                    Role::Input,
                    "image",
                    DataType::Fp32,
                    Some(&[Dim::Symbol("batch"), Dim::Fixed(64)]),
                ),
                spec(Role::Input, "anything", DataType::Bytes, None),
                spec(Role::Output, "scores", DataType::Fp64, Some(&[Dim::Any, Dim::Fixed(300)])),
            ],
            ..Envelope::new(Kind::Signature)
        },
    );
    let mut words = Vec::new();
    for word in [b"seven".as_slice(), b""] {
        push_string_element(&mut words, word).expect("short");
    }
    let numbers: Vec<u8> = (0..80).collect();
    check(
        "run.bin",
        Envelope {
            tensors: &[
                tensor("image", DataType::Fp32, &[1, 20], &numbers),
                tensor("words", DataType::Bytes, &[2], &words),
                tensor("scalar", DataType::Bool, &[], &[1]),
            ],
            parameters: &parameters,
            ..Envelope::new(Kind::Run)
        },
    );
    check(
        "outputs.bin",
        Envelope {
            tensors: &[
                tensor("empty", DataType::Int64, &[0, 3], &[]),
                tensor("half", DataType::Fp16, &[1], &[0, 60]),
            ],
            ..Envelope::new(Kind::Outputs)
        },
    );
    check(
        "failure.bin",
        Envelope::failure(Status::Unsupported, "operators that are not supported: Loop (1 node)"),
    );
}
