//! Weights: every tensor in the file is whole, and of a type that tract has.

use super::graphs;
use crate::{
    Error,
    tract::{shape::TENSOR_BYTES_MAX, tensor::datatype},
};
use fuelbox_abi::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, TensorProto,
    tensor_proto::{DataLocation, DataType as OnnxType},
};
use tract_onnx::prelude::DatumType;

/// Whether all initialisers and all tensors in attributes, in bodies too, can be read.
pub(super) fn check(graph: &GraphProto) -> Result<(), Error> {
    graphs::each(graph, &mut |graph| {
        if !graph.sparse_initializer.is_empty() {
            return Err(sparse(&graph.name));
        }
        graph.initializer.iter().try_for_each(whole)?;
        for node in &graph.node {
            for attribute in &node.attribute {
                let name = || format!("{}.{}", node.name, attribute.name);
                if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
                    return Err(sparse(&name()));
                }
                tensors(attribute).try_for_each(|tensor| {
                    if tensor.name.is_empty() {
                        let named = TensorProto { name: name(), ..tensor.clone() };
                        return whole(&named);
                    }
                    whole(tensor)
                })?;
            }
        }
        Ok(())
    })
}

fn tensors(attribute: &AttributeProto) -> impl Iterator<Item = &TensorProto> {
    attribute.t.iter().chain(&attribute.tensors)
}

fn sparse(name: &str) -> Error {
    Error::unsupported(format!("'{name}' has sparse tensors, dense ones are supported"))
}

fn whole(tensor: &TensorProto) -> Result<(), Error> {
    let name = &tensor.name;
    if tensor.data_location == Some(DataLocation::External as i32) {
        let mut entries = tensor.external_data.iter();
        let location = entries.find(|entry| entry.key == "location");
        let location = location.map_or("", |entry| &entry.value);
        return Err(Error::unsupported(format!(
            "tensor '{name}' keeps its data in another file ('{location}'): save the model with all \
             data in one file"
        )));
    }
    let datatype = element_type(name, tensor.data_type)?;
    let fits = |&dim: &i64| u64::try_from(dim).is_ok_and(|dim| dim <= TENSOR_BYTES_MAX);
    if !tensor.dims.iter().all(fits) {
        return Err(Error::invalid_model(format!(
            "tensor '{name}': shape {:?} found, 0 to {TENSOR_BYTES_MAX} per dimension allowed",
            tensor.dims
        )));
    }
    let count = if tensor.dims.contains(&0) {
        Some(0)
    } else {
        let mut dims = tensor.dims.iter();
        dims.try_fold(1u64, |count, &dim| count.checked_mul(dim.unsigned_abs()))
    };
    let (unit, found, needed) = if tensor.raw_data.is_empty() {
        ("elements", elements(tensor, datatype), count)
    } else {
        let size = datatype.size_bytes().ok_or_else(|| {
            Error::invalid_model(format!("tensor '{name}': strings found as raw data"))
        })?;
        let needed = count.and_then(|count| count.checked_mul(size));
        ("bytes", tensor.raw_data.len(), needed)
    };
    if needed == Some(found as u64) {
        return Ok(());
    }
    let needed = needed.map_or("more than 64 bits can count".into(), |needed| needed.to_string());
    Err(Error::invalid_model(format!(
        "tensor '{name}': {found} {unit} found, shape {:?} of {datatype} takes {needed}",
        tensor.dims
    )))
}

/// The datatype behind ONNX's number, when tract has it.
pub(super) fn element_type(name: &str, code: i32) -> Result<DataType, Error> {
    let onnx = OnnxType::try_from(code)
        .map_err(|_| Error::invalid_model(format!("'{name}' has unknown element type {code}")))?;
    let found = DatumType::try_from(onnx).ok().and_then(datatype);
    found.ok_or_else(|| {
        Error::unsupported(format!("'{name}' has elements of type {}", onnx.as_str_name()))
    })
}

/// Elements outside of the raw data, where tract looks for those of this type.
fn elements(tensor: &TensorProto, datatype: DataType) -> usize {
    match datatype {
        DataType::Bool
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Fp16 => tensor.int32_data.len(),
        DataType::Uint64 | DataType::Int64 => tensor.int64_data.len(),
        DataType::Fp32 => tensor.float_data.len(),
        DataType::Fp64 => tensor.double_data.len(),
        DataType::Bytes => tensor.string_data.len(),
    }
}
