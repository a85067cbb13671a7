//! ResNet-50: bottleneck blocks, the stride in their 3x3 convolution.

use super::{
    Input, Sample,
    convolutions::{Activation, Convolutions, MaxPool, RESIDUAL_GAIN},
};
use crate::onnx::{Element, LINEAR_GAIN, Model, Node};

/// A block's output is this many times as wide as its middle.
const EXPANSION: i64 = 4;

pub(super) fn full() -> Sample {
    network(224, 64, &[3, 4, 6, 3], 1000)
}

pub(super) fn small() -> Sample {
    network(32, 8, &[1, 2], 10)
}

/// Input `image` FP32 `[1, 3, size, size]`, output `logits` FP32 `[1, classes]`. The middle of the
/// blocks has `width` channels in the first stage and twice as many in each that follows.
fn network(size: i64, width: i64, stages: &[usize], classes: i64) -> Sample {
    let model = Model::new("resnet").input("image", Element::F32, &format!("1, 3, {size}, {size}"));
    let mut net = Convolutions::new(model, "image", 3)
        .conv("stem", [width, 3, 7, 7], 2, Activation::Relu)
        .max_pool("stem.pool", MaxPool { size: 3, stride: 2, pad: 1 });
    for (stage, &blocks) in stages.iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            net = bottleneck(net, &format!("stage_{stage}.block_{block}"), width << stage, stride);
        }
    }
    let features = net.channels;
    let inputs = ["features", "classifier.weight", "classifier.bias"];
    let onnx = net
        .features()
        .weight("classifier.weight", &[classes, features], features, LINEAR_GAIN)
        .bias("classifier.bias", classes)
        .node(Node::new("Gemm", &inputs, "logits").int("transB", 1))
        .output("logits", Element::F32, &format!("1, {classes}"))
        .build();
    let size = size as u64;
    Sample { onnx, inputs: vec![Input::floats("image", &[1, 3, size, size])], logits: true }
}

fn bottleneck(mut net: Convolutions, name: &str, middle: i64, stride: i64) -> Convolutions {
    let part = |part: &str| format!("{name}.{part}");
    let (input, narrow) = (net.output.clone(), net.channels);
    let wide = middle * EXPANSION;
    let gain = RESIDUAL_GAIN;
    net = net.conv(&part("reduce"), [middle, narrow, 1, 1], 1, Activation::Relu);
    net = net.conv(&part("spatial"), [middle, middle, 3, 3], stride, Activation::Relu);
    net = net.conv(&part("expand"), [wide, middle, 1, 1], 1, Activation::None { gain });
    let branch = net.output.clone();
    let shortcut = if narrow == wide && stride == 1 {
        input
    } else {
        let net_from_input = Convolutions::new(net.model, &input, narrow);
        let projection = part("shortcut");
        net = net_from_input.conv(&projection, [wide, narrow, 1, 1], stride, Activation::LINEAR);
        projection
    };
    Convolutions { output: branch, ..net }.add(&part("add"), &shortcut).relu()
}
