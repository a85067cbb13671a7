//! The Open Inference Protocol over gRPC, as its clients speak it.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

/// Messages and a client, made from the protocol's file.
#[allow(clippy::all, missing_docs, unreachable_pub, dead_code)]
mod protocol {
    include!(concat!(env!("OUT_DIR"), "/client/inference.rs"));
}

use fuelbox_abi::{
    DataType, Dim, Dims, Envelope, Kind, Role, Shape, TensorSpec, TensorView, push_string_element,
};
use fuelbox_jobs::{Config as HostConfig, JobFilter, QueueLimits, Scope, State};
use fuelbox_test_support::{
    another_secret,
    guest::{Guest, encode},
};
use prost::{Message, bytes::Bytes};
use protocol::{
    grpc_inference_service_client::GrpcInferenceServiceClient,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    *,
};
use std::{thread, time::Duration};
use support::{RICH_MICROS, Served, account, burn, config, serve, serve_with};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding, transport::Channel};

type Stub = GrpcInferenceServiceClient<Channel>;

/// A client with a runtime of its own, as the servers of tests do without.
struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    fn new(served: &Served) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let address = format!("http://{}", served.addresses.grpc);
        let channel = Channel::from_shared(address).unwrap();
        let channel = runtime.block_on(channel.connect()).unwrap();
        Self { runtime, channel }
    }

    fn stub(&self) -> Stub {
        Stub::new(self.channel.clone())
    }

    fn infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        self.runtime.block_on(self.stub().model_infer(request))
    }

    /// Sends a request, and leaves it at that.
    fn start(
        &self,
        request: Request<ModelInferRequest>,
    ) -> JoinHandle<Result<Response<ModelInferResponse>, Status>> {
        let mut stub = self.stub();
        self.runtime.spawn(async move { stub.model_infer(request).await })
    }
}

