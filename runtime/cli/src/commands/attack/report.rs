//! What became of the cases: a table for people, one object for programs.

use crate::{
    output::{
        columns::{Align, Columns},
        text::escaped,
    },
    units::grouped,
};
use fuelbox_attack::Report;
use serde::Serialize;

/// One object (`docs/cli.md`).
#[derive(Serialize)]
pub(super) struct Json<'a> {
    pub(super) cases: &'a [Report],
}

/// Characters of a detail that a table has room for.
const DETAIL_CHARS_MAX: usize = 90;

/// A line for each case, and one for all. There are `wanted` cases.
pub(super) fn table(reports: &[Report], wanted: usize) -> String {
    let mut columns = Columns::new([
        ("group", Align::Left),
        ("case", Align::Left),
        ("", Align::Left),
        ("fuel", Align::Right),
        ("what the host made of it", Align::Left),
    ]);
    for report in reports {
        let state = if report.held { "held" } else { "BROKEN" };
        columns.row([
            report.group.to_string(),
            report.name.clone(),
            state.into(),
            grouped(report.fuel),
            // What broke is said whole.
            if report.held { shortened(&report.detail) } else { escaped(&report.detail) },
        ]);
    }
    let held = reports.iter().filter(|report| report.held).count();
    let sum = |part: fn(&Report) -> u64| grouped(reports.iter().map(part).sum());
    let not_tried = match wanted - reports.len() {
        0 => String::new(),
        missing => format!("; the host is gone, {missing} were not tried"),
    };
    format!(
        "{}\n{held} of {} cases held{not_tried}: {} uploads, {} jobs, {} fuel, {} millionths of a credit\n",
        columns.text(),
        reports.len(),
        sum(|report| report.uploads.into()),
        sum(|report| report.jobs),
        sum(|report| report.fuel),
        sum(|report| report.credits_micro),
    )
}

fn shortened(text: &str) -> String {
    let text = escaped(text);
    if text.chars().count() <= DETAIL_CHARS_MAX {
        return text;
    }
    let short: String = text.chars().take(DETAIL_CHARS_MAX - 3).collect();
    format!("{short}...")
}
