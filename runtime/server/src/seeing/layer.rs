//! The layer around all requests, HTTP and gRPC: gives them their names, measures and counts them, says a
//! line for them, and hands their spans on.
//!
//! Reads headers, never bodies or queries. Knows nothing of what is served.

use super::{
    Seeing,
    context::REQUEST_ID,
    request::{Seen, carrying, carrying_step},
    requests::Status,
};
use axum::{
    body::{Body, Bytes},
    extract::MatchedPath,
    http::{HeaderMap, HeaderName, Method, Request, Response, Version, header::CONTENT_TYPE},
};
use hyper::body::{Frame, SizeHint};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tower::{Layer, Service};

/// The status of a gRPC call, among its headers or behind its messages.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The code of a refusal on gRPC.
const GRPC_CODE: HeaderName = HeaderName::from_static("fuelbox-code");

/// The route of requests that have none.
const UNMATCHED: &str = "unmatched";

/// Calls of gRPC. A client may name any other: those are not told apart.
const GRPC_ROUTES: [&str; 20] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/LogSettings",
    "/inference.GRPCInferenceService/ModelConfig",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelMetadata",
    "/inference.GRPCInferenceService/ModelReady",
    "/inference.GRPCInferenceService/ModelStatistics",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/inference.GRPCInferenceService/RepositoryIndex",
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
    "/inference.GRPCInferenceService/TraceSetting",
];

/// Marks the answer to a refusal, for those who count.
#[derive(Clone, Copy)]
pub(crate) struct RefusedWith(pub(crate) &'static str);

/// The layer.
#[derive(Clone)]
pub(crate) struct Watch(pub(crate) Arc<Seeing>);

/// A service with the layer around it.
#[derive(Clone)]
pub(crate) struct Watched<S> {
    inner: S,
    seeing: Arc<Seeing>,
}

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, seeing: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Watched<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watching = Watching::new(&self.seeing, &request);
        let seen = watching.seen.clone();
        let answer = self.inner.call(request);
        Box::pin(carrying(seen, async move {
            let mut response = answer.await?;
            response.headers_mut().insert(REQUEST_ID, watching.seen.id.header());
            Ok(watching.answered(response))
        }))
    }
}

/// A request that is under way. Dropped before its end, its client went away.
struct Watching {
    seeing: Arc<Seeing>,
    seen: Arc<Seen>,
    started: Instant,
    method: Method,
    version: Version,
    route: Route,
    is_grpc: bool,
    ended: bool,
}

/// Where a request goes.
enum Route {
    Http(Option<MatchedPath>),
    Grpc(&'static str),
}

impl Route {
    fn text(&self) -> &str {
        match self {
            Self::Http(path) => path.as_ref().map_or(UNMATCHED, MatchedPath::as_str),
            Self::Grpc(path) => path,
        }
    }

    /// Probes come every few seconds and say nothing new.
    fn is_probe(&self) -> bool {
        let route = self.text();
        let starts = ["/healthz", "/metrics", "/v2/health/", "/grpc.health.v1.Health/"];
        let ends = ["/ServerLive", "/ServerReady"];
        starts.iter().any(|start| route.starts_with(start))
            || ends.iter().any(|end| route.ends_with(end))
    }
}

impl Watching {
    fn new(seeing: &Arc<Seeing>, request: &Request<Body>) -> Self {
        let headers = request.headers();
        let is_grpc = headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let route = match is_grpc {
            false => Route::Http(request.extensions().get::<MatchedPath>().cloned()),
            true => {
                let path = request.uri().path();
                let known = GRPC_ROUTES.into_iter().find(|known| *known == path);
                Route::Grpc(known.unwrap_or(UNMATCHED))
            }
        };
        Self {
            seen: Arc::new(seeing.seen(headers)),
            seeing: seeing.clone(),
            started: Instant::now(),
            method: request.method().clone(),
            version: request.version(),
            route,
            is_grpc,
            ended: false,
        }
    }

    /// What becomes of an answer: that of gRPC is watched to its end, where its status is.
    fn answered(mut self, response: Response<Body>) -> Response<Body> {
        if !self.is_grpc {
            if let Some(RefusedWith(code)) = response.extensions().get() {
                self.seeing.requests.refused(code);
            }
            self.end(Status::Http(response.status().as_u16()));
            return response;
        }
        if let Some(status) = grpc_status(response.headers()) {
            self.refused(response.headers());
            self.end(status);
            return response;
        }
        response.map(|inner| Body::new(WatchedBody { inner, watching: self }))
    }

