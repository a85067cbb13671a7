//! `fuelbox-load`: a plan comes in on stdin, a report goes out on stdout, both one JSON object.

use anyhow::{Context, Result};
use fuelbox_load::Plan;
use std::io;

fn main() -> Result<()> {
    let plan: Plan = serde_json::from_reader(io::stdin().lock()).context("the plan on stdin")?;
    let report = fuelbox_load::run(&plan)?;
    serde_json::to_writer(io::stdout().lock(), &report)?;
    Ok(())
}
