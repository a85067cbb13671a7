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
/// A round is calm when nobody waited for a core for a larger part of its turn. Runs that are shorter
/// than a time slice hardly see that others want the cores, longer ones see all of it: so rounds in
/// which others had them compare nothing.
const CALM: f64 = 0.02;
/// Rounds that are tried for one that counts, while there are not enough calm ones.
const ATTEMPTS: usize = 3;
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
    /// The largest part of a turn that a peer waited for a core in.
    pub(super) waited: f64,
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
    let mut rounds = Vec::new();
    let attempts_max = effort.rounds * ATTEMPTS;
    for attempt in 0..=attempts_max {
        let round = Round::run(peers, &runs, attempt)?;
        if attempt > 0 {
            rounds.push(round);
        }
        let calm = rounds.iter().filter(|round| round.waited() <= CALM).count();
        if calm >= effort.rounds {
            break;
        }
    }
    let rounds = calmest(rounds, effort.rounds);
    let waited = rounds.iter().map(Round::waited).fold(0.0, f64::max);
    let mut timings = BTreeMap::new();
    for (at, (peer, loads_ns)) in peers.iter().zip(loads_ns).enumerate() {
        let of_rounds = || rounds.iter().map(|round| &round.turns[at].ns);
        let all: Vec<_> = of_rounds().flatten().copied().collect();
        let run_ns = Summary::of(&all).context("no rounds")?;
        let rounds_ns = of_rounds().map(|ns| median(ns).context("no runs"));
        let rounds_ns = rounds_ns.collect::<Result<_>>()?;
        let load_ns = Summary::of(&loads_ns).context("no loads")?;
        timings.insert(peer.name, Timing { run_ns, rounds_ns, load_ns });
    }
    Ok(Timed { timings, waited, loaded: of_box.context("fuelbox is a peer")?, compile_ns })
}

/// One turn of every peer.
#[derive(Clone, Debug, PartialEq)]
struct Round {
    /// In the order of the peers.
    turns: Vec<Turn>,
}

#[derive(Clone, Debug, PartialEq)]
struct Turn {
    ns: Vec<f64>,
    /// The part of the time in which the peer waited for a core.
    waited: f64,
}

impl Round {
    fn run(peers: &mut [Peer], runs: &[usize], round: usize) -> Result<Self> {
        let mut turns = vec![None; peers.len()];
        for step in 0..peers.len() {
            // Nobody always comes after the same one.
            let at = (round + step) % peers.len();
            let peer = &mut peers[at];
            let waited_ns = peer.waited_ns();
            let times: Times = peer.ask(&format!("time {}", runs[at]))?;
            let waited_ns = peer.waited_ns().saturating_sub(waited_ns) as f64;
            let ns: Vec<_> = times.ns.iter().map(|&ns| ns as f64).collect();
            let waited = waited_ns / ns.iter().sum::<f64>().max(1.0);
            turns[at] = Some(Turn { ns, waited });
        }
        Ok(Self { turns: turns.into_iter().flatten().collect() })
    }

    fn waited(&self) -> f64 {
        self.turns.iter().map(|turn| turn.waited).fold(0.0, f64::max)
    }
}

/// The rounds in which nobody waited long, in their order.
fn calmest(rounds: Vec<Round>, count: usize) -> Vec<Round> {
    let mut ranked: Vec<_> = rounds.into_iter().enumerate().collect();
    ranked.sort_by(|(_, one), (_, other)| one.waited().total_cmp(&other.waited()));
    ranked.truncate(count);
    ranked.sort_by_key(|(at, _)| *at);
    ranked.into_iter().map(|(_, round)| round).collect()
}

fn runs_per_round(peer: &mut Peer) -> Result<usize> {
    let times: Times = peer.ask(&format!("time {WARM_UP_RUNS}"))?;
    let fastest = times.ns.iter().min().copied().unwrap_or(1).max(1);
    Ok((ROUND_NS / fastest as f64).clamp(1.0, RUNS_MAX) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_in_which_others_had_the_cores_do_not_count() {
        let round = |ns: f64, waited: &[f64]| Round {
            turns: waited.iter().map(|&waited| Turn { ns: vec![ns], waited }).collect(),
        };
        let rounds = vec![
            round(1.0, &[0.0, 0.5]),
            round(2.0, &[0.01, 0.0]),
            round(3.0, &[0.3, 0.0]),
            round(4.0, &[0.0, 0.0]),
        ];
        let ns = |count| {
            let kept = calmest(rounds.clone(), count);
            kept.iter().map(|round| round.turns[0].ns[0]).collect::<Vec<_>>()
        };
        assert_eq!(ns(2), [2.0, 4.0]);
        assert_eq!(ns(3), [2.0, 3.0, 4.0]);
        assert_eq!(ns(9), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rounds[2].waited(), 0.3);
    }
}
