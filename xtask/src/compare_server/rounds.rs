//! Rounds: every target once, in turns, so that all of them see the same machine.

use super::mlserver::MlServer;
use crate::{
    serving::{Fuelbox, Ground, Model, run},
    statistics::Summary,
};
use anyhow::{Context, Result};
use fuelbox_load::{Pace, Plan, Protocol, Report, Traffic};
use serde::Serialize;
use std::net::SocketAddr;

/// Between answers to the same request: kernels of other builds add in another order.
const TOLERANCE: f32 = 1e-4;

/// How long and how wide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) seconds: u32,
    pub(super) connections: u32,
}

/// A server and a way to ask it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    address: SocketAddr,
    protocol: Protocol,
    key: Option<String>,
}

impl Target {
    pub(super) fn of_fuelbox(server: &Fuelbox, key: &str) -> Vec<Self> {
        let target =
            |name, address, protocol| Self { name, address, protocol, key: Some(key.into()) };
        vec![
            target("fuelbox, REST binary", server.http, Protocol::RestBinary),
            target("fuelbox, REST JSON", server.http, Protocol::RestJson),
            target("fuelbox, gRPC", server.grpc, Protocol::Grpc),
        ]
    }

    /// MLServer has no binary extension over REST.
    pub(super) fn of_mlserver(server: &MlServer) -> Vec<Self> {
        let target = |name, address, protocol| Self { name, address, protocol, key: None };
        vec![
            target("mlserver, REST JSON", server.http, Protocol::RestJson),
            target("mlserver, gRPC", server.grpc, Protocol::Grpc),
        ]
    }

    pub(super) fn plan(&self, model: &Model, round: Round) -> Plan {
        Plan {
            protocol: self.protocol,
            address: self.address,
            connections: round.connections as usize,
            pace: Pace::Closed,
            warmup_s: 1.0,
            measured_s: round.seconds.into(),
            bills: false,
            traffic: vec![Traffic {
                name: model.name.clone(),
                model: model.name.clone(),
                key: self.key.clone(),
                input: model.input.clone(),
                shape: model.shape.clone(),
                share: 1,
                leaves_per_1000: 0,
            }],
        }
    }
}

/// The rounds of one target.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) rounds: Vec<Report>,
}

impl Series {
    /// A figure over all rounds.
    pub(super) fn summary(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<Summary> {
        Summary::of(&self.rounds.iter().filter_map(figure).collect::<Vec<_>>())
    }

    /// The outputs of the request that is the same everywhere.
    fn outputs(&self) -> Option<&[f32]> {
        let tally = self.rounds.first()?.traffic.values().next()?;
        Some(&tally.outputs)
    }
}

/// Every target once a round.
pub(super) fn interleaved(
    ground: &Ground,
    model: &Model,
    targets: &[Target],
    round: Round,
    rounds: u32,
) -> Result<Vec<Series>> {
    let empty = |target: &Target| Series { name: target.name, rounds: Vec::new() };
    let mut series: Vec<_> = targets.iter().map(empty).collect();
    for number in 1..=rounds {
        for (target, series) in targets.iter().zip(&mut series) {
            let report = run(ground, &target.plan(model, round)).context(target.name)?;
            eprintln!("round {number}: {}: {:.0} requests/s", target.name, report.requests_per_s);
            series.rounds.push(report);
        }
    }
    Ok(series)
}

/// What is wrong with the answers.
pub(super) fn checked(series: &[Series]) -> Vec<String> {
    let mut failures = Vec::new();
    let expected = series.first().and_then(Series::outputs).unwrap_or_default();
    for one in series {
        for report in &one.rounds {
            let others: Vec<_> = report
                .by_status
                .iter()
                .filter(|(status, _)| !matches!(status.as_str(), "200" | "grpc 0"))
                .collect();
            if !others.is_empty() {
                failures.push(format!("{}: {others:?}", one.name));
            }
        }
        let found = one.outputs().unwrap_or_default();
        let close = |(one, other): (&f32, &f32)| (one - other).abs() <= TOLERANCE;
        if found.is_empty()
            || found.len() != expected.len()
            || !found.iter().zip(expected).all(close)
        {
            failures.push(format!("{}: outputs {found:?}, expected {expected:?}", one.name));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_load::Tally;

    fn series(name: &'static str, outputs: &[f32], status: &str) -> Series {
        let tally = Tally { outputs: outputs.to_vec(), ..Tally::default() };
        let report = Report {
            by_status: [(status.to_owned(), 1)].into(),
            traffic: [("m".to_owned(), tally)].into(),
            ..Report::default()
        };
        Series { name, rounds: vec![report] }
    }

    #[test]
    fn answers_that_differ_or_fail_are_named() {
        let good = || series("a", &[1.0, 2.0], "200");
        let failures = |other| checked(&[good(), other]).join("; ");
        assert_eq!(failures(series("b", &[1.0, 2.00001], "grpc 0")), "");
        let expected = "b: outputs [1.0, 2.1], expected [1.0, 2.0]";
        assert_eq!(failures(series("b", &[1.0, 2.1], "200")), expected);
        assert_eq!(failures(series("b", &[1.0, 2.0], "503")), r#"b: [("503", 1)]"#);
        assert_eq!(failures(series("b", &[], "200")), "b: outputs [], expected [1.0, 2.0]");
    }
}
