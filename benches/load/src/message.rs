//! Requests, ready but for the two elements that make each another one.
//!
//! [`Traffic`] -> `Template` -> head and body. Encoding is done once: what is left for a request is a copy.

use crate::{
    plan::{Protocol, Traffic},
    protocol::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE},
};
use prost::Message;
use serde_json::json;
use std::net::SocketAddr;

/// Where the binary extension says how long the JSON is.
pub(crate) const JSON_BYTES: HeaderName =
    HeaderName::from_static("inference-header-content-length");
/// Of a number in JSON: `1234567e-6`.
const NUMBER_CHARS: usize = 10;
const MILLION: u64 = 1_000_000;
/// Of a gRPC frame: one for compression, four for the length.
const FRAME_BYTES: usize = 5;

/// A request of one traffic.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
    /// Where the first two elements are.
    elements: [usize; 2],
    text: bool,
}

impl Template {
    pub(crate) fn new(traffic: &Traffic, protocol: Protocol, address: SocketAddr) -> Result<Self> {
        let elements: u64 = traffic.shape.iter().product();
        ensure!(elements >= 2, "{}: {elements} elements, at least 2", traffic.name);
        let mut template = match protocol {
            Protocol::RestBinary => rest_binary(traffic, elements)?,
            Protocol::RestJson => rest_json(traffic, elements)?,
            Protocol::Grpc => grpc(traffic, elements, address)?,
        };
        if let Some(key) = &traffic.key {
            let value = HeaderValue::try_from(format!("Bearer {key}"))?;
            template.headers.insert(AUTHORIZATION, value);
        }
        if protocol != Protocol::Grpc {
            template.headers.insert(HOST, HeaderValue::try_from(address.to_string())?);
        }
        Ok(template)
    }

