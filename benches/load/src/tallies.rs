//! Answers are counted and timed.

use crate::{
    answer::{Answer, Status},
    plan::Plan,
    report::{Latency, Report, Tally},
};
use anyhow::Result;
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Latencies are kept from a microsecond to two minutes, with three digits.
const LATENCY_US_MAX: u64 = 120_000_000;
const DIGITS: u8 = 3;

/// What was counted up to now.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// The time that counts.
    from: Instant,
    until: Instant,
    bills: bool,
    latency_us: Histogram<u64>,
    by_status: BTreeMap<Status, u64>,
    traffic: Vec<One>,
}

#[derive(Debug)]
struct One {
    tally: Tally,
    by_status: BTreeMap<Status, u64>,
}

impl Tallies {
    pub(crate) fn new(plan: &Plan, start: Instant) -> Result<Self> {
        let from = start + Duration::from_secs_f64(plan.warmup_s);
        let one = |_| One { tally: Tally::default(), by_status: BTreeMap::new() };
        Ok(Self {
            from,
            until: from + Duration::from_secs_f64(plan.measured_s),
            bills: plan.bills || plan.protocol != crate::plan::Protocol::Grpc,
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)?,
            by_status: BTreeMap::new(),
            traffic: plan.traffic.iter().map(one).collect(),
        })
    }

    /// An answer that came now to a request that was due then.
    pub(crate) fn answered(&mut self, traffic: usize, answer: &Answer, due: Instant, now: Instant) {
        let status = answer.status;
        let one = &mut self.traffic[traffic];
        *one.by_status.entry(status).or_default() += 1;
        if status.succeeded() {
            one.tally.succeeded += 1;
            if self.bills {
                one.tally.credits_micro += answer.credits_micro().unwrap_or_default();
            }
        }
        if (self.from..self.until).contains(&now) {
            *self.by_status.entry(status).or_default() += 1;
            if status.succeeded() {
                let us = u64::try_from((now - due).as_micros()).unwrap_or(LATENCY_US_MAX);
                self.latency_us.saturating_record(us);
            }
        }
    }

    /// A caller went away.
    pub(crate) fn left(&mut self, traffic: usize) {
        self.traffic[traffic].tally.left += 1;
    }

    /// The outputs of the request before all others.
    pub(crate) fn outputs(&mut self, traffic: usize, outputs: Vec<f32>) {
        self.traffic[traffic].tally.outputs = outputs;
    }

    pub(crate) fn report(self, plan: &Plan, unsent: u64, client_cpu_s: f64) -> Report {
        let histogram = &self.latency_us;
        let latency = (!histogram.is_empty()).then(|| Latency {
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        });
        let named = |counts: BTreeMap<Status, u64>| {
            counts.into_iter().map(|(status, count)| (status.to_string(), count)).collect()
        };
        let traffic = plan.traffic.iter().zip(self.traffic).map(|(traffic, one)| {
            let tally = Tally { by_status: named(one.by_status), ..one.tally };
            (traffic.name.clone(), tally)
        });
        Report {
            seconds: plan.measured_s,
            succeeded: histogram.len(),
            requests_per_s: histogram.len() as f64 / plan.measured_s,
            latency,
            by_status: named(self.by_status),
            unsent,
            client_cpu_s,
            traffic: traffic.collect(),
        }
    }
}
