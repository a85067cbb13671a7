//! The fluent writer: calls go in, the bytes of an `.onnx` file come out.
//!
//! Writes what it is told; whether the model makes sense is the caller's business.

use super::proto::{
    ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, Dimension, GraphProto,
    ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use prost::Message;

/// The seed of all weights: changing it changes the outputs that golden tests state.
const SEED: u64 = 0x666f_7820_7365_6564;

/// Keeps the size of activations through a layer that ends in ReLU (He et al., 2015).
pub const RELU_GAIN: f64 = 2.0;
/// The same for a layer without one.
pub const LINEAR_GAIN: f64 = 1.0;

/// Element types, with their numbers in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Element {
    /// OIP `FP32`.
    F32 = 1,
    /// OIP `UINT8`.
    U8 = 2,
    /// OIP `INT8`.
    I8 = 3,
    /// OIP `UINT16`.
    U16 = 4,
    /// OIP `INT16`.
    I16 = 5,
    /// OIP `INT32`.
    I32 = 6,
    /// OIP `INT64`.
    I64 = 7,
    /// OIP `BYTES`.
    String = 8,
    /// OIP `BOOL`.
    Bool = 9,
    /// OIP `FP16`.
    F16 = 10,
    /// OIP `FP64`.
    F64 = 11,
    /// OIP `UINT32`.
    U32 = 12,
    /// OIP `UINT64`.
    U64 = 13,
}

/// A model under construction. Weights come from one seeded stream, in the order of the calls.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) graph: GraphProto,
    opsets: Vec<OperatorSetIdProto>,
    random: SplitMix64,
}

impl Model {
    /// An empty graph at opset 17.
    pub fn new(name: &str) -> Self {
        let graph = GraphProto { name: name.into(), ..GraphProto::default() };
        Self { graph, opsets: Vec::new(), random: SplitMix64(SEED) }.domain("", 17)
    }

    /// Declares an operator set.
    pub fn domain(mut self, domain: &str, version: i64) -> Self {
        self.opsets.push(OperatorSetIdProto { domain: domain.into(), version });
        self
    }

    /// An input. The shape is written as `"batch, 3"`: numbers are sizes, words are symbols.
    pub fn input(mut self, name: &str, element: Element, shape: &str) -> Self {
        self.graph.input.push(value_info(name, element, shape));
        self
    }

    /// An output, with its shape as for [`Model::input`].
    pub fn output(mut self, name: &str, element: Element, shape: &str) -> Self {
        self.graph.output.push(value_info(name, element, shape));
        self
    }

    /// A node, after all that make its inputs.
    pub fn node(mut self, node: Node) -> Self {
        self.graph.node.push(node.0);
        self
    }

    /// Random weights of variance `gain / fan_in`, where `fan_in` values go into each sum.
    pub fn weight(self, name: &str, dims: &[i64], fan_in: i64, gain: f64) -> Self {
        let bound = (3.0 * gain / fan_in as f64).sqrt();
        self.uniform(name, dims, bound)
    }

    /// Random values of a bias's size, at most 0.1.
    pub fn bias(self, name: &str, size: i64) -> Self {
        self.uniform(name, &[size], 0.1)
    }

    /// A constant FP32 number.
    pub fn scalar(self, name: &str, value: f32) -> Self {
        self.initializer(tensor(name, Element::F32, &[], value.to_le_bytes().to_vec()))
    }

    /// Random factors around 1, as a trained normalisation has them.
    pub fn scale(mut self, name: &str, size: i64) -> Self {
        let values: Vec<_> = (0..size).map(|_| 1.0 + self.random.next_f32(0.1)).collect();
        self.floats(name, &[size], &values)
    }

    /// Random values of variance `variance`.
    pub fn random(self, name: &str, dims: &[i64], variance: f64) -> Self {
        self.uniform(name, dims, (3.0 * variance).sqrt())
    }

    /// A constant FP32 tensor.
    pub fn floats(self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(tensor(name, Element::F32, dims, bytes))
    }

