//! `fuelbox audit`: a random sample of the log is checked and run again.
//!
//! log -> sample (fixed by the log's root and a word) -> signature, inclusion, replay -> what differs.

use super::print;
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result, print_error},
    host,
    output::{columns::facts, text::excerpt},
    progress::Verbosity,
    proof::{self, DifferenceJson, Evidence, Found},
    time::{Since, now_unix_ms},
    units::{self, grouped},
};
use fuelbox_engine::{Archive, Digest, Engine};
use fuelbox_jobs::{DataFolder, JobId, Logged, Look, PAGE_ROWS_MAX, Sample, can_replay};
use fuelbox_receipt::{
    KeyRing, Receipt, Verified,
    log::{Tree, prove_inclusion, verify_inclusion},
};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  fuelbox audit --sample 5% --word \"chosen by me\"
  fuelbox audit --sample 100% --since 24h --json
";

/// Check a random sample of all receipts: signature, place in the log, and a replay of each.
///
/// The sample is fixed by the log's root and a word of the auditor's, so that the host cannot know it
/// when it runs the jobs, and anybody can draw it again. Exit code 8 when anything differs.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// How many of all receipts: 5%, 0.1%, 100%.
    #[arg(long, value_name = "SHARE", value_parser = units::share_ppm)]
    sample: u64,

    /// A word of the auditor's.
    #[arg(long, value_name = "TEXT", default_value = "")]
    word: String,

    /// Of the sample, only jobs that ended since then: 24h, 7d, or a day in UTC like 2026-11-01.
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Option<Since>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Default)]
struct Report {
    size: u64,
    root: String,
    word: String,
    sample_ppm: u64,
    seed: String,
    drawn: u64,
    replayed: u64,
    same: u64,
    skipped: Vec<Skipped>,
    different: Vec<Different>,
}

/// A receipt that was not replayed, and is not counted as good.
#[derive(Serialize)]
struct Skipped {
    index: u64,
    job: String,
    why: String,
}

/// A receipt that is wrong.
#[derive(Serialize)]
struct Different {
    index: u64,
    job: String,
    /// What does not hold, where it is not the replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    differences: Vec<DifferenceJson>,
    #[serde(skip)]
    shown: String,
}

/// What became of one receipt.
enum Outcome {
    Same,
    Skipped(String),
    Differs(Found),
    Wrong(String),
}

struct Auditor<'a> {
    folder: &'a DataFolder,
    look: &'a Look,
    engine: Engine,
    keys: KeyRing,
    size: u64,
    root: Digest,
    since_unix_ms: u64,
    verbosity: Verbosity,
    /// The package of the last receipt: neighbours often have the same.
    last: Option<(Digest, Archive)>,
}

/// Runs the command.
pub(crate) fn audit(args: &AuditArgs, global: &Global) -> Result<Exit> {
    let (folder, look) = data::look(global)?;
    let size = look.records().log_size()?;
    let root = Tree::load(size, &look.records().tiles())?.root();
    let sample = Sample::new(&root, &args.word, args.sample);
    let mut auditor = Auditor {
        folder: &folder,
        look: &look,
        engine: host::engine(host::cache(global.cache_dir.clone())?)?,
        keys: data::keys(global, &[])?,
        size,
        root,
        since_unix_ms: args.since.map_or(0, |since| since.unix_ms(now_unix_ms())),
        verbosity: global.verbosity(),
        last: None,
    };
    let mut report = Report {
        size,
        root: root.to_string(),
        word: args.word.clone(),
        sample_ppm: args.sample,
        seed: sample.seed().to_string(),
        ..Report::default()
    };
    let mut next = 0;
    while next < size {
        let page = look.records().receipts(next, PAGE_ROWS_MAX)?;
        let Some(last) = page.last() else {
            let text = format!("log is truncated: no receipt {next} of {size}");
            return Err(Failure::message(Exit::Proof, text));
        };
        next = last.index + 1;
        for logged in page.iter().filter(|logged| logged.index < size) {
            if sample.takes(logged.index) {
                auditor.take(logged, &mut report)?;
            }
        }
    }
    print(args.json, &report, || table(&report))?;
    if report.different.is_empty() {
        return Ok(Exit::Completed);
    }
    let count = report.different.len();
    print_error(&format!("{count} of {} receipts do not hold", report.drawn));
    Ok(Exit::Proof)
}

