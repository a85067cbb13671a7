//! The outcome as tables.

use super::Outcome;
use crate::units::{bytes, count};
use std::fmt::Write as _;

/// All of it.
pub(super) fn table(outcome: &Outcome) -> String {
    let Outcome { machine, seconds, capacity_per_s, reports, memory, books, .. } = outcome;
    let mut text = format!(
        "{seconds:.0} s at twice {capacity_per_s:.0} requests/s\n\n\
         {:<34} {:>9} {:>9} {:>9} {:>9}   answers\n",
        "", "left", "p50 ms", "p99 ms", "p99.9 ms"
    );
    for (protocol, report) in reports {
        for (name, tally) in &report.traffic {
            let [p50, p99, p999] =
                tally.latency.map_or(["-".into(), "-".into(), "-".into()], |latency| {
                    [latency.p50_us, latency.p99_us, latency.p999_us]
                        .map(|us| format!("{:.1}", us as f64 / 1e3))
                });
            let answers: Vec<_> = tally
                .by_status
                .iter()
                .map(|(status, number)| format!("{status}: {}", count(*number)))
                .collect();
            let _ = writeln!(
                text,
                "{:<34} {:>9} {p50:>9} {p99:>9} {p999:>9}   {}",
                format!("{protocol} {name}"),
                count(tally.left),
                answers.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "{:<34} {} requests/s answered with outputs; {} requests found no connection free",
            format!("{protocol} in all"),
            count(report.requests_per_s as u64),
            count(report.unsent)
        );
    }
    if let Some([first, last]) = memory.thirds() {
        let _ = writeln!(
            text,
            "\nmemory: {} in the first third after the warm-up, {} in the last (in no file: {}, {}){}",
            bytes(first.0 as u64),
            bytes(last.0 as u64),
            bytes(first.1 as u64),
            bytes(last.1 as u64),
            if memory.is_judged() { "" } else { "; too short to judge" }
        );
    }
    let audit = &books.audit;
    let _ = writeln!(
        text,
        "books: {} jobs succeeded, {} receipts, {} without an end; {} of {} replays are the same",
        count(books.succeeded()),
        count(audit.size),
        books.unfinished,
        audit.same,
        audit.replayed
    );
    text + &machine.line()
}
