//! `fuelbox usage`: jobs, fuel and credits, added up.

use super::to_stdout;
use crate::{
    args::Global,
    data,
    exit::{Exit, Result},
    output::{
        columns::{Align, Columns},
        list::ListFormat,
    },
    time::{Since, now_unix_ms},
    units::grouped,
};
use fuelbox_jobs::{UsageBy, UsageLine};
use serde::Serialize;

/// Add up jobs, fuel and credits by account or package, the most expensive first.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  fuelbox usage --by package --since 7d\n")]
pub(crate) struct UsageArgs {
    /// What is added up.
    #[arg(long)]
    by: By,

    /// Jobs that ended since then: 24h, 7d, or a day in UTC like 2026-11-01 [default: all].
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Option<Since>,

    #[command(flatten)]
    format: ListFormat,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum By {
    Account,
    Package,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    jobs: u64,
    succeeded: u64,
    failed: u64,
    fuel: u64,
    load_fuel: u64,
    credits_micro: u64,
}

impl<'a> Row<'a> {
    fn of(line: &'a UsageLine) -> Self {
        Self {
            name: &line.name,
            jobs: line.jobs,
            succeeded: line.succeeded,
            failed: line.failed,
            fuel: line.fuel,
            load_fuel: line.load_fuel,
            credits_micro: line.credits.micros(),
        }
    }
}

/// The fields of [`Row`].
const FIELDS: [&str; 7] =
    ["name", "jobs", "succeeded", "failed", "fuel", "load_fuel", "credits_micro"];

/// Runs the command.
pub(crate) fn usage(args: &UsageArgs, global: &Global) -> Result<Exit> {
    let (_, look) = data::look(global)?;
    let (by, head) = match args.by {
        By::Account => (UsageBy::Account, "account"),
        By::Package => (UsageBy::Package, "package"),
    };
    let since = args.since.map_or(0, |since| since.unix_ms(now_unix_ms()));
    let lines = look.records().usage(by, since)?;
    let rows: Vec<_> = lines.iter().map(Row::of).collect();
    let table = || {
        let mut columns = Columns::new([
            (head, Align::Left),
            ("jobs", Align::Right),
            ("succeeded", Align::Right),
            ("failed", Align::Right),
            ("fuel", Align::Right),
            ("load fuel", Align::Right),
            ("credits", Align::Right),
        ]);
        for line in &lines {
            columns.row([
                line.name.clone(),
                grouped(line.jobs),
                grouped(line.succeeded),
                grouped(line.failed),
                grouped(line.fuel),
                grouped(line.load_fuel),
                line.credits.to_string(),
            ]);
        }
        columns.text()
    };
    to_stdout(|out| args.format.write(out, &FIELDS, &rows, table))?;
    Ok(Exit::Completed)
}
