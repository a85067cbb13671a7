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
    by_status: BTreeMap<Status, u64>,
    traffic: Vec<One>,
}

#[derive(Debug)]
struct One {
    tally: Tally,
    latency_us: Histogram<u64>,
    by_status: BTreeMap<Status, u64>,
}

impl Tallies {
    pub(crate) fn new(plan: &Plan, start: Instant) -> Result<Self> {
        let from = start + Duration::from_secs_f64(plan.warmup_s);
        let one = |_| -> Result<One> {
            let latency_us = histogram()?;
            Ok(One { tally: Tally::default(), latency_us, by_status: BTreeMap::new() })
        };
        Ok(Self {
            from,
            until: from + Duration::from_secs_f64(plan.measured_s),
            bills: plan.bills || plan.protocol != crate::plan::Protocol::Grpc,
            by_status: BTreeMap::new(),
            traffic: plan.traffic.iter().map(one).collect::<Result<_>>()?,
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
                one.latency_us.saturating_record(us);
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

    pub(crate) fn report(self, plan: &Plan, unsent: u64, client_cpu_s: f64) -> Result<Report> {
        let mut all = histogram()?;
        for one in &self.traffic {
            all.add(&one.latency_us)?;
        }
        let traffic = plan.traffic.iter().zip(self.traffic).map(|(traffic, one)| {
            let latency = latency(&one.latency_us);
            let tally = Tally { latency, by_status: named(one.by_status), ..one.tally };
            (traffic.name.clone(), tally)
        });
        Ok(Report {
            seconds: plan.measured_s,
            succeeded: all.len(),
            requests_per_s: all.len() as f64 / plan.measured_s,
            latency: latency(&all),
            by_status: named(self.by_status),
            unsent,
            client_cpu_s,
            traffic: traffic.collect(),
        })
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)?)
}

fn latency(histogram: &Histogram<u64>) -> Option<Latency> {
    (!histogram.is_empty()).then(|| Latency {
        mean_us: histogram.mean(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    })
}

fn named(counts: BTreeMap<Status, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(status, count)| (status.to_string(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Pace, Protocol, Traffic};

    #[test]
    fn answers_outside_the_time_that_counts_are_in_the_tally_alone() {
        let traffic = Traffic {
            name: "t".into(),
            model: "m".into(),
            key: None,
            input: "x".into(),
            shape: vec![2],
            share: 1,
            leaves_per_1000: 0,
        };
        let plan = Plan {
            protocol: Protocol::RestJson,
            address: "127.0.0.1:1".parse().expect("an address"),
            connections: 1,
            pace: Pace::Closed,
            warmup_s: 1.0,
            measured_s: 2.0,
            bills: false,
            traffic: vec![traffic],
        };
        let start = Instant::now();
        let mut tallies = Tallies::new(&plan, start).expect("tallies");
        let at = |ms| start + Duration::from_millis(ms);
        for (status, due_ms, now_ms) in [
            (Status::Http(200), 0, 999),
            (Status::Http(200), 990, 1_000),
            (Status::Http(200), 2_000, 2_020),
            (Status::Http(503), 2_000, 2_001),
            (Status::Http(200), 2_990, 3_000),
        ] {
            tallies.answered(0, &Answer::without(status), at(due_ms), at(now_ms));
        }
        tallies.left(0);
        let report = tallies.report(&plan, 7, 0.5).expect("a report");
        assert_eq!((report.succeeded, report.requests_per_s, report.unsent), (2, 1.0, 7));
        assert_eq!(report.by_status, [("200".into(), 2), ("503".into(), 1)].into());
        let latency = report.latency.expect("successes");
        assert_eq!((latency.p50_us, latency.p999_us / 100), (10_007, 200));
        let tally = &report.traffic["t"];
        assert_eq!((tally.succeeded, tally.left), (4, 1));
        assert_eq!(tally.by_status, [("200".into(), 4), ("503".into(), 1)].into());
    }
}
