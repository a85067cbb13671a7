//! Spans: sampled requests and where their time went, to an OpenTelemetry collector (OTLP over gRPC).
//!
//! A span is made when its request has ended, from the times that were noted: requests that are not
//! sampled cost nothing. A thread sends them; when the collector is away, those that do not fit its
//! queue are dropped.

use super::{
    Ended,
    context::{Ids, Trace},
    request::{Details, JobSeen},
    requests::Status,
};
use axum::http::{Uri, Version};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status as SpanStatus, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor},
};
use std::{
    borrow::Cow,
    time::{Duration, Instant, SystemTime},
};

/// Why no spans are sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OtlpError {
    /// No place to send them to.
    #[error(
        "OTLP collector '{found}': expected http://HOST:PORT; for one beyond this machine, run an agent beside the server"
    )]
    Url { found: String },
    /// No part of anything.
    #[error("part of requests whose spans are sent: found {found}, allowed is 0 to 1")]
    Ratio { found: f64 },
    /// The exporter refused.
    #[error("OTLP: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// How long the collector may take for a batch.
const EXPORT_TIME: Duration = Duration::from_secs(5);

/// How long a server that stops waits for the collector.
const STOP_TIME: Duration = Duration::from_secs(3);

/// Sends spans.
pub(super) struct Spans {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Traces whose lower half is below this are sampled, unless their caller decided.
    sampled_below: u64,
}

/// Whether spans can be sent there.
pub(crate) fn check(url: &str, ratio: f64) -> Result<(), OtlpError> {
    let uri = url.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    // Names and passwords have no place in it: it may be shown.
    let host = uri.as_ref().and_then(Uri::authority).filter(|host| !host.as_str().contains('@'));
    if host.is_none() {
        return Err(OtlpError::Url { found: crate::refusal::excerpt(url) });
    }
    if !(0.0..=1.0).contains(&ratio) {
        return Err(OtlpError::Ratio { found: ratio });
    }
    Ok(())
}

impl Spans {
    /// Starts the thread that sends. Within a runtime.
    pub(super) fn start(url: &str, ratio: f64) -> Result<Self, OtlpError> {
        check(url, ratio)?;
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(url)
            .with_timeout(EXPORT_TIME)
            .build()?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let version = crate::rest::SERVER_VERSION;
        let resource = Resource::builder()
            .with_service_name("fuelbox")
            .with_attribute(KeyValue::new("service.version", version));
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("fuelbox").with_version(version).build();
        // 1.0 is above all numbers of 64 bits, and `as` gives the largest of them.
        let sampled_below = (ratio * 2f64.powi(64)) as u64;
        Ok(Self { processor, scope, sampled_below })
    }

    /// Whether the spans of this trace are sent: as its caller has it, or by the ratio.
    pub(super) fn wants(&self, trace: &Trace) -> bool {
        // The lower half is random, whoever made the name.
        trace.sampled.unwrap_or((trace.id as u64) < self.sampled_below)
    }

    /// Sends what waits, and no more. Blocks.
    pub(super) fn stop(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(STOP_TIME) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }

    /// Hands on the spans of a request that has ended.
    pub(super) fn add(&self, ids: &Ids, ended: Ended<'_>) {
        let clock = Clock { wall: SystemTime::now(), here: Instant::now() };
        let trace = ended.seen.trace;
        let request = ids.next();
        for job in ended.seen.take_jobs() {
            for (name, from, to) in job.phases() {
                self.send(SpanData {
                    name: name.into(),
                    start_time: clock.at(from),
                    end_time: clock.at(to),
                    attributes: of_job(&job),
                    ..self.span(trace.id, ids.next(), Some(request))
                });
            }
        }
        let failed = ended.status.is_failure() || ended.status == Status::Gone;
        let text = ended.status.text();
        self.send(SpanData {
            name: name(&ended),
            span_kind: SpanKind::Server,
            start_time: clock.at(ended.started),
            end_time: clock.at(ended.started + ended.took),
            attributes: of_request(&ended),
            status: if failed { SpanStatus::error(text) } else { SpanStatus::Unset },
            parent_span_is_remote: trace.parent.is_some(),
            ..self.span(trace.id, request, trace.parent)
        });
    }

