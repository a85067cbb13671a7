//! The signature as the file declares it.

use super::weights::element_type;
use crate::{Dim, Error, Signature, TensorSpec};
use std::collections::BTreeSet;
use tract_onnx::pb::{
    GraphProto, TensorShapeProto, ValueInfoProto, tensor_shape_proto::dimension::Value, type_proto,
};

/// Inputs and outputs in the file's order, which is tract's as well.
pub(super) fn signature(graph: &GraphProto) -> Result<Signature, Error> {
    // Files of before 2019 list their weights among the inputs.
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|weight| &*weight.name).collect();
    let inputs = graph.input.iter();
    let inputs = inputs.filter(|input| !weights.contains(&*input.name));
    // A dimension without a name gets one, as the model has to be planned for a number.
    let name_it = |tensor: &str, index| Dim::Symbol(format!("{tensor}[{index}]"));
    let signature = Signature {
        inputs: specs("input", inputs, name_it)?,
        outputs: specs("output", graph.output.iter(), |_, _| Dim::Any)?,
    };
    if signature.outputs.is_empty() {
        return Err(Error::invalid_model("the model has no outputs"));
    }
    Ok(signature)
}

fn specs<'a>(
    role: &str,
    infos: impl Iterator<Item = &'a ValueInfoProto>,
    unnamed: impl Fn(&str, usize) -> Dim,
) -> Result<Vec<TensorSpec>, Error> {
    let mut specs: Vec<TensorSpec> = Vec::new();
    for info in infos {
        let name = &info.name;
        if name.is_empty() || specs.iter().any(|spec| spec.name == *name) {
            return Err(Error::invalid_model(format!(
                "{role} {} has the name '{name}', allowed are names that differ",
                specs.len()
            )));
        }
        let value = info.r#type.as_ref().and_then(|of| of.value.as_ref());
        let Some(type_proto::Value::TensorType(tensor)) = value else {
            return Err(Error::unsupported(format!(
                "{role} '{name}' is no tensor, tensors are supported"
            )));
        };
        specs.push(TensorSpec {
            name: name.clone(),
            datatype: element_type(name, tensor.elem_type)?,
            dims: tensor.shape.as_ref().map(|shape| dims(name, shape, &unnamed)),
        });
    }
    Ok(specs)
}

fn dims(name: &str, shape: &TensorShapeProto, unnamed: impl Fn(&str, usize) -> Dim) -> Vec<Dim> {
    let dims = shape.dim.iter().enumerate();
    dims.map(|(index, dim)| match &dim.value {
        Some(Value::DimValue(size)) => {
            // Some exporters write -1 for "unknown".
            u64::try_from(*size).map_or_else(|_| unnamed(name, index), Dim::Fixed)
        }
        Some(Value::DimParam(symbol)) if !symbol.is_empty() && symbol != "?" => {
            Dim::Symbol(symbol.clone())
        }
        Some(Value::DimParam(_)) | None => unnamed(name, index),
    })
    .collect()
}