impl Auditor<'_> {
    fn take(&mut self, logged: &Logged, report: &mut Report) -> Result<()> {
        let (index, job) = (logged.index, logged.job.to_string());
        let outcome = match self.open(logged)? {
            Ok(receipt) if receipt.finished_unix_ms < self.since_unix_ms => return Ok(()),
            Ok(receipt) => self.replay(&logged.job, &receipt)?,
            Err(error) => Outcome::Wrong(error),
        };
        report.drawn += 1;
        match outcome {
            Outcome::Same => {
                report.replayed += 1;
                report.same += 1;
            }
            Outcome::Skipped(why) => report.skipped.push(Skipped { index, job, why }),
            Outcome::Differs(found) => {
                report.replayed += u64::from(found.ran);
                let differences = found.differences.iter().map(Into::into).collect();
                let shown = proof::show_differences(&found.differences, "found");
                report.different.push(Different { index, job, error: None, differences, shown });
            }
            Outcome::Wrong(error) => {
                let shown = format!("{}\n", excerpt(&error, ERROR_CHARS_MAX));
                let (error, differences) = (Some(error), Vec::new());
                report.different.push(Different { index, job, error, differences, shown });
            }
        }
        Ok(())
    }

    /// The receipt, when its signature and its place in the log hold; otherwise why they do not.
    fn open(&self, logged: &Logged) -> Result<Result<Receipt, String>> {
        let Verified { receipt, .. } = match logged.envelope.verify(&self.keys) {
            Ok(verified) => verified,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if receipt.job != logged.job.to_string() {
            return Ok(Err(format!("the receipt is of job {}", receipt.job)));
        }
        let proof = prove_inclusion(&self.look.records().tiles(), self.size, logged.index)?;
        let digest = logged.envelope.digest();
        match verify_inclusion(&digest, logged.index, self.size, &self.root, &proof) {
            Ok(()) => Ok(Ok(receipt)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    fn replay(&mut self, job: &JobId, receipt: &Receipt) -> Result<Outcome> {
        if !can_replay(receipt) {
            let verdict = &receipt.verdict.name;
            return Ok(Outcome::Skipped(format!("ended as {verdict}: cannot be replayed")));
        }
        if receipt.profile != self.engine.profile() {
            return Ok(Outcome::Skipped(format!("ran under engine profile {}", receipt.profile)));
        }
        let Some(tensors) = proof::stored_tensors(self.look, &receipt.input)? else {
            return Ok(Outcome::Skipped("its input is no longer kept".into()));
        };
        let archive = match self.last.take() {
            Some((digest, archive)) if digest == receipt.package => Some(archive),
            Some(_) | None => match proof::stored_package(self.folder, &receipt.package) {
                Ok(archive) => archive,
                Err(failure) => return Ok(Outcome::Wrong(failure.to_string())),
            },
        };
        let Some(archive) = archive else {
            return Ok(Outcome::Skipped("its package is no longer there".into()));
        };
        let evidence = Evidence {
            tensors,
            parameters: self.look.parameters(job)?.unwrap_or_default(),
            prices: proof::stored_prices(Some(self.look), &receipt.price.schedule)?,
            archive,
        };
        host::compile(&self.engine, &evidence.archive.package().module, self.verbosity)?;
        let found = proof::replay(&self.engine, receipt, &evidence)?;
        self.last = Some((receipt.package, evidence.archive));
        Ok(if found.differences.is_empty() { Outcome::Same } else { Outcome::Differs(found) })
    }
}

/// Of an error in the table.
const ERROR_CHARS_MAX: usize = 400;

fn table(report: &Report) -> String {
    let Report { size, root, word, sample_ppm, seed, drawn, replayed, same, skipped, different } =
        report;
    let share = units::show_micros(i128::from(*sample_ppm) * 100);
    let mut text = facts(&[
        ("log", format!("{} receipts", grouped(*size))),
        ("root", root.clone()),
        ("sample", format!("{share}%, word '{}'", excerpt(word, 60))),
        ("seed", seed.clone()),
        ("drawn", grouped(*drawn)),
        ("run", format!("{}, of which {} are the same", grouped(*replayed), grouped(*same))),
        ("skipped", grouped(skipped.len() as u64)),
        ("wrong", grouped(different.len() as u64)),
    ]);
    for Skipped { index, job, why } in skipped {
        text += &format!("\nskipped  {index}  {job}\n         {why}\n");
    }
    for Different { index, job, shown, .. } in different {
        text += &format!("\nWRONG    {index}  {job}\n{shown}");
    }
    text += "\nThe same log, word and share give the same sample, here and anywhere.\n";
    text
}
