//! Replies: which outputs, in which form, and what JSON cannot hold. Raw requests, whose replies are
//! binary data.

#![allow(clippy::unwrap_used)]

mod common;

use common::{limits, sole, tensor};
use fuelbox_engine::{DataType, OwnedDim, OwnedParameter, OwnedValue, Signature, Tensor};
use fuelbox_oip::{
    Labels, Limits, Request, Requested, RequestedOutput, Response, decode_response, elements,
};

fn wanted(name: &str, binary: Option<bool>, classes: Option<u64>) -> RequestedOutput {
    RequestedOutput { name: name.into(), binary, classes }
}

fn outputs() -> Vec<Tensor> {
    vec![
        tensor("a", DataType::Int8, &[2], &[1, 255]),
        tensor("b", DataType::Bytes, &[1], b"\x02\0\0\0hi"),
    ]
}

/// The reply's body as text, and how much of it is JSON.
fn encode(outputs: &[Tensor], requested: Vec<RequestedOutput>, binary: bool) -> String {
    let requested = Requested { outputs: requested, binary };
    let response = Response {
        model_name: "m",
        model_version: "1",
        id: None,
        parameters: &[],
        outputs,
        requested: &requested,
        labels: None,
    };
    match response.encode() {
        Ok(encoded) => {
            let text = encoded.bytes.escape_ascii().to_string().replace("\\\"", "\"");
            let text = text.replace(r#""model_name":"m","model_version":"1","outputs":"#, "");
            let json = encoded.json_bytes.map(|json| encoded.bytes.len() - json);
            format!("{text} {json:?}")
        }
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn outputs_come_in_the_order_and_form_asked_for() {
    let a = r#"{"name":"a","datatype":"INT8","shape":[2],"data":[1,-1]}"#;
    let b = r#"{"name":"b","datatype":"BYTES","shape":[1],"data":["hi"]}"#;
    let (a_bytes, b_bytes) = (r"\x01\xff", r"\x02\x00\x00\x00hi");
    let binary = |name, datatype, shape, size| {
        format!(
            r#"{{"name":"{name}","datatype":"{datatype}","shape":[{shape}],"parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let (a_binary, b_binary) = (binary("a", "INT8", 2, 2), binary("b", "BYTES", 1, 6));
    for (requested, default, expected) in [
        (vec![], false, format!("{{[{a},{b}]}} None")),
        (vec![], true, format!("{{[{a_binary},{b_binary}]}}{a_bytes}{b_bytes} Some(8)")),
        (vec![wanted("b", None, None)], false, format!("{{[{b}]}} None")),
        (
            vec![wanted("b", Some(true), None), wanted("a", None, None)],
            false,
            format!("{{[{b_binary},{a}]}}{b_bytes} Some(6)"),
        ),
        (
            vec![wanted("b", None, None), wanted("a", Some(false), None)],
            true,
            format!("{{[{b_binary},{a}]}}{b_bytes} Some(6)"),
        ),
        (
            vec![wanted("z", None, None)],
            true,
            "unknown_output: output 'z': no such output, the model gives 'a', 'b'".into(),
        ),
    ] {
        assert_eq!(encode(&outputs(), requested, default), expected);
    }
}

#[test]
fn facts_come_before_the_outputs() {
    let parameters = [
        OwnedParameter { name: "fuelbox_fuel".into(), value: OwnedValue::Int(7) },
        OwnedParameter { name: "ratio".into(), value: OwnedValue::Float(f64::NAN) },
    ];
    let response = Response {
        model_name: "space.m",
        model_version: "1.0.0",
        id: Some("\"7\""),
        parameters: &parameters,
        outputs: &[],
        requested: &Requested::default(),
        labels: None,
    };
    assert_eq!(
        String::from_utf8(response.encode().unwrap().bytes).unwrap(),
        concat!(
            r#"{"model_name":"space.m","model_version":"1.0.0","id":"\"7\"","#,
            r#""parameters":{"fuelbox_fuel":7,"ratio":"NaN"},"outputs":[]}"#
        )
    );
}

#[test]
fn what_json_cannot_hold_is_refused() {
    let singles = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let with = |bytes: &[u8], datatype, count| vec![tensor("y", datatype, &[count], bytes)];
    let half = half::f16::NEG_INFINITY.to_le_bytes();
    for (outputs, expected) in [
        (
            with(&singles(&[0.0, f32::NAN]), DataType::Fp32, 2),
            "not_json: output 'y': element 1 is NaN, which JSON cannot hold; ask for binary data",
        ),
        (
            with(&f64::INFINITY.to_le_bytes(), DataType::Fp64, 1),
            "not_json: output 'y': element 0 is Infinity, which JSON cannot hold; ask for binary data",
        ),
        (
            with(&half, DataType::Fp16, 1),
            "not_json: output 'y': element 0 is -Infinity, which JSON cannot hold; ask for binary data",
        ),
        (
            with(&[1, 0, 0, 0, 255], DataType::Bytes, 1),
            "not_json: output 'y': element 0 is not UTF-8, which JSON cannot hold; ask for binary data",
        ),
    ] {
        assert_eq!(encode(&outputs, vec![], false), expected);
        assert!(encode(&outputs, vec![], true).starts_with("{["));
    }
}

/// The shape and the classes of an output of FP32.
fn classify(dims: &[u64], values: &[f32], top: u64, labels: Option<&str>) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    classes(tensor("y", DataType::Fp32, dims, &bytes), top, labels)
}

fn classes(output: Tensor, top: u64, labels: Option<&str>) -> String {
    let labels = labels.map(|text| Labels::parse(text.as_bytes()).unwrap());
    let requested = Requested { outputs: vec![wanted("y", None, Some(top))], binary: true };
    let response = Response {
        model_name: "m",
        model_version: "1",
        id: None,
        parameters: &[],
        outputs: &[output],
        requested: &requested,
        labels: labels.as_ref().map(Labels::names),
    };
    let encoded = match response.encode() {
        Ok(encoded) => encoded,
        Err(error) => return format!("{}: {error}", error.code()),
    };
    let reply = decode_response(&encoded.bytes, encoded.json_bytes, &limits()).unwrap();
    let [output] = reply.outputs.as_slice() else { panic!("one output") };
    assert_eq!(output.datatype, DataType::Bytes);
    let all: Vec<_> =
        elements(output).map(|element| serde_json::to_value(element).unwrap()).collect();
    let all: Vec<_> = all.iter().map(|text| text.as_str().unwrap()).collect();
    format!("{} {}", output.shape, all.join(" "))
}

#[test]
fn likeliest_classes_come_first() {
    let nan = f32::NAN;
    for (dims, values, top, labels, expected) in [
        (&[4][..], &[1.0, 5.0, 10.0, 4.0][..], 2, None, "[2] 10:2 5:1"),
        (&[1, 3], &[0.25, 0.5, 1e-9], 9, Some("a\n\nc"), "[1, 3] 0.5:1 0.25:0:a 0.000000001:2:c"),
        (&[2, 2], &[1.0, 2.0, 4.0, 3.0], 1, Some("a\nb:c"), "[2, 1] 2:1:b:c 4:0:a"),
        (&[1, 2, 2], &[1.0, 2.0, 4.0, 3.0], 2, Some("a"), "[1, 2] 4:2 3:3"),
        // Ties to the smaller index, zeros of both signs among them; NaN is last.
        (&[4], &[-0.0, 0.0, -1.0, 0.0], 3, None, "[3] -0:0 0:1 0:3"),
        (&[3], &[nan, 1.0, f32::NEG_INFINITY], 3, None, "[3] 1:1 -Infinity:2 NaN:0"),
        (&[], &[0.5], 3, None, "[1] 0.5:0"),
        (&[0, 3], &[], 2, None, "[0, 2] "),
        (&[2, 0], &[], 2, None, "[2, 0] "),
        (&[0], &[], 2, None, "[0] "),
    ] {
        assert_eq!(classify(dims, values, top, labels), expected, "{values:?}");
    }
    // Beyond what doubles tell apart.
    let large = [u64::MAX - 1, u64::MAX].map(u64::to_le_bytes).concat();
    let large = tensor("y", DataType::Uint64, &[2], &large);
    assert_eq!(classes(large, 1, None), "[1] 18446744073709551615:1");
    let small = tensor("y", DataType::Int8, &[2], &[128, 255]);
    assert_eq!(classes(small, 2, None), "[2] -1:1 -128:0");
    let text = tensor("y", DataType::Bytes, &[1], &[0; 4]);
    assert_eq!(
        classes(text, 1, None),
        "bad_output_option: output 'y': classification of BYTES, allowed are numbers"
    );
    // Infinitely many are all.
    assert_eq!(classify(&[2], &[1.0, 2.0], u64::MAX, None), "[2] 2:1 1:0");
}

fn raw(datatype: DataType, shape: Option<Vec<OwnedDim>>, body: &[u8]) -> String {
    let signature = Signature { inputs: vec![sole("x", datatype, shape)], outputs: vec![] };
    let limits = Limits { tensor_bytes_max: 64 };
    match Request::decode(body, Some(0), &signature, &limits) {
        Ok(request) => {
            assert!(request.requested.binary && request.requested.outputs.is_empty());
            let [input] = request.inputs.as_slice() else { panic!("one input") };
            signature.check_inputs(&request.inputs).unwrap();
            format!("{} {:?}", input.shape, input.bytes)
        }
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn raw_requests_take_their_shape_from_the_signature() {
    use OwnedDim::{Any, Fixed};
    let batch = || OwnedDim::Symbol("batch".into());
    for (datatype, shape, body, expected) in [
        (DataType::Int8, Some(vec![Fixed(2)]), &[1, 2][..], "[2] [1, 2]"),
        (DataType::Int8, Some(vec![]), &[1], "[] [1]"),
        (
            DataType::Int16,
            Some(vec![batch(), Fixed(2)]),
            &[1; 8],
            "[2, 2] [1, 1, 1, 1, 1, 1, 1, 1]",
        ),
        (DataType::Int16, Some(vec![Fixed(2), Any(())]), &[], "[2, 0] []"),
        (DataType::Bytes, Some(vec![batch()]), b"hi", "[1] [2, 0, 0, 0, 104, 105]"),
        (DataType::Bytes, Some(vec![batch(), Fixed(1)]), b"", "[1, 1] [0, 0, 0, 0]"),
        (DataType::Bytes, None, b"", "[1] [0, 0, 0, 0]"),
        (
            DataType::Bytes,
            Some(vec![Fixed(2)]),
            b"hi",
            "bad_raw: raw request: the body is one BYTES element, the model takes [2]",
        ),
        (
            DataType::Int8,
            Some(vec![Fixed(3)]),
            &[1, 2],
            "bad_length: input 'x': 2 bytes found, shape [3] of INT8 takes 3",
        ),
        (
            DataType::Int16,
            Some(vec![batch(), Fixed(2)]),
            &[1; 7],
            "bad_raw: raw request: 7 bytes found, shape [batch, 2] of INT16 takes multiples of 4",
        ),
        (
            DataType::Int8,
            Some(vec![Any(()), Fixed(0)]),
            &[1],
            "bad_raw: raw request: 1 bytes found, shape [?, 0] of INT8 takes multiples of 0",
        ),
        (
            DataType::Int8,
            Some(vec![Any(()), batch()]),
            &[1],
            "bad_raw: raw request: the model takes shape [?, batch], allowed is one free dimension",
        ),
        (
            DataType::Int8,
            None,
            &[1],
            "bad_raw: raw request: the model takes shape of any rank, allowed is one free dimension",
        ),
        (
            DataType::Int8,
            Some(vec![Any(()), Fixed(u64::MAX), Fixed(u64::MAX)]),
            &[1],
            "bad_raw: raw request: 1 bytes found, shape [?, 18446744073709551615, 18446744073709551615] of INT8 takes multiples of 18446744073709551615",
        ),
        (
            DataType::Bool,
            Some(vec![Any(())]),
            &[2],
            "bad_element: input 'x': BOOL element 0 is 2, allowed are 0 and 1",
        ),
        (
            DataType::Int8,
            Some(vec![Any(())]),
            &[1; 65],
            "too_large: request: tensors of 65 bytes, allowed are 64",
        ),
    ] {
        assert_eq!(raw(datatype, shape, body), expected);
    }
    let two = common::signature();
    let error = Request::decode_raw(&[], &two, &limits()).unwrap_err();
    assert_eq!(error.to_string(), "raw request: the model takes 2 inputs, allowed is one");
}

#[test]
fn bad_replies_are_called_replies() {
    let check =
        |json: &str| decode_response(json.as_bytes(), None, &limits()).unwrap_err().to_string();
    assert_eq!(check("{}"), "reply: missing field `model_name` at line 1 column 2");
    assert_eq!(
        check(
            r#"{"model_name": "m", "outputs": [{"name": "y", "shape": [1], "datatype": "INT8"}]}"#
        ),
        "output 'y': neither data nor binary_data_size"
    );
    assert_eq!(
        check(
            r#"{"model_name": "m", "outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [NaN]}]}"#
        ),
        "reply: NaN at line 1 column 90, JSON has no such number; binary data carries it"
    );
}
