//! The other side: a request is written, a reply is read.

use crate::{
    binary,
    document::{self, ReplyBody},
    error::{Document, OipError},
    request::{Limits, RequestedOutput, read_parameters, read_tensors},
    write::{Encoded, Outgoing, ParametersJson, TensorJson, encode},
};
use fuelbox_engine::{OwnedParameter, OwnedValue, Tensor};
use serde::Serialize;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The model that ran.
    pub model_name: String,
    /// Its version, when the server says it.
    pub model_version: Option<String>,
    /// The request's name for itself.
    pub id: Option<String>,
    /// Settings beside the outputs, by name.
    pub parameters: Vec<OwnedParameter>,
    /// In the order in which they were asked for.
    pub outputs: Vec<Tensor>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "ParametersJson::is_empty")]
    parameters: ParametersJson<'a>,
    inputs: Vec<TensorJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<OutputJson<'a>>,
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    parameters: OutputParametersJson,
}

#[derive(Serialize)]
struct OutputParametersJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_data: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classification: Option<u64>,
}

/// Writes a request. With `binary`, inputs are binary data, and so are the outputs that do not say
/// otherwise. No outputs: all of the model's are asked for.
///
/// # Errors
/// An element that JSON cannot hold ([`OipError::NotJson`]).
pub fn encode_request(
    id: Option<&str>,
    parameters: &[OwnedParameter],
    inputs: &[Tensor],
    outputs: &[RequestedOutput],
    binary: bool,
) -> Result<Encoded, OipError> {
    let outgoing: Vec<_> = inputs.iter().map(|tensor| Outgoing { tensor, binary }).collect();
    for input in &outgoing {
        input.check("input", "send binary data")?;
    }
    let mut parameters = parameters.to_vec();
    if binary {
        let value = OwnedValue::Bool(true);
        parameters.push(OwnedParameter { name: "binary_data_output".into(), value });
    }
    let output = |output: &'_ RequestedOutput| {
        let RequestedOutput { binary, classes, .. } = *output;
        OutputParametersJson { binary_data: binary, classification: classes }
    };
    let outputs =
        outputs.iter().map(|wanted| OutputJson { name: &wanted.name, parameters: output(wanted) });
    let body = Body {
        id,
        parameters: ParametersJson(&parameters),
        inputs: outgoing.iter().map(Outgoing::json).collect(),
        outputs: outputs.collect(),
    };
    Ok(encode(&body, &outgoing))
}

/// Reads a reply. `json_bytes` is `Inference-Header-Content-Length`; without it, all of the body is
/// JSON.
///
/// # Errors
/// The first thing that is wrong with the body.
pub fn decode_response(
    body: &[u8],
    json_bytes: Option<usize>,
    limits: &Limits,
) -> Result<Reply, OipError> {
    let document = Document::Reply;
    let (json, mut binary) = binary::split(document, body, json_bytes)?;
    let body: ReplyBody<'_> = document::parse(document, json)?;
    let (parameters, _) = read_parameters(body.parameters)?;
    let outputs = read_tensors(document, body.outputs.0, &mut binary, limits)?;
    binary.end()?;
    let ReplyBody { model_name, model_version, id, .. } = body;
    Ok(Reply { model_name, model_version, id, parameters, outputs })
}
