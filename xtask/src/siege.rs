//! `cargo xtask siege`: honest jobs on a server that is attacked all the while.
//!
//! In: nothing but this tree. Out: a table, and an exit code. A caller asks for answers at a steady rate,
//! first on a quiet server, then beside `fuelbox attack`, over and over. Every honest job must be
//! answered, in time that stays of the same kind; memory must stay where it is; and the books must hold,
//! the attacker's receipts included.

use crate::{
    machine::Machine,
    serving::{Built, FUELBOX, Folder, Fuelbox, Ground, start},
    soak::{Books, Memory, by_account},
    units::bytes,
};
use anyhow::{Context, Result, ensure};
use fuelbox_load::{Pace, Plan, Protocol, Report, Traffic};
use serde::Deserialize;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Hostile uploads at least; each suite has some hundreds, and ten times as many jobs.
    #[arg(long, default_value_t = 1_000)]
    uploads: u64,
    /// Seconds of the quiet part.
    #[arg(long, default_value_t = 30.0)]
    quiet_s: f64,
    /// Part of the server's capacity that the honest caller asks for.
    #[arg(long, default_value_t = 0.1)]
    share: f64,
    /// Serve with this fuelbox, and build none.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

const HONEST: &str = "alice";
const ATTACKER: &str = "mallory";
const MODEL: &str = "mlp";
/// Connections of the honest caller: more than wait at once.
const CONNECTIONS: usize = 16;
/// Most time of 99 of 100 honest requests, in times of the quiet one.
const P99_TIMES_MAX: f64 = 2.0;
/// Receipts that are replayed afterwards, about.
const REPLAYS: u64 = 300;

/// What `fuelbox attack --json` says, as far as it is looked at.
#[derive(Default, Deserialize)]
struct Attacked {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    held: bool,
    detail: String,
    fuel: u64,
    uploads: u64,
    jobs: u64,
    credits_micro: u64,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut machine = Machine::here();
    let ground = Ground::prepare("siege", &[FUELBOX], arguments.bin.as_deref(), Built::Release)?;
    let folder = Folder::new(&ground, "data", &[HONEST])?;
    let model = ground.model(MODEL)?;
    folder.publish(&model, MODEL)?;
    let traffic = Traffic {
        name: HONEST.into(),
        model: MODEL.into(),
        key: Some(folder.key(HONEST)?),
        input: model.input.clone(),
        shape: model.shape.clone(),
        share: 1,
        leaves_per_1000: 0,
    };
    let key_file = attacker(&ground, &folder)?;
    let mut server = folder.serve()?;
    let plan = |pace, measured_s| Plan {
        protocol: Protocol::RestBinary,
        address: server.http,
        connections: CONNECTIONS,
        pace,
        warmup_s: 1.0,
        measured_s,
        bills: true,
        traffic: vec![traffic.clone()],
    };
    eprintln!("capacity ...");
    let closed = start(&ground, &plan(Pace::Closed, 5.0))?.report()?;
    let pace = Pace::Open { requests_per_s: arguments.share * closed.requests_per_s };
    eprintln!("{:.0} requests/s; {} of that, quiet ...", closed.requests_per_s, arguments.share);
    let quiet = start(&ground, &plan(pace, arguments.quiet_s))?.report()?;
    // The first suite has the stock guest to compile, and says how long one takes.
    eprintln!("one suite ...");
    let begun = Instant::now();
    let first = suite(&ground, &server, &key_file)?.report()?;
    let (suite_s, uploads) = (begun.elapsed().as_secs_f64(), first.sum(|case| case.uploads));
    ensure!(uploads > 0, "a suite without an upload");
    let suites = arguments.uploads.div_ceil(uploads);
    let seconds = suite_s * suites as f64;
    eprintln!("{uploads} uploads in {suite_s:.0} s; {suites} suites beside honest jobs ...");
    let busy = start(&ground, &plan(pace, seconds))?;
    let (mut memory, begun) = (Memory::new(seconds / 4.0, seconds), Instant::now());
    let mut attacks = Vec::new();
    for _ in 0..suites {
        let mut attack = suite(&ground, &server, &key_file)?;
        while attack.is_running()? {
            server.process.alive()?;
            memory.look(server.process.id(), begun.elapsed().as_secs_f64())?;
            thread::sleep(Duration::from_millis(500));
        }
        attacks.push(attack.report()?);
    }
    let busy = busy.report()?;
    server.stop()?;
    let books = Books::read(&folder, REPLAYS)?;
    machine.done();

