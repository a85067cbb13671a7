//! NNEF files run like ONNX files: a tar of a graph in text form and its tensors, compressed or not.

use super::cli::{check, fuelbox, json};
use serde_json::json;
use std::{fs, io::Write, path::Path};

/// `y = relu(x) + [10, 20, 30]`, in NNEF's text form.
const GRAPH: &str = "version 1.0;

graph main(x) -> (y)
{
    x = external<scalar>(shape = [1, 3]);
    bias = variable<scalar>(label = \"bias\", shape = [1, 3]);
    positive = relu(x);
    y = add(positive, bias);
}
";

/// A tensor file of NNEF: 128 bytes of header (magic, version, length, rank, extents, bits, type), then
/// the elements.
fn tensor(values: &[f32]) -> Vec<u8> {
    let mut file = vec![0x4e, 0xef, 1, 0];
    let header = [values.len() as u32 * 4, 2, 1, values.len() as u32, 0, 0, 0, 0, 0, 0, 32, 0];
    header.iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(128, 0);
    values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    file
}

fn archive(graph: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [("graph.nnef", graph.as_bytes()), ("bias.dat", &tensor(&[10., 20., 30.]))]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn nnef_archives_run_in_the_stock_guest() {
    let folder = tempfile::tempdir().unwrap();
    let request = json!({ "inputs": [
        { "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [-1, 2, 3.5] }
    ] });
    let input = write(folder.path(), "x.json", request.to_string().as_bytes());
    let tar = archive(GRAPH);
    for (name, bytes) in [
        ("a.nnef.tar", tar.clone()),
        ("b.nnef", tar.clone()),
        ("c.nnef.tgz", gzip(&tar)),
        ("d.nnef", gzip(&tar)),
    ] {
        let model = write(folder.path(), name, &bytes);
        let answer = json(&mut fuelbox(&format!("run --json {model} --input {input}")), 0);
        assert_eq!(answer["outputs"][0]["data"], json!([10.0, 22.0, 33.5]), "{name}: {answer}");
    }
}

#[test]
fn nnef_archives_with_unknown_operators_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let graph = GRAPH.replace("relu(x)", "wobble(x)");
    let model = write(folder.path(), "w.nnef.tar", &archive(&graph));
    let (_, stderr) = check(&mut fuelbox(&format!("run {model} --random 1")), 4);
    assert!(stderr.contains("wobble"), "{stderr}");
}
