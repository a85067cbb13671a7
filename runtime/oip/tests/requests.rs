//! Good and bad requests, with the exact sentences that callers get.

#![allow(clippy::unwrap_used)]

mod common;

use common::{limits, signature};
use fuelbox_engine::{OwnedParameter, OwnedValue, Tensor};
use fuelbox_oip::{Limits, Request, RequestedOutput};

/// What became of a body whose first `json_bytes` are JSON: inputs, or code and sentence.
fn decode(body: &[u8], json_bytes: Option<usize>) -> String {
    match Request::decode(body, json_bytes, &signature(), &limits()) {
        Ok(request) => {
            let show = |t: &Tensor| format!("{} {} {} {:?}", t.name, t.datatype, t.shape, t.bytes);
            request.inputs.iter().map(show).collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("{}: {error}", error.code()),
    }
}

fn check(json: &str, expected: &str) {
    assert_eq!(decode(json.as_bytes(), None), expected, "{json}");
}

/// A request whose one input `x` has these members.
fn check_input(members: &str, expected: &str) {
    check(&format!(r#"{{"inputs": [{{"name": "x", {members}}}]}}"#), expected);
}

/// The JSON of a request, and bytes behind it.
fn check_binary(json: &str, tail: &[u8], expected: &str) {
    let body = [json.as_bytes(), tail].concat();
    assert_eq!(decode(&body, Some(json.len())), expected, "{json}");
}

#[test]
fn good_requests_become_tensors() {
    for (members, expected) in [
        (r#""shape": [2], "datatype": "INT8", "data": [1, -2]"#, "x INT8 [2] [1, 254]"),
        (
            r#""shape": [2, 1], "datatype": "BOOL", "data": [[true], [false]]"#,
            "x BOOL [2, 1] [1, 0]",
        ),
        (
            r#""datatype": "UINT8", "data": [[1, 2], [3, 4]], "shape": [2, 2]"#,
            "x UINT8 [2, 2] [1, 2, 3, 4]",
        ),
        (
            r#""shape": [2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]"#,
            "x UINT8 [2, 2] [1, 2, 3, 4]",
        ),
        (r#""shape": [], "datatype": "UINT8", "data": 7"#, "x UINT8 [] [7]"),
        (r#""shape": [], "datatype": "UINT8", "data": [7]"#, "x UINT8 [] [7]"),
        (r#""shape": [0], "datatype": "FP64", "data": []"#, "x FP64 [0] []"),
        (
            r#""shape": [1], "datatype": "BYTES", "data": ["\u00e4\n"]"#,
            "x BYTES [1] [3, 0, 0, 0, 195, 164, 10]",
        ),
        (
            r#""shape": [1], "datatype": "BYTES", "data": [{"base64": "/w=="}]"#,
            "x BYTES [1] [1, 0, 0, 0, 255]",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": [1], "more": [[{"a": null}]], "parameters": {"b": 1}"#,
            "x INT8 [1] [1]",
        ),
    ] {
        check_input(members, expected);
    }
    // The model's order, whatever the request's.
    let second_first = r#"{"model_name": "m", "inputs": [
        {"name": "y", "shape": [1], "datatype": "INT8", "data": [2]},
        {"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}]}"#;
    check(second_first, "x INT8 [1] [1]; y INT8 [1] [2]");
}

#[test]
fn settings_and_outputs_are_read() {
    let json = r#"{"id": "7", "inputs": [], "parameters": {
            "s": "x", "i": -1, "f": 0.1, "b": true, "binary_data_output": true},
        "outputs": [{"name": "b", "parameters": {"binary_data": false, "classification": 3, "more": 1}},
            {"name": "a", "parameters": {"classification": 0}}, {"name": "c"}]}"#;
    let request = Request::decode(json.as_bytes(), None, &signature(), &limits()).unwrap();
    assert_eq!(request.id.as_deref(), Some("7"));
    let parameter = |name: &str, value| OwnedParameter { name: name.into(), value };
    assert_eq!(
        request.parameters,
        [
            parameter("b", OwnedValue::Bool(true)),
            parameter("f", OwnedValue::Float(0.1)),
            parameter("i", OwnedValue::Int(-1)),
            parameter("s", OwnedValue::String("x".into())),
        ]
    );
    assert!(request.requested.binary);
    let output =
        |name: &str, binary, classes| RequestedOutput { name: name.into(), binary, classes };
    assert_eq!(
        request.requested.outputs,
        [output("b", Some(false), Some(3)), output("a", None, None), output("c", None, None)]
    );
    let nulls = r#"{"id": null, "parameters": null, "outputs": null, "inputs": []}"#;
    check(nulls, "");
}

#[test]
fn malformed_json_is_placed() {
    for (json, expected) in [
        ("", "bad_json: request: EOF while parsing a value at line 1 column 0"),
        ("{\n  \"inputs\": [}", "bad_json: request: expected value at line 2 column 14"),
        (r#"{"inputs": []} x"#, "bad_json: request: trailing characters at line 1 column 16"),
        (
            "[]",
            "bad_member: request: invalid type: sequence, expected an object at line 1 column 0",
        ),
        ("{}", "bad_member: request: missing field `inputs` at line 1 column 2"),
        (
            r#"{"inputs": {}}"#,
            "bad_member: request: invalid type: map, expected a list of tensors at line 1 column 11",
        ),
        (
            r#"{"inputs": [["x", [1], "INT8", null, [1]]]}"#,
            "bad_member: request: invalid type: sequence, expected an object at line 1 column 12",
        ),
        (
            r#"{"inputs": [{"name": "x"}]}"#,
            "bad_member: request: missing field `shape` at line 1 column 25",
        ),
        (
            r#"{"inputs": [], "id": 7}"#,
            "bad_member: request: invalid type: integer `7`, expected a string at line 1 column 22",
        ),
        (
            r#"{"inputs": [], "inputs": []}"#,
            "duplicate_key: request: duplicate field `inputs` at line 1 column 23",
        ),
        (
            r#"{"inputs": [], "parameters": {"a": 1, "a": 2}}"#,
            "duplicate_key: request: duplicate field `a` at line 1 column 45",
        ),
        (
            r#"{"inputs": [{"name": "x", "name": "x"}]}"#,
            "duplicate_key: request: duplicate field `name` at line 1 column 32",
        ),
        (
            r#"{"inputs": [{"name": "x", "parameters": {"binary_data_size": 1, "binary_data_size": 1}}]}"#,
            "duplicate_key: request: duplicate field `binary_data_size` at line 1 column 82",
        ),
        (
            r#"{"inputs": [], "outputs": [{"name": "a", "parameters": {"binary_data": true, "binary_data": true}}]}"#,
            "duplicate_key: request: duplicate field `binary_data` at line 1 column 90",
        ),
        (
            r#"{"inputs": [], "outputs": [{"name": "a", "name": "a"}]}"#,
            "duplicate_key: request: duplicate field `name` at line 1 column 47",
        ),
        (
            "{\"inputs\": [], \"more\": [NaN]}",
            "json_number: request: NaN at line 1 column 25, JSON has no such number; binary data carries it",
        ),
    ] {
        check(json, expected);
    }
    assert_eq!(decode(b"{\"inputs\": []\xff}", None), "bad_utf8: request: byte 13 is not UTF-8");
}

#[test]
fn floats_that_json_lacks_are_named() {
    for (data, expected) in [
        (
            "[0.5, NaN]",
            "json_number: request: NaN at line 1 column 75, JSON has no such number; binary data carries it",
        ),
        (
            "[Infinity]",
            "json_number: request: Infinity at line 1 column 70, JSON has no such number; binary data carries it",
        ),
        (
            "[-Infinity]",
            "json_number: request: -Infinity at line 1 column 70, JSON has no such number; binary data carries it",
        ),
        ("[nan]", "bad_json: request: expected ident at line 1 column 71"),
    ] {
        check_input(&format!(r#""shape": [1], "datatype": "FP32", "data": {data}"#), expected);
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |count: usize| format!("{}1{}", "[".repeat(count), "]".repeat(count));
    let members = |data: &str| format!(r#""shape": [1, 1], "datatype": "INT8", "data": {data}"#);
    check_input(&members(&deep(2)), "x INT8 [1, 1] [1]");
    check_input(&members(&deep(3)), "bad_nesting: input 'x': data: lists nested deeper than 2");
    check_input(
        &members(&deep(1_000_000)),
        "bad_nesting: input 'x': data: lists nested deeper than 2",
    );
    // What nobody reads is skipped without a stack.
    check(&format!(r#"{{"inputs": [], "more": {}}}"#, deep(1_000_000)), "");
    check(
        &format!(r#"{{"inputs": [], "parameters": {{"a": {}}}}}"#, deep(1_000_000)),
        "bad_parameter: parameter 'a': found a list, allowed are true, false, numbers and text",
    );
    let blob = r#"{"base64": "#.repeat(1000);
    check_input(
        &members(&format!("[{blob}1{}]", "}".repeat(1000))),
        "bad_element: input 'x': element 0: found an object, INT8 allows whole numbers from -128 to 127",
    );
}

#[test]
fn tensors_that_do_not_fit_themselves_are_refused() {
    for (members, expected) in [
        (
            r#""shape": [-1], "datatype": "INT8", "data": [1]"#,
            "bad_shape: input 'x': dimension 0 is -1, allowed are numbers from 0",
        ),
        (
            r#""shape": [1,1,1,1,1,1,1,1,1], "datatype": "INT8", "data": [1]"#,
            "bad_shape: input 'x': 9 dimensions, allowed are 8",
        ),
        (
            r#""shape": [9223372036854775808, 2], "datatype": "INT8", "data": []"#,
            "bad_shape: input 'x': shape [9223372036854775808, 2] of INT8 overflows 64 bits",
        ),
        (
            r#""shape": [4611686018427387904], "datatype": "FP64", "data": []"#,
            "bad_shape: input 'x': shape [4611686018427387904] of FP64 overflows 64 bits",
        ),
        (
            r#""shape": [1000000], "datatype": "FP64", "data": []"#,
            "too_large: request: tensors of 8000000 bytes, allowed are 1048576",
        ),
        (
            r#""shape": [1], "datatype": "BF16", "data": [1]"#,
            "bad_datatype: input 'x': datatype 'BF16', allowed are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
        ),
        (
            r#""shape": [1], "datatype": "INT8""#,
            "bad_data: input 'x': neither data nor binary_data_size",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": null"#,
            "bad_data: input 'x': neither data nor binary_data_size",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": [1], "parameters": {"binary_data_size": 1}"#,
            "bad_data: input 'x': both data and binary_data_size, allowed is one of them",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 1}"#,
            "shared_memory: input 'x': shared memory is not offered; send data or binary data",
        ),
        (
            r#""shape": [3], "datatype": "INT8", "data": [1, 2]"#,
            "bad_length: input 'x': data: 2 elements found, shape [3] has 3",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": [1, 2]"#,
            "bad_length: input 'x': data: 2 elements found, shape [1] has 1",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": 1"#,
            "bad_nesting: input 'x': data: one element found, shape [1] takes a list",
        ),
        (
            r#""shape": [2, 3], "datatype": "INT8", "data": [[1, 2], [3, 4], [5, 6]]"#,
            "bad_nesting: input 'x': data: shape [3, 2] found, expected [2, 3] or a flat list",
        ),
        (
            r#""shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3]]"#,
            "bad_nesting: input 'x': data: lists of 2 and of 1 side by side",
        ),
        (
            r#""shape": [2, 1], "datatype": "INT8", "data": [[1], 2]"#,
            "bad_nesting: input 'x': data: lists and elements side by side",
        ),
        (
            r#""shape": [1], "datatype": "INT8", "data": [128]"#,
            "bad_element: input 'x': element 0: found 128, INT8 allows whole numbers from -128 to 127",
        ),
        (
            r#""shape": [1], "datatype": "UINT8", "data": ["1"]"#,
            "bad_element: input 'x': element 0: found \"1\", UINT8 allows whole numbers from 0 to 255",
        ),
        (
            r#""shape": [2], "datatype": "INT64", "data": [1, 1.0]"#,
            "bad_element: input 'x': element 1: found 1.0, INT64 allows whole numbers from -9223372036854775808 to 9223372036854775807",
        ),
        (
            r#""shape": [1], "datatype": "BOOL", "data": [1]"#,
            "bad_element: input 'x': element 0: found 1, BOOL allows true and false",
        ),
        (
            r#""shape": [1], "datatype": "FP16", "data": [65520]"#,
            "bad_element: input 'x': element 0: found 65520, FP16 allows numbers up to 65504, \"NaN\" and \"Infinity\"",
        ),
        (
            r#""shape": [1], "datatype": "FP32", "data": [1e39]"#,
            "bad_element: input 'x': element 0: found 1e39, FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
        ),
        (
            r#""shape": [1], "datatype": "FP32", "data": [null]"#,
            "bad_element: input 'x': element 0: found null, FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
        ),
        (
            r#""shape": [1], "datatype": "FP32", "data": ["inf"]"#,
            "bad_element: input 'x': element 0: found \"inf\", FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
        ),
        (
            r#""shape": [1], "datatype": "FP32", "data": [{}]"#,
            "bad_element: input 'x': element 0: found an object, FP32 allows numbers up to 3.4028235e38, \"NaN\" and \"Infinity\"",
        ),
        (
            r#""shape": [1], "datatype": "BYTES", "data": [1]"#,
            "bad_element: input 'x': element 0: found 1, BYTES allows text and {\"base64\": \"...\"}",
        ),
        (
            r#""shape": [1], "datatype": "BYTES", "data": ["\ud800"]"#,
            "bad_element: input 'x': element 0: found text that is not Unicode, BYTES allows text and {\"base64\": \"...\"}",
        ),
        (
            r#""shape": [1], "datatype": "BYTES", "data": [{"base64": "!"}]"#,
            "bad_element: input 'x': element 0: base64 is malformed",
        ),
    ] {
        check_input(members, expected);
    }
    check(
        r#"{"inputs": [{"name": "x", "shape": [], "datatype": "INT8", "data": 1}, {"name": "x", "shape": [], "datatype": "INT8", "data": 1}]}"#,
        "duplicate_tensor: input 'x': given twice",
    );
    let long = "n".repeat(513);
    check(
        &format!(
            r#"{{"inputs": [{{"name": "{long}", "shape": [], "datatype": "INT8", "data": 1}}]}}"#
        ),
        "long_name: name of 513 bytes, allowed are 512",
    );
    let many = vec![r#"{"name": "a"}"#; 1025].join(",");
    check(
        &format!(r#"{{"inputs": [], "outputs": [{many}]}}"#),
        "bad_member: request: more than 1024 tensors at line 1 column 14377",
    );
}

#[test]
fn parameters_of_other_kinds_are_refused() {
    for (json, expected) in [
        (
            r#"{"a": null}"#,
            "bad_parameter: parameter 'a': found null, allowed are true, false, numbers and text",
        ),
        (
            r#"{"a": {}}"#,
            "bad_parameter: parameter 'a': found an object, allowed are true, false, numbers and text",
        ),
        (
            r#"{"a": 9223372036854775808}"#,
            "bad_parameter: parameter 'a': found 9223372036854775808, allowed are whole numbers up to 9223372036854775807 and floats up to 1.7976931348623157e308",
        ),
        (
            r#"{"binary_data_output": 1}"#,
            "bad_parameter: parameter 'binary_data_output': found 1, allowed are true and false",
        ),
    ] {
        check(&format!(r#"{{"inputs": [], "parameters": {json}}}"#), expected);
    }
}

#[test]
fn outputs_are_the_models() {
    for (json, expected) in [
        (
            r#"[{"name": "z"}]"#,
            "unknown_output: output 'z': no such output, the model gives 'a', 'b', 'c'",
        ),
        (
            r#"[{"name": "a"}, {"name": "a"}]"#,
            "duplicate_tensor: requested output 'a': given twice",
        ),
        (
            r#"[{"name": "c", "parameters": {"classification": 1}}]"#,
            "bad_output_option: output 'c': classification of BYTES, allowed are numbers",
        ),
        (
            r#"[{"name": "a", "parameters": {"classification": -1}}]"#,
            "bad_member: request: invalid value: integer `-1`, expected u64 at line 1 column 76",
        ),
        (
            r#"[{"name": "a", "parameters": {"shared_memory_region": "r"}}]"#,
            "bad_output_option: output 'a': shared memory is not offered; ask for binary data",
        ),
    ] {
        check(&format!(r#"{{"inputs": [], "outputs": {json}}}"#), expected);
    }
}

#[test]
fn binary_data_is_taken_in_order_and_adds_up() {
    let input = |name: &str, datatype: &str, shape: &str, size: u64| {
        format!(
            r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "parameters": {{"binary_data_size": {size}}}}}"#
        )
    };
    let one = |datatype: &str, shape: &str, size| {
        format!(r#"{{"inputs": [{}]}}"#, input("x", datatype, shape, size))
    };
    let two = format!(
        r#"{{"inputs": [{}, {}]}}"#,
        input("y", "INT16", "[1]", 2),
        input("x", "INT8", "[2]", 2)
    );
    check_binary(&two, &[1, 2, 3, 4], "x INT8 [2] [3, 4]; y INT16 [1] [1, 2]");
    check_binary(
        &two,
        &[1, 2, 3],
        "bad_binary_size: input 'x': binary_data_size is 2, the body has 1 bytes left",
    );
    check_binary(
        &two,
        &[1, 2, 3, 4, 5],
        "bad_binary_size: request: 1 bytes after the last tensor's",
    );
    for (datatype, shape, tail, expected) in [
        (
            "INT16",
            "[2]",
            &[1, 2][..],
            "bad_length: input 'x': 2 bytes found, shape [2] of INT16 takes 4",
        ),
        ("INT8", "[0]", &[], "x INT8 [0] []"),
        (
            "BOOL",
            "[2]",
            &[1, 2],
            "bad_element: input 'x': BOOL element 1 is 2, allowed are 0 and 1",
        ),
        (
            "BYTES",
            "[2]",
            &[1, 0, 0, 0, 255, 0, 0, 0, 0],
            "x BYTES [2] [1, 0, 0, 0, 255, 0, 0, 0, 0]",
        ),
        (
            "BYTES",
            "[1]",
            &[2, 0, 0, 0, 255],
            "bad_length: input 'x': BYTES elements: 0 complete ones and 5 bytes over, shape [1] has 1",
        ),
        (
            "BYTES",
            "[1]",
            &[255, 255, 255, 255],
            "bad_length: input 'x': BYTES elements: 0 complete ones and 4 bytes over, shape [1] has 1",
        ),
    ] {
        check_binary(&one(datatype, shape, tail.len() as u64), tail, expected);
    }
    let huge = one("INT8", "[18446744073709551615]", u64::MAX);
    check_binary(
        &huge,
        &[],
        "too_large: request: tensors of 18446744073709551615 bytes, allowed are 1048576",
    );
    let cut = one("INT8", "[9]", u64::MAX);
    check_binary(
        &cut,
        &[],
        "bad_binary_size: input 'x': binary_data_size is 18446744073709551615, the body has 0 bytes left",
    );
    let json = one("INT8", "[1]", 1);
    check(
        &json,
        "bad_binary_size: input 'x': binary_data_size is 1, but no Inference-Header-Content-Length says where the JSON ends",
    );
    check(&one("INT8", "[0]", 0), "x INT8 [0] []");
    let expected = "bad_header_length: request: 3 bytes of JSON announced, the body has 2";
    assert_eq!(decode(b"{}", Some(3)), expected);
    // All tensors together stay below the limit.
    let limits = Limits { tensor_bytes_max: 3 };
    let body = [two.as_bytes(), &[1, 2, 3, 4]].concat();
    let error = Request::decode(&body, Some(two.len()), &signature(), &limits).unwrap_err();
    assert_eq!(error.to_string(), "request: tensors of 4 bytes, allowed are 3");
}
