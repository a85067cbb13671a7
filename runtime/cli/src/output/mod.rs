//! Output: what a job gave, as a table, as JSON, or as an `.npz` file.

pub(crate) mod text;
mod elements;
mod classes;
pub(crate) mod json;
pub(crate) mod table;
pub(crate) mod npz;
pub(crate) mod columns;
pub(crate) mod list;
pub(crate) mod answer;

use crate::host::LoadTime;
use fuelbox_engine::{Digest, Outcome, Tensor, Usage, Verdict, output_digest};
use std::time::Duration;

/// Everything that is told of a job.
#[derive(Debug)]
pub(crate) struct Report {
    /// The first run; or the load, when that failed.
    pub(crate) outcome: Outcome,
    pub(crate) fuel_load: u64,
    pub(crate) fuel_run: u64,
    pub(crate) load_time: LoadTime,
    pub(crate) wall_run: Duration,
    /// Every run, when several were asked for.
    pub(crate) runs: Option<Vec<RunFacts>>,
    pub(crate) engine_profile: Digest,
}

/// One of several runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunFacts {
    pub(crate) fuel: u64,
    pub(crate) wall: Duration,
}

impl Report {
    /// The report of a model that did not load.
    pub(crate) fn of_failed_load(
        outcome: Outcome,
        load_time: LoadTime,
        engine_profile: Digest,
    ) -> Self {
        let fuel_load = outcome.usage.fuel;
        let (fuel_run, wall_run, runs) = (0, Duration::ZERO, None);
        Self { outcome, fuel_load, fuel_run, load_time, wall_run, runs, engine_profile }
    }

    pub(crate) fn verdict(&self) -> &Verdict {
        &self.outcome.verdict
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.outcome.usage
    }

    pub(crate) fn outputs(&self) -> &[Tensor] {
        outputs(self.verdict())
    }
}

/// What a job gave; nothing when it failed.
pub(crate) fn outputs(verdict: &Verdict) -> &[Tensor] {
    match verdict {
        Verdict::Completed { outputs, .. } => outputs,
        Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => &[],
    }
}

/// The digest of what a job gave.
pub(crate) fn digest(verdict: &Verdict) -> Digest {
    output_digest(outputs(verdict))
}
