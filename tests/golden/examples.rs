//! Outputs and fuel of the examples, to the bit: the same on every host of the same engine profile and
//! with the same prebuilt guests. When a change of either is meant, the new lines are in the failure.

use crate::flow::{
    cli::{fuelbox, json, root},
    packages::pack_digits_image,
};
use std::fs;

const PINNED: &str = include_str!("examples.txt");

/// Name, and the command that its README shows.
const EXAMPLES: [(&str, &str); 4] = [
    ("digits", "examples/digits/digits.onnx --input examples/digits/seven.npy"),
    ("wine", "examples/wine/wine.onnx --input examples/wine/sample.json"),
    ("encoder", "examples/encoder/encoder.onnx --input examples/encoder/tokens.npz"),
    ("digits-image", "PACKAGE --input examples/digits-image/seven.png"),
];

#[test]
fn outputs_and_fuel_of_the_examples_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let package = pack_digits_image(folder.path());
    let mut found = String::new();
    for (name, arguments) in EXAMPLES {
        let arguments = arguments.replace("PACKAGE", package.to_str().unwrap());
        let answer = json(&mut fuelbox(&format!("run --json {arguments}")), 0);
        let (load, run) = (&answer["fuel"]["load"], &answer["fuel"]["run"]);
        let (digest, memory) = (&answer["output_digest"], &answer["memory_bytes_peak"]);
        let digest = digest.as_str().unwrap();
        found += &format!("{name}: fuel {load} to load, {run} to run, memory {memory}, {digest}\n");
        let readme =
            fs::read_to_string(root().join("examples").join(name).join("README.md")).unwrap();
        for fuel in [load, run] {
            let fuel = grouped(&fuel.to_string());
            assert!(readme.contains(&fuel), "examples/{name}/README.md does not say {fuel}");
        }
    }
    assert_eq!(found, PINNED, "found:\n{found}");
}

/// `1234567` as `1,234,567`.
fn grouped(digits: &str) -> String {
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8(groups.join(&b',')).unwrap()
}
