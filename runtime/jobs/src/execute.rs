//! Execution: a model and a request become an outcome. The same function serves jobs and replays, so
//! what a receipt says is what a replay computes.
//!
//! Knows nothing of money.

use fuelbox_abi::Status;
use fuelbox_digest::Digest;
use fuelbox_engine::{
    Cancel, JobLimits, LoadTerms, Model, ModelError, Outcome, OwnedParameter, Tensor, Usage,
    Verdict,
};

/// A job for the box.
pub(crate) struct Work<'a> {
    pub(crate) model: &'a Model,
    pub(crate) inputs: &'a [Tensor],
    pub(crate) parameters: &'a [OwnedParameter],
    pub(crate) limits: JobLimits,
    pub(crate) seed: u64,
    /// Most fuel of a load for these shapes, when this job pays for one.
    pub(crate) load_limit: Option<u64>,
    pub(crate) cancel: &'a Cancel,
}

/// What the box did.
pub(crate) struct Executed {
    pub(crate) outcome: Outcome,
    /// Digest of the image that the job started from; of the model's own when there was none for it.
    pub(crate) image: Digest,
    /// Fuel of the load that this job pays for.
    pub(crate) load_fuel: Option<u64>,
    /// Whether the load left an image for jobs to come.
    pub(crate) prepared: bool,
}

/// Runs one job.
///
/// # Errors
/// The host's own failures. What the guest and the caller did is in the outcome.
pub(crate) fn execute(work: &Work<'_>) -> Result<Executed, ModelError> {
    let Work { model, inputs, parameters, limits, seed, load_limit, cancel } = work;
    let default = JobLimits::default();
    let load = JobLimits { fuel: load_limit.unwrap_or(default.fuel), ..default };
    let terms = LoadTerms { limits: load, cancel: (*cancel).clone() };
    let own_image = model.image().digest();
    // Ended before a run: nothing of it but the load is used, wherever it ended.
    let ended = |verdict, log, load_fuel| {
        let outcome = Outcome { verdict, usage: Usage::default(), log };
        Executed { outcome, image: own_image, load_fuel, prepared: false }
    };
    let refused = |error: &ModelError| Verdict::GuestError {
        status: Status::InvalidInput,
        detail: error.to_string(),
    };
    // Memory is looked at below, when it is known what the load took.
    let unlimited = JobLimits { memory_bytes: u64::MAX, ..*limits };
    let prepared = match model.prepare(inputs, parameters, &unlimited, terms) {
        Ok(prepared) => prepared,
        Err(ModelError::Load(outcome)) => {
            let load_fuel = load_limit.map(|_| outcome.usage.fuel);
            return Ok(ended(outcome.verdict, outcome.log, load_fuel));
        }
        // The caller's request is beyond what it allowed itself. The same on every host, so it has
        // a verdict and a receipt like all else. Seen before a load.
        Err(
            error @ (ModelError::Input(_)
            | ModelError::Request(_)
            | ModelError::InputTooLarge { .. }
            | ModelError::MemoryLimit { .. }),
        ) => return Ok(ended(refused(&error), String::new(), load_limit.map(|_| 0))),
        Err(error @ (ModelError::Engine(_) | ModelError::Fault(_) | ModelError::Cache(_))) => {
            return Err(error);
        }
    };
    let image = prepared.image();
    let load_fuel = load_limit.map(|limit| image.load_usage().fuel.min(limit));
    // The image may have been there already; where it was not, this load would not have ended.
    if load_limit.is_some_and(|limit| image.load_usage().fuel > limit) {
        return Ok(ended(Verdict::OutOfFuel, String::new(), load_fuel));
    }
    let (found, allowed) = (image.len_bytes(), limits.memory_bytes);
    if found > allowed {
        let error = ModelError::MemoryLimit { found, allowed };
        return Ok(Executed { prepared: true, ..ended(refused(&error), String::new(), load_fuel) });
    }
    let outcome = prepared.run(limits, *seed, cancel)?;
    Ok(Executed { outcome, image: image.digest(), load_fuel, prepared: true })
}
