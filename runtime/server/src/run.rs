//! Running: ports are opened, served, and closed in order.
//!
//! Stopping goes like this: no new requests and jobs; jobs that run may end within the grace time, and
//! are broken off then, unbilled; answers go out; the rest of the connections is closed.

use crate::{
    answer_budget, api,
    app::App,
    bill,
    config::{Config, ConfigError},
    grpc, problem, rest, seeing,
    serve::{self, Port, TlsError, unread},
    webhooks,
};
use axum::{
    Router,
    http::{Extensions, HeaderMap, StatusCode, Version},
    middleware::{from_fn, map_response},
    routing::get,
};
use fuelbox_jobs::{DataFolder, Host};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    task, time,
};
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate},
    },
    decompression::RequestDecompressionLayer,
};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port.
    #[error("{name} on {address}: {source}")]
    Bind { name: &'static str, address: SocketAddr, source: io::Error },
    /// The system refused.
    #[error("server: {0}")]
    Io(#[from] io::Error),
}

/// Where a server listens, with the ports that the system chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Addresses {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

/// A server whose ports are open.
pub struct Server {
    runtime: runtime::Runtime,
    config: Config,
    http: Port,
    grpc: Port,
    metrics: Port,
    addresses: Addresses,
    stop: CancellationToken,
    signals: Signals,
}

/// Tells a server to stop.
#[derive(Clone)]
pub struct Stopper(CancellationToken);

impl Stopper {
    /// Tells it. Once is enough.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

/// Between two rounds of forgetting keys that are idle.
const TIDY: Duration = Duration::from_secs(60);

/// How long answers may still take once their jobs have ended.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

impl Server {
    /// Opens the ports.
    ///
    /// # Errors
    /// When the configuration is refused, and when the system refuses.
    pub fn bind(config: Config) -> Result<Self, ServeError> {
        config.check()?;
        let tls = config.tls.as_ref().map(serve::acceptor).transpose()?;
        let runtime =
            runtime::Builder::new_multi_thread().enable_all().thread_name("server").build()?;
        let open = |name, address, tls| {
            let opened = runtime.block_on(Port::open(name, address, tls));
            opened.map_err(|source| ServeError::Bind { name, address, source })
        };
        let http = open("HTTP", config.http, tls.clone())?;
        let grpc = open("gRPC", config.grpc, tls)?;
        let metrics = open("metrics", config.metrics, None)?;
        let addresses =
            Addresses { http: http.address()?, grpc: grpc.address()?, metrics: metrics.address()? };
        let stop = CancellationToken::new();
        // From here on nobody who says stop is not heard, also before anything is served.
        let signals = {
            let _runtime = runtime.enter();
            Signals::listen()?
        };
        Ok(Self { runtime, config, http, grpc, metrics, addresses, stop, signals })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What tells it to stop.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves a host until somebody tells it to stop: a [`Stopper`], or the system by SIGTERM or SIGINT.
    /// Returns when all is in order; the host may be dropped then.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn run(self, host: Arc<Host>, folder: DataFolder) -> Result<(), ServeError> {
        let Self { runtime, config, http, grpc, metrics, stop, signals, .. } = self;
        let app = App::new(host, folder, config.limits.clone(), stop.clone());
        if let Some(otlp) = &config.otlp {
            let _runtime = runtime.enter();
            let started = app.seeing.export(otlp, config.otlp_ratio);
            started.map_err(ConfigError::from)?;
        }
        let served =
            runtime.block_on(serve_all(app.clone(), [http, grpc, metrics], &stop, signals));
        app.seeing.flush();
        runtime.shutdown_timeout(LAST_ANSWERS);
        served
    }
}

async fn serve_all(
    app: Arc<App>,
    [http, grpc, metrics]: [Port; 3],
    stop: &CancellationToken,
    mut signals: Signals,
) -> Result<(), ServeError> {
    let counted = |port: &Port| (port.name, port.connections.clone());
    app.seeing.count_connections([&http, &grpc, &metrics].map(counted).into());
    let limits = app.limits.clone();
    let closing = CancellationToken::new();
    let patience = LAST_ANSWERS;
    let serve = |port: Port, router: Router| {
        let router = app.seeing.watch(router);
        let (limits, closing) = (limits.clone(), closing.clone());
        task::spawn(async move { port.serve(router, &limits, closing, patience).await })
    };
    let ports = [
        serve(http, http_router(&app)),
        serve(grpc, grpc_router(&app)),
        serve(metrics, metrics_router(&app)),
    ];
    let tidy = task::spawn(tidy(app.clone()));
    tell_system(sd_notify::NotifyState::Ready);
    let deliver = task::spawn(webhooks::deliver(app.clone()));
    tokio::select! {
        () = stop.cancelled() => {}
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            stop.cancel();
        }
    }
    tell_system(sd_notify::NotifyState::Stopping);
    let hurry = task::spawn(at_once());
    // Readiness says no from here on, and jobs are refused; those that run may end.
    let (host, grace, stopped) = (app.host.clone(), limits.grace, app.clone());
    let stopping = task::spawn_blocking(move || {
        host.stop(grace);
        stopped.publishing.stop();
    });
    // A worker's panic was shown when it happened.
    let _ = stopping.await;
    tidy.abort();
    deliver.abort();
    closing.cancel();
    for port in ports {
        let _ = port.await;
    }
    hurry.abort();
    Ok(())
}

/// Tells a service manager that waits for it (systemd's `Type=notify`); nobody otherwise.
fn tell_system(state: sd_notify::NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Ends the process when somebody at a terminal asks again. What is on disk is whole at any time.
async fn at_once() {
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
    interrupt.recv().await;
    tracing::warn!("stopped at once");
    // As shells have it for a process that Ctrl-C ended.
    std::process::exit(128 + rustix::process::Signal::INT.as_raw());
}

/// The system's words for stopping.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { term, int })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

async fn tidy(app: Arc<App>) {
    let mut rounds = time::interval(TIDY);
    loop {
        rounds.tick().await;
        app.rates.tidy();
        task::block_in_place(|| app.uploads.tidy());
    }
}

fn http_router(app: &Arc<App>) -> Router {
    let protocol = rest::router(app.clone());
    let api = api::router(app);
    Router::new()
        .merge(health_router(app))
        .merge(protocol.layer(CompressionLayer::new().compress_when(answers_of_jobs())))
        .merge(api.layer(CompressionLayer::new().compress_when(packed_no_further())))
        .layer(RequestDecompressionLayer::new())
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn(unread::tidy))
}

/// Answers that are worth packing. Packages are packed already.
fn packed_no_further() -> impl Predicate {
    DefaultPredicate::new().and(NotForContentType::const_new(api::PACKAGE))
}

/// Answers with tensors. All others go out as they are: some clients of the inference protocol ask for
/// packed answers with every request, and unpack those of `infer` alone.
fn answers_of_jobs() -> impl Predicate {
    let answers = |status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions| {
        status == StatusCode::OK && headers.contains_key(bill::JOB)
    };
    DefaultPredicate::new().and(answers)
}

fn grpc_router(app: &Arc<App>) -> Router {
    let calls = grpc::router(app).layer(map_response(answer_budget::hold_body));
    health_router(app).merge(calls).layer(CatchPanicLayer::custom(grpc::panicked))
}

fn metrics_router(app: &Arc<App>) -> Router {
    let metrics = Router::new().route("/metrics", get(seeing::metrics));
    metrics.with_state(app.clone()).merge(health_router(app))
}

/// For those who look whether the process is well: no key, no more than a word.
fn health_router(app: &Arc<App>) -> Router {
    Router::new().route("/healthz", get(rest::healthz)).with_state(app.clone())
}
