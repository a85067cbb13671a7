//! Chains of convolutions with batch normalisation folded into them, as exporters write them.

use crate::onnx::{LINEAR_GAIN, Model, Node, RELU_GAIN};

/// A block's own share beside its shortcut, so that sums do not grow from block to block.
pub(super) const RESIDUAL_GAIN: f64 = 0.25;

#[derive(Clone, Copy)]
pub(super) enum Activation {
    None { gain: f64 },
    Relu,
    Relu6,
}

impl Activation {
    /// What a layer has whose output is used as it is.
    pub(super) const LINEAR: Self = Self::None { gain: LINEAR_GAIN };
}

/// What a pooling does with the elements under its window.
#[derive(Clone, Copy)]
pub(super) struct MaxPool {
    pub(super) size: i64,
    pub(super) stride: i64,
    pub(super) pad: i64,
}

/// A chain: each node takes the output of the one before.
pub(super) struct Convolutions {
    pub(super) model: Model,
    pub(super) output: String,
    pub(super) channels: i64,
}

impl Convolutions {
    /// A chain that starts at an input of the model.
    pub(super) fn new(model: Model, input: &str, channels: i64) -> Self {
        Self { model, output: input.into(), channels }
    }

    /// A convolution with bias, padded to keep the size at stride 1. The weight has the dimensions
    /// `[channels out, channels in / groups, height, width]`, from which the groups follow.
    pub(super) fn conv(
        self,
        name: &str,
        dims: [i64; 4],
        stride: i64,
        activation: Activation,
    ) -> Self {
        let pads = [dims[2] / 2, dims[3] / 2];
        self.conv_padded(name, dims, stride, pads, activation)
    }

    /// The same, without padding.
    pub(super) fn conv_valid(
        self,
        name: &str,
        dims: [i64; 4],
        stride: i64,
        activation: Activation,
    ) -> Self {
        self.conv_padded(name, dims, stride, [0, 0], activation)
    }

    fn conv_padded(
        self,
        name: &str,
        dims: [i64; 4],
        stride: i64,
        [y, x]: [i64; 2],
        activation: Activation,
    ) -> Self {
        let [channels, group_channels, height, width] = dims;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let gain = match activation {
            Activation::None { gain } => gain,
            Activation::Relu | Activation::Relu6 => RELU_GAIN,
        };
        let conv = Node::new("Conv", &[&self.output, &weight, &bias], name)
            .ints("kernel_shape", &[height, width])
            .ints("strides", &[stride, stride])
            .ints("pads", &[y, x, y, x])
            .int("group", self.channels / group_channels);
        let model = self
            .model
            .weight(&weight, &dims, group_channels * height * width, gain)
            .bias(&bias, channels)
            .node(conv);
        let conv = Self { model, output: name.to_owned(), channels };
        match activation {
            Activation::None { .. } => conv,
            Activation::Relu => conv.relu(),
            Activation::Relu6 => {
                let output = format!("{name}.relu6");
                let model = conv.model.node(Node::new("Clip", &[name, "zero", "six"], &output));
                Self { model, output, channels }
            }
        }
    }

    /// A transposed convolution that doubles height and width.
    pub(super) fn double(self, name: &str, channels: i64) -> Self {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let conv = Node::new("ConvTranspose", &[&self.output, &weight, &bias], name)
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2]);
        let model = self
            .model
            .weight(&weight, &[self.channels, channels, 2, 2], self.channels, LINEAR_GAIN)
            .bias(&bias, channels)
            .node(conv);
        Self { model, output: name.to_owned(), channels }
    }

    pub(super) fn relu(self) -> Self {
        let output = format!("{}.relu", self.output);
        let model = self.model.node(Node::new("Relu", &[&self.output], &output));
        Self { model, output, ..self }
    }

    pub(super) fn add(self, name: &str, shortcut: &str) -> Self {
        let model = self.model.node(Node::new("Add", &[&self.output, shortcut], name));
        Self { model, output: name.to_owned(), ..self }
    }

    /// Puts the channels of `other` behind those of the chain.
    pub(super) fn concat(self, name: &str, other: &str, other_channels: i64) -> Self {
        let node = Node::new("Concat", &[&self.output, other], name).int("axis", 1);
        let channels = self.channels + other_channels;
        Self { model: self.model.node(node), output: name.to_owned(), channels }
    }

    pub(super) fn max_pool(self, name: &str, MaxPool { size, stride, pad }: MaxPool) -> Self {
        let node = Node::new("MaxPool", &[&self.output], name)
            .ints("kernel_shape", &[size, size])
            .ints("strides", &[stride, stride])
            .ints("pads", &[pad; 4]);
        Self { model: self.model.node(node), output: name.to_owned(), ..self }
    }

    /// The mean over height and width, as `features` of shape `[1, channels]`.
    pub(super) fn features(self) -> Model {
        self.model
            .node(Node::new("GlobalAveragePool", &[&self.output], "pooled"))
            .node(Node::new("Flatten", &["pooled"], "features").int("axis", 1))
    }
}
