//! An inference request in the JSON of the Open Inference Protocol, version 2.
//!
//! Enters: bytes of a stranger. Leaves: named arrays and parameters. The elements of `data` are parsed
//! once, from their own text, at the precision of their datatype: no number takes a detour over a
//! double. Beyond the protocol: floats may be "NaN", "Infinity" and "-Infinity", and an element of
//! BYTES may be {"base64": "..."}, so that what `run --json` prints can be read again.

use super::{Array, parameter, shape_of};
use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fuelbox_abi::{RANK_MAX, push_string_element};
use fuelbox_engine::{DataType, OwnedParameter, Shape};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) inputs: Vec<(String, Array)>,
    pub(crate) parameters: Vec<OwnedParameter>,
}

/// The request's body. `id` and `outputs` may be there and change nothing: there is one request, and
/// all outputs are given.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    parameters: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Parses a request.
pub(crate) fn parse(bytes: &[u8]) -> Result<Request> {
    let text = str::from_utf8(bytes).context("request")?;
    let body: Body<'_> = serde_json::from_str(text).context("request")?;
    let mut inputs = Vec::with_capacity(body.inputs.len());
    for input in body.inputs {
        let array = array(&input).with_context(|| format!("input '{}'", input.name))?;
        inputs.push((input.name, array));
    }
    let mut parameters = Vec::with_capacity(body.parameters.len());
    for (name, json) in body.parameters {
        let refused = || anyhow!("parameter '{name}': allowed are true, false, numbers and text");
        let value = parameter::value(&json).ok_or_else(refused)?;
        parameters.push(OwnedParameter { name, value });
    }
    Ok(Request { inputs, parameters })
}

fn array(input: &Input<'_>) -> Result<Array> {
    let allowed = || {
        let names = DataType::ALL.map(DataType::name).join(", ");
        format!("datatype '{}', allowed are {names}", input.datatype)
    };
    let datatype = DataType::from_name(&input.datatype).with_context(allowed)?;
    let shape = shape_of(&input.shape)?;
    let mut bytes = Vec::new();
    let mut nesting = Nesting::default();
    let mut tokens = Tokens { rest: input.data.get() };
    while let Some(token) = tokens.next()? {
        match token {
            Token::Open => nesting.open()?,
            Token::Close => nesting.close()?,
            element => {
                let index = nesting.element()?;
                push(&mut bytes, datatype, element).with_context(|| format!("element {index}"))?;
            }
        }
    }
    nesting.check(shape)?;
    Ok(Array { datatype, shape, bytes })
}

/// A piece of `data`.
#[derive(Debug)]
enum Token<'a> {
    Open,
    Close,
    /// A number, `true`, `false` or `null`, as it stands there.
    Word(&'a str),
    Text(String),
    Blob(Vec<u8>),
}

/// Walks text that is known to be JSON.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        Ok(Some(match first {
            '[' => {
                self.rest = &self.rest[1..];
                Token::Open
            }
            ']' => {
                self.rest = &self.rest[1..];
                Token::Close
            }
            '"' => Token::Text(self.value()?),
            '{' => {
                let Base64 { base64 } = self.value()?;
                Token::Blob(STANDARD.decode(&base64).ok().context("base64 is malformed")?)
            }
            _ => {
                let end = self.rest.find([' ', '\t', '\r', '\n', ',', ']']);
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                Token::Word(word)
            }
        }))
    }

    /// The value at the front.
    fn value<T: Deserialize<'a>>(&mut self) -> Result<T> {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        let value = values.next().context("a value is cut short")?.context("data")?;
        self.rest = &self.rest[values.byte_offset()..];
        Ok(value)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

/// How the lists of `data` lie in each other.
#[derive(Default)]
struct Nesting {
    /// Entries of each list that is open.
    open: Vec<u64>,
    /// Length of the lists at each depth, once one of them was closed.
    lengths: [Option<u64>; RANK_MAX],
    /// Depth of the elements, once there was one.
    depth: Option<usize>,
    elements: u64,
}

impl Nesting {
    fn open(&mut self) -> Result<()> {
        ensure!(self.open.len() < RANK_MAX, "data: lists nested deeper than {RANK_MAX}");
        self.count();
        self.open.push(0);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let found = self.open.pop().unwrap_or_default();
        let length = *self.lengths[self.open.len()].get_or_insert(found);
        ensure!(length == found, "data: lists of {length} and of {found} side by side");
        Ok(())
    }

    /// Counts an element and gives its index.
    fn element(&mut self) -> Result<u64> {
        let depth = *self.depth.get_or_insert(self.open.len());
        ensure!(depth == self.open.len(), "data: lists and elements side by side");
        self.count();
        self.elements += 1;
        Ok(self.elements - 1)
    }

    fn count(&mut self) {
        if let Some(entries) = self.open.last_mut() {
            *entries += 1;
        }
    }

