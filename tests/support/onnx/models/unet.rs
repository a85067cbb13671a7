//! A small U-Net: down by pooling, up by transposed convolutions, with the way down beside it.

use super::{
    Input, Sample,
    convolutions::{Activation, Convolutions, MaxPool},
};
use crate::onnx::{Element, Model, Node};

/// What each pixel may be.
const CLASSES: i64 = 4;

pub(super) fn full() -> Sample {
    network(128, &[16, 32, 64])
}

pub(super) fn small() -> Sample {
    network(16, &[4, 8, 16])
}

/// Input `image` FP32 `[1, 3, size, size]`, output `logits` FP32 `[1, size, size, CLASSES]`: the
/// levels have these channels, the last one is the bottom.
fn network(size: i64, levels: &[i64]) -> Sample {
    let model = Model::new("unet").input("image", Element::F32, &format!("1, 3, {size}, {size}"));
    let mut net = Convolutions::new(model, "image", 3);
    let mut beside = Vec::new();
    for (level, &channels) in levels.iter().enumerate() {
        if level > 0 {
            beside.push((net.output.clone(), net.channels));
            net = net.max_pool(&format!("pool_{level}"), MaxPool { size: 2, stride: 2, pad: 0 });
        }
        net = twice(net, &format!("down_{level}"), channels);
    }
    for (level, (other, channels)) in beside.into_iter().enumerate().rev() {
        net = net.double(&format!("double_{level}"), channels);
        net = net.concat(&format!("concat_{level}"), &other, channels);
        net = twice(net, &format!("up_{level}"), channels);
    }
    let channels = net.channels;
    let net = net.conv("classifier", [CLASSES, channels, 1, 1], 1, Activation::LINEAR);
    let last = Node::new("Transpose", &[&net.output], "logits").ints("perm", &[0, 2, 3, 1]);
    let shape = format!("1, {size}, {size}, {CLASSES}");
    let onnx = net.model.node(last).output("logits", Element::F32, &shape).build();
    let size = size as u64;
    Sample { onnx, inputs: vec![Input::floats("image", &[1, 3, size, size])], logits: true }
}

fn twice(net: Convolutions, name: &str, channels: i64) -> Convolutions {
    let narrow = net.channels;
    net.conv(&format!("{name}.a"), [channels, narrow, 3, 3], 1, Activation::Relu).conv(
        &format!("{name}.b"),
        [channels, channels, 3, 3],
        1,
        Activation::Relu,
    )
}
