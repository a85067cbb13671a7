//! Initialisers: weights go to tract one at a time, each out of the file's tensor before the next one
//! is read.
//!
//! tract reads all weights of a graph before it lets go of any, so that there are two of each. Here
//! they are taken out of the graph first. tract then makes an input of each name that it misses, and
//! those become constants.

use crate::Error;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};
use tract_onnx::{
    Onnx,
    model::ParseResult,
    pb::{GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType},
    prelude::{Arc, InferenceFact, InferenceModel},
    tensor::load_tensor,
    tract_core::{internal::TypedFact, ops::konst::Const},
};

/// Weights by name.
#[derive(Debug)]
pub(super) struct Initialisers(BTreeMap<String, TensorProto>);

/// Takes the weights of the outermost graph. Those that are outputs as they are stay: tract looks for
/// outputs among what the graph has.
pub(super) fn take(graph: &mut GraphProto) -> Initialisers {
    let outputs: BTreeSet<&str> = graph.output.iter().map(|output| &*output.name).collect();
    let is_output = |name: &str| outputs.contains(name);
    let mut taken = BTreeMap::new();
    for weight in mem::take(&mut graph.initializer) {
        if is_output(&weight.name) {
            graph.initializer.push(weight);
        } else {
            taken.insert(weight.name.clone(), weight);
        }
    }
    // Some exporters write weights as nodes.
    graph.node.retain_mut(|node| match constant(node) {
        Some((name, value)) if !is_output(name) => {
            taken.insert(name.to_owned(), mem::take(value));
            false
        }
        _ => true,
    });
    // Files of before 2019 list weights among the inputs.
    graph.input.retain(|input| !taken.contains_key(&input.name));
    Initialisers(taken)
}

/// The output and the value of a node that is nothing but a tensor.
fn constant(node: &mut NodeProto) -> Option<(&str, &mut TensorProto)> {
    let ("Constant", [output], [attribute]) = (&*node.op_type, &*node.output, &mut *node.attribute)
    else {
        return None;
    };
    let is_tensor = attribute.name == "value" && attribute.r#type == AttributeType::Tensor as i32;
    let value = attribute.t.as_mut().filter(|_| is_tensor)?;
    Some((output, value))
}

impl Initialisers {
    /// Puts the weights where tract made inputs for them. Weights that no node takes go.
    pub(super) fn put(mut self, framework: &Onnx, parsed: ParseResult) -> Result<InferenceModel> {
        let ParseResult { mut model, unresolved_inputs, outlets_by_name } = parsed;
        self.0.retain(|name, _| outlets_by_name.contains_key(name));
        let mut inputs = mem::take(&mut model.inputs);
        for name in unresolved_inputs {
            let lost = || Error::invalid_model(format!("'{name}' comes from nowhere"));
            let (weight, &outlet) =
                self.0.remove(&name).zip(outlets_by_name.get(&name)).ok_or_else(lost)?;
            let tensor = Arc::new(load_tensor(&*framework.provider, &weight, None)?);
            drop(weight);
            let fact = TypedFact::try_from(&tensor)?;
            model.set_outlet_fact(outlet, InferenceFact::from(fact))?;
            model.node_mut(outlet.node).op = Box::new(Const::new(tensor)?);
            inputs.retain(|input| *input != outlet);
        }
        model.set_input_outlets(&inputs).context("inputs of the graph")?;
        Ok(model)
    }
}
