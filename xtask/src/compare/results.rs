//! What a comparison finds. The report is made of this and nothing else.

use super::{
    answers::{Character, Difference},
    environment::Variant,
    machine::Machine,
    statistics::{Summary, geometric_mean, ratio},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// A fresh sandbox for each job, with fuel: what fuelbox does.
pub(super) const BOX: &str = "fuelbox";
/// The same instance again, with fuel.
pub(super) const WARM: &str = "fuelbox, warm";
/// A fresh sandbox for each job, code that counts no fuel.
pub(super) const UNMETERED: &str = "fuelbox, unmetered";
pub(super) const TRACT: &str = "native tract";
pub(super) const ORT: &str = "onnxruntime";
pub(super) const WEB: &str = "onnxruntime-web";

/// All that are timed.
pub(super) const PEERS: [&str; 6] = [BOX, WARM, UNMETERED, TRACT, ORT, WEB];

/// The one whose answers are the reference.
pub(super) const REFERENCE: &str = ORT;

/// What is timed: optimised code, and the kernels that the host chooses.
pub(super) const SPEED: Variant = Variant { name: "as timed", codegen: "speed", kernels: None };

#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) rounds: usize,
    pub(super) machine: Machine,
    /// Of everything that takes part, by name.
    pub(super) versions: BTreeMap<String, String>,
    pub(super) models: Vec<ModelResult>,
    /// Of the stock guest, when it had to be compiled.
    pub(super) compile_ns: Option<u64>,
    pub(super) throughput: Option<Throughput>,
    /// What was skipped, and why.
    pub(super) skipped: Vec<String>,
    /// What did not hold: the command fails when there is any.
    pub(super) failures: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelResult {
    pub(super) name: String,
    pub(super) file_bytes: u64,
    pub(super) peers: BTreeMap<&'static str, Timing>,
    /// The largest part of a turn, in the rounds that count, that a peer waited for a core in.
    pub(super) waited: f64,
    pub(super) bill: Bill,
    pub(super) character: Character,
    /// From the reference, by peer.
    pub(super) differences: BTreeMap<&'static str, Difference>,
    /// Variants that gave the same bits and the same bill.
    pub(super) same: Vec<&'static str>,
}

/// One peer on one model.
#[derive(Debug, Serialize)]
pub(super) struct Timing {
    pub(super) run_ns: Summary,
    /// The median of each round.
    pub(super) rounds_ns: Vec<f64>,
    pub(super) load_ns: Summary,
}

/// What fuelbox says of a model. Equal in every variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bill {
    pub(super) fuel: u64,
    pub(super) memory_bytes: u64,
    pub(super) load_fuel: u64,
    pub(super) load_memory_bytes: u64,
    pub(super) image_bytes: u64,
    pub(super) image_digest: String,
    pub(super) output_digest: String,
}

/// Jobs side by side.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) model: String,
    /// Jobs per second of two workers, by those of one.
    pub(super) two_to_one: Summary,
    pub(super) jobs: usize,
    /// Of jobs on two workers, from a worker taking it to its outcome, over all rounds.
    pub(super) execution_ns: Summary,
    /// The 99th percentile by the median of execution, of each round.
    pub(super) p99_to_median: Summary,
    /// Of the same jobs, from the start until a worker takes it.
    pub(super) queued_ns: Summary,
}

impl ModelResult {
    /// How much longer `peer` takes than `other`, round by round.
    pub(super) fn ratio(&self, peer: &str, other: &str) -> Option<Summary> {
        ratio(&self.peers.get(peer)?.rounds_ns, &self.peers.get(other)?.rounds_ns)
    }

    /// The median of a fuelbox job.
    pub(super) fn job_ns(&self) -> f64 {
        self.peers.get(BOX).map_or(f64::NAN, |timing| timing.run_ns.median)
    }
}

impl Comparison {
    /// The mean over models of how much longer `peer` takes than `other`.
    pub(super) fn mean_ratio(&self, peer: &str, other: &str) -> Option<f64> {
        geometric_mean(&self.ratios(peer, other, 0.0))
    }

    /// The largest such ratio of models whose job takes longer than this.
    pub(super) fn worst_ratio(&self, peer: &str, other: &str, above_ns: f64) -> Option<f64> {
        self.ratios(peer, other, above_ns).into_iter().reduce(f64::max)
    }

    fn ratios(&self, peer: &str, other: &str, above_ns: f64) -> Vec<f64> {
        let models = self.models.iter().filter(|model| model.job_ns() > above_ns);
        models.filter_map(|model| Some(model.ratio(peer, other)?.median)).collect()
    }
}
