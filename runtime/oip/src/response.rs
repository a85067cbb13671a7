//! What a job gave becomes the body of a reply: the outputs that were asked for, in that order, each in
//! the form that was asked for.

use crate::{
    classes::classified,
    error::OipError,
    request::Requested,
    text::{excerpt, list},
    write::{Encoded, Outgoing, ParametersJson, TensorJson, encode},
};
use fuelbox_engine::{OwnedParameter, Tensor};
use serde::Serialize;
use std::borrow::Cow;

/// A reply.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The model that ran.
    pub model_name: &'a str,
    /// Its version.
    pub model_version: &'a str,
    /// The request's name for itself.
    pub id: Option<&'a str>,
    /// Settings beside the outputs.
    pub parameters: &'a [OwnedParameter],
    /// All outputs of the job.
    pub outputs: &'a [Tensor],
    /// Which of them are wanted back, and how.
    pub requested: &'a Requested,
    /// Names of classes, where classes are asked for.
    pub labels: Option<&'a [String]>,
}

#[derive(Serialize)]
struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "ParametersJson::is_empty")]
    parameters: ParametersJson<'a>,
    outputs: Vec<TensorJson<'a>>,
}

impl Response<'_> {
    /// The body.
    ///
    /// # Errors
    /// An output that is not there or has no classes, or an element that JSON cannot hold
    /// ([`OipError::NotJson`]).
    pub fn encode(&self) -> Result<Encoded, OipError> {
        let wanted = self.wanted()?;
        let outgoing = wanted.iter().map(|(tensor, binary)| Outgoing { tensor, binary: *binary });
        let wanted: Vec<_> = outgoing.collect();
        for output in &wanted {
            output.check("output", "ask for binary data")?;
        }
        let Self { model_name, model_version, id, parameters, .. } = *self;
        let outputs = wanted.iter().map(Outgoing::json).collect();
        let parameters = ParametersJson(parameters);
        Ok(encode(&Body { model_name, model_version, id, parameters, outputs }, &wanted))
    }

    /// Each output that is wanted back, and whether as binary data.
    fn wanted(&self) -> Result<Vec<(Cow<'_, Tensor>, bool)>, OipError> {
        let Requested { outputs: requested, binary: default } = self.requested;
        if requested.is_empty() {
            return Ok(self
                .outputs
                .iter()
                .map(|output| (Cow::Borrowed(output), *default))
                .collect());
        }
        let mut wanted = Vec::with_capacity(requested.len());
        for request in requested {
            let output = self.outputs.iter().find(|output| output.name == request.name);
            let unknown = || OipError::UnknownOutput {
                name: excerpt(&request.name),
                allowed: list(self.outputs.iter().map(|output| output.name.as_str())),
            };
            let output = output.ok_or_else(unknown)?;
            let output = match request.classes {
                Some(top) => Cow::Owned(classified(output, top, self.labels)?),
                None => Cow::Borrowed(output),
            };
            wanted.push((output, request.binary.unwrap_or(*default)));
        }
        Ok(wanted)
    }
}
