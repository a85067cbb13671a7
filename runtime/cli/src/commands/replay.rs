//! `fuelbox replay`: a receipt's job is run again, and the receipt compared with what comes out.

use super::print;
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result, print_error},
    host,
    input::InputArgs,
    output::{columns::facts, text::escaped},
    proof::{self, DifferenceJson, Evidence, Found, Prices, ReceiptAt},
};
use fuelbox_jobs::{DataFolder, JobId, Look};
use fuelbox_receipt::{Difference, Receipt, Verified};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  fuelbox replay job.json
  fuelbox replay job.json --keys host.pem --package digits.fbx --input seven.npy
";

/// Run a receipt's job again, and compare the receipt with what comes out.
///
/// RECEIPT is a file, or a job of the data folder. Package, input, parameters and prices come from the
/// data folder when they are not given. Nothing is billed. Exit code 8 when a field differs.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The receipt.
    receipt: ReceiptAt,

    /// Public keys that are trusted, as PEM; the data folder's when not given. Repeatable.
    #[arg(long, value_name = "FILE.pem")]
    keys: Vec<PathBuf>,

    /// The package that was run.
    #[arg(long, value_name = "FILE.fbx")]
    package: Option<PathBuf>,

    #[command(flatten)]
    inputs: InputArgs,

    /// The price schedule that the receipt names.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    same: bool,
    job: String,
    /// Whether the guest was run: not when package or input are others than the receipt's.
    ran: bool,
    /// Whether prices were computed again.
    priced: bool,
    differences: Vec<DifferenceJson>,
    /// Between this receipt and the job's receipt in the data folder's log; none when it has none.
    log_differences: Option<Vec<DifferenceJson>>,
}

/// Groups of fields, as they are shown.
const GROUPS: [(&str, &[&str]); 9] = [
    ("package", &["package", "guest", "assets"]),
    ("input", &["input"]),
    ("params", &["parameters"]),
    ("image", &["image"]),
    ("output", &["output"]),
    ("verdict", &["verdict", "replayable"]),
    ("usage", &["usage"]),
    ("load", &["load"]),
    ("price", &["price"]),
];

/// Groups that are known without running the guest.
const GIVEN: [&str; 3] = ["package", "input", "params"];

/// Runs the command.
pub(crate) fn replay(args: &ReplayArgs, global: &Global) -> Result<Exit> {
    let keys = data::keys(global, &args.keys)?;
    let envelope = args.receipt.read(global)?;
    let Verified { receipt, .. } = envelope.verify(&keys)?;
    let there = data::look_if_there(global)?;
    let evidence = evidence(args, &receipt, there.as_ref())?;
    let engine = host::engine(host::cache(global.cache_dir.clone())?)?;
    host::compile(&engine, &evidence.archive.package().module, global.verbosity())?;
    let found = proof::replay(&engine, &receipt, &evidence)?;
    let logged = logged(&receipt, there.as_ref())?;
    let Found { differences, ran, priced } = &found;
    let same = differences.is_empty() && logged.iter().all(Vec::is_empty);
    let value = Json {
        same,
        job: receipt.job.clone(),
        ran: *ran,
        priced: *priced,
        differences: differences.iter().map(Into::into).collect(),
        log_differences: logged.as_ref().map(|logged| logged.iter().map(Into::into).collect()),
    };
    print(args.json, &value, || table(&receipt, &found, logged.as_deref()))?;
    if !differences.is_empty() {
        print_error(&format!("the receipt differs from its replay: {}", proof::names(differences)));
    }
    let logged = logged.unwrap_or_default();
    if !logged.is_empty() {
        print_error(&format!("the receipt is not the one in the log: {}", proof::names(&logged)));
    }
    Ok(if same { Exit::Completed } else { Exit::Proof })
}

/// What differs between a receipt and the one that the data folder has of its job: there is one for
/// each job, and the log has it.
fn logged(
    receipt: &Receipt,
    there: Option<&(DataFolder, Look)>,
) -> Result<Option<Vec<Difference>>> {
    let job = receipt.job.parse::<JobId>();
    let (Some((_, look)), Ok(job)) = (there, job) else {
        return Ok(None);
    };
    let Some(logged) = look.records().receipt(&job)? else {
        return Ok(None);
    };
    let stored = Receipt::from_statement_bytes(logged.envelope.payload())?;
    Ok(Some(receipt.differences(&stored)))
}