    let mut failures = Vec::new();
    for case in attacks.iter().flat_map(|attack| &attack.cases).filter(|case| !case.held) {
        failures.push(format!("{}: {}", case.name, case.detail));
    }
    failures.extend(refused(&quiet).into_iter().chain(refused(&busy)));
    failures.extend(memory.failures());
    let tallies = by_account([&closed, &quiet, &busy].into_iter());
    failures.extend(books.failures(&tallies, Folder::given_micro()?));
    let times = p99_ms(&busy)? / p99_ms(&quiet)?;
    if times > P99_TIMES_MAX {
        failures.push(format!("p99 is {times:.2} of the quiet one, allowed are {P99_TIMES_MAX}"));
    }
    let sum = |part: fn(&Case) -> u64| attacks.iter().map(|attack| attack.sum(part)).sum::<u64>();
    let mut text = String::new();
    for (name, report) in [("quiet", &quiet), ("attacked", &busy)] {
        let latency = report.traffic.get(HONEST).and_then(|tally| tally.latency);
        let latency = latency.context("nobody was served")?;
        let ms = |us: u64| us as f64 / 1_000.0;
        writeln!(
            text,
            "{name:<9} {:>6.0} requests/s  p50 {:>7.2} ms  p99 {:>7.2} ms  p99.9 {:>7.2} ms",
            report.requests_per_s,
            ms(latency.p50_us),
            ms(latency.p99_us),
            ms(latency.p999_us)
        )?;
    }
    writeln!(
        text,
        "attacks   {} uploads, {} jobs, {} fuel, {} millionths of a credit in {seconds:.0} s",
        sum(|case| case.uploads),
        sum(|case| case.jobs),
        sum(|case| case.fuel),
        sum(|case| case.credits_micro)
    )?;
    if let Some([(early, _), (late, _)]) = memory.thirds() {
        writeln!(text, "memory    {}, later {}", bytes(early as u64), bytes(late as u64))?;
    }
    let audit = &books.audit;
    writeln!(text, "replays   {} of {} are the same", audit.same, audit.replayed)?;
    print!("{text}{}", machine.line());
    ensure!(failures.is_empty(), "{} checks failed:\n  {}", failures.len(), failures.join("\n  "));
    Ok(())
}

impl Attacked {
    fn sum(&self, part: impl Fn(&Case) -> u64) -> u64 {
        self.cases.iter().map(part).sum()
    }
}

/// Makes the attacker's account, and a file with its key.
fn attacker(ground: &Ground, folder: &Folder<'_>) -> Result<PathBuf> {
    folder.ask(&["account", "create", ATTACKER, "--kind", "publisher"])?;
    folder.ask(&["account", "top-up", ATTACKER, "100000"])?;
    let scopes = ["--scope", "publisher", "--scope", "caller"];
    let printed =
        folder.ask(&[&["access", "create", "--account", ATTACKER], &scopes[..]].concat())?;
    let key = printed.split_whitespace().find(|word| word.starts_with("fbx_"));
    let path = ground.folder.join("attacker.key");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(key.context("a new access key is printed")?.as_bytes())?;
    Ok(path)
}

/// An attack at work.
struct Suite(Child);

fn suite(ground: &Ground, server: &Fuelbox, key_file: &std::path::Path) -> Result<Suite> {
    let mut attack = Command::new(ground.fuelbox());
    attack.args(["attack", "--quiet", "--json", "--url", &format!("http://{}", server.http)]);
    attack.arg("--key-file").arg(key_file).arg("--cache-dir").arg(ground.cache());
    Ok(Suite(attack.stdout(Stdio::piped()).spawn()?))
}

impl Suite {
    fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    fn report(self) -> Result<Attacked> {
        let output = self.0.wait_with_output()?;
        serde_json::from_slice(&output.stdout).context("what fuelbox attack prints")
    }
}

/// Honest requests that were not answered with outputs.
fn refused(report: &Report) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, tally) in &report.traffic {
        for (status, count) in tally.by_status.iter().filter(|(status, _)| *status != "200") {
            failures.push(format!("{name}: {count} answers are {status}"));
        }
    }
    failures
}

fn p99_ms(report: &Report) -> Result<f64> {
    let latency = report.traffic.get(HONEST).and_then(|tally| tally.latency);
    Ok(latency.context("nobody was served")?.p99_us as f64 / 1_000.0)
}
