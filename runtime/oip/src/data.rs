//! `data`: the text of a tensor's elements becomes their bytes, each number at the precision of its
//! datatype, without a detour over a double.
//!
//! The text is known to be JSON. Its lists are nested as the shape says, or there is one flat list.

use crate::{document::value_at_front, error::TensorFault, text::excerpt};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fuelbox_abi::{DataType, RANK_MAX, Shape, push_string_element};
use serde::Deserialize;
use std::{borrow::Cow, str::FromStr};

/// The bytes of the tensor, whose elements are `count`.
pub(crate) fn parse(
    data: &str,
    datatype: DataType,
    shape: Shape,
    count: u64,
) -> Result<Vec<u8>, TensorFault> {
    let mut reader = Reader::new(data, datatype, shape, count);
    match datatype {
        DataType::Bool => reader.all(word(|flag: bool| [u8::from(flag)])),
        DataType::Uint8 => reader.all(word(u8::to_le_bytes)),
        DataType::Uint16 => reader.all(word(u16::to_le_bytes)),
        DataType::Uint32 => reader.all(word(u32::to_le_bytes)),
        DataType::Uint64 => reader.all(word(u64::to_le_bytes)),
        DataType::Int8 => reader.all(word(i8::to_le_bytes)),
        DataType::Int16 => reader.all(word(i16::to_le_bytes)),
        DataType::Int32 => reader.all(word(i32::to_le_bytes)),
        DataType::Int64 => reader.all(word(i64::to_le_bytes)),
        DataType::Fp16 => reader.all(float(|double: f64| {
            let half = half::f16::from_f64(double);
            (half.is_finite(), half.to_le_bytes())
        })),
        DataType::Fp32 => {
            reader.all(float(|single: f32| (single.is_finite(), single.to_le_bytes())))
        }
        DataType::Fp64 => {
            reader.all(float(|double: f64| (double.is_finite(), double.to_le_bytes())))
        }
        DataType::Bytes => reader.all(|bytes, token| match token {
            Token::Text(text) => push_string_element(bytes, text.as_bytes()).is_some(),
            Token::Blob(blob) => push_string_element(bytes, blob).is_some(),
            Token::Word(_) | Token::Open | Token::Close => false,
        }),
    }?;
    reader.nesting.check()?;
    Ok(reader.bytes)
}

/// Floats that JSON has no numbers for.
const NOT_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Elements that stand there as one word.
fn word<T: FromStr, const SIZE: usize>(
    le: impl Fn(T) -> [u8; SIZE],
) -> impl Fn(&mut Vec<u8>, &Token<'_>) -> bool {
    move |bytes, token| {
        let Token::Word(word) = token else { return false };
        let Ok(value) = word.parse() else { return false };
        bytes.extend_from_slice(&le(value));
        true
    }
}

/// Floats: the nearest one. `le` says whether that is finite, too: a number beyond the largest finite
/// one is none of this datatype.
fn float<T: FromStr, const SIZE: usize>(
    le: impl Fn(T) -> (bool, [u8; SIZE]),
) -> impl Fn(&mut Vec<u8>, &Token<'_>) -> bool {
    move |bytes, token| {
        let (text, named) = match token {
            Token::Word(word) => (*word, false),
            Token::Text(text) if NOT_NUMBERS.contains(&&**text) => (&**text, true),
            Token::Text(_) | Token::Blob(_) | Token::Open | Token::Close => return false,
        };
        let Ok(value) = text.parse() else { return false };
        let (finite, value) = le(value);
        bytes.extend_from_slice(&value);
        finite || named
    }
}

