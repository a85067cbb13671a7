//! From a model file to a package and back.

use super::cli::{check, fuelbox, json, root};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn packing_twice_gives_the_same_file_and_it_runs_like_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str| {
        let file = folder.path().join(name);
        let mut command = fuelbox(
            "pack examples/digits/digits.onnx --name digits --version 1.0.0 \
             --labels examples/digits/digits.labels.txt --golden examples/digits/seven.npy",
        );
        check(command.arg("-o").arg(&file), 0);
        file
    };
    let (first, second) = (pack("a.fbx"), pack("b.fbx"));
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let input = "--input examples/digits/seven.npy --json";
    let packed = json(fuelbox(&format!("run {input}")).arg(&first), 0);
    let bare = json(&mut fuelbox(&format!("run {input} examples/digits/digits.onnx")), 0);
    assert_eq!(packed["output_digest"], bare["output_digest"]);
    let (table, _) = check(fuelbox("run --input examples/digits/seven.npy").arg(&first), 0);
    assert!(table.contains("seven"), "{table}");
    // What it says of itself, and that it is true.
    let (shown, _) = check(fuelbox("inspect").arg(&first), 0);
    for expected in ["digits", "1.0.0", "image", "FP32", "[batch, 64]", "probabilities", "sha256:"]
    {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
    check(fuelbox("inspect --check").arg(&first), 0);
}

#[test]
fn a_custom_guest_takes_an_image_file_and_gives_a_label() {
    let folder = tempfile::tempdir().unwrap();
    let package = pack_digits_image(folder.path());
    let image = root().join("examples/digits-image/seven.png");
    let mut run = fuelbox("run --json --input");
    let answer = json(run.arg(&image).arg(&package), 0);
    assert_eq!(answer["outputs"][0]["name"], "label", "{answer}");
    assert_eq!(answer["outputs"][0]["data"][0], "seven", "{answer}");
    // A file that is no image is the guest's to refuse, in its own words.
    let mut run = fuelbox("run --json --input examples/digits/digits.labels.txt");
    let answer = json(run.arg(&package), 4);
    assert_eq!(answer["verdict"], "guest_error", "{answer}");
    assert!(answer["fuel"]["run"].as_u64().unwrap() > 0, "{answer}");
}

/// Packs the custom guest of the examples with what its README says.
pub(crate) fn pack_digits_image(folder: &Path) -> PathBuf {
    let package = folder.join("digits-image.fbx");
    let mut pack = fuelbox(
        "pack --guest digits-image --asset examples/digits/digits.onnx \
         --asset examples/digits/digits.labels.txt -o",
    );
    check(pack.arg(&package), 0);
    package
}
