//! What is refused, and what a refusal costs: nothing.

use super::*;

#[test]
fn bad_requests_are_told_what_is_wrong_and_cost_nothing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let infer = |request| client.infer(with_key(request, &served.alice));
    let one = 1.5f32.to_le_bytes();
    let x = |shape: &[i64], bytes: &[u8]| raw(vec![tensor("x", "FP32", shape)], &[bytes]);
    let of = |datatype: &str, bytes: &[u8]| raw(vec![tensor("x", datatype, &[1])], &[bytes]);
    let lists = |contents: InferTensorContents| {
        let x = InferInputTensor { contents: Some(contents), ..tensor("x", "FP32", &[1]) };
        raw(vec![x], &[])
    };
    let none = InferTensorContents::default;
    let floats = |list: &[f32]| InferTensorContents { fp32_contents: list.into(), ..none() };
    let both = ModelInferRequest {
        raw_input_contents: vec![Bytes::copy_from_slice(&one)],
        ..lists(floats(&[1.5]))
    };
    let region =
        ("shared_memory_region".to_owned(), parameter(ParameterChoice::StringParam("r".into())));
    let shared = InferInputTensor { parameters: [region].into(), ..tensor("x", "FP32", &[1]) };
    let long = "x".repeat(513);
    for (request, expected) in [
        (both, "input 'x': both contents and raw_input_contents, allowed is one of them"),
        (x(&[1], &one[..3]), "input 'x': 3 bytes found, shape [1] of FP32 takes 4"),
        (x(&[1], &[0; 5]), "input 'x': 5 bytes found, shape [1] of FP32 takes 4"),
        (x(&[-1], &one), "input 'x': dimension 0 is -1, allowed are numbers from 0"),
        (
            x(&[1, i64::MIN], &one),
            "input 'x': dimension 1 is -9223372036854775808, allowed are numbers from 0",
        ),
        (
            x(&[1 << 32, 1 << 32], &one),
            "input 'x': shape [4294967296, 4294967296] of FP32 overflows 64 bits",
        ),
        (x(&[i64::MAX], &one), "input 'x': shape [9223372036854775807] of FP32 overflows 64 bits"),
        (x(&[1; 9], &one), "input 'x': 9 dimensions, allowed are 8"),
        (x(&[2], &[0; 8]), "input 'x': shape [2], the model takes [1]"),
        (of("FP64", &[0; 8]), "input 'x': datatype FP64, the model takes FP32"),
        (of("BOOL", &[2]), "input 'x': BOOL element 0 is 2, allowed are 0 and 1"),
        (
            of("BYTES", &[9, 0, 0, 0, 1]),
            "input 'x': BYTES elements: 0 complete ones and 5 bytes over, shape [1] has 1",
        ),
        (
            of("fp32", &one),
            "input 'x': datatype 'fp32', allowed are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, \
             INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
        ),
        (
            raw(vec![tensor("x", "FP32", &[1])], &[&one, &one]),
            "raw_input_contents: found 2 entries, expected one for each of 1 inputs",
        ),
        (
            raw(vec![tensor("x", "FP32", &[1]), tensor("x", "FP32", &[1])], &[&one, &one]),
            "input 'x': given twice",
        ),
        (
            raw(vec![shared], &[&one]),
            "input 'x': shared memory is not offered; send data or binary data",
        ),
        (raw(vec![tensor(&long, "FP32", &[1])], &[&one]), "name of 513 bytes, allowed are 512"),
        (
            raw(vec![tensor("w", "FP32", &[1])], &[&one]),
            "input 'w': no such input, the model takes 'x'",
        ),
        (raw(vec![], &[]), "input 'x': missing, the model takes 'x'"),
        (
            raw(vec![tensor("x", "FP32", &[1])], &[]),
            "input 'x': contents: found 0 elements, the shape has 1",
        ),
        (lists(floats(&[1.0, 2.0])), "input 'x': contents: found 2 elements, the shape has 1"),
        (
            lists(InferTensorContents { int_contents: vec![1], ..none() }),
            "input 'x': contents: found int_contents, FP32 takes fp32_contents",
        ),
        (
            with_parameter(good(), "fuelbox_seed", ParameterChoice::DoubleParam(0.5)),
            "parameter 'fuelbox_seed': found 0.5, expected a whole number of 0 to 2^64 - 1",
        ),
        (
            with_parameter(good(), "fuelbox_fuel_limit", ParameterChoice::Uint64Param(1 << 60)),
            "fuel limit over the host's: found 1152921504606846976, allowed 1000000000000",
        ),
    ] {
        let expected = (Code::InvalidArgument, "bad_input".to_owned(), expected.to_owned());
        assert_eq!(refusal(infer(request)), expected);
    }
    let sequence = with_parameter(good(), "sequence_id", ParameterChoice::Int64Param(3));
    let (status, code, _) = refusal(infer(sequence));
    assert_eq!((status, code.as_str()), (Code::Unimplemented, "not_supported"));
    for (name, version, expected) in [
        ("other", "", "no model 'other'"),
        ("tiny", "9", "no model 'tiny' version '9'"),
        ("", "", "no model ''"),
        ("ti\u{1b}ny", "", "no model 'ti\\u{1b}ny'"),
    ] {
        let request =
            ModelInferRequest { model_name: name.into(), model_version: version.into(), ..good() };
        let expected = (Code::NotFound, "not_found".to_owned(), expected.to_owned());
        assert_eq!(refusal(infer(request)), expected);
    }
    let request = with_text(with_key(good(), &served.alice), "fuelbox-seed", "x");
    let expected = "header fuelbox-seed: found 'x', expected a whole number";
    assert_eq!(refusal(client.infer(request)).2, expected);
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS));
    let jobs = served.host.read(|records| records.jobs(&JobFilter::default(), 9)).unwrap().unwrap();
    assert!(jobs.is_empty());
    infer(good()).unwrap();
}

