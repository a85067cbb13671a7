//! Receipts and what is held against them: where they come from, what belongs to them, and what a
//! replay of them finds.

use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, OrExit, Result},
    file,
    input::{InputArgs, Inputs},
    output::text::escaped,
};
use fuelbox_engine::{
    Archive, Digest, Engine, Manifest, OwnedParameter, Place, Signature, Tensor, decode_tensors,
};
use fuelbox_jobs::{DataFolder, JobId, Look, Schedule};
use fuelbox_receipt::{
    Asset, Difference, Envelope, Receipt,
    envelope::ENVELOPE_BYTES_MAX,
    log::{Checkpoint, CheckpointError},
};
use serde::Serialize;
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

/// A receipt: a job of the data folder, or a file.
#[derive(Clone, Debug)]
pub(crate) enum ReceiptAt {
    Job(JobId),
    File(PathBuf),
}

impl From<String> for ReceiptAt {
    fn from(text: String) -> Self {
        text.parse().map_or_else(|_| Self::File(text.into()), Self::Job)
    }
}

impl ReceiptAt {
    /// Reads the envelope. Nothing of it is believed yet.
    pub(crate) fn read(&self, global: &Global) -> Result<Envelope> {
        match self {
            Self::File(path) => read_envelope(path),
            Self::Job(job) => {
                let (_, look) = data::look(global)?;
                let found = look.records().receipt(job)?;
                found.map(|logged| logged.envelope).ok_or_else(|| no_receipt(job))
            }
        }
    }
}

/// Reads an envelope from a file.
pub(crate) fn read_envelope(path: &Path) -> Result<Envelope> {
    let bytes = file::read(path, ENVELOPE_BYTES_MAX as u64).or_exit(Exit::BadInput)?;
    Envelope::parse(&bytes).map_err(|error| Failure::from(error).of(format!("{}", path.display())))
}

pub(crate) fn no_receipt(job: &JobId) -> Failure {
    Failure::message(Exit::BadInput, format!("no receipt of job {job}"))
}

/// More than any checkpoint or proof has: witnesses may add their signatures.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Reads a checkpoint or a proof.
pub(crate) fn read_note(path: &Path) -> Result<String> {
    data::text(path, file::read(path, NOTE_BYTES_MAX).or_exit(Exit::BadInput)?)
}

/// Reads a checkpoint and checks its signature.
pub(crate) fn read_checkpoint(path: &Path, keys: &fuelbox_receipt::KeyRing) -> Result<Checkpoint> {
    let opened: Result<_, CheckpointError> = Checkpoint::open_any(&read_note(path)?, keys);
    opened.map_err(|error| Failure::from(error).of(format!("{}", path.display())))
}

/// Reads a package file.
pub(crate) fn read_package(path: &Path) -> Result<Archive> {
    let file = BufReader::new(file::open(path).or_exit(Exit::BadInput)?);
    Archive::read(file).map_err(|error| Failure::from(error).of(format!("{}", path.display())))
}

/// The file of a published package; none when it is not there.
pub(crate) fn stored_package(folder: &DataFolder, digest: &Digest) -> Result<Option<Archive>> {
    let path = folder.package(digest);
    match File::open(&path) {
        Ok(_) => read_package(&path).map(Some),
        Err(_) => Ok(None),
    }
}

/// Inputs in the one form that digests are of: the model's order, parameters by name.
pub(crate) fn bind(args: &InputArgs, signature: &Signature) -> Result<Inputs> {
    let read = args.read().or_exit(Exit::BadInput)?;
    let inputs = read.bind(signature, args.random, &args.dim).or_exit(Exit::BadInput)?;
    Ok(sorted(inputs))
}

fn sorted(mut inputs: Inputs) -> Inputs {
    inputs.parameters.sort_by(|a, b| a.name.cmp(&b.name));
    inputs
}

/// Whether any input was given.
pub(crate) fn is_given(args: &InputArgs) -> bool {
    !args.input.is_empty() || args.random.is_some()
}

