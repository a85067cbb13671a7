//! The metrics that dashboards for Triton look for, under Triton's names: of requests whose callers
//! waited, by model.

use super::{
    exposition::{Exposition, Kind},
    jobs::{MODELS_MAX, OTHER},
};
use crate::{
    models::Model,
    stats::{ModelStats, Phase, Reason},
};
use std::sync::{Arc, atomic::Ordering};

/// One metric: its name, what it is, and where it is found.
type Sum = (&'static str, &'static str, fn(&ModelStats) -> u64);

const SUMS: [Sum; 8] = [
    ("nv_inference_request_success", "Requests that were answered.", |stats| stats.success.count()),
    ("nv_inference_count", "Inferences.", inferences),
    ("nv_inference_exec_count", "Runs of a model: one an inference.", inferences),
    (
        "nv_inference_request_duration_us",
        "Time of requests that were answered, in microseconds.",
        |stats| micros(&stats.success),
    ),
    ("nv_inference_queue_duration_us", "Time in the queue, in microseconds.", |stats| {
        micros(&stats.queue)
    }),
    ("nv_inference_compute_input_duration_us", "Time of decoding, in microseconds.", |stats| {
        micros(&stats.compute_input)
    }),
    ("nv_inference_compute_infer_duration_us", "Time of running, in microseconds.", |stats| {
        micros(&stats.compute_infer)
    }),
    ("nv_inference_compute_output_duration_us", "Time of encoding, in microseconds.", |stats| {
        micros(&stats.compute_output)
    }),
];

fn inferences(stats: &ModelStats) -> u64 {
    stats.inferences.load(Ordering::Relaxed)
}

fn micros(phase: &Phase) -> u64 {
    phase.nanos() / 1_000
}

/// Writes the metrics of these models. Those that nobody asked yet have none; beyond the limit, models
/// are added up.
pub(super) fn write(text: &mut Exposition, models: &[Arc<Model>]) {
    let asked = |model: &&Arc<Model>| {
        model.stats.success.count() + model.stats.fail.count() > 0 || model.jobs() > 0
    };
    let asked: Vec<_> = models.iter().filter(asked).collect();
    let (named, others) = asked.split_at(asked.len().min(MODELS_MAX));
    let sum = |of: &dyn Fn(&Model) -> u64| others.iter().map(|model| of(model)).sum::<u64>();
    for (name, help, of) in SUMS {
        let mut family = text.family(name, Kind::Counter, help);
        for model in named {
            family.sample(&labels(model), of(&model.stats));
        }
        if !others.is_empty() {
            family.sample(&OTHERS, sum(&|model| of(&model.stats)));
        }
    }
    let help = "Requests that were not answered, by reason.";
    let mut family = text.family("nv_inference_request_failure", Kind::Counter, help);
    for reason in Reason::ALL {
        let reason_label = ("reason", reason.name());
        for model in named {
            let [name, version] = labels(model);
            family.sample(&[name, version, reason_label], model.stats.failures(reason));
        }
        if !others.is_empty() {
            let [name, version] = OTHERS;
            let count = sum(&|model| model.stats.failures(reason));
            family.sample(&[name, version, reason_label], count);
        }
    }
    let help = "Requests that wait for their job.";
    let mut family = text.family("nv_inference_pending_request_count", Kind::Gauge, help);
    for model in named {
        family.sample(&labels(model), model.jobs());
    }
    if !others.is_empty() {
        family.sample(&OTHERS, sum(&|model| model.jobs() as u64));
    }
}

const OTHERS: [(&str, &str); 2] = [("model", OTHER), ("version", OTHER)];

fn labels(model: &Model) -> [(&'static str, &str); 2] {
    let (name, version) = model.key();
    [("model", name), ("version", version)]
}
