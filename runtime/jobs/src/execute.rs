//! Execution: a model and a request become an outcome. The same function serves jobs and replays, so
//! what a receipt says is what a replay computes.
//!
//! Knows nothing of money.

use fuelbox_abi::Status;
use fuelbox_digest::Digest;
use fuelbox_engine::{
    Cancel, JobLimits, LoadTerms, Manifest, Model, ModelError, Outcome, OwnedParameter, Tensor,
    Usage, Verdict,
};

/// A job for the box.
pub(crate) struct Work<'a> {
    pub(crate) model: &'a Model,
    pub(crate) inputs: &'a [Tensor],
    pub(crate) parameters: &'a [OwnedParameter],
    pub(crate) limits: JobLimits,
    pub(crate) seed: u64,
    pub(crate) load: Load,
    /// What reading and unpacking the package costs, as part of a load.
    pub(crate) unpack_fuel: u64,
    pub(crate) cancel: &'a Cancel,
}

/// Fuel for each byte that a package unpacks to, golden cases included: for a load its file is read, unpacked
/// and hashed, some 2 ns a byte, within ten times of what models take for the price of a load. A few kilobytes
/// of a file may become gigabytes.
const UNPACK_BYTE: u64 = 6;

/// What a load for new shapes takes beside the guest's own fuel.
pub fn unpack_fuel(manifest: &Manifest) -> u64 {
    let assets = manifest.assets.iter().map(|asset| asset.part);
    let golden = manifest.golden.iter().map(|case| case.input);
    let parts = [manifest.guest].into_iter().chain(assets).chain(golden);
    let bytes = parts.map(|part| part.size_bytes).fold(0, u64::saturating_add);
    bytes.saturating_mul(UNPACK_BYTE)
}

/// Who answers for a load for a job's shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// The host: it was paid for, or the model has one image for all shapes.
    Host,
    /// The job, with this much fuel at most, also when the image is there already.
    Job(u64),
    /// The job, with this much fuel at most, when it has to make the image itself.
    IfMade(u64),
    /// Nobody: without an image the job ends as a load without fuel.
    Nobody,
}

impl Load {
    /// What is left for the guest when its package is unpacked. Without fuel a load ends before that.
    fn fuel_limit(self, unpack_fuel: u64) -> u64 {
        match self {
            Self::Host => JobLimits::default().fuel,
            Self::Job(limit) | Self::IfMade(limit) => limit.saturating_sub(unpack_fuel),
            Self::Nobody => 0,
        }
    }

    /// What is billed of a load's fuel, unpacking included. `made`: the job's own load took it.
    fn billed(self, fuel: u64, made: bool) -> Option<u64> {
        match self {
            Self::Host | Self::Nobody => None,
            Self::Job(limit) => Some(fuel.min(limit)),
            Self::IfMade(limit) => made.then_some(fuel.min(limit)),
        }
    }
}

/// What the box did.
pub(crate) struct Executed {
    pub(crate) outcome: Outcome,
    /// Digest of the image that the job started from; of the model's own when there was none for it.
    pub(crate) image: Digest,
    /// Fuel of the load that this job pays for.
    pub(crate) load_fuel: Option<u64>,
    /// Fuel that a load burned for this job, whoever pays; none when there was no load.
    pub(crate) load_burned: Option<u64>,
    /// Whether there is an image for jobs to come.
    pub(crate) prepared: bool,
}

/// Runs one job.
///
/// # Errors
/// The host's own failures. What the guest and the caller did is in the outcome.
pub(crate) fn execute(work: &Work<'_>) -> Result<Executed, ModelError> {
    let Work { model, inputs, parameters, limits, seed, load, unpack_fuel, cancel } = work;
    let load_limits = JobLimits { fuel: load.fuel_limit(*unpack_fuel), ..JobLimits::default() };
    let terms = LoadTerms { limits: load_limits, cancel: (*cancel).clone() };
    let own_image = model.image().digest();
    // Ended before a run: nothing of it but the load is used, wherever it ended.
    let ended = |verdict, log, load_fuel, load_burned| {
        let outcome = Outcome { verdict, usage: Usage::default(), log };
        Executed { outcome, image: own_image, load_fuel, load_burned, prepared: false }
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
            let fuel = outcome.usage.fuel.saturating_add(*unpack_fuel);
            let billed = load.billed(fuel, true);
            return Ok(ended(outcome.verdict, outcome.log, billed, Some(fuel)));
        }
        // The caller's request is beyond what it allowed itself. The same on every host, so it has
        // a verdict and a receipt like all else. Seen before a load.
        Err(
            error @ (ModelError::Input(_)
            | ModelError::Request(_)
            | ModelError::InputTooLarge { .. }
            | ModelError::MemoryLimit { .. }),
        ) => return Ok(ended(refused(&error), String::new(), load.billed(0, false), None)),
        Err(
            error @ (ModelError::Engine(_)
            | ModelError::Fault(_)
            | ModelError::Cache(_)
            | ModelError::Package(_)),
        ) => return Err(error),
    };
    let (image, made) = (prepared.image(), prepared.loaded());
    let fuel = image.load_usage().fuel.saturating_add(*unpack_fuel);
    let load_burned = made.then_some(fuel);
    let load_fuel = load.billed(fuel, made);
    // The image may have been there already; where it was not, this load would not have ended.
    if let Load::Job(limit) = *load
        && fuel > limit
    {
        return Ok(ended(Verdict::OutOfFuel, String::new(), load_fuel, load_burned));
    }
    let (found, allowed) = (image.len_bytes(), limits.memory_bytes);
    if found > allowed {
        let error = ModelError::MemoryLimit { found, allowed };
        let ended = ended(refused(&error), String::new(), load_fuel, load_burned);
        return Ok(Executed { prepared: true, ..ended });
    }
    let outcome = prepared.run(limits, *seed, cancel)?;
    Ok(Executed { outcome, image: image.digest(), load_fuel, load_burned, prepared: true })
}
