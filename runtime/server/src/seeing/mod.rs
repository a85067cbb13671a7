//! Seeing: what an operator learns of a server that runs: lines, metrics, spans.
//!
//! ```text
//! request -> layer (names, times) -> requests, lines, spans
//! job     -> jobs                                             -> scrape -> text
//! ```
//!
//! All of it is for the operator alone. None of it may hold up a request.

mod context;
mod request;
mod histogram;
mod exposition;
mod limiter;
mod jobs;
mod requests;
mod layer;
mod lines;
mod spans;
mod process;
mod triton;
mod scrape;

pub(crate) use layer::RefusedWith;
pub use lines::{LogFormat, Logs, LogsError, logs, logs_to};
pub(crate) use request::{note_caller, note_job};
pub(crate) use scrape::metrics;
pub use spans::OtlpError;
pub(crate) use spans::check as check_otlp;

use axum::{
    Router,
    http::{HeaderMap, Method, Version},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// What is seen of a server.
pub(crate) struct Seeing {
    ids: context::Ids,
    requests: requests::Requests,
    pub(crate) jobs: jobs::Jobs,
    lines: limiter::Limiter,
    process: process::Process,
    spans: OnceLock<spans::Spans>,
    /// How many there are on each port.
    connections: OnceLock<Vec<(&'static str, Connections)>>,
}

/// Connections that are open.
pub(crate) type Connections = Arc<AtomicUsize>;

/// A connection that is open until this is dropped.
pub(crate) struct Connected(Connections);

impl Connected {
    pub(crate) fn new(connections: &Connections) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that has ended.
struct Ended<'a> {
    seen: &'a request::Seen,
    started: Instant,
    took: Duration,
    method: &'a Method,
    version: Version,
    route: &'a str,
    is_grpc: bool,
    status: requests::Status,
}

impl Seeing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ids: context::Ids::new(),
            requests: requests::Requests::default(),
            jobs: jobs::Jobs::default(),
            lines: limiter::Limiter::new(),
            process: process::Process::default(),
            spans: OnceLock::new(),
            connections: OnceLock::new(),
        })
    }

    /// A router whose requests are seen.
    pub(crate) fn watch(self: &Arc<Self>, router: Router) -> Router {
        router.layer(layer::Watch(self.clone()))
    }

    /// Says where connections are counted.
    pub(crate) fn count_connections(&self, ports: Vec<(&'static str, Connections)>) {
        // Ports are opened once.
        let _ = self.connections.set(ports);
    }

    /// Sends spans to a collector from now on: of requests whose caller wants them, and of this part of
    /// the others. Within a runtime.
    pub(crate) fn export(&self, otlp: &str, ratio: f64) -> Result<(), OtlpError> {
        let spans = spans::Spans::start(otlp, ratio)?;
        // A server is started once.
        let _ = self.spans.set(spans);
        Ok(())
    }

    /// Sends the spans that wait. Blocks, but not for long when there is no collector.
    pub(crate) fn flush(&self) {
        if let Some(spans) = self.spans.get() {
            spans.stop();
        }
    }

    fn seen(&self, headers: &HeaderMap) -> request::Seen {
        let (trace, id) = self.ids.read(headers);
        let sampled = self.spans.get().is_some_and(|spans| spans.wants(&trace));
        request::Seen::new(trace, id, sampled)
    }

    fn hand_on(&self, ended: Ended<'_>) {
        if let Some(spans) = self.spans.get() {
            spans.add(&self.ids, ended);
        }
    }
}
