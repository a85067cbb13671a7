//! `fuelbox receipt`: what a receipt says, and whether it holds.

use super::{print, to_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, OrExit, Result, print_error},
    input::{InputArgs, InputFile, ReadInputs},
    output::{answer::show as credits, columns::facts, text::escaped},
    proof::{self, DifferenceJson, ReceiptAt},
    time::show_time,
    units::{grouped, show_bytes},
};
use fuelbox_engine::{
    Archive, Digest, Place, Signature, encode_parameters, encode_tensors, output_digest,
};
use fuelbox_receipt::{
    Difference, Envelope, KeyRing, Receipt, Verified,
    log::{Checkpoint, InclusionProof},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  fuelbox receipt show job.json
  fuelbox receipt verify job.json --keys host.pem
  fuelbox receipt verify job.json --package digits.fbx --input seven.npy --output digits.npz
  fuelbox receipt verify job.json --proof job.proof --checkpoint log.checkpoint
";

/// Show a receipt, and check it against keys, files and the log.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReceiptArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(clap::Subcommand, Debug)]
enum ReceiptCommand {
    /// Show what a receipt says. Its signature is not looked at.
    Show {
        /// A job of the data folder, or a file.
        #[arg(value_name = "JOB|FILE")]
        receipt: ReceiptAt,
        /// Print the statement that is signed: one JSON object.
        #[arg(long, conflicts_with = "envelope")]
        json: bool,
        /// Print the signed envelope, byte by byte.
        #[arg(long)]
        envelope: bool,
    },
    /// Check a receipt: first its signature, then all that is given with it.
    ///
    /// Exit code 8 when something does not fit; what, is named.
    Verify(Box<VerifyArgs>),
}

#[derive(clap::Args, Debug)]
struct VerifyArgs {
    /// The receipt's file.
    file: PathBuf,

    /// Public keys that are trusted, as PEM; the data folder's when not given. Repeatable.
    #[arg(long, value_name = "FILE.pem")]
    keys: Vec<PathBuf>,

    #[command(flatten)]
    inputs: InputArgs,

    /// Outputs that the job is said to have given, as `--output` wrote them.
    #[arg(long, short, value_name = "FILE.npz")]
    output: Option<PathBuf>,

    /// The package that the job is said to have run.
    #[arg(long, value_name = "FILE.fbx")]
    package: Option<PathBuf>,

    /// Proof that the receipt is in the log, as `log prove` writes it.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,

    /// Checkpoint that the proof must lead to.
    #[arg(long, value_name = "FILE", requires = "proof")]
    checkpoint: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn receipt(args: ReceiptArgs, global: &Global) -> Result<Exit> {
    match args.command {
        ReceiptCommand::Show { receipt, json, envelope } => {
            let found = receipt.read(global)?;
            if envelope {
                to_stdout(|out| Ok(out.write_all(&found.to_bytes())?))?;
            } else {
                show(&found, json)?;
            }
            Ok(Exit::Completed)
        }
        ReceiptCommand::Verify(args) => verify(&args, global),
    }
}

fn show(envelope: &Envelope, json: bool) -> Result<()> {
    let receipt = Receipt::from_statement_bytes(envelope.payload())?;
    let statement = str::from_utf8(envelope.payload()).unwrap_or_default();
    let statement: &RawValue = serde_json::from_str(statement).or_exit(Exit::BadInput)?;
    print(json, &statement, || table(&receipt, envelope))
}

fn table(receipt: &Receipt, envelope: &Envelope) -> String {
    // Taken apart without `..`: a field that is added to a receipt must be shown to compile.
    let Receipt {
        output,
        format: _,
        job,
        package,
        guest,
        image,
        assets,
        input,
        parameters,
        seed,
        profile,
        limits,
        usage,
        verdict,
        replayable,
        load,
        price,
        payer,
        publisher,
        finished_unix_ms,
    } = receipt;
    let end = match &verdict.kind {
        Some(kind) => format!("{} ({})", escaped(&verdict.name), escaped(kind)),
        None => escaped(&verdict.name),
    };
    let replayable = if *replayable { "can be replayed" } else { "cannot be replayed" };
    let mut lines = vec![
        ("receipt", envelope.digest().to_string()),
        ("key", envelope.key_id().to_string()),
        ("job", job.clone()),
        ("ended", show_time(*finished_unix_ms)),
        ("verdict", format!("{end}; {replayable}")),
        ("fuel", format!("{}, limit {}", grouped(usage.fuel), grouped(limits.fuel))),
        (
            "memory",
            format!(
                "{}, limit {}",
                show_bytes(usage.memory_bytes_peak),
                show_bytes(limits.memory_bytes)
            ),
        ),
        (
            "limits",
            format!(
                "input {}, output {}, log {}",
                show_bytes(limits.input_bytes),
                show_bytes(limits.output_bytes),
                show_bytes(limits.log_bytes)
            ),
        ),
    ];
    if let Some(load) = load {
        let text = format!("{} fuel, {} credits", grouped(load.fuel), credits(load.credits_micro));
        lines.push(("load", text));
    }
    lines.extend([
        ("run", format!("{} credits", credits(price.credits_micro))),
        (
            "share",
            format!("{} credits of it for {}", credits(price.publisher_micro), escaped(publisher)),
        ),
        ("payer", escaped(payer)),
        ("prices", format!("version {}", price.version)),
        ("", price.schedule.to_string()),
        ("seed", seed.to_string()),
        ("package", package.to_string()),
        ("guest", guest.to_string()),
    ]);
    for asset in assets {
        lines.extend([("asset", escaped(&asset.name)), ("", asset.digest.to_string())]);
    }
    lines.extend([
        ("image", image.to_string()),
        ("input", input.to_string()),
        ("params", parameters.to_string()),
        ("output", output.to_string()),
        ("profile", profile.to_string()),
    ]);
    facts(&lines)
}

#[derive(Serialize)]
struct Json {
    holds: bool,
    job: String,
    receipt: Digest,
    key_id: String,
    /// What was compared.
    checked: Vec<&'static str>,
    differences: Vec<DifferenceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogPlace>,
}

/// Where the receipt is in the log.
#[derive(Serialize)]
struct LogPlace {
    origin: String,
    index: u64,
    size: u64,
    root: Digest,
}

fn verify(args: &VerifyArgs, global: &Global) -> Result<Exit> {
    let keys = data::keys(global, &args.keys)?;
    let envelope = proof::read_envelope(&args.file)?;
    let named = |failure: Failure| failure.of(format!("{}", args.file.display()));
    let Verified { receipt, key_id } =
        envelope.verify(&keys).map_err(|error| named(error.into()))?;
    let (checked, differences) = compare(args, &receipt, global)?;
    let place = match &args.proof {
        Some(path) => Some(in_log(path, args.checkpoint.as_deref(), &envelope, &keys)?),
        None => None,
    };
    let value = Json {
        holds: differences.is_empty(),
        job: receipt.job.clone(),
        receipt: envelope.digest(),
        key_id: key_id.to_string(),
        differences: differences.iter().map(Into::into).collect(),
        log: place,
        checked,
    };
    print(args.json, &value, || {
        let mut lines = vec![("receipt", value.receipt.to_string()), ("job", value.job.clone())];
        lines.push(("key", format!("{key_id}")));
        lines.push(("", "its signature holds".into()));
        for what in &value.checked {
            let fits = !differences.iter().any(|difference| belongs(&difference.field, what));
            lines.push((*what, if fits { "same" } else { "DIFFERS" }.into()));
        }
        if let Some(LogPlace { origin, index, size, .. }) = &value.log {
            lines.push(("log", format!("entry {index} of {size} in {}", escaped(origin))));
        }
        facts(&lines) + &proof::show_differences(&differences, "found")
    })?;
    if differences.is_empty() {
        return Ok(Exit::Completed);
    }
    print_error(&format!(
        "the receipt does not fit what was given: {}",
        proof::names(&differences)
    ));
    Ok(Exit::Proof)
}

/// Whether a field is one of those that this was compared for.
fn belongs(field: &str, what: &str) -> bool {
    match what {
        "package" => field == "package" || field == "guest" || field.starts_with("assets"),
        "params" => field == "parameters",
        other => field == other,
    }
}

/// Compares what was given with the receipt.
fn compare(
    args: &VerifyArgs,
    receipt: &Receipt,
    global: &Global,
) -> Result<(Vec<&'static str>, Vec<Difference>)> {
    let mut found = receipt.clone();
    let mut checked = Vec::new();
    let given = args.package.as_deref().map(proof::read_package).transpose()?;
    if let Some(archive) = &given {
        let manifest = archive.manifest();
        found.package = manifest.digest();
        found.guest = manifest.guest.digest;
        found.assets = proof::assets(manifest);
        checked.push("package");
    }
    // Which input is which, and in what order outputs come, is for the package to say.
    let archive = match given {
        Some(archive) => Some(archive),
        None => match data::look_if_there(global)? {
            Some((folder, _)) => proof::stored_package(&folder, &receipt.package)?,
            None => None,
        },
    };
    let signature = archive.as_ref().map(|archive: &Archive| &archive.manifest().signature);
    if proof::is_given(&args.inputs) {
        let signature = signature.ok_or_else(|| {
            let text = "--input and --random need the package: give --package FILE.fbx";
            Failure::message(Exit::Usage, text)
        })?;
        let inputs = proof::bind(&args.inputs, signature)?;
        found.input = Digest::of(&encode_tensors(Place::Inputs, &inputs.tensors));
        checked.push("input");
        if !inputs.parameters.is_empty() {
            found.parameters = Digest::of(&encode_parameters(&inputs.parameters));
            checked.push("params");
        }
    } else if !args.inputs.param.is_empty() {
        let inputs = proof::bind(&args.inputs, &Signature { inputs: vec![], outputs: vec![] })?;
        found.parameters = Digest::of(&encode_parameters(&inputs.parameters));
        checked.push("params");
    }
    if let Some(path) = &args.output {
        // As inputs are read, in the order of the outputs.
        let outputs = signature.map(|signature| signature.outputs.clone()).unwrap_or_default();
        let order = Signature { inputs: outputs, outputs: vec![] };
        let read = ReadInputs::of(&InputFile { name: None, path: path.clone() });
        let outputs = read.and_then(|read| read.bind(&order, None, &[])).or_exit(Exit::BadInput)?;
        found.output = output_digest(&outputs.tensors);
        checked.push("output");
    }
    Ok((checked, receipt.differences(&found)))
}

/// Follows a proof to its checkpoint, and to the one that was given.
fn in_log(
    path: &Path,
    checkpoint: Option<&Path>,
    envelope: &Envelope,
    keys: &KeyRing,
) -> Result<LogPlace> {
    let named = |failure: Failure| failure.of(format!("{}", path.display()));
    let inclusion =
        InclusionProof::parse(&proof::read_note(path)?).map_err(|error| named(error.into()))?;
    let own =
        Checkpoint::open_any(&inclusion.checkpoint, keys).map_err(|error| named(error.into()))?;
    let held = inclusion.verify(&envelope.digest(), keys, &own.origin);
    let Checkpoint { origin, size, root } = held.map_err(|error| named(error.into()))?;
    if let Some(path) = checkpoint {
        let given = proof::read_checkpoint(path, keys)?;
        if (&given.origin, given.size, given.root) != (&origin, size, root) {
            let text = format!(
                "{}: {} entries with root {}, the proof leads to {size} with root {root}",
                path.display(),
                given.size,
                given.root
            );
            return Err(Failure::message(Exit::Proof, text));
        }
    }
    Ok(LogPlace { origin, index: inclusion.index, size, root })
}
