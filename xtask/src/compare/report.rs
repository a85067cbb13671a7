//! The report: results become a page. Text that people write comes from a file beside it.

use super::{
    answers::TOLERANCE,
    goals::goals,
    results::{BOX, Comparison, ModelResult, ORT, REFERENCE, TRACT, UNMETERED, WARM, WEB},
    statistics::Summary,
    units::{bytes, count, table, time, times},
};
use std::fmt::Write as _;

/// The page. `notes` are taken as they are.
pub(super) fn markdown(results: &Comparison, notes: Option<&str>) -> String {
    let mut page = String::new();
    page += "# Performance\n\n";
    page += "This page is written by `cargo xtask compare`; do not edit it. What people have to say \
             about the figures is in [performance-notes.md](performance-notes.md) and repeated \
             below.\n\n";
    page += &failures(results);
    page += &goal_table(results);
    page += "![Time of a run by that of native tract](performance.svg)\n\n";
    page += &run_times(results);
    page += &box_costs(results);
    page += &bills(results);
    page += &loads(results);
    page += &throughput(results);
    page += &answers(results);
    page += &sameness(results);
    page += &surroundings(results);
    if let Some(notes) = notes {
        page += "\n";
        page += notes.trim();
        page += "\n";
    }
    page
}

fn failures(results: &Comparison) -> String {
    let mut text = String::new();
    for failure in &results.failures {
        text += &format!("- **Failed:** {failure}\n");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn goal_table(results: &Comparison) -> String {
    let mut text =
        "## Goals\n\nRatios: fuelbox, with fuel on and a fresh sandbox for each job, by \
                    the other; one thread each. Means over models are geometric; models above 1 ms \
                    are those whose fuelbox job takes longer.\n\n"
            .to_owned();
    let row = |goal: super::goals::Goal| {
        vec![goal.what.into(), goal.found(), goal.bound(), goal.verdict().into()]
    };
    text += &table(&["", "found", "goal", ""], goals(results).into_iter().map(row));
    text
}

fn run_times(results: &Comparison) -> String {
    let peers = [BOX, TRACT, ORT, WEB];
    let mut text = "## Time of a run\n\nMedian (10th .. 90th percentile).\n\n".to_owned();
    let columns: Vec<_> = ["model"].into_iter().chain(peers).collect();
    let row = |model: &ModelResult| {
        let cells = peers.iter().map(|peer| match model.peers.get(peer) {
            Some(timing) => times(&timing.run_ns),
            None => "-".into(),
        });
        [model.name.clone()].into_iter().chain(cells).collect()
    };
    text += &table(&columns, results.models.iter().map(row));
    text += "fuelbox' time by that of the others: the median of each round's ratio.\n\n";
    let row = |model: &ModelResult| {
        let cells = peers[1..].iter().map(|peer| spread(model.ratio(BOX, peer)));
        [model.name.clone()].into_iter().chain(cells).collect()
    };
    let means = peers[1..].iter().map(|peer| number(results.mean_ratio(BOX, peer)));
    let means = ["**geometric mean**".to_owned()].into_iter().chain(means).collect();
    let columns: Vec<_> = ["model"].into_iter().chain(peers[1..].iter().copied()).collect();
    text += &table(&columns, results.models.iter().map(row).chain([means]));
    text
}

fn box_costs(results: &Comparison) -> String {
    let mut text = "## What freshness and fuel cost\n\n*Warm* runs in one instance again and again, \
                    as a host without isolation would. *Unmetered* is fresh, in code that counts no \
                    fuel.\n\n"
        .to_owned();
    let row = |model: &ModelResult| {
        let run =
            |peer| model.peers.get(peer).map_or("-".into(), |timing| time(timing.run_ns.median));
        vec![
            model.name.clone(),
            run(BOX),
            run(WARM),
            run(UNMETERED),
            spread(model.ratio(BOX, WARM)),
            spread(model.ratio(BOX, UNMETERED)),
        ]
    };
    let mean = vec![
        "**geometric mean**".into(),
        String::new(),
        String::new(),
        String::new(),
        number(results.mean_ratio(BOX, WARM)),
        number(results.mean_ratio(BOX, UNMETERED)),
    ];
    let columns = ["model", "fresh", "warm", "unmetered", "fresh / warm", "fuel on / off"];
    text += &table(&columns, results.models.iter().map(row).chain([mean]));
    text
}

fn bills(results: &Comparison) -> String {
    let mut text =
        "## Fuel and memory\n\nOf a job, and of the load before the first one. Memory is \
                    the guest's linear memory at its largest; the image is what a job starts \
                    with.\n\n"
            .to_owned();
    let row = |model: &ModelResult| {
        let bill = &model.bill;
        vec![
            model.name.clone(),
            bytes(model.file_bytes),
            count(bill.fuel),
            bytes(bill.memory_bytes),
            bytes(bill.image_bytes),
            count(bill.load_fuel),
            bytes(bill.load_memory_bytes),
            format!("{:.2}", bill.load_memory_bytes as f64 / model.file_bytes as f64),
        ]
    };
    let columns =
        ["model", "file", "fuel", "memory", "image", "fuel to load", "memory to load", "by file"];
    text += &table(&columns, results.models.iter().map(row));
    text
}

fn loads(results: &Comparison) -> String {
    let peers = [BOX, TRACT, ORT, WEB];
    let mut text = "## Time to load\n\nFrom an ONNX file to a model that is ready to run. fuelbox \
                    has its guest compiled, and loads the model in the box, stores its image and \
                    seals it; it does that once per host.\n\n"
        .to_owned();
    let row = |model: &ModelResult| {
        let cells = peers.iter().map(|peer| match model.peers.get(peer) {
            Some(timing) => time(timing.load_ns.median),
            None => "-".into(),
        });
        [model.name.clone()].into_iter().chain(cells).collect()
    };
    let columns: Vec<_> = ["model"].into_iter().chain(peers).collect();
    text += &table(&columns, results.models.iter().map(row));
    if let Some(compile_ns) = results.compile_ns {
        let _ = writeln!(text, "Compiling the stock guest took {}.\n", time(compile_ns as f64));
    }
    text
}

fn throughput(results: &Comparison) -> String {
    let Some(found) = &results.throughput else {
        return String::new();
    };
    let mut text = format!(
        "## Jobs side by side\n\n{}: {} jobs wait, two workers take them. Execution is the time \
         from a worker taking a job to its outcome; queueing is the time before that.\n\n",
        found.model, found.jobs
    );
    text += &table(
        &["", "median", "p10", "p90"],
        [
            ratio_row("jobs per second, two workers / one", &found.two_to_one),
            ratio_row("execution, p99 / median", &found.p99_to_median),
            time_row("execution", &found.execution_ns),
            time_row("queueing", &found.queued_ns),
        ],
    );
    text
}

fn ratio_row(name: &str, summary: &Summary) -> Vec<String> {
    let Summary { p10, median, p90 } = *summary;
    [name.into()].into_iter().chain([median, p10, p90].map(|value| format!("{value:.2}"))).collect()
}

fn time_row(name: &str, summary: &Summary) -> Vec<String> {
    let Summary { p10, median, p90 } = *summary;
    [name.into()].into_iter().chain([median, p10, p90].map(time)).collect()
}

fn answers(results: &Comparison) -> String {
    let mut text = format!(
        "## Answers\n\nLargest difference to {REFERENCE}, as a part of the spread of its outputs; \
         allowed is {TOLERANCE:.0e}. Entropy is that of the softmax over logits, as a part of the \
         largest one: weights are made so that outputs are neither saturated nor flat.\n\n"
    );
    let peers = [BOX, TRACT, WEB];
    let row = |model: &ModelResult| {
        let cells = peers.iter().map(|peer| match model.differences.get(peer) {
            Some(difference) => format!("{:.1e}", difference.relative_max),
            None => "-".into(),
        });
        let character = &model.character;
        let entropy = character.entropy.map_or("-".into(), |entropy| format!("{entropy:.3}"));
        let about = [model.name.clone(), count(character.elements as u64)];
        let about = about.into_iter().chain([format!("{:.2}", character.spread), entropy]);
        about.chain(cells).collect()
    };
    let columns = ["model", "outputs", "spread", "entropy"].into_iter().chain(peers);
    text += &table(&columns.collect::<Vec<_>>(), results.models.iter().map(row));
    text
}

fn sameness(results: &Comparison) -> String {
    let mut text = "## The same bits\n\nOutputs, image, fuel and memory are compared bit for bit \
                    with those of the timed runs, each variant in a process of its own that loads \
                    the model itself.\n\n"
        .to_owned();
    for model in &results.models {
        let _ = writeln!(text, "- {}: {}", model.name, model.same.join(", "));
    }
    for skipped in &results.skipped {
        let _ = writeln!(text, "- left out: {skipped}");
    }
    text + "\n"
}

fn surroundings(results: &Comparison) -> String {
    let machine = &results.machine;
    let mut text = "## How it was measured\n\n".to_owned();
    let _ = writeln!(
        text,
        "All peers take turns on one model before the next one, for {} rounds of about 150 ms each \
         after one that does not count. They are processes of their own that keep the model loaded; \
         each run has its own clock. onnxruntime runs through its Python binding. A round in which \
         somebody had to wait for a core is replaced, up to twice; in the rounds that are left, the \
         longest wait was this part of a turn:\n",
        results.rounds
    );
    let waits = results.models.iter();
    let waits = waits.map(|model| format!("{} {:.0} %", model.name, model.waited * 100.0));
    let _ = writeln!(text, "{}.\n", waits.collect::<Vec<_>>().join(", "));
    let extensions = machine.extensions.join(", ");
    let _ = writeln!(text, "- CPU: {}, {} cores ({extensions})", machine.cpu, machine.cores);
    let _ = writeln!(text, "- memory: {}", bytes(machine.memory_bytes));
    let _ = writeln!(text, "- Linux {}", machine.kernel);
    let [before, after] = &machine.load;
    let _ = writeln!(text, "- load average: {before} before, {after} after");
    for (name, version) in &results.versions {
        let _ = writeln!(text, "- {name} {version}");
    }
    text
}

fn spread(ratio: Option<Summary>) -> String {
    let text = |Summary { p10, median, p90 }| format!("{median:.2} ({p10:.2} .. {p90:.2})");
    ratio.map_or("-".into(), text)
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("**{value:.2}**"))
}
