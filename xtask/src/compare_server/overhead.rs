//! The server's own share of a request: the same jobs over REST, and in the process of a host.
//!
//! One caller, one job at a time, MobileNetV2: 600 kB in, 4 kB out. Both folders have the same package, and
//! jobs are settled in both: what differs is HTTP, the codec, and the hand-over between threads.

use crate::{
    serving::{Folder, Ground, Model, run},
    statistics::{Summary, ratio},
};
use anyhow::{Context, Result, ensure};
use fuelbox_load::{Pace, Plan, Protocol, Traffic};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const MODEL: &str = "mobilenet_v2";
/// Of each half of a round.
const SECONDS: f64 = 3.0;

/// Medians of each round, in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Overhead {
    pub(super) model: &'static str,
    /// From a request's first byte to the answer's last, as the client sees it.
    pub(super) served_us: Summary,
    /// `Host::run`.
    pub(super) in_process_us: Summary,
    /// The one by the other, round by round.
    pub(super) ratio: Summary,
}

/// Measures in turns.
pub(super) fn measure(ground: &Ground, rounds: u32) -> Result<Overhead> {
    let model = ground.model(MODEL)?;
    let served = Folder::new(ground, "data-served", &[super::CALLER])?;
    served.publish(&model, MODEL)?;
    let own = Folder::new(ground, "data-in-process", &[super::CALLER])?;
    own.publish(&model, MODEL)?;
    let key = served.key(super::CALLER)?;
    let server = served.serve()?;
    let plan = plan(&server, key, &model);
    let mut host = Host::start(ground, &own, &model)?;
    let (mut over_rest, mut in_process) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        in_process.push(host.median_us(SECONDS)?);
        let report = run(ground, &plan)?;
        ensure!(report.by_status.keys().all(|status| status == "200"), "{:?}", report.by_status);
        over_rest.push(report.latency.context("no job succeeded")?.p50_us as f64);
    }
    server.stop()?;
    let summary = |rounds: &[f64]| Summary::of(rounds).context("a round");
    Ok(Overhead {
        model: MODEL,
        served_us: summary(&over_rest)?,
        in_process_us: summary(&in_process)?,
        ratio: ratio(&over_rest, &in_process).context("a round")?,
    })
}

fn plan(server: &crate::serving::Fuelbox, key: String, model: &Model) -> Plan {
    Plan {
        protocol: Protocol::RestBinary,
        address: server.http,
        connections: 1,
        pace: Pace::Closed,
        warmup_s: 0.5,
        measured_s: SECONDS,
        bills: false,
        traffic: vec![Traffic {
            name: model.name.clone(),
            model: model.name.clone(),
            key: Some(key),
            input: model.input.clone(),
            shape: model.shape.clone(),
            share: 1,
            leaves_per_1000: 0,
        }],
    }
}

/// `benches/host`: it runs jobs for so many seconds when it is told to, and says the median.
struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Median {
    median_us: f64,
}

impl Host {
    fn start(ground: &Ground, folder: &Folder<'_>, model: &Model) -> Result<Self> {
        let mut child = Command::new(ground.program("fuelbox-bench-host"))
            .arg(&folder.path)
            .arg(ground.cache())
            .args([MODEL, super::CALLER, &model.input])
            .args(model.shape.iter().map(u64::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("fuelbox-bench-host cannot be started")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        Ok(Self { child, stdin, stdout })
    }

    fn median_us(&mut self, seconds: f64) -> Result<f64> {
        let stdin = self.stdin.as_mut().context("stdin is a pipe")?;
        writeln!(stdin, "{seconds}")?;
        stdin.flush()?;
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "fuelbox-bench-host ended");
        Ok(serde_json::from_str::<Median>(&line)?.median_us)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stdin.take()); // it ends with its stdin
        let _ = self.child.wait();
    }
}