/// A piece of `data`.
#[derive(Debug)]
enum Token<'a> {
    Open,
    Close,
    /// A number, `true`, `false` or `null`, as it stands there.
    Word(&'a str),
    Text(Cow<'a, str>),
    Blob(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

/// Walks the text and fills the bytes.
struct Reader<'a> {
    rest: &'a str,
    datatype: DataType,
    nesting: Nesting,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(data: &'a str, datatype: DataType, shape: Shape, count: u64) -> Self {
        // An element takes two characters at least, so a small text makes no large allocation.
        let elements = count.min(data.len() as u64 / 2 + 1) as usize;
        let capacity = match datatype.size_bytes() {
            Some(size) => elements * size as usize,
            None => data.len().min(elements.saturating_mul(8)),
        };
        let nesting = Nesting::new(shape, count);
        Self { rest: data, datatype, nesting, bytes: Vec::with_capacity(capacity) }
    }

    /// Walks to the end. `push` appends an element, or says that it is none of the datatype.
    fn all(&mut self, push: impl Fn(&mut Vec<u8>, &Token<'_>) -> bool) -> Result<(), TensorFault> {
        while let Some(token) = self.next()? {
            match token {
                Token::Open => self.nesting.open()?,
                Token::Close => self.nesting.close()?,
                element => {
                    self.nesting.element()?;
                    // What is too much is counted and not kept.
                    if self.nesting.elements <= self.nesting.count
                        && !push(&mut self.bytes, &element)
                    {
                        return Err(self.refused(&element));
                    }
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, TensorFault> {
        let bytes = self.rest.as_bytes();
        let between = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
        let skipped = bytes.iter().take_while(between).count();
        let rest = &self.rest[skipped..];
        let Some(first) = bytes.get(skipped) else {
            return Ok(None);
        };
        let (token, length) = match first {
            b'[' => (Token::Open, 1),
            b']' => (Token::Close, 1),
            b'"' => self.text(rest)?,
            b'{' => self.blob(rest)?,
            _ => {
                let part = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']');
                let length = bytes[skipped..].iter().take_while(|byte| part(byte)).count();
                (Token::Word(&rest[..length]), length)
            }
        };
        self.rest = &rest[length..];
        Ok(Some(token))
    }

    /// The text at the front, and how long it is with its quotes.
    fn text(&self, front: &'a str) -> Result<(Token<'a>, usize), TensorFault> {
        let inner = &front[1..];
        let end = inner.find(['"', '\\']).unwrap_or(inner.len());
        if inner.as_bytes().get(end) == Some(&b'"') {
            return Ok((Token::Text(Cow::Borrowed(&inner[..end])), end + 2));
        }
        // JSON may name half a surrogate pair, which is no character.
        match value_at_front::<String>(front) {
            Some((text, rest)) => Ok((Token::Text(Cow::Owned(text)), front.len() - rest.len())),
            None => Err(self.not_allowed("text that is not Unicode")),
        }
    }

    fn blob(&self, front: &'a str) -> Result<(Token<'a>, usize), TensorFault> {
        let Some((Base64 { base64 }, rest)) = value_at_front(front) else {
            return Err(self.not_allowed("an object"));
        };
        match STANDARD.decode(&base64) {
            Ok(blob) => Ok((Token::Blob(blob), front.len() - rest.len())),
            Err(_) => Err(TensorFault::Base64 { index: self.nesting.elements }),
        }
    }

    /// The element that was counted last is none of the datatype.
    fn refused(&self, element: &Token<'_>) -> TensorFault {
        let found = match element {
            Token::Word(word) => excerpt(word),
            Token::Text(text) => format!("\"{}\"", excerpt(text)),
            Token::Blob(_) => "an object".into(),
            Token::Open | Token::Close => "a list".into(),
        };
        let index = self.nesting.elements.saturating_sub(1);
        let (datatype, allowed) = (self.datatype, allowed(self.datatype));
        TensorFault::Element { index, found, datatype, allowed }
    }

    /// The next element is none of the datatype.
    fn not_allowed(&self, found: &str) -> TensorFault {
        let (datatype, allowed) = (self.datatype, allowed(self.datatype));
        TensorFault::Element {
            index: self.nesting.elements,
            found: found.into(),
            datatype,
            allowed,
        }
    }
}

fn allowed(datatype: DataType) -> String {
    let whole = |min: i128, max: i128| format!("whole numbers from {min} to {max}");
    match datatype {
        DataType::Bool => "true and false".into(),
        DataType::Uint8 => whole(0, u8::MAX.into()),
        DataType::Uint16 => whole(0, u16::MAX.into()),
        DataType::Uint32 => whole(0, u32::MAX.into()),
        DataType::Uint64 => whole(0, u64::MAX.into()),
        DataType::Int8 => whole(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => whole(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => whole(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => whole(i64::MIN.into(), i64::MAX.into()),
        DataType::Fp16 => format!("numbers up to {}, \"NaN\" and \"Infinity\"", half::f16::MAX),
        DataType::Fp32 => format!("numbers up to {:e}, \"NaN\" and \"Infinity\"", f32::MAX),
        DataType::Fp64 => format!("numbers up to {:e}, \"NaN\" and \"Infinity\"", f64::MAX),
        DataType::Bytes => "text and {\"base64\": \"...\"}".into(),
    }
}

/// How the lists of `data` lie in each other.
struct Nesting {
    shape: Shape,
    /// Elements of the shape.
    count: u64,
    /// Lists that are open.
    depth: usize,
    /// Entries of each of them.
    entries: [u64; RANK_MAX],
    /// Length of the lists at each depth, once one of them was closed.
    lengths: [Option<u64>; RANK_MAX],
    /// Depth of the elements, once there was one.
    element_depth: Option<usize>,
    /// Elements so far.
    elements: u64,
}

impl Nesting {
    fn new(shape: Shape, count: u64) -> Self {
        let (entries, lengths) = ([0; RANK_MAX], [None; RANK_MAX]);
        Self { shape, count, depth: 0, entries, lengths, element_depth: None, elements: 0 }
    }

    fn open(&mut self) -> Result<(), TensorFault> {
        // A flat list holds a scalar, too.
        let allowed = self.shape.len().max(1);
        if self.depth == allowed {
            return Err(TensorFault::Nesting { allowed });
        }
        self.enter();
        self.entries[self.depth] = 0;
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), TensorFault> {
        self.depth = self.depth.saturating_sub(1);
        let other = self.entries[self.depth];
        let first = *self.lengths[self.depth].get_or_insert(other);
        if first != other {
            return Err(TensorFault::Ragged { first, other });
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), TensorFault> {
        if *self.element_depth.get_or_insert(self.depth) != self.depth {
            return Err(TensorFault::Mixed);
        }
        self.enter();
        self.elements += 1;
        Ok(())
    }

    /// One more entry in the list that is open.
    fn enter(&mut self) {
        if let Some(list) = self.depth.checked_sub(1) {
            self.entries[list] += 1;
        }
    }

    /// Whether this is a tensor of the shape, nested or flat.
    fn check(&self) -> Result<(), TensorFault> {
        let (shape, found) = (self.shape, self.elements);
        let lengths: Vec<u64> = self.lengths.iter().map_while(|length| *length).collect();
        if self.element_depth.is_some_and(|depth| depth != lengths.len()) {
            return Err(TensorFault::Mixed);
        }
        let complete = found == self.count;
        // Lists without entries show no dimension below them.
        let whole = lengths.len() == shape.len() || lengths.last() == Some(&0);
        let nested = whole && shape.starts_with(&lengths);
        match lengths.len() {
            0 | 1 if !complete => Err(TensorFault::Count { found, shape, needed: self.count }),
            1 => Ok(()),
            _ if complete && nested => Ok(()),
            0 => Err(TensorFault::NoList { shape }),
            _ => Err(TensorFault::Shape { found: lengths, shape }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datatype: DataType, dims: &[u64], data: &str) -> String {
        let shape = Shape::new(dims).expect("rank");
        let count = shape.element_count().expect("small");
        match parse(data, datatype, shape, count) {
            Ok(bytes) => format!("{bytes:?}"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn elements_of_every_datatype() {
        let singles = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        for (datatype, dims, data, expected) in [
            (DataType::Bool, &[2][..], "[true, false]", vec![1, 0]),
            (DataType::Uint8, &[2, 1], "[[255], [0]]", vec![255, 0]),
            (DataType::Uint16, &[2, 1], "[1, 2]", vec![1, 0, 2, 0]),
            (DataType::Uint32, &[1], "[4294967295]", vec![255; 4]),
            (DataType::Uint64, &[1], "[18446744073709551615]", vec![255; 8]),
            (DataType::Int8, &[1], "[-128]", vec![128]),
            (DataType::Int16, &[1], "[-2]", vec![254, 255]),
            (DataType::Int32, &[], "-2", vec![254, 255, 255, 255]),
            (DataType::Int64, &[], "[9007199254740993]", vec![1, 0, 0, 0, 0, 0, 32, 0]),
            (DataType::Fp16, &[3], r#"[1, -0.5, "NaN"]"#, vec![0, 60, 0, 184, 0, 126]),
            (
                DataType::Fp32,
                &[2],
                "[\n0.1\t,\r\n\"-Infinity\" ]",
                singles([0.1, f32::NEG_INFINITY]),
            ),
            (DataType::Fp64, &[2], "[0.1, 1e-400]", [0.1f64, 0.0].map(f64::to_le_bytes).concat()),
            // The nearest double lies half-way between two singles, and the text does not.
            (
                DataType::Fp32,
                &[1],
                "[1.00000005960464477540]",
                1.000_000_1f32.to_le_bytes().to_vec(),
            ),
            (
                DataType::Bytes,
                &[3],
                r#"["ä", {"base64": "/w=="},"\"\\"]"#,
                vec![2, 0, 0, 0, 195, 164, 1, 0, 0, 0, 255, 2, 0, 0, 0, b'"', b'\\'],
            ),
            (DataType::Fp32, &[0, 4], "[]", vec![]),
            (DataType::Fp32, &[2, 0], "[[], []]", vec![]),
            (DataType::Fp32, &[2, 0, 3], "[[], []]", vec![]),
        ] {
            assert_eq!(check(datatype, dims, data), format!("{expected:?}"), "{datatype} {data}");
        }
    }

    #[test]
    fn lists_are_nested_as_the_shape_says() {
        for (dims, data, expected) in [
            (&[2, 2][..], "[[1, 2], [3]]", "data: lists of 2 and of 1 side by side"),
            (&[2, 1], "[[1], 2]", "data: lists and elements side by side"),
            (&[2, 0], "[[], 2]", "data: lists and elements side by side"),
            (&[2, 2], "[[], []]", "data: shape [2, 0] found, expected [2, 2] or a flat list"),
            (&[1, 0], "[[], []]", "data: shape [2, 0] found, expected [1, 0] or a flat list"),
            (&[2], "[[1], [2]]", "data: lists nested deeper than 1"),
            (&[], "[[1]]", "data: lists nested deeper than 1"),
            (&[1, 1, 1], "[[1]]", "data: shape [1, 1] found, expected [1, 1, 1] or a flat list"),
            (&[4], "[1, 2, 3]", "data: 3 elements found, shape [4] has 4"),
            (&[4], "1", "data: 1 elements found, shape [4] has 4"),
            (&[1], "1", "data: one element found, shape [1] takes a list"),
            (&[], "[]", "data: 0 elements found, shape [] has 1"),
        ] {
            assert_eq!(check(DataType::Int8, dims, data), expected, "{data}");
        }
    }
}
