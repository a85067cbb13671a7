//! A body becomes a [`Request`]: tensors, parameters, and what is wanted back.
//!
//! Whether the tensors are those that the model takes is the engine's question
//! (`Signature::check_inputs`); each is whole in itself when it leaves here.

mod raw;
mod tensors;

use crate::{
    binary,
    document::{self, Object, OutputBody, ParameterBodies, RequestBody},
    error::{Document, OipError},
    parameter,
    text::{excerpt, list},
};
use fuelbox_abi::DataType;
use fuelbox_engine::{JobLimits, OwnedParameter, OwnedValue, Signature, Tensor};

pub(crate) use tensors::read as read_tensors;

/// What a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all tensors together. Those of JSON can be four times as many as those of its text.
    pub tensor_bytes_max: u64,
}

impl Default for Limits {
    /// What a job may have.
    fn default() -> Self {
        Self { tensor_bytes_max: JobLimits::default().input_bytes }
    }
}

/// An inference request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The caller's name for it, to be repeated in the reply.
    pub id: Option<String>,
    /// By name. Without those that this crate knows: `binary_data_output`.
    pub parameters: Vec<OwnedParameter>,
    /// In the model's order, when there was a signature.
    pub inputs: Vec<Tensor>,
    /// What is wanted back.
    pub requested: Requested,
}

/// The outputs that are wanted back, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// In this order; all of the model's when there are none here.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs that do not say otherwise are binary data.
    pub binary: bool,
}

/// One output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedOutput {
    /// The model's name for it.
    pub name: String,
    /// Whether it is to be binary data, or else JSON.
    pub binary: Option<bool>,
    /// The likeliest so many classes are wanted, not the values.
    pub classes: Option<u64>,
}

impl Request {
    /// Reads a request for a model of this signature. `json_bytes` is `Inference-Header-Content-Length`;
    /// without it, all of the body is JSON. When it is 0, the request is a raw one:
    /// [`Request::decode_raw`].
    ///
    /// # Errors
    /// The first thing that is wrong with the body, or with the outputs that it asks for.
    pub fn decode(
        body: &[u8],
        json_bytes: Option<usize>,
        signature: &Signature,
        limits: &Limits,
    ) -> Result<Self, OipError> {
        if json_bytes == Some(0) {
            return Self::decode_raw(body, signature, limits);
        }
        let mut request = Self::parse(body, json_bytes, limits)?;
        request.requested.check(signature)?;
        // The model's order, so that one request has one encoding however it was written.
        let place = |tensor: &Tensor| {
            let place = signature.inputs.iter().position(|input| input.name == tensor.name);
            place.unwrap_or(usize::MAX)
        };
        request.inputs.sort_by_key(place);
        Ok(request)
    }

    /// Reads a request for a model that is not known yet.
    ///
    /// # Errors
    /// The first thing that is wrong with the body.
    pub fn parse(
        body: &[u8],
        json_bytes: Option<usize>,
        limits: &Limits,
    ) -> Result<Self, OipError> {
        let document = Document::Request;
        let (json, mut binary) = binary::split(document, body, json_bytes)?;
        let body: RequestBody<'_> = document::parse(document, json)?;
        let (parameters, binary_data_output) = read_parameters(body.parameters)?;
        let outputs = body.outputs.map_or_else(Vec::new, |list| list.0);
        let outputs = outputs.into_iter().map(requested_output).collect::<Result<Vec<_>, _>>()?;
        check_twice("requested output", outputs.iter().map(|output| output.name.as_str()))?;
        let inputs = read_tensors(document, body.inputs.0, &mut binary, limits)?;
        binary.end()?;
        let requested = Requested { outputs, binary: binary_data_output };
        Ok(Self { id: body.id, parameters, inputs, requested })
    }

    /// Reads a raw binary request: the body is the one input, as binary data of the datatype and shape
    /// that the signature has. One dimension may be free; its size follows from the body's. For BYTES,
    /// the body is the one element. All outputs are wanted back as binary data.
    ///
    /// # Errors
    /// The model takes something else, or the body is not whole.
    pub fn decode_raw(
        body: &[u8],
        signature: &Signature,
        limits: &Limits,
    ) -> Result<Self, OipError> {
        let inputs = vec![raw::read(body, signature, limits)?];
        let requested = Requested { outputs: Vec::new(), binary: true };
        Ok(Self { inputs, requested, ..Self::default() })
    }
}

impl Requested {
    /// Whether a model of this signature gives these outputs.
    ///
    /// # Errors
    /// An output that it does not give, or classes of one that has no numbers.
    pub fn check(&self, signature: &Signature) -> Result<(), OipError> {
        for wanted in &self.outputs {
            let output = signature.outputs.iter().find(|output| output.name == wanted.name);
            let unknown = || OipError::UnknownOutput {
                name: excerpt(&wanted.name),
                allowed: list(signature.outputs.iter().map(|output| output.name.as_str())),
            };
            let output = output.ok_or_else(unknown)?;
            if wanted.classes.is_some() {
                check_classes(&output.name, output.datatype)?;
            }
        }
        Ok(())
    }
}

/// Whether elements of this datatype can be compared.
pub(crate) fn check_classes(name: &str, datatype: DataType) -> Result<(), OipError> {
    match datatype {
        DataType::Bool | DataType::Bytes => Err(OipError::OutputOption {
            name: excerpt(name),
            reason: format!("classification of {datatype}, allowed are numbers"),
        }),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => Ok(()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(()),
        DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => Ok(()),
    }
}

fn requested_output(body: OutputBody) -> Result<RequestedOutput, OipError> {
    let OutputBody { name, parameters } = body;
    let parameters = parameters.map_or_else(Default::default, |Object(parameters)| parameters);
    if parameters.shared_memory_region.is_some() {
        let reason = "shared memory is not offered; ask for binary data".into();
        return Err(OipError::OutputOption { name: excerpt(&name), reason });
    }
    // None is what 0 stands for.
    let classes = parameters.classification.filter(|&count| count > 0);
    Ok(RequestedOutput { name, binary: parameters.binary_data, classes })
}

/// The parameters by name, and what `binary_data_output` is among them.
pub(crate) fn read_parameters(
    bodies: Option<ParameterBodies<'_>>,
) -> Result<(Vec<OwnedParameter>, bool), OipError> {
    let mut binary_data_output = false;
    let mut parameters = Vec::new();
    for (name, json) in bodies.map_or_else(Default::default, |bodies| bodies.0) {
        let parameter = parameter::checked(name, json.get())?;
        match (parameter.name.as_str(), &parameter.value) {
            ("binary_data_output", OwnedValue::Bool(value)) => binary_data_output = *value,
            ("binary_data_output", _) => {
                return Err(OipError::Parameter {
                    name: parameter.name,
                    found: excerpt(json.get()),
                    allowed: "true and false".into(),
                });
            }
            _ => parameters.push(parameter),
        }
    }
    Ok((parameters, binary_data_output))
}

/// Whether every name is there once.
pub(crate) fn check_twice<'a>(
    tensor: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), OipError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(OipError::Twice { tensor, name: excerpt(name) });
        }
    }
    Ok(())
}