    /// A constant list of INT64 numbers: a shape, or axes.
    pub fn list(self, name: &str, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(tensor(name, Element::I64, &[values.len() as i64], bytes))
    }

    /// The bytes of the `.onnx` file.
    pub fn build(mut self) -> Vec<u8> {
        let graph = Some(std::mem::take(&mut self.graph));
        ModelProto { graph, ..self.without_graph() }.encode_to_vec()
    }

    /// What is around the graph.
    pub(super) fn without_graph(self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            producer_name: "fuelbox-tests".into(),
            graph: None,
            opset_import: self.opsets,
        }
    }

    /// Uniform, not normal: that takes no logarithm, whose last bit may differ between platforms.
    fn uniform(mut self, name: &str, dims: &[i64], bound: f64) -> Self {
        let count = dims.iter().product::<i64>() as usize;
        let mut bytes = vec![0; count * 4];
        for value in bytes.chunks_exact_mut(4) {
            value.copy_from_slice(&self.random.next_f32(bound).to_le_bytes());
        }
        self.initializer(tensor(name, Element::F32, dims, bytes))
    }

    /// A constant tensor.
    pub(super) fn initializer(mut self, tensor: TensorProto) -> Self {
        self.graph.initializer.push(tensor);
        self
    }
}

/// One operator call.
#[derive(Clone, Debug)]
pub struct Node(pub(super) NodeProto);

impl Node {
    /// A node of the standard domain, named like its output.
    pub fn new(operator: &str, inputs: &[&str], output: &str) -> Self {
        Self(NodeProto {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: operator.into(),
            ..NodeProto::default()
        })
    }

    /// One more output.
    pub fn also(mut self, output: &str) -> Self {
        self.0.output.push(output.into());
        self
    }

    /// Takes the operator from another domain.
    pub fn domain(mut self, domain: &str) -> Self {
        self.0.domain = domain.into();
        self
    }

    /// An integer attribute.
    pub fn int(self, name: &str, value: i64) -> Self {
        self.attribute(AttributeProto {
            i: Some(value),
            ..AttributeProto::new(name, ATTRIBUTE_INT)
        })
    }

    /// An attribute that is a list of integers.
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        let ints = values.to_vec();
        self.attribute(AttributeProto { ints, ..AttributeProto::new(name, ATTRIBUTE_INTS) })
    }

    /// A floating point attribute.
    pub fn float(self, name: &str, value: f32) -> Self {
        self.attribute(AttributeProto {
            f: Some(value),
            ..AttributeProto::new(name, ATTRIBUTE_FLOAT)
        })
    }

    fn attribute(mut self, attribute: AttributeProto) -> Self {
        self.0.attribute.push(attribute);
        self
    }
}

/// Steele, Lea and Flood's generator of 2014: whole numbers only, so the same everywhere.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// A number between -`bound` and `bound`.
    pub fn next_f32(&mut self, bound: f64) -> f32 {
        self.next_i24() as f32 * (bound / (1 << 23) as f64) as f32
    }

    /// A number in 0..`end`, near enough to uniform for small ends.
    pub fn next_below(&mut self, end: i64) -> i64 {
        (i64::from(self.next_i24() + (1 << 23)) * end) >> 24
    }

    /// A number in -2^23..2^23, as many as an `f32` holds exactly.
    fn next_i24(&mut self) -> i32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z as i64 >> 40) as i32
    }
}

/// A tensor with its elements in little-endian order.
pub(super) fn tensor(name: &str, element: Element, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: element as i32,
        name: name.into(),
        raw_data,
        ..TensorProto::default()
    }
}

fn value_info(name: &str, element: Element, shape: &str) -> ValueInfoProto {
    let dims = shape.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let dim = dims.map(|dim| match dim.parse() {
        Ok(size) => Dimension { dim_value: Some(size), dim_param: None },
        Err(_) => Dimension { dim_value: None, dim_param: Some(dim.into()) },
    });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor_type = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

impl AttributeProto {
    fn new(name: &str, r#type: i32) -> Self {
        Self { name: name.into(), r#type, ..Self::default() }
    }
}
