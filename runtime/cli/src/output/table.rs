//! The table of `run`: the answer, then what it took, for people.

use super::{Report, RunFacts, classes, elements::Shown, text::excerpt};
use crate::units::{grouped, show_bytes, show_duration};
use fuelbox_engine::{DataType, Tensor, Verdict};
use fuelbox_oip::{Labels, elements};
use std::fmt::Write;

/// Elements that are shown of an output that is not a classifier's.
const ELEMENTS_SHOWN: usize = 8;
/// Rows of a batch that are shown.
const ROWS_SHOWN: usize = 16;
/// Longest name that is shown.
const NAME_CHARS_MAX: usize = 80;

/// The whole table.
pub(crate) fn table(report: &Report, labels: Option<&Labels>) -> String {
    let mut text = answer(report.outputs(), labels);
    // Writing to a string cannot fail.
    let _ = facts(&mut text, report);
    text
}

/// What a job gave, and an empty line.
pub(crate) fn answer(outputs: &[Tensor], labels: Option<&Labels>) -> String {
    let mut text = String::new();
    for tensor in outputs {
        let rows = labels.and_then(|labels| classes::rows(tensor, labels, ROWS_SHOWN));
        // Writing to a string cannot fail.
        let _ = match rows {
            Some(rows) => classes(&mut text, tensor, &rows),
            None => preview(&mut text, tensor),
        };
    }
    if !outputs.is_empty() {
        text.push('\n');
    }
    text
}

fn heading(text: &mut String, tensor: &Tensor) -> std::fmt::Result {
    let Tensor { name, datatype, shape, .. } = tensor;
    write!(text, "{}  {datatype} {shape}", excerpt(name, NAME_CHARS_MAX))
}

