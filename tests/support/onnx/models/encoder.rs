//! A transformer encoder as exporters write it: LayerNormalization is one operator, GELU is exact and
//! spelt out around Erf.

use super::{Input, Sample};
use crate::onnx::{Element, LINEAR_GAIN, Model, Node};

/// What decides the shape of an encoder.
struct Sizes {
    vocabulary: i64,
    sequence: i64,
    hidden: i64,
    heads: i64,
    feed_forward: i64,
    layers: usize,
}

/// Added to the score of a masked token.
const MASKED: f32 = -1e4;
const EPSILON: f32 = 1e-12;
/// Of queries and keys, so that attention prefers some tokens without choosing only one.
const ATTENTION_GAIN: f64 = 2.0;

/// MiniLM-L6, with a vocabulary of 4,096 instead of 30,522.
pub(super) fn full() -> Sample {
    let (hidden, heads, feed_forward) = (384, 12, 1536);
    network(&Sizes { vocabulary: 4096, sequence: 128, hidden, heads, feed_forward, layers: 6 })
}

pub(super) fn small() -> Sample {
    let (hidden, heads, feed_forward) = (32, 4, 128);
    network(&Sizes { vocabulary: 64, sequence: 12, hidden, heads, feed_forward, layers: 2 })
}

/// Inputs `input_ids` and `attention_mask` INT64 `[1, sequence]`, output `last_hidden_state` FP32
/// `[1, sequence, hidden]`.
fn network(sizes: &Sizes) -> Sample {
    let &Sizes { vocabulary, sequence, hidden, heads, layers, .. } = sizes;
    let tokens = format!("1, {sequence}");
    let head = hidden / heads;
    let mut model = Model::new("encoder")
        .input("input_ids", Element::I64, &tokens)
        .input("attention_mask", Element::I64, &tokens)
        .list("mask.axes", &[1, 2])
        .list("split", &[1, sequence, heads, head])
        .list("merged", &[1, sequence, hidden])
        .scalar("one", 1.0)
        .scalar("half", 0.5)
        .scalar("root_two", 2f32.sqrt())
        .scalar("root_head", (head as f32).sqrt())
        .scalar("masked", MASKED)
        .random("embedding.token", &[vocabulary, hidden], 1.0)
        .random("embedding.position", &[1, sequence, hidden], 0.25)
        .node(Node::new("Gather", &["embedding.token", "input_ids"], "tokens").int("axis", 0))
        .node(Node::new("Add", &["tokens", "embedding.position"], "embedded"))
        .node(Node::new("Unsqueeze", &["attention_mask", "mask.axes"], "mask.wide"))
        .node(Node::new("Cast", &["mask.wide"], "mask.present").int("to", Element::F32 as i64))
        .node(Node::new("Sub", &["one", "mask.present"], "mask.absent"))
        .node(Node::new("Mul", &["mask.absent", "masked"], "mask"));
    model = norm(model, "embedded", "embedding.norm", hidden);
    let mut x = "embedding.norm".to_owned();
    for layer in 0..layers {
        (model, x) = block(model, &x, &format!("layer_{layer}"), sizes);
    }
    let onnx = model
        .node(Node::new("Identity", &[&x], "last_hidden_state"))
        .output("last_hidden_state", Element::F32, &format!("1, {sequence}, {hidden}"))
        .build();
    let shape = [1, sequence as u64];
    let ids = Input::ids("input_ids", &shape, vocabulary);
    // The last eighth is padding.
    let present = (0..sequence).map(|at| i64::from(at < sequence - sequence / 8));
    let bytes = present.flat_map(i64::to_le_bytes).collect();
    let (name, element, shape) = ("attention_mask", Element::I64, shape.to_vec());
    let mask = Input { name, element, shape, bytes };
    Sample { onnx, inputs: vec![ids, mask], logits: false }
}

fn block(mut model: Model, x: &str, name: &str, sizes: &Sizes) -> (Model, String) {
    let &Sizes { hidden, feed_forward, .. } = sizes;
    let part = |part: &str| format!("{name}.{part}");
    for (of, gain, order) in [
        ("query", ATTENTION_GAIN, [0, 2, 1, 3]),
        ("key", ATTENTION_GAIN, [0, 2, 3, 1]),
        ("value", LINEAR_GAIN, [0, 2, 1, 3]),
    ] {
        let (flat, split) = (part(&format!("{of}.flat")), part(&format!("{of}.split")));
        model = dense(model, x, &flat, [hidden, hidden], gain)
            .node(Node::new("Reshape", &[&flat, "split"], &split))
            .node(Node::new("Transpose", &[&split], &part(of)).ints("perm", &order));
    }
    let step = |operator: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<_> = inputs.iter().map(|input| part(input)).collect();
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        Node::new(operator, &inputs, &part(output))
    };
    model = model
        .node(step("MatMul", &["query", "key"], "scores"))
        .node(Node::new("Div", &[&part("scores"), "root_head"], &part("scaled")))
        .node(Node::new("Add", &[&part("scaled"), "mask"], &part("masked")))
        .node(step("Softmax", &["masked"], "shares").int("axis", -1))
        .node(step("MatMul", &["shares", "value"], "mixed"))
        .node(step("Transpose", &["mixed"], "mixed.rows").ints("perm", &[0, 2, 1, 3]))
        .node(Node::new("Reshape", &[&part("mixed.rows"), "merged"], &part("merged")));
    model = dense(model, &part("merged"), &part("attention"), [hidden, hidden], LINEAR_GAIN);
    model = model.node(Node::new("Add", &[&part("attention"), x], &part("attended")));
    model = norm(model, &part("attended"), &part("attention.norm"), hidden);
    model = dense(model, &part("attention.norm"), &part("up"), [hidden, feed_forward], LINEAR_GAIN);
    model = model
        .node(Node::new("Div", &[&part("up"), "root_two"], &part("gelu.scaled")))
        .node(step("Erf", &["gelu.scaled"], "gelu.erf"))
        .node(Node::new("Add", &[&part("gelu.erf"), "one"], &part("gelu.gate")))
        .node(step("Mul", &["up", "gelu.gate"], "gelu.gated"))
        .node(Node::new("Mul", &[&part("gelu.gated"), "half"], &part("gelu")));
    model = dense(model, &part("gelu"), &part("down"), [feed_forward, hidden], LINEAR_GAIN);
    model = model.node(step("Add", &["down", "attention.norm"], "fed"));
    (norm(model, &part("fed"), &part("norm"), hidden), part("norm"))
}

/// A product with a bias, as exporters write a linear layer on three axes.
fn dense(model: Model, x: &str, name: &str, [from, to]: [i64; 2], gain: f64) -> Model {
    let [weight, bias, product] =
        ["weight", "bias", "product"].map(|part| format!("{name}.{part}"));
    model
        .weight(&weight, &[from, to], from, gain)
        .bias(&bias, to)
        .node(Node::new("MatMul", &[x, &weight], &product))
        .node(Node::new("Add", &[&bias, &product], name))
}

fn norm(model: Model, x: &str, name: &str, size: i64) -> Model {
    let (scale, bias) = (format!("{name}.scale"), format!("{name}.bias"));
    let node = Node::new("LayerNormalization", &[x, &scale, &bias], name);
    model.scale(&scale, size).bias(&bias, size).node(node.int("axis", -1).float("epsilon", EPSILON))
}