fn serve_limited(change: impl FnOnce(&mut fuelbox_server::Limits)) -> Served {
    let mut config = config();
    change(&mut config.limits);
    serve_with(config, HostConfig { workers: Some(1), ..HostConfig::default() })
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !key.is_empty() {
        let value = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn with_text(
    mut request: Request<ModelInferRequest>,
    name: &'static str,
    value: &str,
) -> Request<ModelInferRequest> {
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
        ..InferInputTensor::default()
    }
}

fn raw(inputs: Vec<InferInputTensor>, contents: &[&[u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "tiny".into(),
        inputs,
        raw_input_contents: contents.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect(),
        ..ModelInferRequest::default()
    }
}

/// A request that the default guest answers.
fn good() -> ModelInferRequest {
    let request = raw(vec![tensor("x", "FP32", &[1])], &[&1.5f32.to_le_bytes()]);
    ModelInferRequest { id: "7".into(), ..request }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

fn with_parameter(
    mut request: ModelInferRequest,
    name: &str,
    choice: ParameterChoice,
) -> ModelInferRequest {
    request.parameters.insert(name.into(), parameter(choice));
    request
}

/// A request that takes as long as it is let.
fn endless() -> ModelInferRequest {
    let fuel = ParameterChoice::Int64Param(900_000_000_000);
    with_parameter(good(), "fuelbox_fuel_limit", fuel)
}

fn text<'a>(metadata: &'a tonic::metadata::MetadataMap, name: &str) -> &'a str {
    metadata.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Status, code and sentence.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String, String) {
    let status = answer.unwrap_err();
    let code = text(status.metadata(), "fuelbox-code").to_owned();
    (status.code(), code, status.message().to_owned())
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

/// A guest with these tensors, which always gives these outputs.
fn guest(specs: &[TensorSpec<'_>], outputs: &[TensorView<'_>]) -> Guest {
    let signature = encode(&Envelope { specs, ..Envelope::new(Kind::Signature) });
    let outputs = encode(&Envelope { tensors: outputs, ..Envelope::new(Kind::Outputs) });
    let reply = fuelbox_abi::pack_reply(
        fuelbox_test_support::guest::OUTPUTS_AT,
        u32::try_from(outputs.len()).unwrap(),
    );
    Guest { signature, outputs, reply: format!("(i64.const {reply})"), ..Guest::default() }
}

fn spec(role: Role, name: &'static str, datatype: DataType) -> TensorSpec<'static> {
    TensorSpec { role, name, datatype, dims: Dims::new(&[Dim::Any]) }
}

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

#[test]
fn models_are_described_as_clients_expect() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("tiny", "2", &Guest::running("nop"));
    let client = Client::new(&served);
    let mut stub = client.stub();
    client.infer(with_key(good(), &served.alice)).unwrap();
    let bad = ModelInferRequest { inputs: Vec::new(), raw_input_contents: Vec::new(), ..good() };
    client.infer(with_key(bad, &served.alice)).unwrap_err();
    client.runtime.block_on(async {
        for (name, version, expected) in
            [("tiny", "", true), ("tiny", "1", true), ("tiny", "3", false), ("none", "", false)]
        {
            let request = ModelReadyRequest { name: name.into(), version: version.into() };
            let ready = stub.model_ready(with_key(request, &served.alice)).await.unwrap();
            assert_eq!(ready.into_inner().ready, expected, "{name} {version}");
        }
        let request = ModelMetadataRequest { name: "tiny".into(), version: String::new() };
        let metadata = stub.model_metadata(with_key(request, &served.alice)).await.unwrap();
        let tensor = |name: &str| model_metadata_response::TensorMetadata {
            name: name.into(),
            datatype: "FP32".into(),
            shape: vec![1],
        };
        let expected = ModelMetadataResponse {
            name: "tiny".into(),
            versions: vec!["1".into(), "2".into()],
            platform: "fuelbox".into(),
            inputs: vec![tensor("x")],
            outputs: vec![tensor("y")],
        };
        assert_eq!(metadata.into_inner(), expected);
        let request = ModelMetadataRequest { name: "tiny".into(), version: "1".into() };
        let metadata = stub.model_metadata(with_key(request, &served.alice)).await.unwrap();
        assert_eq!(metadata.into_inner().versions, ["1"]);
        let request = ModelMetadataRequest { name: "none".into(), version: "1".into() };
        let none = stub.model_metadata(with_key(request, &served.alice)).await;
        assert_eq!(refusal(none).0, Code::NotFound);
        let request = ModelConfigRequest { name: "tiny".into(), version: String::new() };
        let config = stub.model_config(with_key(request, &served.alice)).await.unwrap();
        let config = config.into_inner().config.unwrap();
        assert_eq!(config.max_batch_size, 0);
        assert_eq!(config.input[0].data_type(), protocol::DataType::TypeFp32);
        assert_eq!((config.input[0].name.as_str(), &config.input[0].dims[..]), ("x", &[1][..]));
        assert_eq!((config.output[0].name.as_str(), &config.output[0].dims[..]), ("y", &[1][..]));
        let request = ModelStatisticsRequest { name: "tiny".into(), version: String::new() };
        let statistics = stub.model_statistics(with_key(request, &served.alice)).await.unwrap();
        let one = &statistics.into_inner().model_stats[0];
        assert_eq!((one.version.as_str(), one.inference_count), ("2", 1));
        let times = one.inference_stats.as_ref().unwrap();
        for phase in [
            &times.success,
            &times.fail,
            &times.queue,
            &times.compute_input,
            &times.compute_infer,
            &times.compute_output,
        ] {
            assert_eq!(phase.as_ref().unwrap().count, 1);
        }
        let all = with_key(ModelStatisticsRequest::default(), &served.alice);
        let all = stub.model_statistics(all).await.unwrap().into_inner();
        assert_eq!(all.model_stats.len(), 2);
        let index = with_key(RepositoryIndexRequest::default(), &served.alice);
        let index = stub.repository_index(index).await.unwrap().into_inner();
        let entries: Vec<_> = index
            .models
            .iter()
            .map(|entry| (entry.name.as_str(), entry.version.as_str(), entry.state.as_str()))
            .collect();
        assert_eq!(entries, [("tiny", "1", "READY"), ("tiny", "2", "READY")]);
    });
}

#[test]
fn the_publisher_unloads_a_model_and_nobody_else() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let unload = |key: &str| {
        let request =
            RepositoryModelUnloadRequest { model_name: "tiny".into(), ..Default::default() };
        client.runtime.block_on(client.stub().repository_model_unload(with_key(request, key)))
    };
    let load = |request: RepositoryModelLoadRequest| {
        let request = RepositoryModelLoadRequest { model_name: "tiny".into(), ..request };
        let request = with_key(request, &served.operator);
        client.runtime.block_on(client.stub().repository_model_load(request))
    };
    let ready = || {
        let request = ModelReadyRequest { name: "tiny".into(), version: String::new() };
        let request = with_key(request, &served.alice);
        client.runtime.block_on(client.stub().model_ready(request)).unwrap().into_inner().ready
    };
    assert_eq!(refusal(unload(&served.alice)).0, Code::PermissionDenied);
    assert!(ready());
    unload(&served.publisher).unwrap();
    assert!(!ready());
    let expected = (
        Code::Unavailable,
        "unavailable".to_owned(),
        "model 'tiny' version '1' is unloaded".to_owned(),
    );
    assert_eq!(refusal(client.infer(with_key(good(), &served.alice))), expected);
    let config = ModelRepositoryParameter {
        parameter_choice: Some(model_repository_parameter::ParameterChoice::StringParam(
            "{}".into(),
        )),
    };
    let parameters = [("config".to_owned(), config)].into();
    let configured = load(RepositoryModelLoadRequest { parameters, ..Default::default() });
    assert_eq!(refusal(configured).0, Code::Unimplemented);
    load(RepositoryModelLoadRequest::default()).unwrap();
    assert!(ready());
    client.infer(with_key(good(), &served.alice)).unwrap();
}

#[test]
fn a_model_that_fails_is_a_status_with_a_bill() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(unreachable)"));
    let client = Client::new(&served);
    let status = client.infer(with_key(good(), &served.alice)).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(text(status.metadata(), "fuelbox-code"), "model_failed");
    assert_eq!(text(status.metadata(), "fuelbox-verdict"), "trap");
    assert!(status.message().starts_with("the model failed: "), "{}", status.message());
    let paid = i128::from(RICH_MICROS) - served.available("alice");
    assert!(paid > 0);
    let job = text(status.metadata(), "fuelbox-job").parse().unwrap();
    let end = served.host.job(&job).unwrap().end.unwrap();
    assert_eq!(i128::from(end.credits.micros()), paid);
    assert_eq!(text(status.metadata(), "fuelbox-credits"), end.credits.to_string());
}

