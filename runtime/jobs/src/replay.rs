//! Replay: a job is run once more from what its receipt names, and the receipt that it should have got
//! is compared with the one that it has.
//!
//! Needs no data folder and no money: an auditor has a package, an input and a receipt.

use crate::{
    execute::{Load as LoadBy, Work, execute, unpack_fuel},
    price::{PriceError, Schedule},
    worker::{assets, receipt_limits, verdict_kind},
};
use fuelbox_digest::{Digest, Hasher};
use fuelbox_engine::{
    Archive, Cancel, Engine, JobLimits, Model, ModelError, Outcome, OwnedParameter, Place, Tensor,
    TrapKind, Verdict, encode_parameters, encode_tensors, output_digest,
};
use fuelbox_receipt::{Difference, Load, Price, Receipt, Usage, Verdict as ReceiptVerdict};

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Each field in which the receipt differs from what this host found; empty when it is right.
    pub differences: Vec<Difference>,
    /// Whether the guest was run. It is not when the receipt is about something else than was given.
    pub ran: bool,
}

/// Why a receipt cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReplayError {
    /// The job depended on a clock or on a host's stack.
    #[error("job {job} ended as '{verdict}', which depends on its host: it cannot be replayed")]
    NotReplayable { job: String, verdict: String },
    /// The job ran by other rules.
    #[error("job {job} ran under engine profile {found}, this program has {here}")]
    Profile { job: String, found: Digest, here: Digest },
    /// A limit that this machine cannot count.
    #[error("receipt: log limit of {found} bytes is no limit of this machine")]
    LogLimit { found: u64 },
    /// The price schedule is not the receipt's.
    #[error("price schedule {found}, the receipt names {expected}")]
    Schedule { found: Digest, expected: Digest },
    /// No price.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// The box failed, or the package is none.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Whether a receipt can be held against a replay. Its verdict decides, not its word alone: a host that
/// calls a job that completed not replayable is found out.
pub fn can_replay(receipt: &Receipt) -> bool {
    let ReceiptVerdict { name, kind } = &receipt.verdict;
    let trap = Verdict::Trap { kind: TrapKind::Other, detail: String::new() };
    let by_host = [TrapKind::StackOverflow, TrapKind::Other].map(TrapKind::name);
    let depends_on_host = *name == Verdict::Cancelled.name()
        || (*name == trap.name() && kind.as_deref().is_some_and(|kind| by_host.contains(&kind)));
    receipt.replayable || !depends_on_host
}

/// Runs a receipt's job again. With a schedule, prices are computed again as well; without, they are
/// taken as they are.
///
/// # Errors
/// When the receipt cannot be replayed here. What differs is no error.
pub fn replay(
    engine: &Engine,
    receipt: &Receipt,
    archive: &Archive,
    inputs: &[Tensor],
    parameters: &[OwnedParameter],
    schedule: Option<&Schedule>,
) -> Result<Replay, ReplayError> {
    let job = receipt.job.clone();
    let here = engine.profile();
    if receipt.profile != here {
        return Err(ReplayError::Profile { job, found: receipt.profile, here });
    }
    let manifest = archive.manifest();
    let mut found = Receipt {
        package: manifest.digest(),
        guest: manifest.guest.digest,
        assets: assets(manifest),
        input: Digest::of(&encode_tensors(Place::Inputs, inputs)),
        parameters: Digest::of(&encode_parameters(parameters)),
        ..receipt.clone()
    };
    let differences = receipt.differences(&found);
    if !differences.is_empty() {
        return Ok(Replay { differences, ran: false });
    }
    if !can_replay(receipt) {
        return Err(ReplayError::NotReplayable { job, verdict: receipt.verdict.name.clone() });
    }
    let log_bytes = usize::try_from(receipt.limits.log_bytes)
        .map_err(|_| ReplayError::LogLimit { found: receipt.limits.log_bytes })?;
    let limits = JobLimits {
        fuel: receipt.limits.fuel,
        memory_bytes: receipt.limits.memory_bytes,
        input_bytes: receipt.limits.input_bytes,
        output_bytes: receipt.limits.output_bytes,
        log_bytes,
    };
    let model = Model::open(engine, archive.package(), &JobLimits::default(), || ())?;
    let work = Work {
        model: &model,
        inputs,
        parameters,
        limits,
        seed: receipt.seed,
        load: receipt.load.map_or(LoadBy::Host, |load| LoadBy::Job(load_limit(receipt, load))),
        unpack_fuel: unpack_fuel(archive.manifest()),
        cancel: &Cancel::default(),
    };
    let executed = execute(&work)?;
    let Outcome { verdict, usage, .. } = executed.outcome;
    let outputs = match &verdict {
        Verdict::Completed { outputs, .. } => outputs.as_slice(),
        Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => &[],
    };
    found.output = output_digest(outputs);
    found.image = executed.image;
    found.limits = receipt_limits(&limits);
    found.usage = Usage { fuel: usage.fuel, memory_bytes_peak: usage.memory_bytes_peak };
    found.verdict = ReceiptVerdict {
        name: verdict.name().into(),
        kind: verdict_kind(&verdict).map(str::to_owned),
    };
    found.replayable = verdict.replayable();
    if !model.signature().needs_shapes() {
        // One image serves all shapes: no job of this model pays for a load.
        found.load = None;
    } else if let (Some(load), Some(fuel)) = (&mut found.load, executed.load_fuel) {
        load.fuel = fuel;
    }
    if let Some(schedule) = schedule {
        reprice(&mut found, schedule)?;
    }
    Ok(Replay { differences: receipt.differences(&found), ran: true })
}

