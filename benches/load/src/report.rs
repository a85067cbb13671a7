//! What came of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What came of a run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Seconds that counted.
    pub seconds: f64,
    /// Requests that were answered with outputs in those seconds.
    pub succeeded: u64,
    /// The same by second.
    pub requests_per_s: f64,
    /// From when they were due to when the whole answer was there; none where none succeeded.
    pub latency: Option<Latency>,
    /// All answers of those seconds: `200`, `429`, `grpc 0`, and `broken`, `timeout`, `refused` for
    /// those that never came.
    pub by_status: BTreeMap<String, u64>,
    /// Requests of an open loop that found no connection free.
    pub unsent: u64,
    /// Processor time of this client in the seconds that counted.
    pub client_cpu_s: f64,
    /// By traffic, from the first request to the last, warm-up and all.
    pub traffic: BTreeMap<String, Tally>,
}

/// Of requests that succeeded, in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: u64,
    /// 99 of 100 are below.
    pub p99_us: u64,
    /// 999 of 1,000 are below.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// What came of the requests of one traffic.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tally {
    /// Requests that were answered with outputs.
    pub succeeded: u64,
    /// Requests whose sender went away before it knew: the server may have run them or not.
    pub left: u64,
    /// The bills of those that succeeded, where responses name them.
    pub credits_micro: u64,
    /// As in [`Report::latency`].
    pub latency: Option<Latency>,
    /// All answers, as in [`Report::by_status`].
    pub by_status: BTreeMap<String, u64>,
    /// The first output's first elements, of a request sent before all others: number 0.
    pub outputs: Vec<f32>,
}