/// A package's assets as receipts have them.
pub(crate) fn assets(manifest: &Manifest) -> Vec<Asset> {
    let asset = |asset: &fuelbox_engine::NamedPart| Asset {
        name: asset.name.clone(),
        digest: asset.part.digest,
    };
    manifest.assets.iter().map(asset).collect()
}

/// What a receipt's job was made of.
pub(crate) struct Evidence {
    pub(crate) archive: Archive,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) parameters: Vec<OwnedParameter>,
    pub(crate) prices: Prices,
}

/// By what a receipt's price is computed again.
pub(crate) enum Prices {
    /// By this.
    Schedule(Schedule),
    /// Not at all: nobody said what the prices were.
    Unknown,
    /// Not at all, and that is wrong: the host never had the schedule that the receipt names.
    Invented,
}

/// The schedule that a receipt names, as a data folder knows it.
pub(crate) fn stored_prices(look: Option<&Look>, digest: &Digest) -> Result<Prices> {
    if let Some(look) = look
        && let Some(bytes) = look.records().schedule(digest)?
    {
        return Ok(Prices::Schedule(Schedule::parse(&bytes)?));
    }
    let default = Schedule::default();
    Ok(match look {
        _ if default.digest() == *digest => Prices::Schedule(default),
        Some(_) => Prices::Invented,
        None => Prices::Unknown,
    })
}

/// The inputs of a receipt's job that a data folder kept; none when it did not.
pub(crate) fn stored_tensors(look: &Look, digest: &Digest) -> Result<Option<Vec<Tensor>>> {
    let Some(bytes) = look.blob(digest)? else {
        return Ok(None);
    };
    let tensors = decode_tensors(Place::Inputs, &bytes);
    tensors.map(Some).map_err(|error| Failure::message(Exit::Host, error))
}

/// The settings of a receipt's job that a data folder kept; none when it does not know the job.
pub(crate) fn stored_parameters(
    look: &Look,
    receipt: &Receipt,
) -> Result<Option<Vec<OwnedParameter>>> {
    match receipt.job.parse::<JobId>() {
        Ok(job) => Ok(look.parameters(&job)?),
        Err(_) => Ok(None),
    }
}

/// What a replay found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) differences: Vec<Difference>,
    /// Whether the guest was run.
    pub(crate) ran: bool,
    /// Whether prices were computed again.
    pub(crate) priced: bool,
}

/// Runs a receipt's job again.
pub(crate) fn replay(engine: &Engine, receipt: &Receipt, evidence: &Evidence) -> Result<Found> {
    let Evidence { archive, tensors, parameters, prices } = evidence;
    let schedule = match prices {
        Prices::Schedule(schedule) => Some(schedule),
        Prices::Unknown | Prices::Invented => None,
    };
    let replayed = fuelbox_jobs::replay(engine, receipt, archive, tensors, parameters, schedule)?;
    let mut differences = replayed.differences;
    if let (Prices::Invented, true) = (prices, replayed.ran) {
        differences.push(Difference {
            field: "price.schedule".into(),
            here: receipt.price.schedule.to_string(),
            there: "none of this host's".into(),
        });
    }
    Ok(Found { differences, ran: replayed.ran, priced: schedule.is_some() && replayed.ran })
}

/// A field with two values, as JSON has it.
#[derive(Serialize)]
pub(crate) struct DifferenceJson {
    field: String,
    receipt: String,
    found: String,
}

impl From<&Difference> for DifferenceJson {
    fn from(Difference { field, here, there }: &Difference) -> Self {
        Self { field: field.clone(), receipt: here.clone(), found: there.clone() }
    }
}

/// Differences for people: three lines each, as wide as a digest. `other` is what the receipt was
/// compared with.
pub(crate) fn show_differences(differences: &[Difference], other: &str) -> String {
    let lines = |Difference { field, here, there }: &Difference| {
        let (here, there) = (escaped(here), escaped(there));
        format!("differs  {field}\nreceipt  {here}\n{other:7}  {there}\n")
    };
    differences.iter().map(lines).collect()
}

/// The fields that differ, for one sentence.
pub(crate) fn names(differences: &[Difference]) -> String {
    differences.iter().map(|difference| difference.field.as_str()).collect::<Vec<_>>().join(", ")
}
