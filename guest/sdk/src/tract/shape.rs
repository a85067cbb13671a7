//! Binding: a declared signature and the shapes to plan for become one concrete shape per input.

use crate::{Dim, Error, Shapes, Signature, TensorSpec};
use fuelbox_abi::Shape;
use std::collections::BTreeMap;

/// Largest tensor: the largest allocation that 32-bit Wasm has. It is checked before tract computes
/// with dimensions, and is the same natively, so that a model is judged alike everywhere.
pub(super) const TENSOR_BYTES_MAX: u64 = i32::MAX as u64;

/// A number for every dimension of every input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// In the order of the signature's inputs.
    pub(super) inputs: Vec<Shape>,
    /// What each name in the signature's inputs stands for.
    pub(super) symbols: BTreeMap<String, u64>,
}

/// Binds every dimension; none when there are no shapes to plan for, and some are needed.
pub(super) fn bind(signature: &Signature, shapes: &Shapes) -> Result<Option<Bound>, Error> {
    let specs = &signature.inputs;
    for (name, _) in shapes.iter() {
        if !specs.iter().any(|spec| spec.name == name) {
            let allowed: Vec<_> = specs.iter().map(|spec| &spec.name).collect();
            return Err(Error::invalid_input(format!(
                "shape to plan for is of unknown input '{name}', allowed are {allowed:?}"
            )));
        }
    }
    let mut symbols = Vec::new();
    for spec in specs {
        if let Some(shape) = shapes.get(&spec.name) {
            spec.check_shape(&shape, &mut symbols)?;
        }
    }
    let symbols = symbols.into_iter().map(|(name, size)| (name.to_owned(), size)).collect();
    let mut inputs = Vec::with_capacity(specs.len());
    for spec in specs {
        match shapes.get(&spec.name).or_else(|| concrete(spec, &symbols)) {
            Some(shape) => inputs.push(within_limit(spec, shape)?),
            None if shapes.is_empty() => return Ok(None),
            None => {
                return Err(Error::invalid_input(format!(
                    "input '{}' has shape {}: a shape to plan for is needed",
                    spec.name,
                    spec.shape()
                )));
            }
        }
    }
    Ok(Some(Bound { inputs, symbols }))
}

fn concrete(spec: &TensorSpec, symbols: &BTreeMap<String, u64>) -> Option<Shape> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Symbol(name) => symbols.get(name).copied(),
        Dim::Any => None,
    };
    let sizes: Option<Vec<u64>> = spec.dims.as_ref()?.iter().map(size).collect();
    Shape::new(&sizes?)
}

fn within_limit(spec: &TensorSpec, shape: Shape) -> Result<Shape, Error> {
    let count = shape.element_count();
    // A string's own bytes come on top; 8 stands for no more than its place.
    let bytes = count.and_then(|count| count.checked_mul(spec.datatype.size_bytes().unwrap_or(8)));
    let dims_fit = shape.iter().all(|&dim| dim <= TENSOR_BYTES_MAX);
    if dims_fit && bytes.is_some_and(|bytes| bytes <= TENSOR_BYTES_MAX) {
        return Ok(shape);
    }
    Err(Error::invalid_input(format!(
        "input '{}': {} of shape {shape} found, up to {TENSOR_BYTES_MAX} bytes allowed",
        spec.name, spec.datatype
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_abi::DataType;

    fn check(shapes: &[(&str, &[u64])]) -> String {
        let signature = Signature::new()
            .input("ids", DataType::Int64, ["batch", "words"])
            .input("mask", DataType::Fp32, ["batch", "words"])
            .input("scale", DataType::Fp32, [2]);
        let shapes = shapes.iter().fold(Shapes::new(), |shapes, (name, dims)| {
            shapes.with(*name, dims).expect("one each")
        });
        match bind(&signature, &shapes) {
            Ok(Some(bound)) => format!("{:?} {:?}", bound.inputs, bound.symbols),
            Ok(None) => "needs shapes".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_dimension_is_bound_or_the_first_that_is_not_is_named() {
        for (shapes, says) in [
            (vec![], "needs shapes"),
            (vec![("ids", [1, 8].as_slice())], r#"[[1, 8], [1, 8], [2]] {"batch": 1, "words": 8}"#),
            (
                vec![("scale", &[2])],
                "input 'ids' has shape [batch, words]: a shape to plan for is needed",
            ),
            (
                vec![("ids", &[1, 8]), ("mask", &[1, 9])],
                "input 'mask': shape [1, 9] found, [batch, words] allowed with words = 8",
            ),
            (
                vec![("ids", &[1, 8]), ("scale", &[3])],
                "input 'scale': shape [3] found, [2] allowed",
            ),
            (
                vec![("idz", &[1, 8])],
                "shape to plan for is of unknown input 'idz', allowed are [\"ids\", \"mask\", \"scale\"]",
            ),
            (
                vec![("ids", &[1 << 20, 1 << 20])],
                "input 'ids': INT64 of shape [1048576, 1048576] found, up to 2147483647 bytes allowed",
            ),
            (
                vec![("ids", &[0, 1 << 40])],
                "input 'ids': INT64 of shape [0, 1099511627776] found, up to 2147483647 bytes allowed",
            ),
        ] {
            assert_eq!(check(&shapes), says);
        }
    }
}
