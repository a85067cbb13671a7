//! Elements that are not raw: lists of the protocol become the bytes of a tensor.

use super::protocol::InferTensorContents;
use fuelbox_abi::{DataType, push_string_element};

/// Which list a datatype's elements are in.
const FIELDS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

/// How many elements each list has, in the order of [`FIELDS`].
fn counts(contents: &InferTensorContents) -> [usize; 8] {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    [
        bool_contents.len(),
        int_contents.len(),
        int64_contents.len(),
        uint_contents.len(),
        uint64_contents.len(),
        fp32_contents.len(),
        fp64_contents.len(),
        bytes_contents.len(),
    ]
}

/// Whether there are no elements.
pub(super) fn is_empty(contents: &InferTensorContents) -> bool {
    counts(contents) == [0; 8]
}

/// The place among [`FIELDS`]; none for datatypes that only travel raw.
fn field(datatype: DataType) -> Option<usize> {
    match datatype {
        DataType::Bool => Some(0),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some(1),
        DataType::Int64 => Some(2),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some(3),
        DataType::Uint64 => Some(4),
        DataType::Fp16 => None,
        DataType::Fp32 => Some(5),
        DataType::Fp64 => Some(6),
        DataType::Bytes => Some(7),
    }
}

/// Why a list is not a tensor.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum ContentsError {
    #[error("contents: {datatype} has no list of its own; send raw_input_contents")]
    Raw { datatype: DataType },
    #[error("contents: found {found}, {datatype} takes {allowed}")]
    Field { found: &'static str, datatype: DataType, allowed: &'static str },
    #[error("contents: found {found} elements, the shape has {needed}")]
    Count { found: usize, needed: u64 },
    #[error("contents: element {index} is {found}, {datatype} allows {min} to {max}")]
    Range { index: usize, found: i64, datatype: DataType, min: i64, max: i64 },
    #[error("contents: element {index} has {found} bytes, allowed are {}", u32::MAX)]
    Long { index: usize, found: usize },
}

/// The bytes of so many elements of this datatype.
pub(super) fn bytes_of(
    contents: &InferTensorContents,
    datatype: DataType,
    needed: u64,
) -> Result<Vec<u8>, ContentsError> {
    let counts = counts(contents);
    let own = field(datatype);
    let filled = |field: &usize| counts[*field] > 0 && Some(*field) != own;
    if let Some(other) = (0..FIELDS.len()).find(filled) {
        let allowed = own.ok_or(ContentsError::Raw { datatype })?;
        let (found, allowed) = (FIELDS[other], FIELDS[allowed]);
        return Err(ContentsError::Field { found, datatype, allowed });
    }
    let found = own.map_or(0, |own| counts[own]);
    if found as u64 != needed {
        return match own {
            Some(_) => Err(ContentsError::Count { found, needed }),
            None => Err(ContentsError::Raw { datatype }),
        };
    }
    let signed = &contents.int_contents;
    let unsigned = &contents.uint_contents;
    match datatype {
        DataType::Bool => Ok(contents.bool_contents.iter().map(|&bit| u8::from(bit)).collect()),
        DataType::Int8 => narrow(signed, datatype, i8::MIN.into(), i8::MAX.into(), i8::to_le_bytes),
        DataType::Int16 => {
            narrow(signed, datatype, i16::MIN.into(), i16::MAX.into(), i16::to_le_bytes)
        }
        DataType::Int32 => Ok(wide(signed, i32::to_le_bytes)),
        DataType::Int64 => Ok(wide(&contents.int64_contents, i64::to_le_bytes)),
        DataType::Uint8 => narrow(unsigned, datatype, 0, u8::MAX.into(), u8::to_le_bytes),
        DataType::Uint16 => narrow(unsigned, datatype, 0, u16::MAX.into(), u16::to_le_bytes),
        DataType::Uint32 => Ok(wide(unsigned, u32::to_le_bytes)),
        DataType::Uint64 => Ok(wide(&contents.uint64_contents, u64::to_le_bytes)),
        // No elements at all: checked above.
        DataType::Fp16 => Ok(Vec::new()),
        DataType::Fp32 => Ok(wide(&contents.fp32_contents, f32::to_le_bytes)),
        DataType::Fp64 => Ok(wide(&contents.fp64_contents, f64::to_le_bytes)),
        DataType::Bytes => {
            let elements = &contents.bytes_contents;
            let total: usize = elements.iter().map(|element| element.len() + 4).sum();
            let mut bytes = Vec::with_capacity(total);
            for (index, element) in elements.iter().enumerate() {
                let found = element.len();
                push_string_element(&mut bytes, element)
                    .ok_or(ContentsError::Long { index, found })?;
            }
            Ok(bytes)
        }
    }
}

