//! Graphs inside graphs, and whether each one can give what it says.

use crate::Error;
use std::collections::BTreeSet;
use tract_onnx::pb::{GraphProto, NodeProto};

/// Visits a graph and all graphs inside its nodes (bodies of `If`, `Scan`, ...). The protobuf reader
/// bounds how deep they go.
pub(super) fn each<'a>(
    graph: &'a GraphProto,
    visit: &mut impl FnMut(&'a GraphProto) -> Result<(), Error>,
) -> Result<(), Error> {
    visit(graph)?;
    graph.node.iter().flat_map(bodies).try_for_each(|body| each(body, visit))
}

/// As [`each`], to change them.
pub(super) fn each_mut(graph: &mut GraphProto, visit: &mut impl FnMut(&mut GraphProto)) {
    visit(graph);
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    for attribute in attributes {
        let bodies = attribute.g.iter_mut().chain(&mut attribute.graphs);
        bodies.for_each(|body| each_mut(body, visit));
    }
}

fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Every output of every graph has a source in that graph: tract takes that for granted.
pub(super) fn check(graph: &GraphProto) -> Result<(), Error> {
    each(graph, &mut |graph| {
        let outputs = graph.node.iter().flat_map(|node| &node.output);
        let inputs = graph.input.iter().map(|input| &input.name);
        let weights = graph.initializer.iter().map(|weight| &weight.name);
        let sources: BTreeSet<&String> = outputs.chain(inputs).chain(weights).collect();
        let lost = graph.output.iter().find(|output| !sources.contains(&output.name));
        lost.map_or(Ok(()), |output| {
            Err(Error::invalid_model(format!(
                "output '{}' of graph '{}' comes from no node, input or weight of that graph",
                output.name, graph.name
            )))
        })
    })
}
