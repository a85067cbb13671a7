//! Answers: what the server is, bills, inputs and outputs.

use super::*;
use axum::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

#[test]
fn the_server_says_what_it_is_without_a_key() {
    let served = serve();
    let client = Client::new(&served);
    let mut stub = client.stub();
    client.runtime.block_on(async {
        assert!(stub.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(stub.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let metadata = stub.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
        assert_eq!(metadata.name, "fuelbox");
        assert_eq!(metadata.version, env!("CARGO_PKG_VERSION"));
        assert!(metadata.extensions.contains(&"statistics".to_owned()));
    });
    // Who looks whether the process is well needs no gRPC.
    let healthz = format!("http://{}/healthz", served.addresses.grpc);
    assert_eq!(served.client.get(healthz).send().unwrap().status(), 200);
}

#[test]
fn an_answer_carries_its_bill() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let response = client.infer(with_key(good(), &served.alice)).unwrap();
    let metadata = response.metadata().clone();
    let answer = response.into_inner();
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str()), ("tiny", "1"));
    assert_eq!(answer.id, "7");
    assert_eq!(answer.outputs.len(), 1);
    let output = &answer.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str()), ("y", "FP32"));
    assert_eq!(output.shape, [1]);
    assert_eq!(answer.raw_output_contents, [Bytes::copy_from_slice(&42f32.to_le_bytes())]);
    let bill = |name: &str| text(&metadata, &format!("fuelbox-{name}")).to_owned();
    assert_eq!(bill("verdict"), "completed");
    let record = served.host.job(&bill("job").parse().unwrap()).unwrap();
    let end = record.end.unwrap();
    assert_eq!(end.receipt.to_string(), bill("receipt"));
    assert_eq!(end.credits.to_string(), bill("credits"));
    for name in ["job", "credits", "receipt", "package"] {
        let expected = parameter(ParameterChoice::StringParam(bill(name)));
        assert_eq!(answer.parameters[&format!("fuelbox_{name}")], expected);
    }
    let fuel = ParameterChoice::Int64Param(bill("fuel").parse().unwrap());
    assert_eq!(answer.parameters["fuelbox_fuel"], parameter(fuel));
    let paid = i128::from(end.credits.micros());
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS) - paid);
}

#[test]
fn inputs_are_raw_or_lists() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let specs = [spec(Role::Input, "s", DataType::Bytes), spec(Role::Input, "n", DataType::Int8)];
    let shape = Shape::new(&[1]).unwrap();
    let y = TensorView { name: "y", datatype: DataType::Uint8, shape, bytes: &[9] };
    let specs = [specs[0], specs[1], spec(Role::Output, "y", DataType::Uint8)];
    served.publish("mixed", "1", &guest(&specs, &[y]));
    let client = Client::new(&served);
    let contents = InferTensorContents { fp32_contents: vec![1.5], ..Default::default() };
    let x = InferInputTensor { contents: Some(contents), ..tensor("x", "FP32", &[1]) };
    // An empty message beside raw contents says nothing.
    let empty = InferInputTensor {
        contents: Some(InferTensorContents::default()),
        ..tensor("x", "FP32", &[1])
    };
    for request in [raw(vec![x], &[]), raw(vec![empty], &[&1.5f32.to_le_bytes()])] {
        let response = client.infer(with_key(request, &served.alice)).unwrap();
        assert_eq!(response.into_inner().raw_output_contents[0][..], 42f32.to_le_bytes());
    }
    let mut strings = Vec::new();
    push_string_element(&mut strings, b"ab").unwrap();
    push_string_element(&mut strings, b"").unwrap();
    // Not in the model's order.
    let both = vec![tensor("n", "INT8", &[2]), tensor("s", "BYTES", &[2])];
    let bytes = raw(both.clone(), &[&[1, 255], &strings]);
    let mut lists = raw(both, &[]);
    lists.inputs[0].contents =
        Some(InferTensorContents { int_contents: vec![1, -1], ..Default::default() });
    let elements = vec![Bytes::from_static(b"ab"), Bytes::new()];
    lists.inputs[1].contents =
        Some(InferTensorContents { bytes_contents: elements, ..Default::default() });
    for (key, request) in [("raw", bytes), ("lists", lists)] {
        let request = ModelInferRequest { model_name: "mixed".into(), ..request };
        let request = with_text(with_key(request, &served.alice), "idempotency-key", key);
        let response = client.infer(request).unwrap();
        assert_eq!(response.into_inner().raw_output_contents, [Bytes::from_static(&[9])]);
    }
    // Both were the same request: the digests of their inputs say so.
    let jobs = served.host.read(|records| records.jobs(&JobFilter::default(), 9)).unwrap().unwrap();
    let digests: Vec<_> = jobs
        .iter()
        .filter_map(|job| served.host.result(&job.id).unwrap())
        .map(|finished| {
            let receipt = finished.receipt.payload().to_vec();
            fuelbox_receipt::Receipt::from_statement_bytes(&receipt).unwrap().input
        })
        .collect();
    assert_eq!(digests.len(), 4);
    let mixed = digests.iter().filter(|digest| **digest == digests[0]).count();
    assert_eq!(mixed, 2);
}

