//! One connection to the server: a request goes out, its whole answer comes back.
//!
//! HTTP/1.1 with keep-alive, or HTTP/2. Dropped, the connection is closed.

use crate::{
    answer::{Answer, Status},
    message::Template,
    plan::Protocol,
};
use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, task::JoinHandle, time};

/// For one answer. A server that lets callers wait longer is not one to measure.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// For a connection on loopback.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A connection that can carry the next request.
pub(crate) struct Connection {
    wire: Wire,
    driver: JoinHandle<()>,
}

enum Wire {
    Rest(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(protocol: Protocol, address: SocketAddr) -> Result<Self> {
        time::timeout(CONNECT_MAX, Self::handshake(protocol, address)).await?
    }

    async fn handshake(protocol: Protocol, address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        // How a connection ends is seen by the request that it ends for.
        Ok(match protocol {
            Protocol::RestBinary | Protocol::RestJson => {
                let (sender, connection) = http1::handshake(stream).await?;
                let driver = tokio::spawn(async { drop(connection.await) });
                Self { wire: Wire::Rest(sender), driver }
            }
            Protocol::Grpc => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(stream)
                    .await?;
                let driver = tokio::spawn(async { drop(connection.await) });
                Self { wire: Wire::Grpc(sender), driver }
            }
        })
    }

    /// Sends a request and waits for all of its answer. After an answer without a status the connection
    /// is of no more use.
    pub(crate) async fn ask(&mut self, template: &Template, body: Bytes) -> Answer {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = template.uri.clone();
        *request.headers_mut() = template.headers.clone();
        match time::timeout(ANSWER_MAX, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::without(Status::Broken),
            Err(_) => Answer::without(Status::Timeout),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let (head, body) = match &mut self.wire {
            Wire::Rest(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?.into_parts()
            }
            Wire::Grpc(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?.into_parts()
            }
        };
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        Ok(match self.wire {
            Wire::Rest(_) => Answer::of_rest(&head, body),
            Wire::Grpc(_) => Answer::of_grpc(&head, trailers.as_ref(), body),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