#[test]
fn who_cannot_pay_hears_what_is_missing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.host.accounts().create(&account("poor"), fuelbox_ledger::AccountKind::Caller).unwrap();
    let key = support::key(&served.host, "poor", &[Scope::Caller]);
    let client = Client::new(&served);
    let (status, code, sentence) = refusal(client.infer(with_key(good(), &key)));
    assert_eq!((status, code.as_str()), (Code::ResourceExhausted, "payment_required"));
    assert!(sentence.starts_with("not enough in 'poor': available 0, needed 0.00"), "{sentence}");
}

#[test]
fn the_deadline_of_a_call_is_that_of_its_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let micros = ParameterChoice::Int64Param(50_000);
    let by_parameter = with_key(with_parameter(endless(), "timeout", micros), &served.alice);
    let header = with_text(with_key(endless(), &served.alice), "fuelbox-deadline-ms", "50");
    for request in [by_parameter, header] {
        let status = client.infer(request).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(text(status.metadata(), "fuelbox-code"), "deadline");
        assert_eq!(text(status.metadata(), "fuelbox-verdict"), "cancelled");
    }
    // Clients go away at the end of their own time; this one says it, and stays.
    let later = ParameterChoice::Int64Param(80_000_000);
    let both = with_parameter(endless(), "fuelbox_deadline_ms", later);
    let send = |request: &ModelInferRequest, timeout: &str| {
        let body = reqwest::Body::from(framed(request));
        send_for(&client, &served, INFER, body, timeout)
    };
    let deadline = ((Code::DeadlineExceeded as i32).to_string(), "deadline".to_owned());
    for (request, timeout) in [(endless(), "50m"), (both, "50000u"), (endless(), "0n")] {
        assert_eq!(send(&request, timeout), deadline, "{timeout}");
    }
    let bad = ((Code::InvalidArgument as i32).to_string(), "bad_input".to_owned());
    assert_eq!(send(&endless(), "1s"), bad);
}

