//! MobileNetV2: inverted residual blocks around depthwise convolutions.

use super::{
    Input, Sample,
    convolutions::{Activation, Convolutions, RESIDUAL_GAIN},
};
use crate::onnx::{Element, LINEAR_GAIN, Model, Node};

/// The pooled features hardly vary: the last layer makes up for it.
const CLASSIFIER_GAIN: f64 = 4.0;

/// Some blocks of the same shape.
struct Stage {
    expansion: i64,
    channels: i64,
    blocks: usize,
    /// Of the first block.
    stride: i64,
}

const fn stage(expansion: i64, channels: i64, blocks: usize, stride: i64) -> Stage {
    Stage { expansion, channels, blocks, stride }
}

/// Table 2 of Sandler et al., 2018.
const STAGES: [Stage; 7] = [
    stage(1, 16, 1, 1),
    stage(6, 24, 2, 2),
    stage(6, 32, 3, 2),
    stage(6, 64, 4, 2),
    stage(6, 96, 3, 1),
    stage(6, 160, 3, 2),
    stage(6, 320, 1, 1),
];

const SMALL_STAGES: [Stage; 3] = [stage(1, 8, 1, 1), stage(4, 12, 2, 2), stage(4, 20, 2, 2)];

/// MobileNetV2 1.0/224 with batch normalisation folded into the convolutions: 3,487,816 parameters,
/// 14 MB, 300 million multiplications.
///
/// Input `image` FP32 `[1, 3, 224, 224]`, output `logits` FP32 `[1, 1000]`.
pub fn mobilenet_v2() -> Vec<u8> {
    network(224, &STAGES, 32, 1280, 1000)
}

pub(super) fn full() -> Sample {
    let inputs = vec![Input::floats("image", &[1, 3, 224, 224])];
    Sample { onnx: mobilenet_v2(), inputs, logits: true }
}

pub(super) fn small() -> Sample {
    let inputs = vec![Input::floats("image", &[1, 3, 32, 32])];
    Sample { onnx: network(32, &SMALL_STAGES, 8, 64, 10), inputs, logits: true }
}

fn network(size: i64, stages: &[Stage], stem: i64, head: i64, classes: i64) -> Vec<u8> {
    let model = Model::new("mobilenet_v2")
        .input("image", Element::F32, &format!("1, 3, {size}, {size}"))
        .scalar("zero", 0.0)
        .scalar("six", 6.0);
    let mut net = Convolutions::new(model, "image", 3);
    net = net.conv("stem", [stem, 3, 3, 3], 2, Activation::Relu6);
    for (index, stage) in stages.iter().enumerate() {
        let &Stage { expansion, channels, blocks, stride } = stage;
        for block in 0..blocks {
            let name = |part: &str| format!("stage_{index}.block_{block}.{part}");
            let stride = if block == 0 { stride } else { 1 };
            let (shortcut, narrow) = (net.output.clone(), net.channels);
            let residual = stride == 1 && channels == narrow;
            let wide = narrow * expansion;
            if expansion > 1 {
                net = net.conv(&name("expand"), [wide, narrow, 1, 1], 1, Activation::Relu6);
            }
            net = net.conv(&name("depthwise"), [wide, 1, 3, 3], stride, Activation::Relu6);
            let gain = if residual { RESIDUAL_GAIN } else { LINEAR_GAIN };
            net = net.conv(&name("project"), [channels, wide, 1, 1], 1, Activation::None { gain });
            if residual {
                net = net.add(&name("add"), &shortcut);
            }
        }
    }
    let last = net.channels;
    net = net.conv("head", [head, last, 1, 1], 1, Activation::Relu6);
    net.features()
        .weight("classifier.weight", &[head, classes], head, CLASSIFIER_GAIN)
        .bias("classifier.bias", classes)
        .node(Node::new("Gemm", &["features", "classifier.weight", "classifier.bias"], "logits"))
        .output("logits", Element::F32, &format!("1, {classes}"))
        .build()
}