fn classes(text: &mut String, tensor: &Tensor, rows: &[classes::Row<'_>]) -> std::fmt::Result {
    heading(text, tensor)?;
    writeln!(text)?;
    let shown = |name: &str| excerpt(name, NAME_CHARS_MAX);
    let names =
        rows.iter().flat_map(|row| &row.classes).map(|(name, _)| shown(name).chars().count());
    let width = names.max().unwrap_or(0).max("class".len());
    for (index, row) in rows.iter().enumerate() {
        let kind = if row.probabilities { "probability" } else { "score" };
        let what = if rows.len() > 1 { format!("  row {index}") } else { String::new() };
        writeln!(text, "  {:width$}  {kind:>11}{what}", "class")?;
        for (name, value) in &row.classes {
            writeln!(text, "  {:width$}  {value:>11.4}", shown(name))?;
        }
    }
    let count = tensor.shape.element_count().unwrap_or(0)
        / tensor.shape.last().map_or(1, |&last| last.max(1));
    let hidden = count.saturating_sub(rows.len() as u64);
    if hidden > 0 {
        writeln!(text, "  and {hidden} more rows")?;
    }
    Ok(())
}

fn preview(text: &mut String, tensor: &Tensor) -> std::fmt::Result {
    heading(text, tensor)?;
    let count = tensor.shape.element_count().unwrap_or(0);
    let separator = if tensor.datatype == DataType::Bytes { ", " } else { "  " };
    let shown: Vec<_> =
        elements(tensor).take(ELEMENTS_SHOWN).map(|e| Shown(e).to_string()).collect();
    write!(text, "\n  {}", shown.join(separator))?;
    let hidden = count.saturating_sub(shown.len() as u64);
    if hidden > 0 {
        write!(text, "{separator}and {} more", grouped(hidden))?;
    }
    writeln!(text)
}

fn facts(text: &mut String, report: &Report) -> std::fmt::Result {
    let verdict = report.verdict();
    write!(text, "verdict      {}", verdict.name())?;
    match verdict {
        Verdict::Trap { kind, .. } => writeln!(text, " ({})", kind.name())?,
        Verdict::Completed { .. }
        | Verdict::GuestError { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => writeln!(text)?,
    }
    let (load, run) = (grouped(report.fuel_load), grouped(report.fuel_run));
    writeln!(text, "fuel         {load} to load, {run} to run")?;
    writeln!(text, "memory peak  {}", show_bytes(report.usage().memory_bytes_peak))?;
    let (load, run) = (show_duration(report.load_time.wall), show_duration(report.wall_run));
    let compile =
        report.load_time.compile.map(|took| format!("{} to compile, ", show_duration(took)));
    writeln!(text, "wall time    {}{load} to load, {run} to run", compile.unwrap_or_default())?;
    match report.runs.as_deref() {
        Some(runs) => repeats(text, runs),
        None => Ok(()),
    }
}

/// Equal outputs and fuel are the condition for getting here; only times differ.
fn repeats(text: &mut String, runs: &[RunFacts]) -> std::fmt::Result {
    let mut walls: Vec<_> = runs.iter().map(|run| run.wall).collect();
    walls.sort();
    let (Some(&least), Some(&most)) = (walls.first(), walls.last()) else {
        return Ok(());
    };
    let median = show_duration(walls[walls.len() / 2]);
    let (least, most) = (show_duration(least), show_duration(most));
    let count = grouped(runs.len() as u64);
    writeln!(
        text,
        "runs         {count}, each in a fresh sandbox: median {median}, {least} to {most}"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::elements::tests::tensor, *};
    use crate::host::LoadTime;
    use fuelbox_engine::{Digest, Outcome, TrapKind, Usage};
    use std::time::Duration;

    fn check(verdict: Verdict, repeat: usize) -> String {
        let usage = Usage { fuel: 7, memory_bytes_peak: 20_132_659 };
        let run = |n: usize| RunFacts { fuel: 7, wall: Duration::from_micros(n as u64 + 40) };
        let report = Report {
            outcome: Outcome { verdict, usage, log: String::new() },
            fuel_load: 1_234_567,
            fuel_run: 369_374,
            load_time: LoadTime { wall: Duration::from_micros(31_200), compile: None },
            wall_run: Duration::from_micros(46),
            runs: (repeat > 1).then(|| (0..repeat).map(run).collect()),
            engine_profile: Digest::from_bytes([0; 32]),
        };
        table(&report, Labels::parse(b"zero\none").ok().as_ref())
    }

    const FACTS: &str = "fuel         1,234,567 to load, 369,374 to run\n\
        memory peak  19.2 MiB\n\
        wall time    31.2 ms to load, 46 us to run\n";

    #[test]
    fn answer_comes_first() {
        let singles =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let outputs = vec![
            tensor(DataType::Fp32, &[1, 2], &singles(&[0.25, 0.75])),
            tensor(DataType::Fp32, &[2, 5], &singles(&[0.5; 10])),
            tensor(DataType::Bytes, &[1], b"\x03\0\0\0a\x1bb"),
            tensor(DataType::Int64, &[0], &[]),
        ];
        let answer = "y  FP32 [1, 2]\n  class  probability\n  one         0.7500\n  zero        0.2500\n\
            y  FP32 [2, 5]\n  0.5  0.5  0.5  0.5  0.5  0.5  0.5  0.5  and 2 more\n\
            y  BYTES [1]\n  \"a\\u{1b}b\"\n\
            y  INT64 [0]\n  \n\n\
            verdict      completed\n";
        let completed = Verdict::Completed { outputs, parameters: vec![] };
        let runs = "runs         3, each in a fresh sandbox: median 41 us, 40 us to 42 us\n";
        assert_eq!(check(completed, 3), format!("{answer}{FACTS}{runs}"));
    }

    #[test]
    fn failures_have_facts_too() {
        let trap = Verdict::Trap { kind: TrapKind::BadCall, detail: "x".into() };
        assert_eq!(check(trap, 1), format!("verdict      trap (bad_call)\n{FACTS}"));
    }
}
