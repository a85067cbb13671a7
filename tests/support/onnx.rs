//! ONNX models made on the spot: the shapes that benches need and the faults that tests need.
//!
//! In: an architecture, or the name of a fault. Out: the bytes of an `.onnx` file, always the same.
//! Knows nothing of fuelbox: the files are as good or as bad for every ONNX reader.

mod writer;
mod proto;

use self::proto::{StringStringEntryProto, TensorProto};
pub use self::writer::{Element, LINEAR_GAIN, Model, Node, RELU_GAIN};

/// Operators that no ONNX runtime in a box knows: one is in the standard, one is nobody's.
pub const UNKNOWN_OPERATORS: [&str; 2] = ["Unique", "Wobble"];

/// The file that the model of [`external_data`] keeps its weights in.
pub const EXTERNAL_FILE: &str = "weights.bin";

// ---- Models that run ----------------------------------------------------------------------------

/// Dense layers of the given sizes with ReLU between them.
///
/// Input `input` FP32 `[batch, sizes[0]]`, output `logits` FP32 `[batch, sizes.last()]`.
pub fn mlp(sizes: &[i64]) -> Vec<u8> {
    dense("batch", sizes)
}

fn dense(batch: &str, sizes: &[i64]) -> Vec<u8> {
    let inputs = sizes.first().copied().unwrap_or(1);
    let outputs = sizes.last().copied().unwrap_or(1);
    let mut model = Model::new("mlp").input("input", Element::F32, &format!("{batch}, {inputs}"));
    let mut x = "input".to_owned();
    for (layer, size) in sizes.windows(2).enumerate() {
        let hidden = layer + 2 < sizes.len();
        let gain = if hidden { RELU_GAIN } else { LINEAR_GAIN };
        let name = format!("dense_{layer}");
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let dense = if hidden { name.as_str() } else { "logits" };
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
    model.output("logits", Element::F32, &format!("{batch}, {outputs}")).build()
}

/// An [`mlp`] with about `bytes` of weights in layers of 1024 x 1024, 4 MiB each (at least one), for
/// a batch of one.
pub fn big_mlp(bytes: usize) -> Vec<u8> {
    const WIDTH: i64 = 1024;
    let layer_bytes = (WIDTH * WIDTH * 4) as usize;
    let layers = ((bytes + layer_bytes / 2) / layer_bytes).max(1);
    dense("1", &vec![WIDTH; layers + 1])
}

/// MobileNetV2 1.0/224 with batch normalisation folded into the convolutions: 3,487,816 parameters,
/// 14 MB, 300 million multiplications.
///
/// Input `image` FP32 `[1, 3, 224, 224]`, output `logits` FP32 `[1, 1000]`.
pub fn mobilenet_v2() -> Vec<u8> {
    /// Expansion, channels, blocks, stride of the first one: table 2 of Sandler et al., 2018.
    const STAGES: [(i64, i64, usize, i64); 7] = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    let model = Model::new("mobilenet_v2")
        .input("image", Element::F32, "1, 3, 224, 224")
        .scalar("zero", 0.0)
        .scalar("six", 6.0);
    let mut net = Convolutions { model, output: "image".to_owned(), channels: 3 };
    net = net.conv("stem", [32, 3, 3, 3], 2, Activation::Relu6);
    for (stage, (expansion, channels, blocks, stride)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let name = |part: &str| format!("stage_{stage}.block_{block}.{part}");
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
    net = net.conv("head", [1280, 320, 1, 1], 1, Activation::Relu6);
    net.model
        .node(Node::new("GlobalAveragePool", &[&net.output], "pooled"))
        .node(Node::new("Flatten", &["pooled"], "features").int("axis", 1))
        .weight("classifier.weight", &[1280, 1000], 1280, CLASSIFIER_GAIN)
        .bias("classifier.bias", 1000)
        .node(Node::new("Gemm", &["features", "classifier.weight", "classifier.bias"], "logits"))
        .output("logits", Element::F32, "1, 1000")
        .build()
}

/// Gives back its input `input` as `output`: any element type, any shape (`"batch, 3"`).
pub fn identity(element: Element, shape: &str) -> Vec<u8> {
    Model::new("identity")
        .input("input", element, shape)
        .node(Node::new("Identity", &["input"], "output"))
        .output("output", element, shape)
        .build()
}

/// MobileNetV2's pooled features hardly vary: the last layer makes up for it.
const CLASSIFIER_GAIN: f64 = 4.0;
/// A block's own share beside its shortcut, so that sums do not grow from block to block.
const RESIDUAL_GAIN: f64 = 0.25;

#[derive(Clone, Copy)]
enum Activation {
    None { gain: f64 },
    Relu6,
}

/// A chain of convolutions: each takes the output of the one before.
struct Convolutions {
    model: Model,
    output: String,
    channels: i64,
}

impl Convolutions {
    /// A convolution with bias, padded to keep the size at stride 1. The weight has the dimensions
    /// `[channels out, channels in / groups, height, width]`, from which the groups follow.
    fn conv(self, name: &str, dims: [i64; 4], stride: i64, activation: Activation) -> Self {
        let [channels, group_channels, height, width] = dims;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let gain = match activation {
            Activation::None { gain } => gain,
            Activation::Relu6 => RELU_GAIN,
        };
        let conv = Node::new("Conv", &[&self.output, &weight, &bias], name)
            .ints("kernel_shape", &[height, width])
            .ints("strides", &[stride, stride])
            .ints("pads", &[height / 2, width / 2, height / 2, width / 2])
            .int("group", self.channels / group_channels);
        let model = self
            .model
            .weight(&weight, &dims, group_channels * height * width, gain)
            .bias(&bias, channels)
            .node(conv);
        match activation {
            Activation::None { .. } => Self { model, output: name.to_owned(), channels },
            Activation::Relu6 => {
                let output = format!("{name}.relu6");
                let model = model.node(Node::new("Clip", &[name, "zero", "six"], &output));
                Self { model, output, channels }
            }
        }
    }

    fn add(self, name: &str, shortcut: &str) -> Self {
        let model = self.model.node(Node::new("Add", &[&self.output, shortcut], name));
        Self { model, output: name.to_owned(), ..self }
    }
}

// ---- Models that must be refused ----------------------------------------------------------------

/// Uses both of [`UNKNOWN_OPERATORS`], the second one from a domain of its own.
pub fn unknown_operators() -> Vec<u8> {
    let [standard, custom] = UNKNOWN_OPERATORS;
    Model::new("unknown_operators")
        .domain("com.example", 1)
        .input("input", Element::F32, "4")
        .node(Node::new(standard, &["input"], "unique"))
        .node(Node::new(custom, &["unique"], "wobbled").domain("com.example"))
        .node(Node::new("Relu", &["wobbled"], "output"))
        .output("output", Element::F32, "distinct")
        .build()
}

/// Keeps its one tensor, `weight`, in [`EXTERNAL_FILE`].
pub fn external_data() -> Vec<u8> {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let mut weight = writer::tensor("weight", Element::F32, &[4], Vec::new());
    weight.data_location = proto::DATA_LOCATION_EXTERNAL;
    weight.external_data =
        vec![entry("location", EXTERNAL_FILE), entry("offset", "0"), entry("length", "16")];
    plus(weight, "4")
}

/// A tensor `weight` that claims the given dimensions and has 16 bytes. `&[1 << 40]` claims 4 TiB;
/// `&[1 << 32, 1 << 32]` overflows 64 bits.
pub fn absurd_weight(dims: &[i64]) -> Vec<u8> {
    plus(writer::tensor("weight", Element::F32, dims, vec![0; 16]), "elements")
}

/// An input `input` of the given shape: `"1099511627776"` asks for 4 TiB.
pub fn absurd_input(shape: &str) -> Vec<u8> {
    Model::new("absurd_input")
        .input("input", Element::F32, shape)
        .node(Node::new("Relu", &["input"], "output"))
        .output("output", Element::F32, shape)
        .build()
}

/// A node `sum` adds `input` and `nowhere`, which nothing makes.
pub fn missing_input() -> Vec<u8> {
    Model::new("missing_input")
        .input("input", Element::F32, "4")
        .node(Node::new("Add", &["input", "nowhere"], "sum"))
        .output("sum", Element::F32, "4")
        .build()
}

/// A graph without inputs, outputs or nodes.
pub fn empty_graph() -> Vec<u8> {
    Model::new("empty_graph").build()
}

/// `output = input + weight`.
fn plus(weight: TensorProto, shape: &str) -> Vec<u8> {
    Model::new("plus")
        .input("input", Element::F32, shape)
        .initializer(weight)
        .node(Node::new("Add", &["input", "weight"], "output"))
        .output("output", Element::F32, shape)
        .build()
}
