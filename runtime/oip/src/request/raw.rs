//! The raw binary request: a body that is nothing but the one input of a model.

use super::Limits;
use crate::error::{Document, OipError, TensorFault};
use fuelbox_abi::{Shape, push_string_element};
use fuelbox_engine::{OwnedDim, Signature, Tensor, TensorSignature};

/// The tensor that the body is.
pub(super) fn read(
    body: &[u8],
    signature: &Signature,
    limits: &Limits,
) -> Result<Tensor, OipError> {
    let [input] = signature.inputs.as_slice() else {
        let found = signature.inputs.len();
        return Err(refused(format!("the model takes {found} inputs, allowed is one")));
    };
    let (document, found, allowed) =
        (Document::Request, body.len() as u64, limits.tensor_bytes_max);
    if found > allowed {
        return Err(OipError::TooLarge { document, found, allowed });
    }
    let tensor = |dims: &[u64], bytes| {
        let TensorSignature { name, datatype, .. } = input;
        let shape = Shape::new(dims).ok_or_else(|| no_shape(input))?;
        Ok(Tensor { name: name.clone(), datatype: *datatype, shape, bytes })
    };
    let Some(size) = input.datatype.size_bytes() else {
        let mut element = Vec::with_capacity(body.len() + 4);
        let long = || refused(format!("an element of {found} bytes, allowed are {}", u32::MAX));
        push_string_element(&mut element, body).ok_or_else(long)?;
        return tensor(&ones(input)?, element);
    };
    let tensor = tensor(&sized(input, found, size)?, body.to_vec())?;
    let name = || input.name.clone();
    let fault = |fault| OipError::Tensor { document, name: name(), fault };
    tensor.view().check().map_err(|error| fault(TensorFault::Bytes(error)))?;
    Ok(tensor)
}

/// The dimensions of a tensor with the one element that the body is.
fn ones(input: &TensorSignature) -> Result<Vec<u64>, OipError> {
    let one = |dim: &OwnedDim| match dim {
        OwnedDim::Fixed(1) | OwnedDim::Symbol(_) | OwnedDim::Any(()) => Ok(1),
        OwnedDim::Fixed(_) => {
            let shape = input.shape_text();
            Err(refused(format!("the body is one BYTES element, the model takes {shape}")))
        }
    };
    match &input.shape {
        Some(dims) => dims.iter().map(one).collect(),
        None => Ok(vec![1]),
    }
}

/// The dimensions, the free one as large as the body makes it.
fn sized(
    input: &TensorSignature,
    body_bytes: u64,
    element_bytes: u64,
) -> Result<Vec<u64>, OipError> {
    let dims = input.shape.as_deref().ok_or_else(|| no_shape(input))?;
    let fixed = |dim: &OwnedDim| match dim {
        OwnedDim::Fixed(size) => Some(*size),
        OwnedDim::Symbol(_) | OwnedDim::Any(()) => None,
    };
    match dims.iter().filter(|dim| fixed(dim).is_none()).count() {
        // Whether the body is as long is asked of the tensor.
        0 => return Ok(dims.iter().filter_map(fixed).collect()),
        1 => {}
        _ => return Err(no_shape(input)),
    }
    // What does not fit 64 bits fits no body either.
    let row_bytes = dims.iter().filter_map(fixed).fold(element_bytes, u64::saturating_mul);
    let free = match (body_bytes, row_bytes) {
        (0, _) => 0,
        (_, 0) => return Err(not_whole(input, body_bytes, 0)),
        _ if !body_bytes.is_multiple_of(row_bytes) => {
            return Err(not_whole(input, body_bytes, row_bytes));
        }
        _ => body_bytes / row_bytes,
    };
    Ok(dims.iter().map(|dim| fixed(dim).unwrap_or(free)).collect())
}

fn no_shape(input: &TensorSignature) -> OipError {
    let shape = input.shape_text();
    refused(format!("the model takes shape {shape}, allowed is one free dimension"))
}

fn not_whole(input: &TensorSignature, body_bytes: u64, row_bytes: u64) -> OipError {
    let TensorSignature { datatype, .. } = input;
    let shape = input.shape_text();
    refused(format!(
        "{body_bytes} bytes found, shape {shape} of {datatype} takes multiples of {row_bytes}"
    ))
}

fn refused(reason: String) -> OipError {
    OipError::Raw { reason }
}
