//! Timing: all peers on one model, round after round, so that what else the machine does in a round
//! meets all of them.

use super::{
    environment::{Environment, ModelFiles},
    peer::Peer,
    protocol::{Loaded, Times},
    results::{BOX, SPEED, Timing},
    statistics::{Summary, median},
};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// What a peer runs for in one round: long enough for a steady state, short enough for many rounds.
const ROUND_NS: f64 = 150e6;
/// Most runs of one round.
const RUNS_MAX: f64 = 500.0;
/// Runs before the first round, at least.
const WARM_UP_RUNS: usize = 3;

/// How thorough a comparison is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) loads: usize,
}

/// What one model took.
pub(super) struct Timed {
    pub(super) timings: BTreeMap<&'static str, Timing>,
    /// What fuelbox said of its last load.
    pub(super) loaded: Loaded,
    compile_ns: Option<u64>,
}

impl Timed {
    /// Of the stock guest, when it had to be compiled.
    pub(super) fn compile_ns(&self) -> Option<u64> {
        self.compile_ns
    }
}

/// Times all peers on a model, which they then have loaded.
pub(super) fn time(
    environment: &Environment,
    peers: &mut [Peer],
    model: &ModelFiles,
    effort: Effort,
) -> Result<Timed> {
    let folder = environment.model_folder(model);
    let line = format!("load {}", folder.display());
    let mut loads_ns = vec![Vec::new(); peers.len()];
    let (mut of_box, mut compile_ns) = (None, None);
    for _ in 0..effort.loads {
        for (peer, loads_ns) in peers.iter_mut().zip(&mut loads_ns) {
            if peer.name == BOX {
                environment.forget_models(SPEED)?;
            }
            let loaded: Loaded = peer.ask(&line)?;
            loads_ns.push(loaded.load_ns as f64);
            if peer.name == BOX {
                compile_ns = compile_ns.max(loaded.compile_ns.filter(|&ns| ns > 0));
                of_box = Some(loaded);
            }
        }
    }
    let runs = peers.iter_mut().map(runs_per_round).collect::<Result<Vec<_>>>()?;
    let mut samples = vec![(Vec::new(), Vec::new()); peers.len()];
    for round in 0..=effort.rounds {
        for step in 0..peers.len() {
            // Nobody always comes after the same one.
            let at = (round + step) % peers.len();
            let times: Times = peers[at].ask(&format!("time {}", runs[at]))?;
            let ns: Vec<_> = times.ns.iter().map(|&ns| ns as f64).collect();
            if round > 0 {
                samples[at].1.push(median(&ns).context("no runs")?);
                samples[at].0.extend(ns);
            }
        }
    }
    let mut timings = BTreeMap::new();
    for ((peer, (all, rounds_ns)), loads_ns) in peers.iter().zip(samples).zip(loads_ns) {
        let run_ns = Summary::of(&all).context("no rounds")?;
        let load_ns = Summary::of(&loads_ns).context("no loads")?;
        timings.insert(peer.name, Timing { run_ns, rounds_ns, load_ns });
    }
    Ok(Timed { timings, loaded: of_box.context("fuelbox is a peer")?, compile_ns })
}

fn runs_per_round(peer: &mut Peer) -> Result<usize> {
    let times: Times = peer.ask(&format!("time {WARM_UP_RUNS}"))?;
    let fastest = times.ns.iter().min().copied().unwrap_or(1).max(1);
    Ok((ROUND_NS / fastest as f64).clamp(1.0, RUNS_MAX) as usize)
}
