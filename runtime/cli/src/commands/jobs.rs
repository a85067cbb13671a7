//! `fuelbox jobs`: what became of jobs, and a process that works on those that wait.

use super::{
    print,
    submit::{ShownArgs, unanswered},
    to_stdout,
};
use crate::{
    args::Global,
    data,
    exit::{Exit, Result, print_error},
    output::{
        columns::{Align, Columns, facts},
        list::ListFormat,
        text::escaped,
    },
    time::show_time,
    units::{self, grouped, show_bytes},
};
use fuelbox_engine::Digest;
use fuelbox_jobs::{
    Host, JobError, JobFilter, JobId, JobRecord, Look, PAGE_ROWS_MAX, Records, State,
};
use fuelbox_ledger::AccountId;
use serde::Serialize;
use std::{
    thread,
    time::{Duration, Instant},
};

const EXAMPLES: &str = "\
Examples:
  fuelbox jobs list --account alice --state queued
  fuelbox jobs wait $(fuelbox submit digits --account alice --random 1 --detach --json | jq -r .job)
  fuelbox jobs result JOB --output digits.npz --receipt digits.json
";

/// List, show, cancel, wait for and work on jobs.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(clap::Subcommand, Debug)]
enum JobsCommand {
    /// List jobs, the latest first.
    List {
        /// Of this account alone.
        #[arg(long, value_name = "NAME")]
        account: Option<AccountId>,
        /// In this state alone: queued, running, succeeded, failed, cancelled, faulted.
        #[arg(long, value_parser = parse_state)]
        state: Option<State>,
        /// Older than this job: the last of the page before.
        #[arg(long, value_name = "JOB")]
        before: Option<JobId>,
        /// Most lines.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=PAGE_ROWS_MAX as i64))]
        limit: u16,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Show a job.
    Show {
        /// The job.
        job: JobId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the answer of a job, as `submit` does. Outputs are kept for a week.
    Result {
        /// The job.
        job: JobId,
        #[command(flatten)]
        shown: ShownArgs,
    },
    /// Cancel a job. One that waits costs nothing; one that runs is billed what it burned.
    Cancel {
        /// The job.
        job: JobId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Wait until jobs have ended.
    ///
    /// When no other process works on the data folder, this one does, on all jobs that wait. The exit
    /// code is that of the first job that did not succeed.
    Wait {
        /// The jobs.
        #[arg(required = true)]
        jobs: Vec<JobId>,
        /// Most time; exit code 5 when it is over.
        #[arg(long, value_name = "TIME", value_parser = units::duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Work on the jobs that wait, until there are none.
    Work {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn parse_state(text: &str) -> Result<State, String> {
    let allowed = State::ALL.map(State::name).join(", ");
    State::from_name(text).ok_or_else(|| format!("state '{text}', allowed are {allowed}"))
}

#[derive(Serialize)]
struct JobJson {
    job: String,
    account: String,
    package: String,
    digest: Digest,
    state: &'static str,
    verdict: Option<String>,
    priority: u8,
    submitted_unix_ms: u64,
    finished_unix_ms: Option<u64>,
    seed: u64,
    input: Digest,
    fuel_limit: u64,
    memory_limit_bytes: u64,
    fuel: Option<u64>,
    load_fuel: Option<u64>,
    memory_bytes_peak: Option<u64>,
    credits_micro: Option<u64>,
    output_digest: Option<Digest>,
    receipt: Option<Digest>,
    detail: Option<String>,
}

/// The fields of [`JobJson`].
const JOB_FIELDS: [&str; 20] = [
    "job",
    "account",
    "package",
    "digest",
    "state",
    "verdict",
    "priority",
    "submitted_unix_ms",
    "finished_unix_ms",
    "seed",
    "input",
    "fuel_limit",
    "memory_limit_bytes",
    "fuel",
    "load_fuel",
    "memory_bytes_peak",
    "credits_micro",
    "output_digest",
    "receipt",
    "detail",
];

/// Runs the command.
pub(crate) fn jobs(args: JobsArgs, global: &Global) -> Result<Exit> {
    match args.command {
        JobsCommand::List { account, state, before, limit, format } => {
            let (_, look) = data::look(global)?;
            let filter = JobFilter { account, state, before };
            list(&look.records(), &look.records().jobs(&filter, limit.into())?, format)?;
        }
        JobsCommand::Show { job, json } => {
            let (_, look) = data::look(global)?;
            show(&look.records(), &find(&look, &job)?, json)?;
        }
        JobsCommand::Result { job, shown } => return result(&job, &shown, global),
        JobsCommand::Cancel { job, json } => {
            let host = data::open_books(global)?;
            host.cancel(&job)?;
            let record = host.job(&job)?;
            host.read(|records| show(records, &record, json))??;
        }
        JobsCommand::Wait { jobs, timeout, format } => return wait(&jobs, timeout, format, global),
        JobsCommand::Work { json } => work(json, global)?,
    }
    Ok(Exit::Completed)
}

fn find(look: &Look, job: &JobId) -> Result<JobRecord> {
    let unknown = || JobError::UnknownJob { found: job.to_string() };
    Ok(look.records().job(job)?.ok_or_else(unknown)?)
}

/// What people call a package: `NAME:VERSION`.
fn package_name(records: &Records<'_>, digest: &Digest) -> Result<String> {
    let found = records.find_package(&digest.to_string())?;
    Ok(found
        .map_or_else(|| digest.to_string(), |found| format!("{}:{}", found.name, found.version)))
}

fn of_job(records: &Records<'_>, job: &JobRecord) -> Result<JobJson> {
    let end = job.end.as_ref();
    Ok(JobJson {
        job: job.id.to_string(),
        account: job.account.to_string(),
        package: package_name(records, &job.package)?,
        digest: job.package,
        state: job.state.name(),
        verdict: end.map(|end| end.verdict.clone()),
        priority: job.priority.level(),
        submitted_unix_ms: job.submitted_unix_ms,
        finished_unix_ms: job.finished_unix_ms,
        seed: job.seed,
        input: job.input,
        fuel_limit: job.fuel_limit,
        memory_limit_bytes: job.memory_limit_bytes,
        fuel: end.map(|end| end.fuel),
        load_fuel: end.and_then(|end| end.load_fuel),
        memory_bytes_peak: end.map(|end| end.memory_bytes_peak),
        credits_micro: end.map(|end| end.credits.micros()),
        output_digest: end.map(|end| end.output),
        receipt: end.map(|end| end.receipt),
        detail: job.detail.clone(),
    })
}

fn list(records: &Records<'_>, jobs: &[JobRecord], format: ListFormat) -> Result<()> {
    let rows = jobs.iter().map(|job| of_job(records, job)).collect::<Result<Vec<_>>>()?;
    let table = || {
        let mut columns = Columns::new([
            ("job", Align::Left),
            ("state", Align::Left),
            ("account", Align::Left),
            ("package", Align::Left),
            ("credits", Align::Right),
        ]);
        for (job, row) in jobs.iter().zip(&rows) {
            columns.row([
                row.job.clone(),
                row.state.into(),
                row.account.clone(),
                row.package.clone(),
                job.end.as_ref().map_or_else(|| "-".into(), |end| end.credits.to_string()),
            ]);
        }
        columns.text()
    };
    to_stdout(|out| format.write(out, &JOB_FIELDS, &rows, table))
}

fn show(records: &Records<'_>, job: &JobRecord, json: bool) -> Result<()> {
    let value = of_job(records, job)?;
    print(json, &value, || {
        let limits =
            format!("{} fuel, {}", grouped(job.fuel_limit), show_bytes(job.memory_limit_bytes));
        let mut lines = vec![
            ("job", value.job.clone()),
            ("account", value.account.clone()),
            ("package", value.package.clone()),
            ("", value.digest.to_string()),
            ("state", value.state.into()),
            ("limits", limits),
            ("order", format!("priority {}, seed {}", value.priority, value.seed)),
            ("input", value.input.to_string()),
            ("came", show_time(job.submitted_unix_ms)),
        ];
        if let Some(finished) = job.finished_unix_ms {
            lines.push(("ended", show_time(finished)));
        }
        if let Some(end) = &job.end {
            let mut fuel = format!("{} to run", grouped(end.fuel));
            if let Some(load) = end.load_fuel {
                fuel += &format!(", {} to load for new input shapes", grouped(load));
            }
            lines.extend([
                ("verdict", end.verdict.clone()),
                ("fuel", fuel),
                ("memory", format!("{} at its peak", show_bytes(end.memory_bytes_peak))),
                ("bill", format!("{} credits", end.credits)),
                ("output", end.output.to_string()),
                ("receipt", end.receipt.to_string()),
            ]);
        }
        if let Some(detail) = &job.detail {
            lines.push(("detail", escaped(detail)));
        }
        facts(&lines)
    })
}

fn result(job: &JobId, shown: &ShownArgs, global: &Global) -> Result<Exit> {
    let (folder, look) = data::look(global)?;
    let record = find(&look, job)?;
    let Some(finished) = look.result(job)? else {
        return Err(unanswered(&record));
    };
    let labels = shown.labels(&data::source(&folder, &record.package)?)?;
    shown.show(&finished, labels.as_ref(), global.verbosity())
}

/// Between two looks at jobs that another process has: soon at first, then seldom.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_secs(2);

fn wait(
    jobs: &[JobId],
    timeout: Option<Duration>,
    format: ListFormat,
    global: &Global,
) -> Result<Exit> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (folder, look) = data::look(global)?;
    let ended = |look: &Look| -> Result<bool> {
        for job in jobs {
            if !find(look, job)?.state.is_final() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut pause = LOOK_FIRST;
    let mut done = ended(&look)?;
    while !done && until.is_none_or(|until| Instant::now() < until) {
        match data::try_open(global, &folder, None)? {
            Ok(open) => done = serve(&open.host, jobs, until)?,
            Err(error) if data::is_locked(&error) => {
                thread::sleep(until.map_or(pause, |until| {
                    pause.min(until.saturating_duration_since(Instant::now()))
                }));
                pause = (pause * 3 / 2).min(LOOK_LAST);
                done = ended(&look)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let records = jobs.iter().map(|job| find(&look, job)).collect::<Result<Vec<_>>>()?;
    list(&look.records(), &records, format)?;
    if !done {
        print_error(&format!("{} of {} jobs have not ended yet", left(&records), jobs.len()));
        return Ok(Exit::Limit);
    }
    let exit =
        |job: &JobRecord| Exit::of_job(job.state, job.end.as_ref().map(|end| end.verdict.as_str()));
    let failed = records.iter().find(|job| exit(job) != Exit::Completed);
    if let Some(job) = failed {
        let detail = job.detail.as_deref().unwrap_or_default();
        print_error(&format!("job {} {}: {detail}", job.id, job.state.name()));
    }
    Ok(failed.map_or(Exit::Completed, exit))
}

fn left(jobs: &[JobRecord]) -> usize {
    jobs.iter().filter(|job| !job.state.is_final()).count()
}

/// Waits while this process works. Says whether all of them have ended.
fn serve(host: &Host, jobs: &[JobId], until: Option<Instant>) -> Result<bool> {
    for job in jobs {
        let left =
            until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        if !host.wait(job, left)?.state.is_final() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[derive(Serialize)]
struct Worked {
    ended: u64,
}

/// Nobody can add jobs while this process works, so the queue has an end.
fn work(json: bool, global: &Global) -> Result<()> {
    let folder = data::folder(global)?;
    let host = data::open(global, &folder, None)?.host;
    let mut ended = 0_u64;
    for state in [State::Queued, State::Running] {
        let filter = JobFilter { state: Some(state), ..JobFilter::default() };
        loop {
            let jobs = host.read(|records| records.jobs(&filter, PAGE_ROWS_MAX))??;
            if jobs.is_empty() {
                break;
            }
            for job in jobs {
                host.wait(&job.id, Duration::MAX)?;
                ended += 1;
            }
        }
    }
    print(json, &Worked { ended }, || format!("{} jobs ended\n", grouped(ended)))
}
