//! Results become tables of Markdown.

use super::{Results, rounds::Series};
use crate::{statistics::Summary, units::count};
use fuelbox_load::{Latency, Report};
use std::fmt::Write as _;

/// All tables.
pub(super) fn markdown(results: &Results) -> String {
    let mut page = servers(results);
    page += &ratios(results);
    page += &workers(results);
    page += &apart(results);
    page += &surroundings(results);
    page
}

fn servers(results: &Results) -> String {
    let mut text = format!(
        "{} connections, closed loop, {} rounds of {} s in turns. Medians over rounds (10th .. 90th \
         percentile); latencies in ms.\n\n\
         | | requests/s | p50 | p99 | p99.9 | client's share of a core |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        results.connections, results.rounds, results.seconds
    );
    for series in &results.series {
        let latency = |part: fn(&Latency) -> u64| {
            let ms = series.summary(|report| Some(part(report.latency.as_ref()?) as f64 / 1e3));
            ms.map_or_else(
                || "-".into(),
                |ms| format!("{:.2} ({:.2} .. {:.2})", ms.median, ms.p10, ms.p90),
            )
        };
        let cpu = series.summary(|report| Some(report.client_cpu_s / report.seconds));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            series.name,
            rate(series).map_or_else(
                || "-".into(),
                |rate| {
                    let [p10, median, p90] =
                        [rate.p10, rate.median, rate.p90].map(|rate| count(rate as u64));
                    format!("{median} ({p10} .. {p90})")
                }
            ),
            latency(|latency| latency.p50_us),
            latency(|latency| latency.p99_us),
            latency(|latency| latency.p999_us),
            cpu.map_or_else(|| "-".into(), |cpu| format!("{:.2}", cpu.median)),
        );
    }
    text
}

fn rate(series: &Series) -> Option<Summary> {
    series.summary(|report: &Report| Some(report.requests_per_s))
}

/// fuelbox by MLServer, protocol by protocol.
fn ratios(results: &Results) -> String {
    let rates = |name: &str| {
        let series = results.series.iter().find(|series| series.name == name)?;
        Some(series.rounds.iter().map(|report| report.requests_per_s).collect::<Vec<_>>())
    };
    let mut text = String::new();
    for (what, ours, theirs) in [
        ("REST, JSON in both", "fuelbox, REST JSON", "mlserver, REST JSON"),
        ("REST, each at its best", "fuelbox, REST binary", "mlserver, REST JSON"),
        ("gRPC", "fuelbox, gRPC", "mlserver, gRPC"),
    ] {
        let Some((ours, theirs)) = rates(ours).zip(rates(theirs)) else { continue };
        if let Some(ratio) = crate::statistics::ratio(&ours, &theirs) {
            let Summary { p10, median, p90 } = ratio;
            let _ = writeln!(text, "| {what} | {median:.2} ({p10:.2} .. {p90:.2}) |");
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\n| requests/s of fuelbox by those of MLServer, round by round | |\n| --- | ---: |\n{text}"
    )
}

fn workers(results: &Results) -> String {
    let mut text = String::new();
    for trial in &results.workers {
        let rates: Vec<_> = trial
            .requests_per_s
            .iter()
            .map(|(name, rate)| format!("{name} {}", count(*rate as u64)))
            .collect();
        let _ =
            writeln!(text, "- {} workers: {} requests/s", trial.parallel_workers, rates.join(", "));
    }
    if text.is_empty() { text } else { format!("\nMLServer's settings, tried before:\n\n{text}") }
}

fn apart(results: &Results) -> String {
    let mut text = String::new();
    if let Some(overhead) = &results.overhead {
        let ms = |us: &Summary| {
            format!("{:.2} ms ({:.2} .. {:.2})", us.median / 1e3, us.p10 / 1e3, us.p90 / 1e3)
        };
        let Summary { p10, median, p90 } = overhead.ratio;
        let _ = write!(
            text,
            "\n{}, one caller: {} over REST binary, {} in process; ratio {median:.3} ({p10:.3} .. {p90:.3}).\n",
            overhead.model,
            ms(&overhead.served_us),
            ms(&overhead.in_process_us),
        );
    }
    if let Some(startup) = &results.startup {
        let Summary { p10, median, p90 } = startup.ready_s;
        let _ = write!(
            text,
            "\nReady {median:.3} s ({p10:.3} .. {p90:.3}) after the start, {} packages published.\n",
            startup.packages
        );
    }
    text
}

fn surroundings(results: &Results) -> String {
    let machine = &results.machine;
    let versions: Vec<_> =
        results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "\n{}, {} cores, Linux {}; load average {} before, {} after. {}\n",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.load[0],
        machine.load[1],
        versions.join(", ")
    )
}