fn wide<T: Copy, const N: usize>(list: &[T], to_bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(list.len() * N);
    list.iter().for_each(|&value| bytes.extend_from_slice(&to_bytes(value)));
    bytes
}

fn narrow<T: Copy + Into<i64> + TryInto<U>, U, const N: usize>(
    list: &[T],
    datatype: DataType,
    min: i64,
    max: i64,
    to_bytes: fn(U) -> [u8; N],
) -> Result<Vec<u8>, ContentsError> {
    let mut bytes = Vec::with_capacity(list.len() * N);
    for (index, &value) in list.iter().enumerate() {
        let found = value.into();
        let value = value.try_into();
        let value = value.map_err(|_| ContentsError::Range { index, found, datatype, min, max })?;
        bytes.extend_from_slice(&to_bytes(value));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> InferTensorContents {
        InferTensorContents::default()
    }

    #[test]
    fn each_datatype_has_its_list_and_its_range() {
        use DataType::*;
        let ints = |list: &[i32]| InferTensorContents { int_contents: list.into(), ..none() };
        let uints = |list: &[u32]| InferTensorContents { uint_contents: list.into(), ..none() };
        for (datatype, contents, expected) in [
            (
                Bool,
                InferTensorContents { bool_contents: vec![true, false], ..none() },
                Ok(vec![1, 0]),
            ),
            (Int8, ints(&[-128, 127]), Ok(vec![0x80, 0x7f])),
            (Int8, ints(&[0, 128]), Err("contents: element 1 is 128, INT8 allows -128 to 127")),
            (Int16, ints(&[-32_768, 1]), Ok(vec![0, 0x80, 1, 0])),
            (
                Int16,
                ints(&[-32_769, 1]),
                Err("contents: element 0 is -32769, INT16 allows -32768 to 32767"),
            ),
            (Int32, ints(&[-1, 1]), Ok(vec![255, 255, 255, 255, 1, 0, 0, 0])),
            (
                Int64,
                InferTensorContents { int64_contents: vec![-1, 1], ..none() },
                Ok([[255; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat()),
            ),
            (Uint8, uints(&[255, 0]), Ok(vec![255, 0])),
            (Uint8, uints(&[256, 0]), Err("contents: element 0 is 256, UINT8 allows 0 to 255")),
            (Uint16, uints(&[65_535, 1]), Ok(vec![255, 255, 1, 0])),
            (
                Uint16,
                uints(&[65_536, 1]),
                Err("contents: element 0 is 65536, UINT16 allows 0 to 65535"),
            ),
            (Uint32, uints(&[u32::MAX, 1]), Ok(vec![255, 255, 255, 255, 1, 0, 0, 0])),
            (
                Uint64,
                InferTensorContents { uint64_contents: vec![u64::MAX, 1], ..none() },
                Ok([[255; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat()),
            ),
            (
                Fp16,
                InferTensorContents { fp32_contents: vec![1.0, 2.0], ..none() },
                Err("contents: FP16 has no list of its own; send raw_input_contents"),
            ),
            (Fp16, none(), Err("contents: FP16 has no list of its own; send raw_input_contents")),
            (
                Fp32,
                InferTensorContents { fp32_contents: vec![1.0, 2.0], ..none() },
                Ok(vec![0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]),
            ),
            (
                Fp64,
                InferTensorContents { fp64_contents: vec![1.0, 2.0], ..none() },
                Ok([1.0f64.to_le_bytes(), 2.0f64.to_le_bytes()].concat()),
            ),
            (
                Bytes,
                InferTensorContents {
                    bytes_contents: vec![(&b"a"[..]).into(), (&b""[..]).into()],
                    ..none()
                },
                Ok(vec![1, 0, 0, 0, b'a', 0, 0, 0, 0]),
            ),
            (Fp32, ints(&[1, 2]), Err("contents: found int_contents, FP32 takes fp32_contents")),
            (
                Int32,
                InferTensorContents { fp64_contents: vec![1.0], ..ints(&[1, 2]) },
                Err("contents: found fp64_contents, INT32 takes int_contents"),
            ),
            (Int32, ints(&[1]), Err("contents: found 1 elements, the shape has 2")),
            (Int32, ints(&[1, 2, 3]), Err("contents: found 3 elements, the shape has 2")),
            (Int32, none(), Err("contents: found 0 elements, the shape has 2")),
        ] {
            let bytes = bytes_of(&contents, datatype, 2).map_err(|error| error.to_string());
            assert_eq!(bytes, expected.map_err(String::from), "{datatype}");
        }
        assert_eq!(bytes_of(&none(), Fp16, 0), Ok(Vec::new()));
    }
}
