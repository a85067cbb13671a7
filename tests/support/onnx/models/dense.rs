//! Dense layers: the classifier of digits, and the scorer of tables.

use super::{Input, Sample};
use crate::onnx::{Element, LINEAR_GAIN, Model, Node, RELU_GAIN};

/// Dense layers of the given sizes with ReLU between them.
///
/// Input `input` FP32 `[batch, sizes[0]]`, output `logits` FP32 `[batch, sizes.last()]`.
pub fn mlp(sizes: &[i64]) -> Vec<u8> {
    dense("batch", sizes)
}

/// An [`mlp`] with about `bytes` of weights in layers of 1024 x 1024, 4 MiB each (at least one), for
/// a batch of one.
pub fn big_mlp(bytes: usize) -> Vec<u8> {
    const WIDTH: i64 = 1024;
    let layer_bytes = (WIDTH * WIDTH * 4) as usize;
    let layers = ((bytes + layer_bytes / 2) / layer_bytes).max(1);
    dense("1", &vec![WIDTH; layers + 1])
}

pub(super) fn full() -> Sample {
    classifier(&[784, 128, 64, 10])
}

pub(super) fn small() -> Sample {
    classifier(&[64, 32, 16, 10])
}

fn classifier(sizes: &[i64]) -> Sample {
    let inputs = vec![Input::floats("input", &[1, sizes[0] as u64])];
    Sample { onnx: mlp(sizes), inputs, logits: true }
}

pub(super) fn full_tabular() -> Sample {
    tabular(256, &[64, 256, 128, 1])
}

pub(super) fn small_tabular() -> Sample {
    tabular(32, &[16, 32, 16, 1])
}

/// Scores rows of a table: columns are standardised, the score is a probability.
///
/// Input `rows` FP32 `[rows, sizes[0]]`, output `scores` FP32 `[rows, 1]`.
fn tabular(rows: u64, sizes: &[i64]) -> Sample {
    let columns = sizes[0];
    let model = Model::new("tabular")
        .input("rows", Element::F32, &format!("{rows}, {columns}"))
        .random("mean", &[columns], 0.01)
        .scale("deviation", columns)
        .node(Node::new("Sub", &["rows", "mean"], "centred"))
        .node(Node::new("Div", &["centred", "deviation"], "standardised"));
    let onnx = layers(model, "standardised", sizes, "score")
        .node(Node::new("Sigmoid", &["score"], "scores"))
        .output("scores", Element::F32, &format!("{rows}, 1"))
        .build();
    Sample { onnx, inputs: vec![Input::floats("rows", &[rows, columns as u64])], logits: false }
}

fn dense(batch: &str, sizes: &[i64]) -> Vec<u8> {
    let inputs = sizes.first().copied().unwrap_or(1);
    let outputs = sizes.last().copied().unwrap_or(1);
    let model = Model::new("mlp").input("input", Element::F32, &format!("{batch}, {inputs}"));
    layers(model, "input", sizes, "logits")
        .output("logits", Element::F32, &format!("{batch}, {outputs}"))
        .build()
}

/// Layers from `input` to `output`, with ReLU after all but the last.
fn layers(mut model: Model, input: &str, sizes: &[i64], output: &str) -> Model {
    let mut x = input.to_owned();
    for (layer, size) in sizes.windows(2).enumerate() {
        let hidden = layer + 2 < sizes.len();
        let gain = if hidden { RELU_GAIN } else { LINEAR_GAIN };
        let name = format!("dense_{layer}");
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let dense = if hidden { name.as_str() } else { output };
        model = model
            .weight(&weight, &[size[0], size[1]], size[0], gain)
            .bias(&bias, size[1])
            .node(Node::new("Gemm", &[&x, &weight, &bias], dense));
        if hidden {
            let relu = format!("relu_{layer}");
            model = model.node(Node::new("Relu", &[dense], &relu));
            x = relu;
        }
    }
    model
}