    /// Whether this is a tensor of that shape, nested or flat.
    fn check(&self, shape: Shape) -> Result<()> {
        let lengths: Vec<u64> = self.lengths.iter().map_while(|length| *length).collect();
        let complete = shape.element_count() == Some(self.elements);
        if complete && (lengths == *shape || lengths.len() == 1) {
            return Ok(());
        }
        match shape.element_count() {
            Some(count) if lengths.len() <= 1 => {
                bail!("data: {} elements found, shape {shape} has {count}", self.elements)
            }
            Some(_) => bail!("data: shape {lengths:?} found, expected {shape} or a flat list"),
            None => bail!("shape {shape} overflows 64 bits"),
        }
    }
}

/// Floats that JSON has no numbers for.
const NOT_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

fn push(bytes: &mut Vec<u8>, datatype: DataType, element: Token<'_>) -> Result<()> {
    let is_float = matches!(datatype, DataType::Fp16 | DataType::Fp32 | DataType::Fp64);
    let Some(size) = datatype.size_bytes() else {
        let element = match &element {
            Token::Text(text) => text.as_bytes(),
            Token::Blob(blob) => blob,
            Token::Word(word) => bail!(refused(datatype, word)),
            Token::Open | Token::Close => bail!(refused(datatype, "a list")),
        };
        return push_string_element(bytes, element).context("4 GiB or more");
    };
    let text = match &element {
        Token::Word(word) => word,
        Token::Text(text) if is_float && NOT_NUMBERS.contains(&text.as_str()) => text.as_str(),
        Token::Text(text) => bail!(refused(datatype, &format!("\"{text}\""))),
        Token::Blob(_) | Token::Open | Token::Close => bail!(refused(datatype, "an object")),
    };
    let bits = bits(datatype, text).ok_or_else(|| anyhow!(refused(datatype, text)))?;
    bytes.extend(bits.to_le_bytes().into_iter().take(size as usize));
    Ok(())
}

/// The number that the text stands for, as the low bits of its datatype: the nearest one for floats,
/// straight from the decimal text.
fn bits(datatype: DataType, text: &str) -> Option<u64> {
    fn parse<T: std::str::FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    // A number beyond the largest finite one is none of this datatype.
    let named = NOT_NUMBERS.contains(&text);
    Some(match datatype {
        DataType::Bool => u64::from(parse::<bool>(text)?),
        DataType::Uint8 => parse::<u8>(text)?.into(),
        DataType::Uint16 => parse::<u16>(text)?.into(),
        DataType::Uint32 => parse::<u32>(text)?.into(),
        DataType::Uint64 => parse(text)?,
        DataType::Int8 => parse::<i8>(text)? as u64,
        DataType::Int16 => parse::<i16>(text)? as u64,
        DataType::Int32 => parse::<i32>(text)? as u64,
        DataType::Int64 => parse::<i64>(text)? as u64,
        DataType::Fp16 => {
            let number = half::f16::from_f64(parse(text)?);
            u64::from(Some(number).filter(|n| named || n.is_finite())?.to_bits())
        }
        DataType::Fp32 => {
            u64::from(parse::<f32>(text).filter(|n| named || n.is_finite())?.to_bits())
        }
        DataType::Fp64 => parse::<f64>(text).filter(|n| named || n.is_finite())?.to_bits(),
        DataType::Bytes => return None,
    })
}

