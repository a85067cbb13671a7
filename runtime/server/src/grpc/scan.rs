//! A request's bytes are walked once before anything is made of them: how many parts it has, and how
//! much memory its elements would take.
//!
//! Without that, two bytes of a message become an input of two hundred, and one byte an element of
//! eight: a message within its limit would be gigabytes.

use crate::refusal::{Code, Refusal, excerpt};

/// Inputs, outputs, parameters and dimensions of one request, and what else of it is repeated. A part
/// is a few hundred bytes of memory at most.
const PARTS_MAX: usize = 16 << 10;

/// Memory of all elements that are not raw, before they are put into tensors: four times a message as
/// long as it may be when nobody chose otherwise.
const ELEMENT_BYTES_MAX: usize = 256 << 20;

/// An element of BYTES is a place in the message; this says where.
const PLACE_BYTES: usize = size_of::<prost::bytes::Bytes>();

/// Whether these bytes may become a `ModelInferRequest`.
pub(super) fn infer_request(bytes: &[u8]) -> Result<(), Refusal> {
    let mut found = Found::default();
    found
        .request(bytes)
        .ok_or_else(|| Refusal::bad("malformed message: cut or no protocol buffer"))?;
    let over = |what: &str, found: usize, allowed: usize| {
        let sentence =
            format!("message over limit: found {found} {}, allowed {allowed}", excerpt(what));
        Err(Refusal::new(Code::TooLarge, sentence))
    };
    match found {
        Found { parts, .. } if parts > PARTS_MAX => {
            over("inputs, outputs, parameters and dimensions", parts, PARTS_MAX)
        }
        Found { element_bytes, .. } if element_bytes > ELEMENT_BYTES_MAX => {
            over("bytes of elements", element_bytes, ELEMENT_BYTES_MAX)
        }
        Found { .. } => Ok(()),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    parts: usize,
    element_bytes: usize,
}

/// A field's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

impl Found {
    /// None when it is no message.
    fn request(&mut self, bytes: &[u8]) -> Option<()> {
        fields(bytes, |number, value| {
            match (number, value) {
                (5, Value::Bytes(input)) => self.input(input)?,
                (6, Value::Bytes(output)) => {
                    fields(output, |_, _| {
                        self.parts += 1;
                        Some(())
                    })?;
                }
                _ => {}
            }
            self.parts += 1;
            Some(())
        })
    }

    fn input(&mut self, bytes: &[u8]) -> Option<()> {
        fields(bytes, |number, value| {
            match (number, value) {
                (3, Value::Bytes(dims)) => self.parts += numbers(dims),
                (5, Value::Bytes(contents)) => self.contents(contents)?,
                _ => {}
            }
            self.parts += 1;
            Some(())
        })
    }

    fn contents(&mut self, bytes: &[u8]) -> Option<()> {
        fields(bytes, |number, value| {
            let (size, packed) = match number {
                1 => (1, true),
                2 | 4 => (4, true),
                3 | 5 => (8, true),
                6 | 7 => (1, false),
                _ => (PLACE_BYTES, false),
            };
            self.element_bytes += match value {
                // A field of its own for one element, as old clients write lists.
                Value::Number => 8,
                Value::Bytes(list) if packed => numbers(list) * size,
                // Floats are as long here as there; elements of BYTES are places.
                Value::Bytes(list) if size == 1 => list.len(),
                Value::Bytes(_) => size,
            };
            Some(())
        })
    }
}

/// How many numbers a packed list has: each ends with a byte below 128.
fn numbers(list: &[u8]) -> usize {
    list.iter().filter(|byte| **byte < 0x80).count()
}

/// Calls with each field. None when these are no fields, or when the call says so.
fn fields<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Value<'a>) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let key = number(&mut bytes)?;
        let value = match key & 7 {
            0 => number(&mut bytes).map(|_| Value::Number)?,
            1 => cut(&mut bytes, 8).map(|_| Value::Number)?,
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                Value::Bytes(cut(&mut bytes, length)?)
            }
            5 => cut(&mut bytes, 4).map(|_| Value::Number)?,
            // Groups, which no message of the protocol has.
            _ => return None,
        };
        each(key >> 3, value)?;
    }
    Some(())
}

fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Seven bits a byte, the lowest first, ten bytes at most.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::protocol::{
        InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor,
    };
    use prost::Message;

    fn sentence(bytes: &[u8]) -> Result<(), String> {
        infer_request(bytes).map_err(|refusal| format!("{:?}: {}", refusal.code, refusal.sentence))
    }

    fn with(contents: InferTensorContents) -> Vec<u8> {
        let input = InferInputTensor {
            name: "x".into(),
            shape: vec![1, -1],
            contents: Some(contents),
            ..InferInputTensor::default()
        };
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }.encode_to_vec()
    }

    #[test]
    fn small_parts_do_not_become_a_large_request() {
        // An empty input is two bytes.
        let inputs = |count: usize| [0x2a, 0].repeat(count);
        assert_eq!(sentence(&inputs(PARTS_MAX)), Ok(()));
        let expected = "TooLarge: message over limit: found 16385 inputs, outputs, parameters and \
                        dimensions, allowed 16384";
        assert_eq!(sentence(&inputs(PARTS_MAX + 1)), Err(expected.into()));
        // So are a parameter, an output, a raw tensor.
        for field in [0x22, 0x32, 0x3a] {
            assert_eq!(sentence(&[field, 0].repeat(PARTS_MAX + 1)), Err(expected.into()));
        }
        let dims = InferInputTensor { shape: vec![0; PARTS_MAX], ..InferInputTensor::default() };
        let dims = ModelInferRequest { inputs: vec![dims], ..ModelInferRequest::default() };
        assert!(sentence(&dims.encode_to_vec()).is_err());
    }

    #[test]
    fn elements_are_counted_by_the_memory_that_they_take() {
        let count = |contents: InferTensorContents| {
            let mut found = Found::default();
            found.request(&with(contents)).expect("a message");
            found.element_bytes
        };
        let none = InferTensorContents::default;
        assert_eq!(count(InferTensorContents { int64_contents: vec![0, -1, 300], ..none() }), 24);
        assert_eq!(count(InferTensorContents { uint_contents: vec![0, u32::MAX], ..none() }), 8);
        assert_eq!(count(InferTensorContents { bool_contents: vec![true; 9], ..none() }), 9);
        assert_eq!(count(InferTensorContents { fp32_contents: vec![0.5; 9], ..none() }), 36);
        assert_eq!(count(InferTensorContents { fp64_contents: vec![0.5; 9], ..none() }), 72);
        let bytes = vec![Default::default(); 9];
        assert_eq!(count(InferTensorContents { bytes_contents: bytes, ..none() }), 9 * PLACE_BYTES);
        let many = vec![0; ELEMENT_BYTES_MAX / 8 + 1];
        let refused = sentence(&with(InferTensorContents { int64_contents: many, ..none() }));
        let expected =
            "TooLarge: message over limit: found 268435464 bytes of elements, allowed 268435456";
        assert_eq!(refused, Err(expected.into()));
    }

    #[test]
    fn what_is_cut_is_no_message() {
        let whole = with(InferTensorContents { fp32_contents: vec![1.0], ..Default::default() });
        assert_eq!(sentence(&whole), Ok(()));
        for length in 1..whole.len() {
            let cut = sentence(&whole[..length]);
            assert!(cut.is_err(), "{length}");
        }
        for no_message in
            [&[0x80][..], &[0xff; 11], &[0x2b], &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]
        {
            assert!(sentence(no_message).is_err(), "{no_message:?}");
        }
    }
}
