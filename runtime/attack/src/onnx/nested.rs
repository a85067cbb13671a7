//! Graphs inside graphs.
//!
//! In: how deep. Out: the bytes of an `.onnx` file, written from the inside out: a writer that begins
//! outside needs a stack as deep as the file, and looks at each graph once for each that it is in.

use super::{
    Element, Model, Node,
    proto::{ATTRIBUTE_GRAPH, AttributeProto, GraphProto, NodeProto},
    writer::tensor,
};
use prost::{Message, encoding::encode_varint};

/// Tags of the fields that hold what is one level further in.
const ATTRIBUTE_G: u8 = 6;
const NODE_ATTRIBUTE: u8 = 5;
const GRAPH_NODE: u8 = 1;
const MODEL_GRAPH: u8 = 7;

/// Adds four ones to its input, which are that many graphs down: each is a branch of an `If` of the one
/// around it.
pub fn nested(depth: usize) -> Vec<u8> {
    // Turned round, so that what comes before is appended.
    let mut reversed = Vec::new();
    before(&mut reversed, &ones("then", 0).encode_to_vec());
    for level in 0..depth {
        // Names are told apart across graphs: those inside see the ones of those around them.
        let (condition, output) = (format!("c{level}"), format!("o{}", level + 1));
        let then_branch = branch("then_branch", None);
        wrap(&mut reversed, ATTRIBUTE_G, &then_branch);
        let else_branch = branch("else_branch", Some(ones("else", level)));
        let Node(node) = Node::new("If", &[&condition], &output);
        wrap(&mut reversed, NODE_ATTRIBUTE, &NodeProto { attribute: vec![else_branch], ..node });
        let model = Model::new("then").initializer(tensor(&condition, Element::Bool, &[], vec![1]));
        let is_outermost = level + 1 == depth;
        let model = if is_outermost { model } else { model.output(&output, Element::F32, "4") };
        wrap(&mut reversed, GRAPH_NODE, &model.graph);
    }
    reversed.reverse();
    // Merged with what is there, as protobuf has it.
    let sum = Node::new("Add", &["input", &format!("o{depth}")], "output");
    let sum = Model::new("nested").input("input", Element::F32, "4").node(sum).output(
        "output",
        Element::F32,
        "4",
    );
    reversed.extend(sum.graph.encode_to_vec());
    let mut file = Model::new("").without_graph().encode_to_vec();
    field(&mut file, MODEL_GRAPH, reversed.len());
    file.extend(reversed);
    file
}

/// A graph that gives four ones under the name that the `If` of a level takes from its branches.
fn ones(name: &str, level: usize) -> GraphProto {
    let (weight, output) = (format!("{name}{level}w"), format!("{name}{level}"));
    Model::new(name)
        .floats(&weight, &[4], &[1.0; 4])
        .node(Node::new("Identity", &[&weight], &output))
        .output(&output, Element::F32, "4")
        .graph
}

fn branch(name: &str, graph: Option<GraphProto>) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: ATTRIBUTE_GRAPH,
        g: graph,
        ..AttributeProto::default()
    }
}

/// Makes all that is there the last field of a message.
fn wrap(reversed: &mut Vec<u8>, tag: u8, others: &impl Message) {
    let mut head = others.encode_to_vec();
    field(&mut head, tag, reversed.len());
    before(reversed, &head);
}

/// What a field of so many bytes begins with.
fn field(bytes: &mut Vec<u8>, tag: u8, len: usize) {
    bytes.push(tag << 3 | 2);
    encode_varint(len as u64, bytes);
}

fn before(reversed: &mut Vec<u8>, bytes: &[u8]) {
    reversed.extend(bytes.iter().rev());
}
