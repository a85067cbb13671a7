//! SqueezeNet 1.1: fire modules, which squeeze with 1x1 and expand with 1x1 beside 3x3.

use super::{
    Input, Sample,
    convolutions::{Activation, Convolutions, MaxPool},
};
use crate::onnx::{Element, Model, Node};

/// What follows the stem.
enum Stage {
    Pool,
    /// Channels after squeezing, and of each half after expanding.
    Fire(i64, i64),
}
use Stage::{Fire, Pool};

const STAGES: [Stage; 11] = [
    Pool,
    Fire(16, 64),
    Fire(16, 64),
    Pool,
    Fire(32, 128),
    Fire(32, 128),
    Pool,
    Fire(48, 192),
    Fire(48, 192),
    Fire(64, 256),
    Fire(64, 256),
];

const SMALL_STAGES: [Stage; 5] = [Pool, Fire(8, 16), Pool, Fire(8, 16), Fire(16, 32)];

/// Height and width halve, less the border.
const HALVE: MaxPool = MaxPool { size: 3, stride: 2, pad: 0 };

pub(super) fn full() -> Sample {
    network(224, 64, &STAGES, 1000)
}

pub(super) fn small() -> Sample {
    network(35, 16, &SMALL_STAGES, 10)
}

/// Input `image` FP32 `[1, 3, size, size]`, output `logits` FP32 `[1, classes]`.
fn network(size: i64, stem: i64, stages: &[Stage], classes: i64) -> Sample {
    let model =
        Model::new("squeezenet").input("image", Element::F32, &format!("1, 3, {size}, {size}"));
    let mut net = Convolutions::new(model, "image", 3);
    net = net.conv_valid("stem", [stem, 3, 3, 3], 2, Activation::Relu);
    for (index, stage) in stages.iter().enumerate() {
        let name = |part: &str| format!("stage_{index}.{part}");
        net = match *stage {
            Pool => net.max_pool(&name("pool"), HALVE),
            Fire(squeezed, half) => {
                let channels = net.channels;
                net = net.conv(&name("squeeze"), [squeezed, channels, 1, 1], 1, Activation::Relu);
                let squeeze = net.output.clone();
                net = net.conv(&name("expand_1"), [half, squeezed, 1, 1], 1, Activation::Relu);
                let first = net.output.clone();
                let net = Convolutions::new(net.model, &squeeze, squeezed);
                let net = net.conv(&name("expand_3"), [half, squeezed, 3, 3], 1, Activation::Relu);
                let second = Convolutions { output: first, ..net };
                second.concat(&name("concat"), &name("expand_3.relu"), half)
            }
        };
    }
    let channels = net.channels;
    let net = net.conv("classifier", [classes, channels, 1, 1], 1, Activation::Relu);
    let onnx = net
        .model
        .node(Node::new("GlobalAveragePool", &[&net.output], "pooled"))
        .node(Node::new("Flatten", &["pooled"], "logits").int("axis", 1))
        .output("logits", Element::F32, &format!("1, {classes}"))
        .build();
    let size = size as u64;
    Sample { onnx, inputs: vec![Input::floats("image", &[1, 3, size, size])], logits: true }
}