fn evidence(
    args: &ReplayArgs,
    receipt: &Receipt,
    there: Option<&(DataFolder, Look)>,
) -> Result<Evidence> {
    let missing = |what: &str, option: &str| {
        let text = format!("{what} of job {} is not in a data folder: give {option}", receipt.job);
        Failure::message(Exit::BadInput, text)
    };
    let archive = match (&args.package, there) {
        (Some(path), _) => Some(proof::read_package(path)?),
        (None, Some((folder, _))) => proof::stored_package(folder, &receipt.package)?,
        (None, None) => None,
    };
    let archive = archive.ok_or_else(|| missing("the package", "--package FILE.fbx"))?;
    let look = there.map(|(_, look)| look);
    let given = proof::bind(&args.inputs, &archive.manifest().signature);
    let (tensors, parameters) = if proof::is_given(&args.inputs) {
        let inputs = given?;
        (inputs.tensors, inputs.parameters)
    } else {
        let kept = look.map(|look| proof::stored_tensors(look, &receipt.input)).transpose()?;
        let kept = kept.flatten().ok_or_else(|| missing("the input", "--input FILE"))?;
        (kept, given?.parameters)
    };
    let parameters = match (parameters.is_empty(), look) {
        (true, Some(look)) => proof::stored_parameters(look, receipt)?.unwrap_or_default(),
        (true, None) | (false, _) => parameters,
    };
    let prices = match &args.prices {
        Some(path) => Prices::Schedule(data::read_schedule(path)?),
        None => proof::stored_prices(look, &receipt.price.schedule)?,
    };
    Ok(Evidence { archive, tensors, parameters, prices })
}

fn table(receipt: &Receipt, found: &Found, logged: Option<&[Difference]>) -> String {
    let Found { differences, ran, priced } = found;
    let mut lines = vec![("job", escaped(&receipt.job))];
    for (group, fields) in GROUPS {
        let is_in = |field: &str| {
            let first = field.split(['.', '[']).next().unwrap_or_default();
            fields.contains(&first)
        };
        let text = if differences.iter().any(|difference| is_in(&difference.field)) {
            "DIFFERS"
        } else if !ran && !GIVEN.contains(&group) {
            "not run: this is another job than the receipt's"
        } else if group == "price" && !priced {
            "not computed again: give --prices FILE"
        } else if group == "load" && receipt.load.is_none() {
            "none was billed"
        } else {
            "same"
        };
        lines.push((group, text.into()));
    }
    let log = match logged {
        None => "not compared: no data folder has this job",
        Some([]) => "same",
        Some(_) => "DIFFERS",
    };
    lines.push(("log", log.into()));
    if logged.is_none() {
        // Nothing but the host's log can tell.
        lines
            .push(("taken", "seed, limits, payer, publisher and time: as the receipt says".into()));
    }
    facts(&lines)
        + &proof::show_differences(differences, "found")
        + &proof::show_differences(logged.unwrap_or_default(), "log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_engine::Digest;
    use fuelbox_receipt::{Limits, Price, Usage, Verdict};

    /// Fields that a replay takes as they are.
    const TAKEN: [&str; 8] =
        ["format", "job", "seed", "profile", "limits", "payer", "publisher", "finished_unix_ms"];

    fn receipt() -> Receipt {
        let digest = Digest::from_bytes([0; 32]);
        Receipt {
            output: digest,
            format: String::new(),
            job: String::new(),
            package: digest,
            guest: digest,
            image: digest,
            assets: Vec::new(),
            input: digest,
            parameters: digest,
            seed: 0,
            profile: digest,
            limits: Limits {
                fuel: 0,
                input_bytes: 0,
                log_bytes: 0,
                memory_bytes: 0,
                output_bytes: 0,
            },
            usage: Usage { fuel: 0, memory_bytes_peak: 0 },
            verdict: Verdict { kind: None, name: String::new() },
            replayable: true,
            load: None,
            price: Price { credits_micro: 0, publisher_micro: 0, schedule: digest, version: 0 },
            payer: String::new(),
            publisher: String::new(),
            finished_unix_ms: 0,
        }
    }

    #[test]
    fn every_field_of_a_receipt_is_shown_or_taken() {
        let value = serde_json::to_value(receipt()).expect("JSON");
        let fields: Vec<_> = value.as_object().expect("an object").keys().collect();
        let grouped = GROUPS.iter().flat_map(|(_, fields)| fields.iter().copied());
        let mut known: Vec<_> = grouped.chain(TAKEN).collect();
        known.sort_unstable();
        assert_eq!(fields, known);
    }

    #[test]
    fn what_was_not_looked_at_is_not_called_the_same() {
        let difference =
            |field: &str| Difference { field: field.into(), here: "1".into(), there: "2".into() };
        let found =
            |field: &str, ran, priced| Found { differences: vec![difference(field)], ran, priced };
        let text = table(&receipt(), &found("assets[0].name", false, false), None);
        assert!(text.contains("\npackage  DIFFERS\n"), "{text}");
        assert!(text.contains("\noutput   not run: "), "{text}");
        assert!(text.contains("\nlog      not compared: "), "{text}");
        let text = table(&receipt(), &found("usage.fuel", true, false), Some(&[]));
        assert!(text.contains("\nusage    DIFFERS\n"), "{text}");
        assert!(text.contains("\nprice    not computed again: "), "{text}");
        assert!(text.contains("\nlog      same\n"), "{text}");
        assert!(text.contains("\ndiffers  usage.fuel\nreceipt  1\nfound    2\n"), "{text}");
    }
}
