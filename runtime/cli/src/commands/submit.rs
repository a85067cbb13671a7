//! `fuelbox submit`: a job that is paid for, with a receipt.
//!
//! package and inputs -> request -> host (hold, run, bill, receipt) -> answer; or, detached, the name
//! of a job that waits.

use super::{print, run::parse_npz, to_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, OrExit, Result, print_error},
    file, host,
    input::InputArgs,
    output::{answer::Answer, columns::facts, npz::Npz},
    progress::Verbosity,
    source::Source,
    units,
};
use fuelbox_jobs::{Finished, Host, JobError, JobRecord, JobRequest, LimitsWanted, Priority};
use fuelbox_ledger::AccountId;
use fuelbox_oip::Labels;
use serde::Serialize;
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  fuelbox submit digits --account alice --input seven.npy --receipt seven.json
  fuelbox submit digits:1.0.0 --account alice --input seven.npy --detach
  fuelbox submit digits --account alice --random 1 --fuel-limit 1M --key order-17
";

/// Run a published model for an account, which pays for it, and get a receipt.
///
/// The price of all that the job may use is held first; when it is done, what it used is paid and the
/// rest is free again. PACKAGE is NAME (the version published last), NAME:VERSION, or a digest.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SubmitArgs {
    /// The package.
    package: String,

    /// Who pays.
    #[arg(long, value_name = "NAME")]
    account: AccountId,

    #[command(flatten)]
    inputs: InputArgs,

    #[command(flatten)]
    wanted: WantedArgs,

    /// Seed of the randomness that the model is given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Among the jobs of this account, 9 comes first.
    #[arg(long, value_name = "0..9", default_value_t = Priority::default().level(), value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: u8,

    /// Your name for this request: sent twice under one name, it runs and is paid once.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Do not wait: print the job's name. `fuelbox jobs wait` runs it.
    #[arg(long, conflicts_with_all = ["receipt", "output", "labels"])]
    detach: bool,

    #[command(flatten)]
    shown: ShownArgs,
}

/// What becomes of an answer.
#[derive(clap::Args, Debug)]
pub(crate) struct ShownArgs {
    /// Write the signed receipt to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) receipt: Option<PathBuf>,

    /// Write the outputs to this .npz file as well.
    #[arg(long, short, value_name = "FILE.npz", value_parser = parse_npz)]
    pub(super) output: Option<PathBuf>,

    /// Names of a classifier's classes, one a line; otherwise those of the package.
    #[arg(long, value_name = "FILE")]
    pub(super) labels: Option<PathBuf>,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(super) json: bool,
}

/// Limits of a job, each of them part of the price that is held.
#[derive(clap::Args, Debug)]
pub(super) struct WantedArgs {
    /// Most fuel of the run [default: what the package asks for, otherwise 100G].
    #[arg(long, value_name = "FUEL", value_parser = units::fuel)]
    pub(super) fuel_limit: Option<u64>,

    /// Most linear memory [default: what the package asks for, otherwise 4GiB].
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub(super) memory_limit: Option<u64>,

    /// Most fuel of a load, should these input shapes be new [default: 20G].
    #[arg(long, value_name = "FUEL", value_parser = units::fuel)]
    pub(super) load_fuel_limit: Option<u64>,

    /// Most wall-clock time, waiting included. A job that it stops is billed, and not repeatable.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(super) deadline: Option<Duration>,
}

#[derive(Serialize)]
struct Queued<'a> {
    job: String,
    state: &'a str,
}

/// Runs the command.
pub(crate) fn submit(args: &SubmitArgs, global: &Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    // All that can be refused without the folder's lock comes first.
    let (folder, look) = data::look(global)?;
    let record = data::package(&look.records(), &args.package)?;
    drop(look);
    let source = data::source(&folder, &record.digest)?;
    let labels = args.shown.labels(&source)?;
    let request = request(args, &record.digest, &source)?;

    let open = data::open(global, &folder, args.detach.then_some(0))?;
    if args.detach {
        let job = open.host.submit(request)?;
        let value = Queued { job: job.id.to_string(), state: job.state.name() };
        print(args.shown.json, &value, || {
            facts(&[("job", job.id.to_string()), ("state", job.state.name().into())])
        })?;
        return Ok(Exit::Completed);
    }
    // No guest is compiled for somebody who is not known.
    open.host.accounts().show(&args.account)?;
    host::compile(&open.engine, &source.package().module, verbosity)?;
    let finished = run(&open.host, request)?;
    args.shown.show(&finished, labels.as_ref(), verbosity)
}

