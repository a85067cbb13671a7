//! `fuelbox prices`: the price schedule in force.

use super::{print, to_file_or_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Result},
    output::columns::facts,
    units::show_micros,
};
use fuelbox_engine::Digest;
use fuelbox_jobs::Schedule;
use serde::Serialize;
use std::path::PathBuf;

/// Show what things cost.
///
/// The schedule is DATA/prices.json. To change prices, change the file and raise its version: every
/// receipt names the schedule that it was billed by.
#[derive(clap::Args, Debug)]
pub(crate) struct PricesArgs {
    /// Write the schedule to this file, to be changed.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    digest: Digest,
    #[serde(flatten)]
    schedule: &'a Schedule,
}

/// Runs the command.
pub(crate) fn prices(args: &PricesArgs, global: &Global) -> Result<Exit> {
    let schedule = data::schedule(global, None)?;
    if let Some(path) = &args.init {
        to_file_or_stdout(Some(path), &schedule.to_file())?;
    }
    let value = Json { digest: schedule.digest(), schedule: &schedule };
    print(args.json, &value, || {
        let credits =
            |micros: u64, what: &str| format!("{} credits {what}", show_micros(micros.into()));
        let Schedule {
            format: _,
            version,
            run_micro_per_mfuel,
            memory_micro_per_mfuel_64mib,
            load_micro_per_mfuel,
            minimum_micro,
            publisher_share_ppm,
        } = &schedule;
        // Shown as an amount is: in units of a million.
        let percent = show_micros(i128::from(*publisher_share_ppm) * 100);
        facts(&[
            ("run", credits(*run_micro_per_mfuel, "for a million fuel")),
            ("memory", credits(*memory_micro_per_mfuel_64mib, "more for each 64 MiB at the peak")),
            ("load", credits(*load_micro_per_mfuel, "for a million fuel")),
            ("least", credits(*minimum_micro, "for any run")),
            ("share", format!("{percent}% of a run that completed, for its publisher")),
            ("version", version.to_string()),
            ("digest", value.digest.to_string()),
        ])
    })?;
    Ok(Exit::Completed)
}
