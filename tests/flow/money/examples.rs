//! Every example as a paid job, and an auditor elsewhere who runs each again from its receipt alone.

use super::Shop;
use crate::flow::cli::{check, fuelbox, json};

#[test]
fn every_example_is_replayed_by_a_stranger_with_an_empty_cache() {
    let shop = Shop { folder: tempfile::tempdir().unwrap() };
    shop.ok("account create alice --kind caller");
    shop.ok("account create acme --kind publisher");
    shop.ok("account top-up alice 1000");
    shop.ok("account top-up acme 1000");
    let examples = [
        ("digits", "examples/digits/digits.onnx", "examples/digits/seven.npy"),
        ("wine", "examples/wine/wine.onnx", "examples/wine/sample.json"),
        ("encoder", "examples/encoder/encoder.onnx", "examples/encoder/tokens.npz"),
        (
            "digits-image",
            "--guest digits-image --asset examples/digits/digits.onnx \
             --asset examples/digits/digits.labels.txt",
            "examples/digits-image/seven.png",
        ),
    ];
    for (name, model, input) in examples {
        let to = format!("-o {{}}/{name}.fbx --name {name} --version 1 --golden {input}");
        shop.ok(&format!("pack {model} {to}"));
        shop.ok(&format!("publish {{}}/{name}.fbx --account acme"));
        let submit = format!("submit {name} --account alice --input {input}");
        let answer = shop.json(&format!("{submit} --receipt {{}}/{name}.json"));
        assert_eq!(answer["verdict"], "completed", "{name}");
    }
    shop.ok("keys export -o {}/host.pem");
    // What the host gives out: packages, public keys, prices. And the callers' own inputs and receipts.
    let prices = shop.data().join("prices.json");
    let stranger = |arguments: &str| {
        let arguments = arguments.replace("{}", shop.folder.path().to_str().unwrap());
        let mut command = fuelbox(&arguments);
        command.env("FUELBOX_DATA", shop.path("elsewhere"));
        command.env("FUELBOX_CACHE", shop.path("empty"));
        command
    };
    for (name, _, input) in examples {
        let given = format!("--keys {{}}/host.pem --package {{}}/{name}.fbx --input {input}");
        check(&mut stranger(&format!("receipt verify {{}}/{name}.json {given}")), 0);
        let mut replay = stranger(&format!("replay {{}}/{name}.json {given} --json"));
        let answer = json(replay.arg("--prices").arg(&prices), 0);
        for field in ["same", "ran", "priced"] {
            assert_eq!(answer[field], true, "{name}: {answer}");
        }
    }
}
