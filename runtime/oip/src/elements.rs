//! The elements of a tensor, one by one, as values that can be serialised and compared.
//!
//! In JSON: booleans and numbers as such, floats in the shortest form that reads back as the same
//! number of their datatype; what JSON has no numbers for as "NaN", "Infinity" and "-Infinity"; BYTES
//! as text when they are UTF-8, and as {"base64": "..."} when they are not. Nothing is lost but the
//! payload of a NaN.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fuelbox_engine::{DataType, Tensor};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Element<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    /// Half precision too: every half is a single.
    Single(f32),
    Double(f64),
    Bytes(&'a [u8]),
}

/// All elements, in row-major order.
pub fn elements(tensor: &Tensor) -> impl Iterator<Item = Element<'_>> {
    let datatype = tensor.datatype;
    let numbers = datatype.size_bytes().map(|size| {
        tensor.bytes.chunks_exact(size as usize).map(move |bytes| number(datatype, bytes))
    });
    let strings =
        (datatype == DataType::Bytes).then(|| tensor.view().strings().map(Element::Bytes));
    numbers.into_iter().flatten().chain(strings.into_iter().flatten())
}

fn number(datatype: DataType, bytes: &[u8]) -> Element<'static> {
    let mut low = [0; 8];
    low[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(low);
    match datatype {
        DataType::Bool => Element::Bool(bits != 0),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => {
            Element::Unsigned(bits)
        }
        DataType::Int8 => Element::Signed((bits as i8).into()),
        DataType::Int16 => Element::Signed((bits as i16).into()),
        DataType::Int32 => Element::Signed((bits as i32).into()),
        DataType::Int64 => Element::Signed(bits as i64),
        DataType::Fp16 => Element::Single(half::f16::from_bits(bits as u16).to_f32()),
        DataType::Fp32 => Element::Single(f32::from_bits(bits as u32)),
        DataType::Fp64 => Element::Double(f64::from_bits(bits)),
        DataType::Bytes => Element::Bytes(&[]), // has no size: never asked for
    }
}

impl Element<'_> {
    /// The value as a number, to sum up and to show.
    pub fn value(&self) -> Option<f64> {
        match *self {
            Self::Unsigned(value) => Some(value as f64),
            Self::Signed(value) => Some(value as f64),
            Self::Single(value) => Some(value.into()),
            Self::Double(value) => Some(value),
            Self::Bool(_) | Self::Bytes(_) => None,
        }
    }

    /// What it is that JSON itself has no form for; none when it has one.
    pub(crate) fn not_json(&self) -> Option<&'static str> {
        match *self {
            Self::Single(value) if !value.is_finite() => Some(float_name(value.into())),
            Self::Double(value) if !value.is_finite() => Some(float_name(value)),
            Self::Bytes(bytes) if str::from_utf8(bytes).is_err() => Some("not UTF-8"),
            Self::Bool(_) | Self::Unsigned(_) | Self::Signed(_) => None,
            Self::Single(_) | Self::Double(_) | Self::Bytes(_) => None,
        }
    }
}

/// The name of a float that JSON has no number for.
pub(crate) fn float_name(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Bool(value) => to.serialize_bool(value),
            Self::Unsigned(value) => to.serialize_u64(value),
            Self::Signed(value) => to.serialize_i64(value),
            Self::Single(value) if value.is_finite() => to.serialize_f32(value),
            Self::Single(value) => to.serialize_str(float_name(value.into())),
            Self::Double(value) if value.is_finite() => to.serialize_f64(value),
            Self::Double(value) => to.serialize_str(float_name(value)),
            Self::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => to.serialize_str(text),
                Err(_) => {
                    let mut map = to.serialize_map(Some(1))?;
                    map.serialize_entry("base64", &STANDARD.encode(bytes))?;
                    map.end()
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_engine::Shape;

    fn tensor(datatype: DataType, dims: &[u64], bytes: &[u8]) -> Tensor {
        let shape = Shape::new(dims).expect("rank");
        let tensor = Tensor { name: "y".into(), datatype, shape, bytes: bytes.into() };
        tensor.view().check().expect("fits");
        tensor
    }

    #[test]
    fn json_reads_back_as_the_same_elements() {
        let singles = [0.1f32, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY, f32::NAN];
        for (tensor, expected) in [
            (tensor(DataType::Bool, &[2], &[0, 1]), "[false,true]"),
            (tensor(DataType::Uint64, &[1], &[255; 8]), "[18446744073709551615]"),
            (tensor(DataType::Int8, &[2], &[128, 1]), "[-128,1]"),
            (tensor(DataType::Int16, &[1], &[254, 255]), "[-2]"),
            (tensor(DataType::Int64, &[1], &i64::MIN.to_le_bytes()), "[-9223372036854775808]"),
            (tensor(DataType::Fp16, &[1], &[0x66, 0x2e]), "[0.099975586]"),
            (
                tensor(DataType::Fp32, &[6], &singles.map(f32::to_le_bytes).concat()),
                "[0.1,-0.0,5.877472e-39,3.4028235e+38,\"Infinity\",\"NaN\"]",
            ),
            (
                tensor(
                    DataType::Fp64,
                    &[2],
                    &[0.1f64, f64::NEG_INFINITY].map(f64::to_le_bytes).concat(),
                ),
                "[0.1,\"-Infinity\"]",
            ),
            (
                tensor(DataType::Bytes, &[2], &[2, 0, 0, 0, 195, 164, 1, 0, 0, 0, 255]),
                "[\"ä\",{\"base64\":\"/w==\"}]",
            ),
        ] {
            let all: Vec<_> = elements(&tensor).collect();
            assert_eq!(serde_json::to_string(&all).expect("serialises"), expected);
        }
    }
}
