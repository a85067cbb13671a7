//! An LSTM over a sequence, with a classifier on its last state.

use super::{Input, Sample};
use crate::onnx::{Element, LINEAR_GAIN, Model, Node};

const CLASSES: i64 = 10;

pub(super) fn full() -> Sample {
    network(64, 64, 128)
}

pub(super) fn small() -> Sample {
    network(8, 8, 16)
}

/// Input `steps` FP32 `[sequence, 1, width]`, output `logits` FP32 `[1, CLASSES]`.
fn network(sequence: u64, width: i64, hidden: i64) -> Sample {
    let lstm = ["steps", "lstm.input", "lstm.recurrent", "lstm.bias"];
    // Squeezed along the axis of directions, of which there is one.
    let last = Node::new("Squeeze", &["lstm.last", "first"], "state");
    let onnx = Model::new("lstm")
        .input("steps", Element::F32, &format!("{sequence}, 1, {width}"))
        .weight("lstm.input", &[1, 4 * hidden, width], width, LINEAR_GAIN)
        .weight("lstm.recurrent", &[1, 4 * hidden, hidden], hidden, LINEAR_GAIN)
        .random("lstm.bias", &[1, 8 * hidden], 0.01)
        .node(Node::new("LSTM", &lstm, "lstm.all").also("lstm.last").int("hidden_size", hidden))
        .list("first", &[0])
        .node(last)
        // A state's elements are well below 1.
        .weight("classifier.weight", &[hidden, CLASSES], hidden, 8.0 * LINEAR_GAIN)
        .bias("classifier.bias", CLASSES)
        .node(Node::new("Gemm", &["state", "classifier.weight", "classifier.bias"], "logits"))
        .output("logits", Element::F32, &format!("1, {CLASSES}"))
        .build();
    let inputs = vec![Input::floats("steps", &[sequence, 1, width as u64])];
    Sample { onnx, inputs, logits: true }
}