/// Runs a job to its end; or waits for the one that was queued for the same request, by its key.
fn run(host: &Host, request: JobRequest) -> Result<Finished> {
    let again = request.key.is_some().then(|| request.clone());
    let id = match (host.run(request), again) {
        (Err(JobError::InFlight { .. }), Some(again)) => host.submit(again)?.id,
        (finished, _) => return Ok(finished?),
    };
    let job = host.wait(&id, Duration::MAX)?;
    match host.result(&id)? {
        Some(finished) => Ok(Finished { repeated: true, ..finished }),
        None => Err(unanswered(&job)),
    }
}

/// Why a job has no answer.
pub(super) fn unanswered(job: &JobRecord) -> Failure {
    let (id, state) = (job.id, job.state.name());
    let detail = job.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
    let text = format!("job {id} is {state}, without an answer{detail}");
    Failure::message(Exit::of_job(job.state, None), text)
}

fn request(
    args: &SubmitArgs,
    package: &fuelbox_engine::Digest,
    source: &Source,
) -> Result<JobRequest> {
    let InputArgs { random, dim, .. } = &args.inputs;
    let read = args.inputs.read().or_exit(Exit::BadInput)?;
    let inputs = read.bind(data::signature(source)?, *random, dim).or_exit(Exit::BadInput)?;
    let WantedArgs { fuel_limit, memory_limit, load_fuel_limit, deadline } = args.wanted;
    let priority = Priority::new(args.priority)
        .ok_or_else(|| Failure::message(Exit::Usage, "priorities are 0 to 9"))?;
    Ok(JobRequest {
        parameters: inputs.parameters,
        seed: args.seed,
        limits: LimitsWanted {
            fuel: fuel_limit,
            memory_bytes: memory_limit,
            load_fuel: load_fuel_limit,
        },
        deadline,
        priority,
        key: args.key.clone(),
        ..JobRequest::new(args.account.clone(), *package, inputs.tensors)
    })
}

impl ShownArgs {
    pub(crate) fn labels(&self, source: &Source) -> Result<Option<Labels>> {
        source.labels(self.labels.as_deref(), |_: &Path| ())
    }

    /// Prints an answer and writes its files; the exit code is the verdict's.
    pub(crate) fn show(
        &self,
        finished: &Finished,
        labels: Option<&Labels>,
        verbosity: Verbosity,
    ) -> Result<Exit> {
        let answer = Answer::of(finished)?;
        let verdict = finished.job.end.as_ref().map(|end| end.verdict.as_str());
        let exit = Exit::of_job(finished.job.state, verdict);
        // First the answer: it is paid for, whatever becomes of the files.
        to_stdout(|out| {
            if self.json {
                serde_json::to_writer(&mut *out, &answer.json())?;
                Ok(writeln!(out)?)
            } else {
                Ok(out.write_all(answer.table(labels).as_bytes())?)
            }
        })?;
        if let Some(path) = &self.receipt {
            let bytes = finished.receipt.to_bytes();
            file::write(path, |file| Ok(file.write_all(&bytes)?)).or_exit(Exit::Host)?;
        }
        if let Some((path, outputs)) = self.output.as_deref().zip(finished.outputs.as_deref()) {
            let npz = Npz::of(outputs).or_exit(Exit::Usage)?;
            file::write(path, |file| npz.write(file)).or_exit(Exit::Host)?;
        }
        let failed = exit != Exit::Completed;
        for line in finished.log.lines() {
            if failed {
                verbosity.note(format_args!("log: {line}"));
            } else {
                verbosity.detail(format_args!("log: {line}"));
            }
        }
        if failed {
            let detail = finished.job.detail.as_deref().unwrap_or_default();
            print_error(&format!("{}: {detail}", verdict.unwrap_or(finished.job.state.name())));
        }
        Ok(exit)
    }
}