#[test]
fn one_idempotency_key_is_one_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let post = |request| {
        client.infer(with_text(with_key(request, &served.alice), "idempotency-key", "one"))
    };
    let first = post(good()).unwrap();
    assert_eq!(text(first.metadata(), "idempotent-replayed"), "");
    let left = served.available("alice");
    let again = post(good()).unwrap();
    assert_eq!(text(again.metadata(), "idempotent-replayed"), "true");
    assert_eq!(again.into_inner(), first.into_inner());
    assert_eq!(served.available("alice"), left);
    let other = raw(vec![tensor("x", "FP32", &[1])], &[&2.5f32.to_le_bytes()]);
    let (status, code, _) = refusal(post(other));
    assert_eq!((status, code.as_str()), (Code::AlreadyExists, "key_reused"));
    let key = ParameterChoice::StringParam("one".into());
    let by_parameter = with_parameter(good(), "fuelbox_idempotency_key", key);
    let again = client.infer(with_key(by_parameter, &served.alice)).unwrap();
    assert_eq!(text(again.metadata(), "idempotent-replayed"), "true");
}

#[test]
fn a_key_in_flight_is_told_to_come_again() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running(&burn(200_000_000)));
    let client = Client::new(&served);
    let post = || with_text(with_key(endless(), &served.alice), "idempotency-key", "k");
    let first = client.start(post());
    wait_until(|| served.host.running() == 1);
    let status = client.infer(post()).unwrap_err();
    assert_eq!(text(status.metadata(), "retry-after"), "1");
    let (status, code, _) = refusal::<()>(Err(status));
    assert_eq!((status, code.as_str()), (Code::Aborted, "in_flight"));
    client.runtime.block_on(first).unwrap().unwrap();
}

#[test]
fn a_job_stops_when_its_client_goes_away() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let call = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    call.abort();
    assert_cancelled(&served, 1);
}

/// Waits until so many jobs are in the books, and looks that all were cancelled.
fn assert_cancelled(served: &Served, count: usize) {
    let jobs =
        || served.host.read(|records| records.jobs(&JobFilter::default(), 99)).unwrap().unwrap();
    wait_until(|| jobs().len() >= count);
    assert_eq!(jobs().len(), count);
    assert!(jobs().iter().all(|job| job.state == State::Cancelled));
}

#[test]
fn full_queues_and_quick_keys_say_when_to_come_again() {
    let queue = QueueLimits { jobs: 2, account_jobs: 1, ..QueueLimits::default() };
    let mut config = config();
    (config.limits.key_rate, config.limits.key_burst) = (1, 3);
    let host = HostConfig { workers: Some(1), queue, ..HostConfig::default() };
    let served = serve_with(config, host);
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let running = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    let waiting = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.queued() == 1);
    let of_account = "the account's share of the queue is full: 1 of its jobs wait, allowed are 1";
    let of_key = "too many requests of this key: allowed are 1 a second, 3 at once";
    for sentence in [of_account, of_key] {
        let status = client.infer(with_key(endless(), &served.alice)).unwrap_err();
        assert_eq!(text(status.metadata(), "retry-after"), "1");
        let expected = (Code::ResourceExhausted, "rate_limited".to_owned(), sentence.to_owned());
        assert_eq!(refusal::<()>(Err(status)), expected);
    }
    running.abort();
    waiting.abort();
    wait_until(|| served.host.running() + served.host.queued() == 0);
}

/// A stream that is written to by hand.
struct Stream {
    sender: Option<mpsc::UnboundedSender<ModelInferRequest>>,
    answers: tonic::Streaming<ModelStreamInferResponse>,
}

impl Client {
    fn stream(&self, key: &str) -> Stream {
        let (sender, receiver) = mpsc::unbounded_channel();
        let request = with_key(UnboundedReceiverStream::new(receiver), key);
        let answers = self.runtime.block_on(self.stub().model_stream_infer(request)).unwrap();
        Stream { sender: Some(sender), answers: answers.into_inner() }
    }

    fn next(&self, stream: &mut Stream) -> Result<Option<ModelStreamInferResponse>, Status> {
        self.runtime.block_on(stream.answers.message())
    }
}

impl Stream {
    fn send(&self, request: ModelInferRequest) {
        self.sender.as_ref().unwrap().send(request).unwrap();
    }
}

fn code_of(answer: &ModelStreamInferResponse) -> Option<&InferParameter> {
    answer.infer_response.as_ref().unwrap().parameters.get("fuelbox_code")
}

