//! Serving: sockets become connections, connections become requests of a router.
//!
//! One loop serves every port. It bounds how many connections there are, how long each may take to say
//! what it wants, and ends them in order when the server stops. Knows nothing of what is served.

mod body;
mod calls;
mod tls;
pub(crate) mod unread;

pub(crate) use body::{BYTES_S_MIN, BodyBudget, Part, read_body};
pub use tls::TlsError;
pub(crate) use tls::acceptor;

use crate::{
    config::Limits,
    seeing::{Connected, Connections},
};
use axum::Router;
use calls::{Calls, State};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two tries of a system that has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Streams that one HTTP/2 connection may have open: gRPC clients multiplex all their calls on one.
const HTTP2_STREAMS: u32 = 256;

/// Bytes in flight towards us for a stream and for a connection. With hyper's 64 KiB a body of a
/// megabyte takes sixteen round trips.
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;

/// A silent HTTP/2 connection is asked after this long, and closed when it does not answer.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// A port that is open.
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    /// How many connections it has.
    pub(crate) connections: Connections,
}

impl Port {
    /// Opens a port.
    pub(crate) async fn open(
        name: &'static str,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { name, listener, tls, connections: Connections::default() })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, and then until the open connections have ended, `grace` at most.
    pub(crate) async fn serve(
        self,
        router: Router,
        limits: &Limits,
        stop: CancellationToken,
        grace: Duration,
    ) {
        let connections = Arc::new(Semaphore::new(limits.connections));
        let open = TaskTracker::new();
        let server = Arc::new(protocol(limits));
        let times = Times { first: limits.header_time, idle: limits.idle_time };
        loop {
            // First a place, then a client: who finds none waits in the system's own queue.
            let place = tokio::select! {
                place = connections.clone().acquire_owned() => place,
                () = stop.cancelled() => break,
            };
            let Ok(place) = place else { break };
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(port = self.name, %error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Small answers go out at once.
            let _ = stream.set_nodelay(true);
            let (server, router, tls) = (server.clone(), router.clone(), self.tls.clone());
            let (stop, connected) = (stop.clone(), Connected::new(&self.connections));
            let first_by = Instant::now() + times.first;
            open.spawn(async move {
                let _place = (place, connected);
                match tls {
                    None => connection(&server, stream, router, stop, first_by, times).await,
                    Some(tls) => {
                        if let Some(stream) = handshake(&tls, stream, first_by).await {
                            connection(&server, stream, router, stop, first_by, times).await;
                        }
                    }
                }
            });
        }
        drop(self.listener);
        open.close();
        if timeout(grace, open.wait()).await.is_err() {
            tracing::warn!(port = self.name, "connections were closed with requests under way");
        }
    }
}

/// How long a connection is kept for a client that asks for nothing.
#[derive(Clone, Copy)]
struct Times {
    /// For its first request; for what it may still send when it is told to go; for it to read.
    first: Duration,
    /// For its next request.
    idle: Duration,
}

/// HTTP/1 and HTTP/2, told apart by their first bytes.
fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(MIN_HTTP1_BUFFER))
        .max_headers(HEADERS_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES * 4)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(limits.header_time);
    server
}

/// Hyper takes no less.
const MIN_HTTP1_BUFFER: usize = 8_192;

/// Headers of one request; clients send ten or twenty.
const HEADERS_MAX: usize = 64;

async fn handshake(
    tls: &TlsAcceptor,
    stream: TcpStream,
    until: Instant,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match timeout_at(until, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS");
            None
        }
        Err(_) => None,
    }
}

/// Serves one connection to its end.
///
/// Hyper's own timers begin with an HTTP/1 request's first byte, and HTTP/2 has none but for pings. So
/// there is one here: until the first request, and then for a connection without requests under way. Such
/// a one is told to go (GOAWAY), which loses no request: what the client sent meanwhile is answered.
async fn connection<S>(
    server: &auto::Builder<TokioExecutor>,
    stream: S,
    router: Router,
    stop: CancellationToken,
    first_by: Instant,
    times: Times,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = Calls::default();
    let counted = calls.clone();
    let answer = move |request: hyper::Request<Incoming>| counted.answer(&router, request);
    // A client that asks and does not read is let go like one that says nothing.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(times.first));
    let stream = TokioIo::new(Box::pin(stream));
    let mut connection = pin!(server.serve_connection(stream, service_fn(answer)));
    let mut timer = pin!(sleep_until(first_by));
    // Whether the server stops, and whether the client was told to go.
    let (mut stopping, mut told) = (false, false);
    loop {
        tokio::select! {
            // What has come counts, before the time is looked at.
            biased;
            ended = connection.as_mut() => {
                // Clients come and go; what they had under way is cancelled with their requests.
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                let allowed = if told { times.first } else { times.idle };
                let next = match calls.state() {
                    State::Silent => return,
                    // It cannot be over before then.
                    State::UnderWay => now + allowed,
                    State::Idle(since) if since + allowed > now => since + allowed,
                    State::Idle(_) if told => return,
                    State::Idle(_) => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                        now + times.first
                    }
                };
                timer.as_mut().reset(next);
            }
        }
    }
}
