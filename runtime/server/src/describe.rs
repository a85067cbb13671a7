//! Descriptions of models: configuration, statistics and the repository's index, as Triton's extensions
//! of the protocol have them. `rest` writes them as JSON, `grpc` as messages.

use crate::{access::Caller, app::App, models::Model, refusal::Refusal};
use fuelbox_engine::{OwnedDim, TensorSignature};
use serde::Serialize;
use std::sync::atomic::Ordering;

/// What runs the models, in metadata and configurations.
pub(crate) const PLATFORM: &str = "fuelbox";

/// A model's configuration.
#[derive(Serialize)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    /// 0: the host never joins requests of different callers to one.
    pub(crate) max_batch_size: i32,
    pub(crate) input: Vec<ConfigTensor>,
    pub(crate) output: Vec<ConfigTensor>,
}

/// An input or output of a configuration.
#[derive(Serialize)]
pub(crate) struct ConfigTensor {
    pub(crate) name: String,
    /// `TYPE_FP32`, ...
    pub(crate) data_type: String,
    /// -1 for dimensions that the caller chooses.
    pub(crate) dims: Vec<i64>,
}

/// The configuration of a model.
pub(crate) fn config(model: &Model) -> Config {
    let signature = &model.manifest.signature;
    let tensors = |list: &[TensorSignature]| list.iter().map(config_tensor).collect();
    Config {
        name: model.manifest.name.clone(),
        platform: PLATFORM,
        backend: PLATFORM,
        max_batch_size: 0,
        input: tensors(&signature.inputs),
        output: tensors(&signature.outputs),
    }
}

fn config_tensor(tensor: &TensorSignature) -> ConfigTensor {
    let dim = |dim: &OwnedDim| match dim {
        OwnedDim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        OwnedDim::Symbol(_) | OwnedDim::Any(()) => -1,
    };
    // The configuration's word for BYTES is older than the protocol's.
    let data_type = match tensor.datatype {
        fuelbox_abi::DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", other.name()),
    };
    let dims = tensor.shape.as_ref().map_or(vec![-1], |dims| dims.iter().map(dim).collect());
    ConfigTensor { name: tensor.name.clone(), data_type, dims }
}

/// A count, and the nanoseconds that it took.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct CountTime {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

/// Where the time of a model's requests went.
#[derive(Serialize)]
pub(crate) struct InferStatistics {
    pub(crate) success: CountTime,
    pub(crate) fail: CountTime,
    pub(crate) queue: CountTime,
    pub(crate) compute_input: CountTime,
    pub(crate) compute_infer: CountTime,
    pub(crate) compute_output: CountTime,
    pub(crate) cache_hit: CountTime,
    pub(crate) cache_miss: CountTime,
}

/// The statistics of a model since the server started, of all its callers together.
#[derive(Serialize)]
pub(crate) struct Statistics {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Milliseconds since 1970; 0 before the first.
    pub(crate) last_inference: u64,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferStatistics,
    /// There are no batches.
    pub(crate) batch_stats: [(); 0],
}

/// The statistics of a model.
pub(crate) fn statistics(model: &Model) -> Statistics {
    let stats = &model.stats;
    let phase = |phase: &crate::stats::Phase| CountTime { count: phase.count(), ns: phase.nanos() };
    let none = CountTime { count: 0, ns: 0 };
    let inferences = stats.inferences.load(Ordering::Relaxed);
    Statistics {
        name: model.manifest.name.clone(),
        version: model.manifest.version.clone(),
        last_inference: stats.last_unix_ms.load(Ordering::Relaxed),
        inference_count: inferences,
        execution_count: inferences,
        inference_stats: InferStatistics {
            success: phase(&stats.success),
            fail: phase(&stats.fail),
            queue: phase(&stats.queue),
            compute_input: phase(&stats.compute_input),
            compute_infer: phase(&stats.compute_infer),
            compute_output: phase(&stats.compute_output),
            // Every job runs: answers are not cached.
            cache_hit: none,
            cache_miss: none,
        },
        batch_stats: [],
    }
}

/// A model in the repository's index.
#[derive(Serialize)]
pub(crate) struct IndexEntry {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: &'static str,
}

/// All models that a caller sees; with `ready`, those alone that take jobs.
pub(crate) fn index(app: &App, caller: &Caller, ready: bool) -> Result<Vec<IndexEntry>, Refusal> {
    let mut entries = Vec::new();
    for record in app.models.records(caller)? {
        let loaded = app.models.is_loaded(&record.digest);
        if loaded || !ready {
            entries.push(IndexEntry {
                name: record.name,
                version: record.version,
                state: if loaded { "READY" } else { "UNAVAILABLE" },
                reason: if loaded { "" } else { "unloaded" },
            });
        }
    }
    entries.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(entries)
}
