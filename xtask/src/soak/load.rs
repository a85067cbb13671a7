//! What the server is offered.

use super::memory::Memory;
use crate::serving::{Folder, Fuelbox, Ground, Model, start};
use anyhow::{Result, ensure};
use fuelbox_load::{Pace, Plan, Protocol, Report, Tally, Traffic};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// Callers: one with two keys, one with a slow model as well, and one who goes away half way.
pub(super) const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];
const SMALL: &str = "mlp";
/// Some 300 times the work of the small one.
const SLOW: &str = "unet";
/// Of the capacity.
const OFFERED: f64 = 2.0;
/// What sends: twice what it got through by itself beside the others. Connections are the requests that
/// can wait at once. Those of the slow model are more than the server lets wait, so it has to refuse; in all
/// they are below the 1,024 that it takes by default.
const GENERATORS: [Generator; 3] = [
    Generator { name: "REST", protocol: Protocol::RestBinary, model: SMALL, closed: 16, open: 200 },
    Generator { name: "gRPC", protocol: Protocol::Grpc, model: SMALL, closed: 16, open: 150 },
    Generator { name: "REST", protocol: Protocol::RestBinary, model: SLOW, closed: 4, open: 600 },
];

/// A process that sends requests to one model.
struct Generator {
    name: &'static str,
    protocol: Protocol,
    model: &'static str,
    /// Connections that keep the server busy.
    closed: usize,
    /// Connections when it is offered too much.
    open: usize,
}

impl Generator {
    fn plan(&self, mix: &Mix, server: &Fuelbox, connections: usize) -> Plan {
        let traffic = mix.traffic.iter().filter(|traffic| traffic.model == self.model);
        Plan {
            protocol: self.protocol,
            address: match self.protocol {
                Protocol::RestBinary | Protocol::RestJson => server.http,
                Protocol::Grpc => server.grpc,
            },
            connections,
            pace: Pace::Closed,
            warmup_s: 1.0,
            measured_s: 1.0,
            bills: true,
            traffic: traffic.cloned().collect(),
        }
    }
}

/// Answers that a server may give that is offered too much: outputs, and "not now" in two words.
const ALLOWED: [&str; 6] = ["200", "429", "503", "grpc 0", "grpc 8", "grpc 14"];

/// The traffic, each with an access key of its own.
pub(super) struct Mix {
    traffic: Vec<Traffic>,
}

impl Mix {
    /// Publishes the models and makes the keys.
    pub(super) fn publish(ground: &Ground, folder: &Folder<'_>) -> Result<Self> {
        let (small, slow) = (ground.model(SMALL)?, ground.model(SLOW)?);
        folder.publish(&small, SMALL)?;
        folder.publish(&slow, SLOW)?;
        let traffic = |name: &str, model: &Model, share, leaves_per_1000| -> Result<Traffic> {
            Ok(Traffic {
                name: name.into(),
                model: model.name.clone(),
                key: Some(folder.key(account(name))?),
                input: model.input.clone(),
                shape: model.shape.clone(),
                share,
                leaves_per_1000,
            })
        };
        Ok(Self {
            traffic: vec![
                traffic("alice/mlp/first key", &small, 30, 0)?,
                traffic("alice/mlp/second key", &small, 10, 0)?,
                traffic("bob/mlp", &small, 15, 0)?,
                traffic("bob/unet", &slow, 1, 0)?,
                traffic("carol/mlp, half of them leave", &small, 4, 500)?,
            ],
        })
    }

    /// What the server does when everybody waits for answers: all generators at once, nobody leaves.
    pub(super) fn capacity(
        &self,
        ground: &Ground,
        server: &Fuelbox,
        seconds: f64,
    ) -> Result<Vec<(&'static str, Report)>> {
        let measured_s = (seconds / 20.0).clamp(2.0, 10.0);
        let mut running = Vec::new();
        for generator in &GENERATORS {
            let mut plan = generator.plan(self, server, generator.closed);
            plan.measured_s = measured_s;
            plan.traffic.iter_mut().for_each(|traffic| traffic.leaves_per_1000 = 0);
            running.push((generator.name, start(ground, &plan)?));
        }
        running.into_iter().map(|(name, running)| Ok((name, running.report()?))).collect()
    }