/// The fuel limit of the load that a job paid for. A load that ended by it used all of it; for any
/// other, every limit above what it used gives the same.
fn load_limit(receipt: &Receipt, load: Load) -> u64 {
    let ended_by_it = receipt.verdict.name == Verdict::OutOfFuel.name() && receipt.usage.fuel == 0;
    if ended_by_it { load.fuel } else { JobLimits::default().fuel }
}

/// What the job should have cost.
fn reprice(receipt: &mut Receipt, schedule: &Schedule) -> Result<(), ReplayError> {
    let (found, expected) = (schedule.digest(), receipt.price.schedule);
    if found != expected {
        return Err(ReplayError::Schedule { found, expected });
    }
    let completed =
        receipt.verdict.name == Verdict::Completed { outputs: vec![], parameters: vec![] }.name();
    let Usage { fuel, memory_bytes_peak } = receipt.usage;
    let load_fuel = receipt.load.map(|load| load.fuel);
    let bill = schedule.bill(completed, fuel, memory_bytes_peak, load_fuel)?;
    receipt.price = Price {
        schedule: found,
        version: schedule.version,
        credits_micro: bill.run.micros(),
        publisher_micro: bill.publisher.micros(),
    };
    receipt.load = bill.load.map(|(fuel, credits)| Load { fuel, credits_micro: credits.micros() });
    Ok(())
}

/// A random sample of the log that anybody can draw again. Its seed is fixed by the log's root, which a
/// host cannot choose without running other jobs, and by a word of the auditor's, which the host does
/// not know when it runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    seed: Digest,
    /// Of a million receipts, so many are in.
    rate_ppm: u64,
}

impl Sample {
    /// The sample of a log with this root.
    pub fn new(root: &Digest, word: &str, rate_ppm: u64) -> Self {
        let mut hasher = Hasher::new("fuelbox audit 1");
        hasher.field(root.as_bytes()).field(word.as_bytes());
        Self { seed: hasher.finish(), rate_ppm }
    }

    /// What decides it.
    pub fn seed(&self) -> Digest {
        self.seed
    }

    /// Whether the receipt at this place of the log is in.
    pub fn takes(&self, index: u64) -> bool {
        let mut hasher = Hasher::new("fuelbox audit draw 1");
        hasher.field(self.seed.as_bytes()).number(index);
        let draw = hasher.finish();
        let bytes = draw.as_bytes();
        let number = u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
        u128::from(number) * 1_000_000 < u128::from(self.rate_ppm) << 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_rate_and_depend_on_root_and_word() {
        let root = Digest::of(b"root");
        let drawn = |root: &Digest, word: &str, rate: u64| -> Vec<u64> {
            let sample = Sample::new(root, word, rate);
            (0..20_000).filter(|index| sample.takes(*index)).collect()
        };
        assert!(drawn(&root, "", 0).is_empty());
        assert_eq!(drawn(&root, "", 1_000_000).len(), 20_000);
        let some = drawn(&root, "", 50_000);
        assert!((900..1_100).contains(&some.len()), "{}", some.len());
        assert_eq!(drawn(&root, "", 50_000), some);
        assert_ne!(drawn(&root, "word", 50_000), some);
        assert_ne!(drawn(&Digest::of(b"other"), "", 50_000), some);
    }
}
