//! ONNX models made on the spot, most of them with a fault.
//!
//! In: the name of a fault. Out: the bytes of an `.onnx` file, always the same. Knows nothing of
//! fuelbox: the files are as good or as bad for every ONNX reader.

mod proto;
mod writer;
mod nested;

pub use self::nested::nested;
use self::proto::{StringStringEntryProto, TensorProto};
pub use self::writer::{Element, LINEAR_GAIN, Model, Node, RELU_GAIN, SplitMix64};

/// Operators that no ONNX runtime in a box knows: one is in the standard, one is nobody's.
pub const UNKNOWN_OPERATORS: [&str; 2] = ["Unique", "Wobble"];

/// The file that the model of [`external_data`] keeps its weights in.
pub const EXTERNAL_FILE: &str = "weights.bin";

// ---- Models that run ----------------------------------------------------------------------------

/// Gives back its input `input` as `output`: any element type, any shape (`"batch, 3"`).
pub fn identity(element: Element, shape: &str) -> Vec<u8> {
    Model::new("identity")
        .input("input", element, shape)
        .node(Node::new("Identity", &["input"], "output"))
        .output("output", element, shape)
        .build()
}

// ---- Models that must be refused ----------------------------------------------------------------

/// Uses both of [`UNKNOWN_OPERATORS`], the second one from a domain of its own.
pub fn unknown_operators() -> Vec<u8> {
    operators(UNKNOWN_OPERATORS, "com.example")
}

/// Calls these operators one after the other, the second one from this domain.
pub fn operators([first, second]: [&str; 2], domain: &str) -> Vec<u8> {
    Model::new("operators")
        .domain(domain, 1)
        .input("input", Element::F32, "4")
        .node(Node::new(first, &["input"], "first"))
        .node(Node::new(second, &["first"], "second").domain(domain))
        .node(Node::new("Relu", &["second"], "output"))
        .output("output", Element::F32, "4")
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
/// `&[1 << 32, 1 << 32]` overflows 64 bits; `&[4]` is what it has.
pub fn absurd_weight(dims: &[i64]) -> Vec<u8> {
    plus(writer::tensor("weight", Element::F32, dims, vec![0; 16]), "4")
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