#[test]
fn whoever_has_no_valid_key_learns_nothing_and_sends_nothing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let revoked = support::key(&served.host, "alice", &[Scope::Caller]);
    served.host.access().revoke(&revoked[4..20].parse().unwrap()).unwrap();
    let wrong = another_secret(&served.alice);
    let keys = [revoked.as_str(), &wrong, "fbx_", "x"];
    let answers: Vec<_> = keys
        .iter()
        .flat_map(|key| {
            ["tiny", "none"].map(|name| {
                let request = ModelInferRequest { model_name: name.into(), ..good() };
                refusal(client.infer(with_key(request, key)))
            })
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!((answers[0].0, answers[0].1.as_str()), (Code::Unauthenticated, "unauthenticated"));
    let none = (
        Code::Unauthenticated,
        "unauthenticated".to_owned(),
        "no key: send 'Authorization: Bearer KEY'".to_owned(),
    );
    let mut stub = client.stub();
    client.runtime.block_on(async {
        let model = || ("tiny".to_owned(), String::new());
        let (name, version) = model();
        assert_eq!(refusal(stub.model_ready(ModelReadyRequest { name, version }).await), none);
        let (name, version) = model();
        assert_eq!(
            refusal(stub.model_metadata(ModelMetadataRequest { name, version }).await),
            none
        );
        let (name, version) = model();
        assert_eq!(refusal(stub.model_config(ModelConfigRequest { name, version }).await), none);
        let (name, version) = model();
        let statistics = ModelStatisticsRequest { name, version };
        assert_eq!(refusal(stub.model_statistics(statistics).await), none);
        assert_eq!(refusal(stub.repository_index(RepositoryIndexRequest::default()).await), none);
        let load = RepositoryModelLoadRequest::default();
        assert_eq!(refusal(stub.repository_model_load(load).await), none);
        let unload = RepositoryModelUnloadRequest::default();
        assert_eq!(refusal(stub.repository_model_unload(unload).await), none);
        let messages = tokio_stream::iter([good()]);
        assert_eq!(refusal(stub.model_stream_infer(messages).await), none);
        assert_eq!(refusal(stub.model_infer(good()).await), none);
    });
    let publisher = support::key(&served.host, "pub", &[Scope::Publisher]);
    let (status, code, _) = refusal(client.infer(with_key(good(), &publisher)));
    assert_eq!((status, code.as_str()), (Code::PermissionDenied, "forbidden"));
}

#[test]
fn messages_end_at_their_limit() {
    let served = serve_limited(|limits| limits.request_bytes = 100_000);
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let large = |bytes| raw(vec![tensor("x", "UINT8", &[bytes as i64])], &[&vec![7; bytes]]);
    let request = large(200_000);
    let expected = format!(
        "message over limit: found {} bytes, allowed {}",
        request.encoded_len(),
        100_000 + (64 << 10)
    );
    let expected = (Code::OutOfRange, "too_large".to_owned(), expected);
    assert_eq!(refusal(client.infer(with_key(request, &served.alice))), expected);
    // Up to the limit it is looked at.
    let (status, _, sentence) = refusal(client.infer(with_key(large(160_000), &served.alice)));
    assert_eq!(status, Code::InvalidArgument, "{sentence}");
    // Packed it is small, unpacked it is not.
    let mut packing = client.stub().send_compressed(CompressionEncoding::Gzip);
    let bomb = with_key(large(10_000_000), &served.alice);
    let (status, code, _) = refusal(client.runtime.block_on(packing.model_infer(bomb)));
    assert_eq!((status, code.as_str()), (Code::OutOfRange, "too_large"));
    // Calls without tensors have small messages.
    let name = "n".repeat(100_000);
    let ready = with_key(ModelReadyRequest { name, ..Default::default() }, &served.alice);
    let (status, code, _) = refusal(client.runtime.block_on(client.stub().model_ready(ready)));
    assert_eq!((status, code.as_str()), (Code::OutOfRange, "too_large"));
    let many = vec![InferInputTensor::default(); 20_000];
    let many = ModelInferRequest { model_name: "tiny".into(), inputs: many, ..Default::default() };
    let (status, code, _) = refusal(client.infer(with_key(many, &served.alice)));
    assert_eq!((status, code.as_str()), (Code::OutOfRange, "too_large"));
    client.infer(with_key(good(), &served.alice)).unwrap();
}

#[test]
fn all_messages_share_the_memory_of_bodies() {
    let served = serve_limited(|limits| limits.bodies_bytes = 256 << 10);
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let large = |bytes| raw(vec![tensor("x", "UINT8", &[bytes as i64])], &[&vec![7; bytes]]);
    let answer = client.infer(with_key(large(1 << 20), &served.alice));
    assert_eq!(text(answer.as_ref().unwrap_err().metadata(), "retry-after"), "1");
    let (status, code, _) = refusal(answer);
    assert_eq!((status, code.as_str()), (Code::Unavailable, "busy"));
    // What was taken is given back each time: of eight times half of it, none is refused.
    for _ in 0..8 {
        let (_, code, _) = refusal(client.infer(with_key(large(128 << 10), &served.alice)));
        assert_eq!(code, "bad_input");
    }
}

#[test]
fn messages_may_be_packed_both_ways() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut stub = client.stub().send_compressed(encoding).accept_compressed(encoding);
        let request = with_key(good(), &served.alice);
        let response = client.runtime.block_on(stub.model_infer(request)).unwrap();
        assert_eq!(text(response.metadata(), "grpc-encoding"), encoding.to_string());
        assert_eq!(response.into_inner().raw_output_contents[0][..], 42f32.to_le_bytes());
        // Who does not pack is not made to unpack.
        let mut stub = client.stub().accept_compressed(encoding);
        let request = with_key(good(), &served.alice);
        let response = client.runtime.block_on(stub.model_infer(request)).unwrap();
        assert_eq!(text(response.metadata(), "grpc-encoding"), "");
    }
}
