//! Operators: all that tract lacks are named at once.

use super::graphs;
use crate::Error;
use std::collections::BTreeMap;
use tract_onnx::{Onnx, pb::GraphProto};

/// The domains whose operators tract implements; it looks at names only, so an operator of another
/// domain would silently be taken for its namesake.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Whether every node, in bodies too, has an operator that is there.
pub(super) fn check(graph: &GraphProto, framework: &Onnx) -> Result<(), Error> {
    let mut missing = BTreeMap::<(&str, &str), usize>::new();
    graphs::each(graph, &mut |graph| {
        for node in &graph.node {
            let (domain, name) = (node.domain.as_str(), node.op_type.as_str());
            if !DOMAINS.contains(&domain) || !framework.op_register.0.contains_key(name) {
                *missing.entry((domain, name)).or_default() += 1;
            }
        }
        Ok(())
    })?;
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing.iter().map(|(&(domain, name), &count)| {
        let dot = if domain.is_empty() { "" } else { "." };
        let nodes = if count == 1 { "node" } else { "nodes" };
        format!("{domain}{dot}{name} ({count} {nodes})")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    Err(Error::unsupported(format!("operators that are not supported: {named}")))
}