#[test]
fn outputs_are_those_asked_for_as_values_or_as_classes() {
    let served = serve();
    let specs = [
        spec(Role::Input, "x", DataType::Fp32),
        spec(Role::Output, "y", DataType::Fp32),
        spec(Role::Output, "z", DataType::Int8),
    ];
    let values: Vec<u8> =
        [0.5f32, 2.0, f32::NAN, -1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let of = |name, datatype, bytes| TensorView {
        name,
        datatype,
        shape: Shape::new(&[4]).unwrap(),
        bytes,
    };
    let outputs = [of("y", DataType::Fp32, &values), of("z", DataType::Int8, &[1, 2, 3, 4][..])];
    served.publish("tiny", "1", &guest(&specs, &outputs));
    let client = Client::new(&served);
    let ask = |outputs: Vec<InferRequestedOutputTensor>| {
        let request = ModelInferRequest { outputs, ..good() };
        client.infer(with_key(request, &served.alice))
    };
    let output =
        |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
    let classes = |name: &str, choice| InferRequestedOutputTensor {
        parameters: [("classification".to_owned(), parameter(choice))].into(),
        ..output(name)
    };
    let answer = ask(vec![]).unwrap().into_inner();
    assert_eq!(
        answer.raw_output_contents,
        [Bytes::from(values), Bytes::from_static(&[1, 2, 3, 4])]
    );
    let top = ParameterChoice::Int64Param(2);
    let answer = ask(vec![output("z"), classes("y", top)]).unwrap().into_inner();
    let shapes: Vec<_> = answer
        .outputs
        .iter()
        .map(|output| (output.name.as_str(), output.datatype.as_str(), output.shape.as_slice()))
        .collect();
    assert_eq!(shapes, [("z", "INT8", &[4][..]), ("y", "BYTES", &[2])]);
    let mut expected = Vec::new();
    push_string_element(&mut expected, b"2:1").unwrap();
    push_string_element(&mut expected, b"0.5:0").unwrap();
    assert_eq!(answer.raw_output_contents[0][..], [1, 2, 3, 4]);
    assert_eq!(answer.raw_output_contents[1], expected);
    let region =
        ("shared_memory_region".to_owned(), parameter(ParameterChoice::StringParam("r".into())));
    for (outputs, expected) in [
        (vec![output("w")], "output 'w': no such output, the model gives 'y', 'z'"),
        (vec![output("y"), output("y")], "requested output 'y': given twice"),
        (
            vec![classes("y", ParameterChoice::Int64Param(-1))],
            "output 'y': classification takes a whole number from 0",
        ),
        (
            vec![classes("y", ParameterChoice::BoolParam(true))],
            "output 'y': classification takes a whole number from 0",
        ),
        (
            vec![InferRequestedOutputTensor { parameters: [region].into(), ..output("y") }],
            "output 'y': shared memory is not offered",
        ),
    ] {
        let expected = (Code::InvalidArgument, "bad_input".to_owned(), expected.to_owned());
        assert_eq!(refusal(ask(outputs)), expected);
    }
}

/// Calls, and does not read the answer.
fn unread(
    client: &Client,
    request: Request<ModelInferRequest>,
) -> Option<tonic::Streaming<ModelInferResponse>> {
    client.runtime.block_on(async {
        let mut grpc = tonic::client::Grpc::new(client.channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
        let answers = grpc.server_streaming(request, path, ProstCodec::default()).await;
        answers.ok().map(Response::into_inner)
    })
}

#[test]
fn a_large_answer_that_is_had_again_holds_its_memory_until_it_is_sent() {
    let served = serve_limited(|limits| limits.answers_bytes = 32 << 20);
    // More than the windows of the connection take.
    served.publish("tiny", "1", &giving(16 << 20));
    let client = Client::new(&served);
    let key = ParameterChoice::StringParam("one".into());
    let keyed = || with_parameter(good(), "fuelbox_idempotency_key", key.clone());
    let mut stub = client.stub().max_decoding_message_size(usize::MAX);
    let first = stub.model_infer(with_key(keyed(), &served.alice));
    let first = client.runtime.block_on(first).unwrap();
    let path = format!("/api/v1/jobs/{}/result?binary=true", text(first.metadata(), "fuelbox-job"));
    assert_eq!(first.into_inner().raw_output_contents[0].len(), 16 << 20);
    let status = || served.get(&path, &served.alice).send().unwrap().status();
    // An answer that was not read to its end is in the way for a moment only.
    let is_held = || (0..20).all(|_| status() == 503);
    let mut calls = Vec::new();
    while !is_held() {
        calls.push(unread(&client, with_key(keyed(), &served.alice)));
    }
    let (code, name, sentence) = refusal(client.infer(with_key(keyed(), &served.alice)));
    assert_eq!((code, name.as_str()), (Code::Unavailable, "busy"));
    assert_eq!(sentence, "too many large answers of this account are being read or sent at once");
    drop(calls);
    wait_until(|| status() == 200);
    let mut streams = Vec::new();
    while !is_held() {
        let stream = client.stream(&served.alice);
        stream.send(keyed());
        streams.push(stream);
    }
    drop(streams);
    wait_until(|| status() == 200);
}
