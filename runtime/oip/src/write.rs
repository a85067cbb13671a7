//! Tensors and parameters become JSON, and the bytes behind it.

use crate::{
    elements::{elements, float_name},
    error::OipError,
    text::excerpt,
};
use fuelbox_engine::{OwnedParameter, OwnedValue, Tensor};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// JSON, then binary data.
    pub bytes: Vec<u8>,
    /// Bytes of the JSON, for `Inference-Header-Content-Length`; none when all of it is JSON.
    pub json_bytes: Option<usize>,
}

/// A tensor as JSON with its data, flat. Nothing is lost: floats that JSON has no numbers for are text,
/// BYTES that are no text are {"base64": "..."}.
#[derive(Debug, Serialize)]
pub struct TensorJson<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Debug, Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

impl<'a> TensorJson<'a> {
    /// The tensor with its data.
    pub fn of(tensor: &'a Tensor) -> Self {
        let Tensor { name, datatype, shape, .. } = tensor;
        let data = Some(Data(tensor));
        Self { name, datatype: datatype.name(), shape, parameters: None, data }
    }

    /// The tensor whose data comes behind the JSON.
    fn binary(tensor: &'a Tensor) -> Self {
        let parameters = Some(BinarySize { binary_data_size: tensor.bytes.len() });
        Self { parameters, data: None, ..Self::of(tensor) }
    }
}

/// The elements as a flat list, written as they come.
#[derive(Debug)]
struct Data<'a>(&'a Tensor);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(elements(self.0))
    }
}

/// Parameters as one JSON object. Floats that JSON has no numbers for are text.
#[derive(Clone, Copy, Debug)]
pub struct ParametersJson<'a>(pub &'a [OwnedParameter]);

impl ParametersJson<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ParametersJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for OwnedParameter { name, value } in self.0 {
            match value {
                OwnedValue::Bool(value) => map.serialize_entry(name, value)?,
                OwnedValue::Int(value) => map.serialize_entry(name, value)?,
                OwnedValue::Float(value) if value.is_finite() => {
                    map.serialize_entry(name, value)?
                }
                OwnedValue::Float(value) => map.serialize_entry(name, float_name(*value))?,
                OwnedValue::String(value) => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// A tensor on its way out.
pub(crate) struct Outgoing<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) binary: bool,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn json(&self) -> TensorJson<'a> {
        match self.binary {
            true => TensorJson::binary(self.tensor),
            false => TensorJson::of(self.tensor),
        }
    }

    /// Whether plain JSON has a form for every element that is to be in it.
    pub(crate) fn check(&self, tensor: &'static str, advice: &'static str) -> Result<(), OipError> {
        if self.binary {
            return Ok(());
        }
        let bad = |(index, found): (usize, Option<&'static str>)| Some((index, found?));
        let all = elements(self.tensor).map(|element| element.not_json());
        match all.enumerate().find_map(bad) {
            Some((index, found)) => {
                let name = excerpt(&self.tensor.name);
                Err(OipError::NotJson { tensor, name, index, found, advice })
            }
            None => Ok(()),
        }
    }
}

/// The document, and the binary data of those tensors that have none in it.
pub(crate) fn encode(document: &impl Serialize, tensors: &[Outgoing<'_>]) -> Encoded {
    let size = |out: &Outgoing<'_>| out.tensor.bytes.len() * if out.binary { 1 } else { 3 };
    // JSON of a float takes about three times its bytes; names and shapes take little.
    let estimate = 256 + 128 * tensors.len() + tensors.iter().map(size).sum::<usize>();
    let mut bytes = Vec::with_capacity(estimate);
    // Strings, numbers and maps with text as keys: nothing in it that JSON refuses, and memory takes all.
    let written = serde_json::to_writer(&mut bytes, document);
    debug_assert!(written.is_ok());
    let json = bytes.len();
    let binary = || tensors.iter().filter(|out| out.binary);
    for out in binary() {
        bytes.extend_from_slice(&out.tensor.bytes);
    }
    Encoded { bytes, json_bytes: binary().next().map(|_| json) }
}
