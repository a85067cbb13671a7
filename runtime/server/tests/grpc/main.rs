//! The Open Inference Protocol over gRPC, as its clients speak it.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod refusals;
mod models;
mod jobs;
mod streams;
mod services;
mod wire;

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
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};
use support::{RICH_MICROS, Served, account, burn, config, giving, serve, serve_with};
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

/// Waits until so many jobs are in the books, and looks that all were cancelled.
fn assert_cancelled(served: &Served, count: usize) {
    let jobs =
        || served.host.read(|records| records.jobs(&JobFilter::default(), 99)).unwrap().unwrap();
    wait_until(|| jobs().len() >= count);
    assert_eq!(jobs().len(), count);
    assert!(jobs().iter().all(|job| job.state == State::Cancelled));
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