    fn send(&self, span: SpanData) {
        self.processor.on_end(span);
    }

    fn span(&self, trace: u128, id: u64, parent: Option<u64>) -> SpanData {
        let span_context = SpanContext::new(
            TraceId::from(trace),
            SpanId::from(id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        SpanData {
            span_context,
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: SpanStatus::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// One moment on two clocks.
struct Clock {
    wall: SystemTime,
    here: Instant,
}

impl Clock {
    fn at(&self, moment: Instant) -> SystemTime {
        self.wall - self.here.saturating_duration_since(moment)
    }
}

/// `POST /v2/models/{name}/infer`, or `inference.GRPCInferenceService/ModelInfer`.
fn name(ended: &Ended<'_>) -> Cow<'static, str> {
    match ended.is_grpc {
        true => ended.route.trim_start_matches('/').to_owned().into(),
        false => format!("{} {}", ended.method, ended.route).into(),
    }
}

fn of_request(ended: &Ended<'_>) -> Vec<KeyValue> {
    let mut all = vec![KeyValue::new("fuelbox.request", ended.seen.id.to_string())];
    if let Some((key, account)) = ended.seen.caller() {
        all.push(KeyValue::new("fuelbox.key", key.to_string()));
        all.push(KeyValue::new("fuelbox.account", account.to_string()));
    }
    if ended.is_grpc {
        let (service, method) =
            ended.route.trim_start_matches('/').split_once('/').unwrap_or((ended.route, ""));
        all.push(KeyValue::new("rpc.system", "grpc"));
        all.push(KeyValue::new("rpc.service", service.to_owned()));
        all.push(KeyValue::new("rpc.method", method.to_owned()));
    } else {
        all.push(KeyValue::new("http.request.method", ended.method.to_string()));
        all.push(KeyValue::new("http.route", ended.route.to_owned()));
        let version = match ended.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        all.push(KeyValue::new("network.protocol.version", version));
    }
    match ended.status {
        Status::Http(status) => {
            all.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        Status::Grpc(status) => {
            all.push(KeyValue::new("rpc.grpc.status_code", i64::from(status)));
        }
        Status::Gone => all.push(KeyValue::new("error.type", "gone")),
    }
    if ended.status.is_failure() {
        all.push(KeyValue::new("error.type", ended.status.text()));
    }
    all
}

fn of_job(job: &JobSeen) -> Vec<KeyValue> {
    let mut all = vec![KeyValue::new("fuelbox.job", job.id.to_string())];
    if let Some(Details { model, version, verdict, fuel }) = &job.details {
        all.push(KeyValue::new("fuelbox.model", model.clone()));
        all.push(KeyValue::new("fuelbox.version", version.clone()));
        all.push(KeyValue::new("fuelbox.verdict", *verdict));
        all.push(KeyValue::new("fuelbox.fuel", fuel.cast_signed()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trace_is_sampled_as_its_caller_has_it_or_by_the_ratio() {
        let spans = |ratio| Spans::start("http://127.0.0.1:9", ratio).expect("an exporter");
        let trace = |id, sampled| Trace { id, parent: None, sampled };
        let (all, half, none) = (spans(1.0), spans(0.5), spans(0.0));
        let middle = u128::from(u64::MAX / 2);
        for (spans, trace, wanted) in [
            (&none, trace(1, None), false),
            (&none, trace(1, Some(true)), true),
            (&all, trace(u128::from(u64::MAX) - 1, None), true),
            (&all, trace(1, Some(false)), false),
            (&half, trace(middle, None), true),
            (&half, trace(middle + 1, None), false),
        ] {
            assert_eq!(spans.wants(&trace), wanted, "{trace:?}");
        }
    }

    #[test]
    fn a_collector_has_an_address_in_the_clear_and_no_password() {
        assert!(check("http://127.0.0.1:4317", 0.01).is_ok());
        for url in ["", "127.0.0.1:4317", "https://a:4317", "http://a:b@c:4317", "grpc://a"] {
            let error = check(url, 0.01).expect_err(url).to_string();
            assert!(error.starts_with("OTLP collector '"), "{error}");
        }
        for ratio in [-0.1, 1.1, f64::NAN] {
            assert!(check("http://a", ratio).is_err(), "{ratio}");
        }
    }
}
