//! Traces: what a collector hears of requests.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::Config as HostConfig;
use fuelbox_server::Config;
use fuelbox_test_support::guest::Guest;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as AnyValue,
    trace::v1::{Span, span::SpanKind},
};
use serde_json::json;
use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};
use support::{Served, config, serve_with};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|spans| spans.scope_spans).flat_map(|spans| spans.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens until the runtime is dropped.
    fn listen(&self, runtime: &tokio::runtime::Runtime) -> SocketAddr {
        let _runtime = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(server.serve_with_incoming(incoming));
        address
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn serve(otlp: String, otlp_ratio: f64) -> Served {
    let config = Config { otlp: Some(otlp), otlp_ratio, ..config() };
    let served = serve_with(config, HostConfig { workers: Some(1), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::default());
    served
}

fn infer(served: &Served, traceparent: Option<&str>) -> u16 {
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]});
    let mut request = served.post("/v2/models/tiny/infer", &served.alice);
    if let Some(parent) = traceparent {
        request = request.header("traceparent", parent);
    }
    request.json(&json!({"inputs": [x]})).send().unwrap().status().as_u16()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Option<AnyValue> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

#[test]
fn a_callers_trace_goes_on_through_queue_run_and_settle() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let address = collector.listen(&runtime);
    let mut served = serve(format!("http://{address}"), 0.0);
    assert_eq!(infer(&served, Some(&format!("00-{TRACE}-{PARENT}-01"))), 200);
    // These are not wanted: by their caller, and by the ratio.
    assert_eq!(infer(&served, Some(&format!("00-{}-{PARENT}-00", TRACE.replace('4', "5")))), 200);
    assert_eq!(infer(&served, None), 200);
    served.stop();

    let spans = collector.spans();
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["POST /v2/models/{name}/infer", "queue", "run", "settle"]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let of = |name: &str| spans.iter().find(|span| span.name.starts_with(name)).unwrap();
    let request = of("POST");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(request.kind, SpanKind::Server as i32);
    let text = |value: &str| Some(AnyValue::StringValue(value.into()));
    assert_eq!(attribute(request, "http.request.method"), text("POST"));
    assert_eq!(attribute(request, "http.route"), text("/v2/models/{name}/infer"));
    assert_eq!(attribute(request, "fuelbox.account"), text("alice"));
    let status = attribute(request, "http.response.status_code");
    assert_eq!(status, Some(AnyValue::IntValue(200)));
    // One phase follows the other, within the request.
    let mut at = request.start_time_unix_nano;
    for name in ["queue", "run", "settle"] {
        let span = of(name);
        assert_eq!(span.parent_span_id, request.span_id, "{name}");
        assert_eq!(attribute(span, "fuelbox.model"), text("tiny"), "{name}");
        assert!(at <= span.start_time_unix_nano, "{name}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
        at = span.end_time_unix_nano;
    }
    assert!(at <= request.end_time_unix_nano);
}

#[test]
fn a_ratio_of_one_traces_what_nobody_decided() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let address = collector.listen(&runtime);
    let mut served = serve(format!("http://{address}"), 1.0);
    assert_eq!(infer(&served, None), 200);
    served.stop();
    let spans = collector.spans();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let request = spans.iter().find(|span| span.name.starts_with("POST")).unwrap();
    assert!(request.parent_span_id.is_empty());
}

#[test]
fn a_collector_that_is_away_holds_nothing_up() {
    // A port that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut served = serve(format!("http://{closed}"), 1.0);
    for _ in 0..20 {
        assert_eq!(infer(&served, None), 200);
    }
    served.stop();
}