#[test]
fn a_stream_is_answered_in_order_and_goes_on_after_a_refusal() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("trap", "1", &Guest::running("(unreachable)"));
    let client = Client::new(&served);
    let mut stream = client.stream(&served.alice);
    let numbered = |id: usize| {
        let request = ModelInferRequest { id: id.to_string(), ..good() };
        match id % 4 {
            1 => ModelInferRequest { raw_input_contents: vec![Bytes::new()], ..request },
            2 => ModelInferRequest { model_name: "trap".into(), ..request },
            3 => ModelInferRequest { model_name: "none".into(), ..request },
            _ => request,
        }
    };
    // More than may be under way.
    let count = 100;
    (0..count).for_each(|id| stream.send(numbered(id)));
    for id in 0..count {
        let answer = client.next(&mut stream).unwrap().unwrap();
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, id.to_string());
        let code = |code: &str| Some(parameter(ParameterChoice::StringParam(code.into())));
        let expected = match id % 4 {
            1 => ("input 'x': 0 bytes found, shape [1] of FP32 takes 4", code("bad_input")),
            2 => ("the model failed: ", code("model_failed")),
            3 => ("no model 'none'", code("not_found")),
            _ => ("", None),
        };
        assert!(answer.error_message.starts_with(expected.0), "{}", answer.error_message);
        assert_eq!(answer.error_message.is_empty(), id % 4 == 0);
        assert_eq!(code_of(&answer).cloned(), expected.1);
        // Who paid hears for what.
        assert_eq!(response.parameters.contains_key("fuelbox_job"), id % 4 == 0 || id % 4 == 2);
    }
    // One at a time too; then the client has said everything.
    stream.send(numbered(0));
    assert_eq!(client.next(&mut stream).unwrap().unwrap().error_message, "");
    stream.sender = None;
    assert_eq!(client.next(&mut stream).unwrap(), None);
    let mut keyed = with_key(tokio_stream::iter([good()]), &served.alice);
    keyed.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
    let (status, _, _) = refusal(client.runtime.block_on(client.stub().model_stream_infer(keyed)));
    assert_eq!(status, Code::InvalidArgument);
}

#[test]
fn a_stream_that_is_dropped_stops_its_jobs() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let stream = client.stream(&served.alice);
    stream.send(endless());
    wait_until(|| served.host.running() == 1);
    (0..2).for_each(|_| stream.send(good()));
    wait_until(|| served.host.queued() == 2);
    drop(stream);
    wait_until(|| served.host.running() + served.host.queued() == 0);
    // Those that waited never ran: nobody pays for them.
    assert_cancelled(&served, 1);
    let alice = served.host.accounts().show(&account("alice")).unwrap();
    assert_eq!(alice.debits_pending.micros(), 0);
}

#[test]
fn each_message_of_a_stream_counts_and_needs_a_valid_key() {
    let served = serve_limited(|limits| (limits.key_rate, limits.key_burst) = (1, 2));
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let mut stream = client.stream(&served.alice);
    (0..3).for_each(|_| stream.send(good()));
    let answers: Vec<_> = (0..3).map(|_| client.next(&mut stream).unwrap().unwrap()).collect();
    let sentences: Vec<_> = answers.iter().map(|answer| answer.error_message.as_str()).collect();
    assert_eq!(sentences[..2], ["", ""]);
    assert_eq!(sentences[2], "too many requests of this key: allowed are 1 a second, 2 at once");
    let key = support::key(&served.host, "bob", &[Scope::Caller]);
    let mut stream = client.stream(&key);
    stream.send(good());
    assert_eq!(client.next(&mut stream).unwrap().unwrap().error_message, "");
    served.host.access().revoke(&key[4..20].parse().unwrap()).unwrap();
    stream.send(good());
    let answer = client.next(&mut stream).unwrap().unwrap();
    let expected = parameter(ParameterChoice::StringParam("unauthenticated".into()));
    assert_eq!(code_of(&answer), Some(&expected));
}