fn refused(datatype: DataType, found: &str) -> String {
    let whole = |min: i128, max: i128| format!("whole numbers from {min} to {max}");
    let allowed = match datatype {
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
    };
    let found: String = found.chars().take(40).collect();
    format!("found {found}, {datatype} allows {allowed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datatype: &str, shape: &str, data: &str) -> String {
        let body = format!(
            r#"{{"id": "1", "inputs": [{{"name": "x", "datatype": "{datatype}", "data": {data}, "shape": {shape}}}]}}"#
        );
        match parse(body.as_bytes()) {
            Ok(request) => format!("{:?}", request.inputs[0].1.bytes),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn elements_of_every_datatype() {
        for (datatype, shape, data, expected) in [
            ("BOOL", "[2]", "[true, false]", vec![1, 0]),
            ("UINT8", "[2, 1]", "[[255], [0]]", vec![255, 0]),
            ("UINT16", "[2, 1]", "[1, 2]", vec![1, 0, 2, 0]),
            ("UINT32", "[1]", "[4294967295]", vec![255; 4]),
            ("UINT64", "[1]", "[18446744073709551615]", vec![255; 8]),
            ("INT8", "[1]", "[-128]", vec![128]),
            ("INT16", "[1]", "[-2]", vec![254, 255]),
            ("INT32", "[]", "-2", vec![254, 255, 255, 255]),
            ("INT64", "[]", "[9007199254740993]", vec![1, 0, 0, 0, 0, 0, 32, 0]),
            ("FP16", "[3]", r#"[1, -0.5, "NaN"]"#, vec![0, 60, 0, 184, 0, 126]),
            (
                "FP32",
                "[2]",
                r#"[0.1, "-Infinity"]"#,
                [0.1f32, f32::NEG_INFINITY].map(f32::to_le_bytes).concat(),
            ),
            ("FP64", "[2]", "[0.1, 1e-400]", [0.1f64, 0.0].map(f64::to_le_bytes).concat()),
            // The nearest double lies half-way between two singles, and the text does not.
            ("FP32", "[1]", "[1.00000005960464477540]", 1.000_000_1f32.to_le_bytes().to_vec()),
            (
                "BYTES",
                "[2]",
                r#"["ä", {"base64": "/w=="}]"#,
                vec![2, 0, 0, 0, 195, 164, 1, 0, 0, 0, 255],
            ),
            ("FP32", "[0, 4]", "[]", vec![]),
            ("FP32", "[2, 0]", "[[], []]", vec![]),
        ] {
            assert_eq!(check(datatype, shape, data), format!("{expected:?}"), "{datatype} {data}");
        }
    }

    #[test]
    fn bad_requests_are_named() {
        for (datatype, shape, data, expected) in [
            (
                "FP8",
                "[1]",
                "[1]",
                "input 'x': datatype 'FP8', allowed are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
            ),
            (
                "INT8",
                "[1]",
                "[128]",
                "input 'x': element 0: found 128, INT8 allows whole numbers from -128 to 127",
            ),
            (
                "INT64",
                "[2]",
                "[1, 1.0]",
                "input 'x': element 1: found 1.0, INT64 allows whole numbers from -9223372036854775808 to 9223372036854775807",
            ),
            (
                "UINT8",
                "[1]",
                r#"["1"]"#,
                "input 'x': element 0: found \"1\", UINT8 allows whole numbers from 0 to 255",
            ),
            ("BOOL", "[1]", "[1]", "input 'x': element 0: found 1, BOOL allows true and false"),
            (
                "FP16",
                "[1]",
                "[65520]",
                "input 'x': element 0: found 65520, FP16 allows numbers up to 65504, \"NaN\" and \"Infinity\"",
            ),
            (
                "FP32",
                "[1]",
                "[1e39]",
                "input 'x': element 0: found 1e39, FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
            ),
            (
                "FP32",
                "[1]",
                r#"["inf"]"#,
                "input 'x': element 0: found \"inf\", FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
            ),
            (
                "FP32",
                "[1]",
                "[null]",
                "input 'x': element 0: found null, FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
            ),
            (
                "BYTES",
                "[1]",
                "[1]",
                "input 'x': element 0: found 1, BYTES allows text and {\"base64\": \"...\"}",
            ),
            ("BYTES", "[1]", r#"[{"base64": "!"}]"#, "input 'x': base64 is malformed"),
            ("INT8", "[3]", "[1, 2]", "input 'x': data: 2 elements found, shape [3] has 3"),
            (
                "INT8",
                "[4]",
                "[[1, 2], [3, 4]]",
                "input 'x': data: shape [2, 2] found, expected [4] or a flat list",
            ),
            (
                "INT8",
                "[2, 2]",
                "[[1, 2], [3]]",
                "input 'x': data: lists of 2 and of 1 side by side",
            ),
            ("INT8", "[2]", "[[1], 2]", "input 'x': data: lists and elements side by side"),
            (
                "INT8",
                "[2, 0]",
                "[[], 2]",
                "input 'x': data: shape [2, 0] found, expected [2, 0] or a flat list",
            ),
            ("INT8", "[1]", "[[[[[[[[[1]]]]]]]]]", "input 'x': data: lists nested deeper than 8"),
            (
                "INT8",
                "[9223372036854775808, 2]",
                "[]",
                "input 'x': shape [9223372036854775808, 2] overflows 64 bits",
            ),
            ("INT8", "[1,1,1,1,1,1,1,1,1]", "[1]", "input 'x': 9 dimensions, allowed are 8"),
        ] {
            assert_eq!(check(datatype, shape, data), expected);
        }
        for (body, expected) in [
            ("", "request: EOF"),
            ("[]", "request: invalid"),
            ("{}", "request: missing field `inputs`"),
            (r#"{"inputs": [{"name": "x"}]}"#, "request: missing field `shape`"),
            (
                r#"{"inputs": [{"name": "x", "shape": [-1]}]}"#,
                "request: invalid value: integer `-1`",
            ),
            (r#"{"inputs": [], "parameters": {"a": []}}"#, "parameter 'a': allowed are true"),
        ] {
            let error = format!("{:#}", parse(body.as_bytes()).expect_err("refused"));
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn parameters_keep_their_kind() {
        let body = r#"{"inputs": [], "parameters": {"b": true, "f": 0.5, "i": -1, "s": "x"}}"#;
        let request = parse(body.as_bytes()).expect("parses");
        let values: Vec<_> = request.parameters.into_iter().map(|p| p.value).collect();
        use fuelbox_engine::OwnedValue as V;
        assert_eq!(values, [V::Bool(true), V::Float(0.5), V::Int(-1), V::String("x".into())]);
    }
}
