//! What to send, how fast, for how long.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A run of the generator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// How requests travel.
    pub protocol: Protocol,
    /// Where the server is.
    pub address: SocketAddr,
    /// Connections; each carries one request at a time.
    pub connections: usize,
    /// When the next request is sent.
    pub pace: Pace,
    /// Seconds before the ones that count.
    pub warmup_s: f64,
    /// Seconds that count. Afterwards the answers that are due are still awaited.
    pub measured_s: f64,
    /// Whether bills are added up where a gRPC response has to be decoded for them. REST has a header.
    pub bills: bool,
    /// What is sent, mixed by share.
    pub traffic: Vec<Traffic>,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, tensors by the binary extension both ways.
    RestBinary,
    /// HTTP/1.1, tensors as JSON.
    RestJson,
    /// HTTP/2, raw tensors.
    Grpc,
}

/// When the next request is sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// When the answer to the last one on the same connection has come.
    Closed,
    /// At this rate over all connections, whether answers have come or not. A request for which no
    /// connection is free in time is not sent, and counted as such.
    Open {
        /// Requests a second.
        requests_per_s: f64,
    },
}

/// Requests of one caller to one model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Traffic {
    /// What the report calls it.
    pub name: String,
    /// The model.
    pub model: String,
    /// The access key, where the server wants one.
    pub key: Option<String>,
    /// The model's only input, FP32.
    pub input: String,
    /// Its shape; two elements at least, by which no two requests are alike.
    pub shape: Vec<u64>,
    /// How often, beside the shares of the others.
    pub share: u32,
    /// Of a thousand requests, those whose sender goes away before the answer.
    pub leaves_per_1000: u32,
}
