//! An answer: its status, its bill, its outputs.

use crate::{
    message::{JSON_BYTES, unframed},
    protocol::{ModelInferResponse, infer_parameter::ParameterChoice},
};
use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::{HeaderMap, header::HeaderName, http::response::Parts};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// Where a REST response names its bill.
const CREDITS: HeaderName = HeaderName::from_static("fuelbox-credits");
/// Where a gRPC response does.
const CREDITS_PARAMETER: &str = "fuelbox_credits";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's "unknown": for a response that does not say.
const GRPC_UNKNOWN: u16 = 2;

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Status {
    Http(u16),
    Grpc(u16),
    /// The connection ended without an answer.
    Broken,
    /// No answer in time.
    Timeout,
    /// There was no connection.
    Refused,
}

impl Status {
    pub(crate) fn succeeded(self) -> bool {
        matches!(self, Self::Http(200) | Self::Grpc(0))
    }

    /// Whether the connection can carry the next request.
    pub(crate) fn answered(self) -> bool {
        matches!(self, Self::Http(_) | Self::Grpc(_))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(to, "{status}"),
            Self::Grpc(status) => write!(to, "grpc {status}"),
            Self::Broken => to.write_str("broken"),
            Self::Timeout => to.write_str("timeout"),
            Self::Refused => to.write_str("refused"),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    body: Bytes,
    /// Of a binary REST response.
    json_bytes: Option<usize>,
    /// By its header.
    credits: Option<String>,
}

impl Answer {
    pub(crate) fn without(status: Status) -> Self {
        Self { status, body: Bytes::new(), json_bytes: None, credits: None }
    }

    pub(crate) fn of_rest(head: &Parts, body: Bytes) -> Self {
        let text = |name| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        let json_bytes = text(JSON_BYTES).and_then(|text| text.parse().ok());
        let status = Status::Http(head.status.as_u16());
        Self { status, body, json_bytes, credits: text(CREDITS) }
    }

    /// The status is in the trailers, or in the head when there is nothing else.
    pub(crate) fn of_grpc(head: &Parts, trailers: Option<&HeaderMap>, body: Bytes) -> Self {
        let found =
            trailers.into_iter().chain([&head.headers]).find_map(|map| map.get(GRPC_STATUS));
        let status = found.and_then(|value| value.to_str().ok()?.parse().ok());
        let status = match (head.status.as_u16(), status) {
            (200, status) => Status::Grpc(status.unwrap_or(GRPC_UNKNOWN)),
            (other, _) => Status::Http(other),
        };
        Self { status, body, json_bytes: None, credits: None }
    }

    /// The bill in micro-credits, where the answer names one.
    pub(crate) fn credits_micro(&self) -> Option<u64> {
        match self.status {
            Status::Grpc(0) => {
                let message = ModelInferResponse::decode(unframed(&self.body)?).ok()?;
                match message.parameters.get(CREDITS_PARAMETER)?.parameter_choice.as_ref()? {
                    ParameterChoice::StringParam(text) => micros(text),
                    _ => None,
                }
            }
            _ => micros(self.credits.as_ref()?),
        }
    }

    /// The elements of the first output, FP32.
    pub(crate) fn outputs(&self) -> Result<Vec<f32>> {
        if let Status::Grpc(_) = self.status {
            let message = unframed(&self.body).context("a response without a message")?;
            let message = ModelInferResponse::decode(message)?;
            if let Some(raw) = message.raw_output_contents.first() {
                return Ok(floats(raw));
            }
            let contents = message.outputs.into_iter().next().and_then(|output| output.contents);
            return Ok(contents.context("a response without outputs")?.fp32_contents);
        }
        let (head, data) = self
            .body
            .split_at_checked(self.json_bytes.unwrap_or(self.body.len()))
            .context("a response that is shorter than its header says")?;
        let head: Response = serde_json::from_slice(head)?;
        let output = head.outputs.first().context("a response without outputs")?;
        if self.json_bytes.is_some() {
            let bytes = output["parameters"]["binary_data_size"].as_u64().context("a size")?;
            let data = data.get(..usize::try_from(bytes)?).context("the size of the data")?;
            return Ok(floats(data));
        }
        let mut found = Vec::new();
        flatten(&output["data"], &mut found);
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Response {
    outputs: Vec<Value>,
}

/// Data may be nested by its shape.
fn flatten(data: &Value, into: &mut Vec<f32>) {
    match data {
        Value::Array(parts) => parts.iter().for_each(|part| flatten(part, into)),
        other => into.push(other.as_f64().map_or(f32::NAN, |value| value as f32)),
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// `0.001234` as 1,234.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: u64 = format!("{part:0<6}").parse().ok().filter(|_| part.len() <= 6)?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::InferParameter;
    use hyper::Response;

    fn rest(body: &str, json_bytes: Option<usize>) -> Answer {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Answer { status: Status::Http(200), body, json_bytes, credits: None }
    }

    #[test]
    fn outputs_are_read_in_every_form() {
        let flat = r#"{"outputs":[{"name":"y","data":[1.5,2]}]}"#;
        assert_eq!(rest(flat, None).outputs().expect("outputs"), [1.5, 2.0]);
        let nested = r#"{"outputs":[{"name":"y","data":[[1.5],[2]]}]}"#;
        assert_eq!(rest(nested, None).outputs().expect("outputs"), [1.5, 2.0]);
        let head = r#"{"outputs":[{"name":"y","parameters":{"binary_data_size":4}}]}"#;
        // "@@@@" is 0x40404040.
        let binary = rest(&format!("{head}@@@@"), Some(head.len()));
        assert_eq!(binary.outputs().expect("outputs"), [3.003_921_5]);
        assert!(rest(head, Some(head.len())).outputs().is_err(), "no data");
        assert!(rest(head, Some(head.len() + 1)).outputs().is_err(), "header too long");
    }

    #[test]
    fn bills_are_micro_credits() {
        for (text, expected) in [
            ("0.001234", Some(1_234)),
            ("12", Some(12_000_000)),
            ("1.5", Some(1_500_000)),
            ("0.0000001", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn bills_of_grpc_are_in_the_message() {
        let text = ParameterChoice::StringParam("0.000042".into());
        let parameter = InferParameter { parameter_choice: Some(text) };
        let message = ModelInferResponse {
            parameters: [(CREDITS_PARAMETER.to_owned(), parameter)].into(),
            ..ModelInferResponse::default()
        };
        let message = message.encode_to_vec();
        let mut body = vec![0, 0, 0, 0, message.len() as u8];
        body.extend(message);
        let (head, ()) = Response::new(()).into_parts();
        let trailers = HeaderMap::from_iter([(GRPC_STATUS, 0.into())]);
        let answer = Answer::of_grpc(&head, Some(&trailers), body.into());
        assert_eq!((answer.status, answer.credits_micro()), (Status::Grpc(0), Some(42)));
    }

    #[test]
    fn a_grpc_status_is_in_trailers_or_head() {
        let (mut head, ()) = Response::new(()).into_parts();
        assert_eq!(Answer::of_grpc(&head, None, Bytes::new()).status, Status::Grpc(GRPC_UNKNOWN));
        head.headers.insert(GRPC_STATUS, 8.into());
        assert_eq!(Answer::of_grpc(&head, None, Bytes::new()).status, Status::Grpc(8));
        let trailers = HeaderMap::from_iter([(GRPC_STATUS, 14.into())]);
        let answer = Answer::of_grpc(&head, Some(&trailers), Bytes::new());
        assert_eq!(answer.status, Status::Grpc(14));
    }
}