#[test]
fn health_follows_the_server_and_streams_end_with_it() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let mut served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let mut health = HealthClient::new(client.channel.clone());
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    let mut watched = client.runtime.block_on(async {
        for service in ["", "inference.GRPCInferenceService"] {
            let status = health.check(of(service)).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service}");
        }
        assert_eq!(refusal(health.check(of("other")).await).0, Code::NotFound);
        let mut unknown = health.watch(of("other")).await.unwrap().into_inner();
        let first = unknown.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::ServiceUnknown);
        let mut watched = health.watch(of("")).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watched
    });
    let mut idle = client.stream(&served.bob);
    let running = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    served.stop();
    client.runtime.block_on(async {
        let last = watched.message().await.unwrap().unwrap();
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert!(watched.message().await.unwrap().is_none());
    });
    let stopped = refusal(client.next(&mut idle));
    let expected = (Code::Unavailable, "stopping".to_owned(), "the host is stopping".to_owned());
    assert_eq!(stopped, expected);
    let (status, code, _) = refusal(client.runtime.block_on(running).unwrap());
    assert_eq!((status, code.as_str()), (Code::Unavailable, "stopping"));
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS));
}

#[test]
fn reflection_lists_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let served = serve();
    let client = Client::new(&served);
    client.runtime.block_on(async {
        let mut stub =
            v1::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
        let request = |message_request| v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        use v1::{
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let requests = [
            request(MessageRequest::ListServices(String::new())),
            request(MessageRequest::FileContainingSymbol("inference.GRPCInferenceService".into())),
        ];
        let answers = stub.server_reflection_info(tokio_stream::iter(requests)).await.unwrap();
        let mut answers = answers.into_inner();
        let list = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"inference.GRPCInferenceService"), "{names:?}");
        assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
        let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::FileDescriptorResponse(file) = file else { panic!("{file:?}") };
        assert_eq!(file.file_descriptor_proto.len(), 1);
        let mut stub =
            v1alpha::server_reflection_client::ServerReflectionClient::new(client.channel.clone());
        let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
        let request =
            v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let answers = stub.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        assert!(answers.into_inner().message().await.unwrap().is_some());
    });
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A message as it travels.
fn framed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &bytes].concat()
}

/// Sends bytes as a call's body, and gives what came back as headers: `grpc-status`, `fuelbox-code`.
fn send_bytes(
    client: &Client,
    served: &Served,
    path: &str,
    body: reqwest::Body,
) -> (String, String) {
    send_for(client, served, path, body, "60S")
}

/// The same, by a client that says how long it waits.
fn send_for(
    client: &Client,
    served: &Served,
    path: &str,
    body: reqwest::Body,
    timeout: &str,
) -> (String, String) {
    let url = format!("http://{}{path}", served.addresses.grpc);
    client.runtime.block_on(async {
        let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let request = http.post(url).bearer_auth(&served.alice).header("grpc-timeout", timeout);
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let response = request.body(body).send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        (header("grpc-status"), header("fuelbox-code"))
    })
}

#[test]
fn what_is_no_message_is_refused_with_a_code() {
    let served = serve_limited(|limits| limits.body_pause = Duration::from_millis(100));
    let client = Client::new(&served);
    let code = |code: Code, name: &str| ((code as i32).to_string(), name.to_owned());
    let bad = code(Code::InvalidArgument, "bad_input");
    for (path, body, expected) in [
        (INFER, &[0, 0, 0, 0, 1, 0xff][..], bad.clone()),
        // A packed message, and no word of how.
        (INFER, &[1, 0, 0, 0, 1, 0xff], bad.clone()),
        (INFER, &[7, 0, 0, 0, 1, 0xff], bad.clone()),
        (INFER, &[0, 0, 0, 0, 9, 0xff], bad.clone()),
        (INFER, &[], bad),
        (INFER, &[0, 0xff, 0xff, 0xff, 0xff], code(Code::OutOfRange, "too_large")),
        (
            "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
            &[0, 0, 0, 0, 0],
            code(Code::Unimplemented, "not_supported"),
        ),
        ("/other.Service/Call", &[0, 0, 0, 0, 0], code(Code::Unimplemented, "not_supported")),
    ] {
        let body = reqwest::Body::from(body.to_vec());
        assert_eq!(send_bytes(&client, &served, path, body), expected, "{path}");
    }
    // A message that does not go on is not waited for.
    use tokio_stream::StreamExt;
    let started = tokio_stream::iter([Ok::<_, std::io::Error>(vec![0, 0, 0, 0, 9, 1])]);
    let body = reqwest::Body::wrap_stream(started.chain(tokio_stream::pending()));
    let expected = code(Code::DeadlineExceeded, "request_timeout");
    assert_eq!(send_bytes(&client, &served, INFER, body), expected);
}
