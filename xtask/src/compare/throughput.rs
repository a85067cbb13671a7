//! Jobs side by side: two workers against one, and how even a queue's jobs are.

use super::{
    peer::Peer,
    protocol::Queue,
    results::Throughput,
    statistics::{Summary, percentile},
};
use anyhow::{Context, Result};

/// The model that the goals name.
pub(super) const MODEL: &str = "mobilenet_v2";
/// Jobs of the queue on two workers, as the goals name them.
const JOBS: usize = 64;

/// Measures a peer that has the model loaded; the two queues are interleaved.
pub(super) fn measure(peer: &mut Peer, rounds: usize) -> Result<Throughput> {
    let (mut ratios, mut evenness) = (Vec::new(), Vec::new());
    let (mut execution_ns, mut queued_ns) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let one: Queue = peer.ask(&format!("queue 1 {}", JOBS / 2))?;
        let two: Queue = peer.ask(&format!("queue 2 {JOBS}"))?;
        ratios.push(rate(&two) / rate(&one));
        let execution = floats(&two.execution_ns);
        evenness.push(p99_to_median(&execution).context("no jobs")?);
        execution_ns.extend(execution);
        queued_ns.extend(floats(&two.queued_ns));
    }
    let summary = |samples: &[f64]| Summary::of(samples).context("no rounds");
    Ok(Throughput {
        model: MODEL.into(),
        two_to_one: summary(&ratios)?,
        jobs: JOBS,
        execution_ns: summary(&execution_ns)?,
        p99_to_median: summary(&evenness)?,
        queued_ns: summary(&queued_ns)?,
    })
}

/// Jobs per nanosecond.
fn rate(queue: &Queue) -> f64 {
    queue.execution_ns.len() as f64 / queue.wall_ns as f64
}

fn p99_to_median(execution_ns: &[f64]) -> Option<f64> {
    Some(percentile(execution_ns, 0.99)? / percentile(execution_ns, 0.5)?)
}

fn floats(ns: &[u64]) -> Vec<f64> {
    ns.iter().map(|&ns| ns as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn two_workers_are_held_against_one() {
        // One worker: 32 jobs in 320 ns. Two: 64 jobs, four of them slow, in 400.
        let ns = |times: &[u64]| format!("{times:?}");
        let one =
            format!(r#"{{"wall_ns": 320, "execution_ns": {0}, "queued_ns": {0}}}"#, ns(&[10; 32]));
        let jobs: Vec<_> = (0..64).map(|job| if job < 60 { 10 } else { 30 }).collect();
        let two =
            format!(r#"{{"wall_ns": 400, "execution_ns": {0}, "queued_ns": {0}}}"#, ns(&jobs));
        let script = format!("read a; echo '{one}'; read b; echo '{two}'");
        let mut peer = Peer::start("script", Command::new("sh").args(["-c", &script])).expect("sh");
        let found = measure(&mut peer, 1).expect("figures");
        assert!((found.two_to_one.median - 1.6).abs() < 1e-9, "{found:?}");
        assert!((found.p99_to_median.median - 3.0).abs() < 1e-9, "{found:?}");
    }
}
