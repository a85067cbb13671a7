//! Tensors of messages and tensors of tract.

use crate::{Element, Elements, Error, Outputs, outputs::Payload};
use anyhow::{Context, Result};
use fuelbox_abi::{DataType, TensorView};
use half::f16;
use tract_onnx::prelude::{Datum, DatumType, TDim, TValue, TVec, Tensor, tract_ndarray::ArrayD};

/// tract's name for a datatype.
pub(super) fn datum_type(datatype: DataType) -> DatumType {
    match datatype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
    }
}

/// The datatype under which tract's elements leave the guest; none for what no message can carry.
pub(super) fn datatype(datum_type: DatumType) -> Option<DataType> {
    Some(match datum_type.unquantized() {
        DatumType::Bool => DataType::Bool,
        DatumType::U8 => DataType::Uint8,
        DatumType::U16 => DataType::Uint16,
        DatumType::U32 => DataType::Uint32,
        DatumType::U64 => DataType::Uint64,
        DatumType::I8 => DataType::Int8,
        DatumType::I16 => DataType::Int16,
        DatumType::I32 => DataType::Int32,
        // Dimensions that were computed from shapes: whole numbers, once all shapes are known.
        DatumType::I64 | DatumType::TDim => DataType::Int64,
        DatumType::F16 => DataType::Fp16,
        DatumType::F32 => DataType::Fp32,
        DatumType::F64 => DataType::Fp64,
        DatumType::String => DataType::Bytes,
        _ => return None,
    })
}

/// A tensor of a message as one of tract: one copy.
///
/// # Errors
/// When bytes and shape disagree, or a string is not UTF-8.
pub fn to_tract(view: &TensorView<'_>) -> Result<Tensor> {
    let name = view.name;
    view.check().with_context(|| format!("tensor '{name}'"))?;
    let shape = view.shape.iter().map(|&dim| usize::try_from(dim));
    let shape: TVec<usize> = shape.collect::<Result<_, _>>()?;
    match view.datatype {
        DataType::Uint8 => numbers::<u8>(view, &shape),
        DataType::Uint16 => numbers::<u16>(view, &shape),
        DataType::Uint32 => numbers::<u32>(view, &shape),
        DataType::Uint64 => numbers::<u64>(view, &shape),
        DataType::Int8 => numbers::<i8>(view, &shape),
        DataType::Int16 => numbers::<i16>(view, &shape),
        DataType::Int32 => numbers::<i32>(view, &shape),
        DataType::Int64 => numbers::<i64>(view, &shape),
        DataType::Fp16 => numbers::<f16>(view, &shape),
        DataType::Fp32 => numbers::<f32>(view, &shape),
        DataType::Fp64 => numbers::<f64>(view, &shape),
        DataType::Bool => {
            let mut tensor = Tensor::zero_dt(DatumType::Bool, &shape)?;
            let mut plain = tensor.try_as_plain_ram_mut()?;
            for (to, from) in plain.as_slice_mut::<bool>()?.iter_mut().zip(view.bools()?) {
                *to = from;
            }
            Ok(tensor)
        }
        DataType::Bytes => {
            let strings = view.strings().map(|bytes| {
                String::from_utf8(bytes.to_vec()).map_err(|error| {
                    Error::invalid_input(format!("tensor '{name}': {error}, UTF-8 is allowed"))
                })
            });
            let strings = strings.collect::<Result<Vec<_>, _>>()?;
            Ok(ArrayD::from_shape_vec(&*shape, strings)?.into())
        }
    }
}

fn numbers<T: Element + Datum>(view: &TensorView<'_>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_shape(shape, view.elements::<T>()?)
}

/// Outputs with one more: a tensor of tract, which is not copied before the reply is written.
///
/// # Errors
/// When no message can carry its elements.
pub fn from_tract(outputs: Outputs, name: &str, tensor: TValue) -> Result<Outputs> {
    let shape: TVec<u64> = tensor.shape().iter().map(|&dim| dim as u64).collect();
    match tensor.datum_type() {
        DatumType::String => {
            let plain = tensor.try_as_plain_ram()?;
            outputs.with_strings(name, &shape, plain.as_slice::<String>()?)
        }
        DatumType::TDim => {
            let plain = tensor.try_as_plain_ram()?;
            let sizes = plain.as_slice::<TDim>()?.iter().map(TDim::to_i64);
            outputs.with(name, &shape, sizes.collect::<Result<Vec<i64>, _>>()?)
        }
        datum_type => {
            let datatype = datatype(datum_type).ok_or_else(|| {
                Error::unsupported(format!(
                    "output '{name}' has elements of type {datum_type:?}, which no message carries"
                ))
            })?;
            // Brings bytes to memory that are elsewhere, and names storage that is no plain array.
            tensor.try_as_plain_ram()?;
            outputs.with_payload(name, datatype, &shape, Box::new(Plain(tensor)))
        }
    }
}

/// A tensor of tract that is known to be a plain array in memory.
struct Plain(TValue);

impl Payload for Plain {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_abi::{Shape, push_string_element};

    fn round_trip(datatype: DataType, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
        // Elements are read in place, so a buffer aligned like a message's is needed.
        let mut buffer = crate::buffer::Buffer::new(bytes.len()).expect("memory");
        buffer.as_mut_slice().copy_from_slice(bytes);
        let view = TensorView {
            name: "t",
            datatype,
            shape: Shape::new(shape).expect("rank"),
            bytes: buffer.as_slice(),
        };
        let tensor = to_tract(&view).expect("to tract");
        assert_eq!(tensor.datum_type(), datum_type(datatype));
        let outputs = from_tract(Outputs::new(), "t", tensor.into()).expect("from tract");
        let back = outputs.tensor("t").expect("there");
        assert_eq!((back.datatype, &*back.shape), (datatype, shape));
        back.bytes.to_vec()
    }

    #[test]
    fn every_datatype_goes_through_tract_unchanged() {
        for datatype in DataType::ALL {
            let bytes = match (datatype, datatype.size_bytes()) {
                (DataType::Bool, _) => vec![1, 0, 0, 1, 1, 0],
                (_, Some(size)) => (0..6 * size as u8).collect(),
                (_, None) => {
                    let mut bytes = Vec::new();
                    for word in ["", "seven", "\u{1F980}", "a\0b", "x", "y"] {
                        push_string_element(&mut bytes, word.as_bytes()).expect("short");
                    }
                    bytes
                }
            };
            assert_eq!(round_trip(datatype, &[2, 3], &bytes), bytes, "{datatype}");
        }
        assert_eq!(round_trip(DataType::Fp32, &[], &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert!(round_trip(DataType::Fp64, &[3, 0], &[]).is_empty());
    }

    #[test]
    fn strings_are_utf8() {
        let mut bytes = Vec::new();
        push_string_element(&mut bytes, &[0xff]).expect("short");
        let view = TensorView {
            name: "t",
            datatype: DataType::Bytes,
            shape: Shape::new(&[1]).expect("rank"),
            bytes: &bytes,
        };
        let error = to_tract(&view).expect_err("no UTF-8").to_string();
        assert!(error.starts_with("tensor 't': invalid utf-8"), "{error}");
    }

    #[test]
    fn dimensions_leave_as_int64() {
        let dims = tract_onnx::prelude::tensor1(&[TDim::from(2), TDim::from(-3)]);
        let outputs = from_tract(Outputs::new(), "t", dims.into()).expect("numbers");
        assert_eq!(outputs.elements::<i64>("t").expect("INT64"), [2, -3]);
    }
}
