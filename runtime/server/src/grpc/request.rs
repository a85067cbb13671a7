//! A message becomes a [`Request`]: tensors, parameters, and what is wanted back. One copy of each raw
//! tensor's bytes is made.

use super::{
    contents,
    parameters::read as read_parameters,
    protocol::{
        InferParameter, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
};
use crate::{
    refusal::{Refusal, excerpt},
    rest::HEAVY_BYTES,
};
use fuelbox_abi::{DataType, NAME_BYTES_MAX, Shape, TensorError, TensorView};
use fuelbox_engine::{Signature, Tensor};
use fuelbox_oip::{Document, Limits, OipError, Request, Requested, RequestedOutput, TensorFault};
use prost::bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::block_in_place;

/// Reads a message for a model of this signature.
pub(super) fn read(message: ModelInferRequest, signature: &Signature) -> Result<Request, Refusal> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } =
        message;
    let parameters = read_parameters(parameters)?;
    let outputs = outputs.into_iter().map(requested).collect::<Result<Vec<_>, _>>()?;
    check_twice("requested output", outputs.iter().map(|output| output.name.as_str()))?;
    // All outputs are raw.
    let requested = Requested { outputs, binary: true };
    requested.check(signature)?;
    check_twice("input", inputs.iter().map(|input| input.name.as_str()))?;
    let bytes: usize = raw.iter().map(Bytes::len).sum();
    let read = || read_inputs(inputs, &raw);
    let mut inputs = if bytes > HEAVY_BYTES { block_in_place(read) } else { read() }?;
    // The model's order, so that one request has one encoding however it was written.
    let place = |tensor: &Tensor| {
        let place = signature.inputs.iter().position(|input| input.name == tensor.name);
        place.unwrap_or(usize::MAX)
    };
    inputs.sort_by_key(place);
    let id = Some(id).filter(|id| !id.is_empty());
    Ok(Request { id, parameters, inputs, requested })
}

fn read_inputs(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Vec<Tensor>, Refusal> {
    let typed = |input: &&InferInputTensor| {
        input.contents.as_ref().is_some_and(|contents| !contents::is_empty(contents))
    };
    if let Some(input) = inputs.iter().find(typed).filter(|_| !raw.is_empty()) {
        let name = excerpt(&input.name);
        let sentence =
            format!("input '{name}': both contents and raw_input_contents, allowed is one of them");
        return Err(Refusal::bad(sentence));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (found, needed) = (raw.len(), inputs.len());
        let sentence = format!(
            "raw_input_contents: found {found} entries, expected one for each of {needed} inputs"
        );
        return Err(Refusal::bad(sentence));
    }
    let mut left = Limits::default().tensor_bytes_max;
    let mut tensors = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let tensor = read_input(input, raw.get(index))?;
        let document = Document::Request;
        let (found, allowed) = (tensor.bytes.len() as u64, left);
        left = left.checked_sub(found).ok_or(OipError::TooLarge { document, found, allowed })?;
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn read_input(input: InferInputTensor, raw: Option<&Bytes>) -> Result<Tensor, Refusal> {
    let InferInputTensor { name, datatype, shape: dims, parameters, contents } = input;
    if name.len() > NAME_BYTES_MAX {
        return Err(OipError::Name { found: name.len(), allowed: NAME_BYTES_MAX }.into());
    }
    let fault = |fault: TensorFault| -> Refusal {
        OipError::Tensor { document: Document::Request, name: excerpt(&name), fault }.into()
    };
    if has_region(&parameters) {
        return Err(fault(TensorFault::SharedMemory));
    }
    let unknown = || TensorFault::DataType { found: excerpt(&datatype) };
    let datatype = DataType::from_name(&datatype).ok_or_else(|| fault(unknown()))?;
    let shape = shape_of(&dims).map_err(fault)?;
    let count = shape.element_count();
    let count =
        count.ok_or_else(|| fault(TensorError::ShapeOverflow { shape, datatype }.into()))?;
    let bytes = match raw {
        Some(raw) => {
            let checked = TensorView { name: &name, datatype, shape, bytes: raw }.check();
            checked.map_err(|error| fault(error.into()))?;
            raw.to_vec()
        }
        None => contents::bytes_of(&contents.unwrap_or_default(), datatype, count)
            .map_err(|error| Refusal::bad(format!("input '{}': {error}", excerpt(&name))))?,
    };
    Ok(Tensor { name, datatype, shape, bytes })
}

fn shape_of(dims: &[i64]) -> Result<Shape, TensorFault> {
    let size = |(index, &found): (usize, &i64)| {
        u64::try_from(found).map_err(|_| TensorFault::Dimension { index, found })
    };
    let sizes = dims.iter().enumerate().map(size).collect::<Result<Vec<_>, _>>()?;
    Shape::new(&sizes).ok_or(TensorFault::Rank { found: dims.len() })
}

fn requested(output: InferRequestedOutputTensor) -> Result<RequestedOutput, Refusal> {
    let InferRequestedOutputTensor { name, parameters } = output;
    let refused = |reason: String| -> Refusal {
        OipError::OutputOption { name: excerpt(&name), reason }.into()
    };
    if has_region(&parameters) {
        return Err(refused("shared memory is not offered".into()));
    }
    let choice = parameters.get("classification").map(|parameter| &parameter.parameter_choice);
    let count = match choice {
        None => Ok(0),
        Some(Some(ParameterChoice::Int64Param(count))) => u64::try_from(*count),
        Some(Some(ParameterChoice::Uint64Param(count))) => Ok(*count),
        Some(
            None
            | Some(
                ParameterChoice::BoolParam(_)
                | ParameterChoice::StringParam(_)
                | ParameterChoice::DoubleParam(_),
            ),
        ) => u64::try_from(-1i64),
    };
    let count = count.map_err(|_| refused("classification takes a whole number from 0".into()))?;
    // None is what 0 stands for.
    Ok(RequestedOutput { name, binary: None, classes: Some(count).filter(|&count| count > 0) })
}

fn has_region(parameters: &BTreeMap<String, InferParameter>) -> bool {
    parameters.contains_key("shared_memory_region")
}

/// Whether every name is there once.
fn check_twice<'a>(
    tensor: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(OipError::Twice { tensor, name: excerpt(name) }.into());
        }
    }
    Ok(())
}
