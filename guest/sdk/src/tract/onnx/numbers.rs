//! Numbers in place of symbols: what a file says about shapes inside its graph is kept where it is a
//! number once the inputs are known, and left to tract's own analysis where it is not.

use super::graphs;
use std::collections::BTreeMap;
use tract_onnx::pb::{
    GraphProto, ValueInfoProto, tensor_shape_proto::dimension::Value, type_proto,
};

/// Puts them. Left in, a symbol would contradict the number that analysis finds.
pub(super) fn put(graph: &mut GraphProto, symbols: &BTreeMap<String, u64>) {
    graphs::each_mut(graph, &mut |graph| {
        let infos = graph.input.iter_mut().chain(&mut graph.value_info);
        infos.chain(&mut graph.output).for_each(|info| put_in(info, symbols));
    });
}

fn put_in(info: &mut ValueInfoProto, symbols: &BTreeMap<String, u64>) {
    let value = info.r#type.as_mut().and_then(|of| of.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return;
    };
    for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
        if let Some(Value::DimParam(symbol)) = &dim.value {
            let size = symbols.get(symbol).and_then(|&size| i64::try_from(size).ok());
            dim.value = size.map(Value::DimValue);
        }
    }
}