    /// More than it can do, for so long, with a look at its memory all the while.
    pub(super) fn overload(
        &self,
        ground: &Ground,
        server: &mut Fuelbox,
        closed: &[(&'static str, Report)],
        seconds: f64,
    ) -> Result<(Vec<(&'static str, Report)>, Memory)> {
        let warmup_s = memory_warmup_s(seconds);
        let mut running = Vec::new();
        for (generator, (_, report)) in GENERATORS.iter().zip(closed) {
            let (name, model, capacity_per_s) =
                (generator.name, generator.model, report.requests_per_s);
            ensure!(capacity_per_s > 0.0, "{name}, {model}: nothing was answered with outputs");
            let mut plan = generator.plan(self, server, generator.open);
            plan.pace = Pace::Open { requests_per_s: OFFERED * capacity_per_s };
            plan.measured_s = seconds - 1.0;
            running.push((name, start(ground, &plan)?));
        }
        let begun = Instant::now();
        let mut memory = Memory::new(warmup_s, seconds);
        while begun.elapsed().as_secs_f64() < seconds {
            server.process.alive()?;
            memory.look(server.process.id(), begun.elapsed().as_secs_f64())?;
            thread::sleep(Duration::from_secs_f64((seconds / 600.0).clamp(0.1, 1.0)));
        }
        let reports = running
            .into_iter()
            .map(|(name, running)| Ok((name, running.report()?)))
            .collect::<Result<_>>()?;
        Ok((reports, memory))
    }
}

/// Caches fill and the allocator settles first: under this load most of that is over in five minutes.
fn memory_warmup_s(seconds: f64) -> f64 {
    (seconds / 2.0).min(300.0)
}

/// `ACCOUNT/..`
fn account(traffic: &str) -> &str {
    traffic.split_once('/').map_or(traffic, |(account, _)| account)
}

/// All that callers of an account saw, over all runs.
pub(crate) fn by_account<'a>(reports: impl Iterator<Item = &'a Report>) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    for (name, tally) in reports.flat_map(|report| &report.traffic) {
        let sum = tallies.entry(account(name).to_owned()).or_default();
        sum.succeeded += tally.succeeded;
        sum.left += tally.left;
        sum.credits_micro += tally.credits_micro;
    }
    tallies
}

/// What a busy server must not do to those who ask.
pub(super) fn failures(reports: &[(&str, Report)], p99_ms_max: u64) -> Vec<String> {
    let mut failures = Vec::new();
    for (protocol, report) in reports {
        for (name, tally) in &report.traffic {
            for (status, count) in &tally.by_status {
                if !ALLOWED.contains(&status.as_str()) {
                    failures.push(format!("{protocol}: {name}: {count} answers are {status}"));
                }
            }
            match tally.latency {
                None => failures.push(format!("{protocol}: {name}: nobody was served")),
                Some(latency) if latency.p99_us > p99_ms_max * 1_000 => failures.push(format!(
                    "{protocol}: {name}: p99 is {} ms, allowed are {p99_ms_max}",
                    latency.p99_us / 1_000
                )),
                Some(_) => {}
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_load::Latency;

    fn report(name: &str, status: &str, p99_us: Option<u64>) -> Report {
        let latency = p99_us.map(|p99_us| Latency {
            mean_us: 1.0,
            p50_us: 1,
            p99_us,
            p999_us: p99_us,
            max_us: p99_us,
        });
        let by_status = [(status.to_owned(), 3)].into();
        let tally = Tally {
            succeeded: 3,
            left: 1,
            credits_micro: 30,
            latency,
            by_status,
            ..Tally::default()
        };
        Report { traffic: [(name.to_owned(), tally)].into(), ..Report::default() }
    }

    #[test]
    fn answers_other_than_outputs_and_not_now_are_failures() {
        for (status, p99_us, expected) in [
            ("200", Some(10_000_000), ""),
            ("503", Some(1), ""),
            ("grpc 14", Some(1), ""),
            ("500", Some(1), "REST: a/m: 3 answers are 500"),
            ("broken", Some(1), "REST: a/m: 3 answers are broken"),
            ("200", Some(10_000_001), "REST: a/m: p99 is 10000 ms, allowed are 10000"),
            ("429", None, "REST: a/m: nobody was served"),
        ] {
            let found = failures(&[("REST", report("a/m", status, p99_us))], 10_000);
            assert_eq!(found.join("; "), expected);
        }
    }

    #[test]
    fn tallies_are_added_up_by_account() {
        let reports =
            [report("a/m", "200", None), report("a/n", "200", None), report("b", "200", None)];
        let tallies = by_account(reports.iter());
        let sums: Vec<_> = tallies
            .iter()
            .map(|(name, tally)| (name.as_str(), tally.succeeded, tally.left, tally.credits_micro))
            .collect();
        assert_eq!(sums, [("a", 6, 2, 60), ("b", 3, 1, 30)]);
    }
}