    fn refused(&self, headers: &HeaderMap) {
        let code = headers.get(GRPC_CODE).and_then(|code| code.to_str().ok());
        if let Some(code) = code {
            self.seeing.requests.refused(code);
        }
    }

    fn end(&mut self, status: Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.started.elapsed();
        let route = self.route.text();
        self.seeing.requests.ended(route, status, took);
        self.line(status, took);
        if self.seen.sampled {
            self.seeing.hand_on(super::Ended {
                seen: &self.seen,
                started: self.started,
                took,
                method: &self.method,
                version: self.version,
                route,
                is_grpc: self.is_grpc,
                status,
            });
        }
    }

    /// One line for each request: at info as long as there are few, at debug all of them.
    fn line(&self, status: Status, took: Duration) {
        macro_rules! line {
            ($level:ident) => {{
                let caller = self.seen.caller();
                tracing::$level!(
                    target: "fuelbox_server::request",
                    method = %self.method,
                    route = self.route.text(),
                    status = %status.text(),
                    ms = took.as_micros() as f64 / 1e3,
                    key = caller.map(|(key, _)| display(key)),
                    account = caller.map(|(_, account)| display(account)),
                    job = self.seen.first_job().map(display),
                    "request"
                )
            }};
        }
        let probe = self.route.is_probe() && !status.is_failure();
        let wanted = tracing::enabled!(target: "fuelbox_server::request", tracing::Level::INFO);
        if wanted && !probe && self.seeing.lines.allow(status.is_failure()) {
            line!(info);
        } else {
            line!(debug);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if !self.ended {
            // Still in the request's task, but perhaps no more in its scope.
            let seen = self.seen.clone();
            carrying_step(&seen, || self.end(Status::Gone));
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<Status> {
    let number = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().unwrap_or(2);
    Some(Status::Grpc(number))
}

/// The body of a gRPC answer, until its trailers.
struct WatchedBody {
    inner: Body,
    watching: Watching,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let seen = this.watching.seen.clone();
        carrying_step(&seen, || {
            let frame = Pin::new(&mut this.inner).poll_frame(context);
            match &frame {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        this.watching.refused(trailers);
                        let status = grpc_status(trailers).unwrap_or(Status::Grpc(2));
                        this.watching.end(status);
                    }
                }
                // An answer without a status: tonic makes none.
                Poll::Ready(None | Some(Err(_))) => this.watching.end(Status::Grpc(2)),
                Poll::Pending => {}
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::{exposition::Exposition, request};
    use axum::{Router, http::HeaderValue};
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;

    const CALL: &str = "/inference.GRPCInferenceService/ModelInfer";

    /// What is counted of a call to a service of gRPC that answers so.
    async fn counted(path: &str, answer: fn() -> Response<Body>, read: bool) -> String {
        let seeing = Seeing::new();
        let answer = move || async move {
            assert!(request::current(|_| ()).is_some());
            answer()
        };
        let router = seeing.watch(Router::new().fallback(answer));
        let request = Request::post(path).header(CONTENT_TYPE, "application/grpc+proto");
        let request = request.body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert!(response.headers().contains_key(REQUEST_ID));
        if read {
            response.into_body().collect().await.expect("a body");
        } else {
            drop(response);
        }
        let mut text = Exposition::default();
        seeing.requests.write(&mut text);
        text.finish()
    }

    fn trailers(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (GRPC_STATUS, HeaderValue::from_static(status)),
            (GRPC_CODE, HeaderValue::from_static("busy")),
        ])
    }

    fn behind_messages() -> Response<Body> {
        let body = Full::from("message").with_trailers(async { Some(Ok(trailers("14"))) });
        Response::new(Body::new(body))
    }

    fn among_headers() -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = trailers("14");
        response
    }

    #[tokio::test]
    async fn the_status_of_a_call_is_that_of_its_end() {
        for answer in [behind_messages, among_headers] {
            let text = counted(CALL, answer, true).await;
            let line = format!("_count{{route=\"{CALL}\",status=\"UNAVAILABLE\"}} 1\n");
            assert!(text.contains(&line), "{text}");
            assert!(text.contains("fuelbox_refusals_total{code=\"busy\"} 1\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_call_whose_answer_is_not_taken_is_gone() {
        let text = counted(CALL, behind_messages, false).await;
        let line = format!("_count{{route=\"{CALL}\",status=\"gone\"}} 1\n");
        assert!(text.contains(&line), "{text}");
    }

    #[tokio::test]
    async fn calls_that_nobody_knows_are_one_route() {
        let text = counted("/a.client/Invention", among_headers, true).await;
        assert!(text.contains("route=\"unmatched\""), "{text}");
        assert!(!text.contains("Invention"), "{text}");
    }
}
