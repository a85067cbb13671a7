//! What the tests ask of.

#![allow(dead_code)] // each test takes what it needs

pub(crate) mod arbitrary;

use fuelbox_engine::{DataType, OwnedDim, Shape, Signature, Tensor, TensorSignature};
use fuelbox_oip::Limits;

/// Inputs `x` and `y`, outputs `a`, `b` and `c`, the last of BYTES.
pub(crate) fn signature() -> Signature {
    let tensor = |name: &str, datatype| sole(name, datatype, None);
    Signature {
        inputs: vec![tensor("x", DataType::Int8), tensor("y", DataType::Int8)],
        outputs: vec![
            tensor("a", DataType::Fp32),
            tensor("b", DataType::Int64),
            tensor("c", DataType::Bytes),
        ],
    }
}

pub(crate) fn sole(
    name: &str,
    datatype: DataType,
    shape: Option<Vec<OwnedDim>>,
) -> TensorSignature {
    TensorSignature { name: name.into(), datatype, shape }
}

/// A mebibyte of tensors.
pub(crate) fn limits() -> Limits {
    Limits { tensor_bytes_max: 1 << 20 }
}

pub(crate) fn tensor(name: &str, datatype: DataType, dims: &[u64], bytes: &[u8]) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let tensor = Tensor { name: name.into(), datatype, shape, bytes: bytes.into() };
    tensor.view().check().unwrap();
    tensor
}