    /// The body of this request: no two below a million million are alike.
    pub(crate) fn body(&self, number: u64) -> Bytes {
        let mut body = self.body.clone();
        for (at, part) in self.elements.into_iter().zip([number % MILLION, number / MILLION]) {
            let part = MILLION + part % MILLION;
            if self.text {
                body[at..at + NUMBER_CHARS].copy_from_slice(format!("{part}e-6").as_bytes());
            } else {
                let value = (part as f64 / 1e6) as f32;
                body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        body.into()
    }
}

/// Elements as a picture's: 256 levels from 0 to 1.
fn values(elements: u64) -> impl Iterator<Item = f32> {
    (0..elements).map(|at| (at * 37 % 256) as f32 / 255.0)
}

fn binary(elements: u64) -> Vec<u8> {
    values(elements).flat_map(f32::to_le_bytes).collect()
}

fn path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

fn rest_binary(traffic: &Traffic, elements: u64) -> Result<Template> {
    let data = binary(elements);
    let head = json!({
        "parameters": { "binary_data_output": true },
        "inputs": [{
            "name": traffic.input,
            "shape": traffic.shape,
            "datatype": "FP32",
            "parameters": { "binary_data_size": data.len() },
        }],
    });
    let mut body = serde_json::to_vec(&head)?;
    let at = body.len();
    body.extend(data);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(JSON_BYTES, at.into());
    let uri = path(&traffic.model).try_into()?;
    Ok(Template { uri, headers, body, elements: [at, at + 4], text: false })
}

fn rest_json(traffic: &Traffic, elements: u64) -> Result<Template> {
    let name = serde_json::to_string(&traffic.input)?;
    let shape = serde_json::to_string(&traffic.shape)?;
    let mut text =
        format!(r#"{{"inputs":[{{"name":{name},"shape":{shape},"datatype":"FP32","data":["#);
    let at = text.len();
    text.push_str("1000000e-6,1000000e-6");
    for value in values(elements).skip(2) {
        text.push(',');
        text.push_str(&serde_json::to_string(&value)?);
    }
    text.push_str("]}]}");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let uri = path(&traffic.model).try_into()?;
    let elements = [at, at + NUMBER_CHARS + 1];
    Ok(Template { uri, headers, body: text.into(), elements, text: true })
}

fn grpc(traffic: &Traffic, elements: u64, address: SocketAddr) -> Result<Template> {
    let data = binary(elements);
    let data_bytes = data.len();
    let message = ModelInferRequest {
        model_name: traffic.model.clone(),
        inputs: vec![InferInputTensor {
            name: traffic.input.clone(),
            datatype: "FP32".into(),
            shape: traffic.shape.iter().map(|size| *size as i64).collect(),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![data],
        ..ModelInferRequest::default()
    };
    let message_bytes = message.encoded_len();
    let mut body = Vec::with_capacity(FRAME_BYTES + message_bytes);
    body.push(0); // not compressed
    body.extend(u32::try_from(message_bytes)?.to_be_bytes());
    message.encode(&mut body)?;
    // The raw contents have the highest number, so they are written last.
    let at = body.len() - data_bytes;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let uri = format!("http://{address}/inference.GRPCInferenceService/ModelInfer").try_into()?;
    Ok(Template { uri, headers, body, elements: [at, at + 4], text: false })
}

/// The message of a gRPC response that has one.
pub(crate) fn unframed(body: &Bytes) -> Option<Bytes> {
    let (head, _) = body.split_first_chunk::<FRAME_BYTES>()?;
    let bytes = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let end = FRAME_BYTES.checked_add(usize::try_from(bytes).ok()?)?;
    (head[0] == 0 && end == body.len()).then(|| body.slice(FRAME_BYTES..end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn template(protocol: Protocol) -> Template {
        let traffic = Traffic {
            name: "t".into(),
            model: "m".into(),
            key: Some("fbx_1".into()),
            input: "x".into(),
            shape: vec![1, 3],
            share: 1,
            leaves_per_1000: 0,
        };
        let address = "127.0.0.1:8000".parse().expect("an address");
        Template::new(&traffic, protocol, address).expect("a request")
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// The elements of a request, read back.
    fn elements(protocol: Protocol, number: u64) -> Vec<f32> {
        let template = template(protocol);
        let body = template.body(number);
        match protocol {
            Protocol::RestBinary => {
                let length = template.headers[JSON_BYTES].to_str().expect("digits");
                let (head, data) = body.split_at(length.parse().expect("a length"));
                let head: Value = serde_json::from_slice(head).expect("json");
                assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], data.len());
                floats(data)
            }
            Protocol::RestJson => {
                let body: Value = serde_json::from_slice(&body).expect("json");
                serde_json::from_value(body["inputs"][0]["data"].clone()).expect("numbers")
            }
            Protocol::Grpc => {
                let message = unframed(&body).expect("a frame");
                let message = ModelInferRequest::decode(message).expect("a message");
                assert_eq!(message.inputs[0].shape, [1, 3]);
                floats(&message.raw_input_contents[0])
            }
        }
    }

    #[test]
    fn requests_of_a_number_have_the_same_elements_in_all_protocols() {
        for (number, first, second) in
            [(0, 1.0, 1.0), (1, 1.000001, 1.0), (3_000_007, 1.000007, 1.000003)]
        {
            for protocol in [Protocol::RestBinary, Protocol::RestJson, Protocol::Grpc] {
                let expected = [first, second, 74.0 / 255.0];
                assert_eq!(elements(protocol, number), expected, "{protocol:?} {number}");
            }
        }
    }

    #[test]
    fn keys_are_bearers_in_all_protocols() {
        for protocol in [Protocol::RestBinary, Protocol::RestJson, Protocol::Grpc] {
            assert_eq!(template(protocol).headers[AUTHORIZATION], "Bearer fbx_1");
        }
    }

    #[test]
    fn a_frame_that_is_cut_has_no_message() {
        for (bytes, found) in
            [(&[0, 0, 0, 0, 1, 7][..], true), (&[0, 0, 0, 0, 2, 7], false), (&[0, 0], false)]
        {
            assert_eq!(unframed(&Bytes::copy_from_slice(bytes)).is_some(), found, "{bytes:?}");
        }
    }
}
