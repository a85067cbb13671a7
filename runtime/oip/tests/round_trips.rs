//! What was written is read as it was, in both forms and on both sides; any bytes are read or refused.

#![allow(clippy::unwrap_used)]

mod common;

use common::{arbitrary::tensor, limits, signature};
use fuelbox_engine::{OwnedParameter, OwnedValue, Tensor};
use fuelbox_oip::{
    Encoded, Request, Requested, RequestedOutput, Response, TensorJson, decode_response,
    encode_request,
};
use proptest::{collection::vec, prelude::*};

fn request(tensor: Tensor, binary: bool) {
    let inputs = [Tensor { name: "y".into(), ..tensor.clone() }, tensor];
    let parameters = [OwnedParameter {
        name: "p".into(),
        value: OwnedValue::Float(0.1 + inputs[0].bytes.len() as f64),
    }];
    let outputs = [RequestedOutput { name: "b".into(), binary: Some(!binary), classes: Some(2) }];
    let encoded = encode_request(Some("i"), &parameters, &inputs, &outputs, binary).unwrap();
    let Encoded { bytes, json_bytes } = encoded;
    assert_eq!(json_bytes.is_some(), binary);
    let read = Request::decode(&bytes, json_bytes, &signature(), &limits()).unwrap();
    let [first, second] = inputs;
    assert_eq!(read.inputs, [second, first]); // the model's order
    assert_eq!(read.id.as_deref(), Some("i"));
    assert_eq!(read.parameters, parameters);
    assert_eq!(read.requested, Requested { outputs: outputs.into(), binary });
}

fn response(tensor: Tensor, binary: bool) {
    let other = Tensor { name: "b".into(), ..tensor.clone() };
    let outputs = [Tensor { name: "a".into(), ..tensor }, other];
    let wanted = |name: &str, binary| RequestedOutput { name: name.into(), binary, classes: None };
    // One in the form of all, one as JSON.
    let requested =
        Requested { outputs: vec![wanted("b", None), wanted("a", Some(false))], binary };
    let response = Response {
        model_name: "m",
        model_version: "1.0.0",
        id: Some("i"),
        parameters: &[OwnedParameter { name: "p".into(), value: OwnedValue::Bool(true) }],
        outputs: &outputs,
        requested: &requested,
        labels: None,
    };
    let Encoded { bytes, json_bytes } = response.encode().unwrap();
    assert_eq!(json_bytes.is_some(), binary);
    let reply = decode_response(&bytes, json_bytes, &limits()).unwrap();
    let [a, b] = outputs;
    assert_eq!(reply.outputs, [b, a]);
    assert_eq!((reply.model_name.as_str(), reply.model_version.as_deref()), ("m", Some("1.0.0")));
    assert_eq!((reply.id.as_deref(), reply.parameters.len()), (Some("i"), 1));
}

/// The data of a tensor as JSON, nested as its shape says.
fn nested(flat: &[serde_json::Value], dims: &[u64]) -> serde_json::Value {
    match dims {
        [] => flat[0].clone(),
        [size, inner @ ..] => {
            let count = inner.iter().product::<u64>() as usize;
            let row = |row: u64| nested(&flat[row as usize * count..][..count], inner);
            (0..*size).map(row).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn binary_requests_read_back(tensor in tensor("x", false)) {
        request(tensor, true);
    }

    #[test]
    fn json_requests_read_back(tensor in tensor("x", true)) {
        request(tensor, false);
    }

    #[test]
    fn binary_replies_read_back(tensor in tensor("x", true)) {
        response(tensor, true);
    }

    #[test]
    fn json_replies_read_back(tensor in tensor("x", true)) {
        response(tensor, false);
    }

    #[test]
    fn nested_data_is_flat_data(tensor in tensor("x", true)) {
        let mut json = serde_json::to_value(TensorJson::of(&tensor)).unwrap();
        let flat = json["data"].as_array().unwrap().clone();
        json["data"] = nested(&flat, &tensor.shape);
        let body = serde_json::json!({ "inputs": [json] }).to_string();
        let read = |body: &str| Request::parse(body.as_bytes(), None, &limits()).unwrap().inputs;
        json["data"] = flat.into();
        let flat = serde_json::json!({ "inputs": [json] }).to_string();
        prop_assert_eq!(read(&body), read(&flat));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), header in 0..200usize) {
        let _ = Request::decode(&bytes, None, &signature(), &limits());
        let _ = Request::decode(&bytes, Some(header), &signature(), &limits());
        let _ = decode_response(&bytes, Some(header), &limits());
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        tensor in tensor("x", true),
        binary in any::<bool>(),
        place in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\"[]{},:-0eN\\\xff\n".to_vec()),
        cut in any::<bool>(),
    ) {
        let Encoded { mut bytes, json_bytes } = encode_request(None, &[], &[tensor], &[], binary).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if cut {
            bytes.truncate(place);
        }
        if let Ok(request) = Request::decode(&bytes, json_bytes, &signature(), &limits()) {
            for input in request.inputs {
                input.view().check().unwrap();
            }
        }
        let _ = decode_response(&bytes, json_bytes, &limits());
    }
}
