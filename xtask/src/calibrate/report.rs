//! The page about fuel, from what was measured.

use super::{Class, Data, Search, Work, fit};
use crate::{
    statistics::median,
    units::{count, table},
};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// How much longer than the models' median anything may take for its price: the goal of the schedule.
const WORST_RATIO: f64 = 10.0;
/// How far models may be apart.
const MODELS_RATIO: f64 = 1.5;
/// Operators that are shown for each class, the slowest first.
const SHOWN: usize = 2;

pub(super) fn markdown(data: &Data) -> Result<String> {
    let models: Vec<&Work> = data.work.iter().filter(|work| work.is_model()).collect();
    let by_fuel = Spread::of(&models, Work::ns_per_fuel)?;
    let by_price = Spread::of(&models, Work::ns_per_micro_credit)?;
    let mut page = String::new();
    page += "# What a unit of fuel takes\n\n";
    page += "This page is written by `cargo xtask calibrate`, from [fuel.json](fuel.json), which is what it \
             measured; do not edit it. Why the schedule is as it is: [decision 19](decisions/0019-fuel-that-means-time.md).\n\n";
    page += "Fuel is counted the same everywhere; how long a unit takes is not the same for all work. Times are \
             CPU time of a whole job in a fresh sandbox, its reset included, the least of all rounds. A price is that of \
             the default schedule of prices, the minimum included; a price of 100 micro-credits is a million fuel in a \
             small memory.\n\n";
    page += &goals(data, &models, &by_fuel, &by_price)?;
    page += &model_table(&models, &by_fuel, &by_price);
    page += &worst_table(data, &by_fuel, &by_price);
    page += &operator_table(data, &by_fuel)?;
    page += &other_table(data, &by_fuel, &by_price);
    page += &search_text(&data.searches, &by_price);
    page += "## Surroundings\n\n";
    let schedule = data.schedule.cost_schedule;
    page += &format!(
        "Cost schedule {schedule}, {} passes of {} rounds. {}",
        data.passes, data.rounds, data.machine
    );
    Ok(page)
}

/// What models take for something.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
    /// Of a line through zero.
    determination: f64,
}

impl Spread {
    fn of(models: &[&Work], each: impl Fn(&Work) -> f64) -> Result<Self> {
        let values: Vec<f64> = models.iter().map(|work| each(work)).collect();
        let median = median(&values).context("no models were measured")?;
        let expected: Vec<f64> = models
            .iter()
            .zip(&values)
            .map(|(work, value)| work.ns as f64 / value * median)
            .collect();
        let found: Vec<f64> = models.iter().map(|work| work.ns as f64).collect();
        Ok(Self {
            least: values.iter().copied().fold(f64::MAX, f64::min),
            median,
            most: values.iter().copied().fold(0.0, f64::max),
            determination: fit::determination_of_logarithms(&expected, &found),
        })
    }
}

/// All that is not a model or an empty job, by what it takes for its price, the worst first.
fn attacks<'a>(data: &'a Data, by_price: &Spread) -> Vec<(&'a Work, f64)> {
    let others = data.work.iter().filter(|work| !work.is_model());
    let mut others: Vec<_> =
        others.map(|work| (work, work.ns_per_micro_credit() / by_price.median)).collect();
    others.sort_by(|one, other| other.1.total_cmp(&one.1));
    others
}

fn verdict(found: f64, allowed: f64) -> String {
    if found <= allowed { "reached".into() } else { "**missed**".into() }
}

fn goals(data: &Data, models: &[&Work], by_fuel: &Spread, by_price: &Spread) -> Result<String> {
    let attacks = attacks(data, by_price);
    let (worst, worst_ratio) = attacks.first().context("nothing but models was measured")?;
    let searched = data.searches.iter().map(|search| search.worst.ns_per_micro_credit);
    let searched = searched.fold(0.0, f64::max) / by_price.median;
    let apart = |spread: &Spread| spread.most / spread.least;
    let mut text = "## Goals\n\n".to_owned();
    let row = |what: String, found: f64, allowed: f64| {
        vec![what, format!("{found:.2}"), format!("at most {allowed:.2}"), verdict(found, allowed)]
    };
    text += &table(
        &["", "found", "goal", ""],
        [
            row("models, slowest by fastest for their price".into(), apart(by_price), MODELS_RATIO),
            row("models, slowest by fastest for their fuel".into(), apart(by_fuel), MODELS_RATIO),
            row(
                format!("worst work found, by the models' median: {}", worst.name),
                *worst_ratio,
                WORST_RATIO,
            ),
            row("worst program of the searches".into(), searched, WORST_RATIO),
        ],
    );
    text += &format!(
        "Fuel explains {:.2} % of what differs between the times of the {} models, price {:.2} % (coefficient of \
         determination, of logarithms).\n\n",
        100.0 * by_fuel.determination,
        models.len(),
        100.0 * by_price.determination
    );
    Ok(text)
}

fn ratios(work: &Work, by_fuel: &Spread, by_price: &Spread) -> Vec<String> {
    vec![
        format!("{:.3}", work.ns_per_fuel()),
        format!("{:.2}", work.ns_per_fuel() / by_fuel.median),
        format!("{:.2}", work.ns_per_micro_credit() / by_price.median),
    ]
}

fn model_table(models: &[&Work], by_fuel: &Spread, by_price: &Spread) -> String {
    let row = |work: &&Work| {
        let mut row = vec![
            work.name.clone(),
            count(work.fuel),
            count(work.micro_credits),
            count(work.ns / 1_000),
        ];
        row.extend(ratios(work, by_fuel, by_price));
        row
    };
    let columns = [
        "model",
        "fuel",
        "micro-credits",
        "us",
        "ns a unit",
        "by the median",
        "for its price, by the median",
    ];
    format!("## Models\n\n{}", table(&columns, models.iter().map(row)))
}

fn worst_table(data: &Data, by_fuel: &Spread, by_price: &Spread) -> String {
    let rows = attacks(data, by_price).into_iter().take(15).map(|(work, _)| {
        let mut row = vec![work.name.clone(), work.class.clone()];
        row.extend(ratios(work, by_fuel, by_price));
        row
    });
    let columns = ["work", "", "ns a unit", "by the models' median", "for its price"];
    format!(
        "## What takes longest for its price\n\n{}{}\n\n",
        table(&columns, rows),
        "The Intel Xeon that weights were fitted on first multiplies and adds 16 numbers in 0.15 ns, and in 40 when one of them is subnormal. Kernels count \
         such steps of products and charge for them; their other operations, and a guest's own multiplications and \
         divisions, cost what they take on such numbers."
    )
}

fn operator_table(data: &Data, by_fuel: &Spread) -> Result<String> {
    let classes = &data.schedule.classes;
    // The engine writes `I64TruncSatF64U`, modules `i64.trunc_sat_f64_u`.
    let plain = |name: &str| name.replace(['.', '_'], "").to_ascii_lowercase();
    let class_of: BTreeMap<String, usize> = classes
        .iter()
        .enumerate()
        .flat_map(|(at, class)| class.operators.iter().map(move |name| (plain(name), at)))
        .collect();
    // A step's operators by class. A chain keeps nothing in memory, and what it begins with is on no path.
    let counts = |work: &Work| -> Result<Vec<f64>> {
        let mut counts = vec![0.0; classes.len()];
        for name in &work.operators {
            let class = class_of.get(&plain(name));
            counts[*class.with_context(|| format!("operator {name} has no class"))?] += 1.0;
        }
        Ok(counts)
    };
    let steps: Vec<&Work> = data.work.iter().filter(|work| work.turns > 0).collect();
    let each = |work: &&Work| work.ns as f64 / work.turns as f64;
    let ordinary: Vec<&Work> =
        steps.iter().filter(|work| !work.name.ends_with("subnormal")).copied().collect();
    let rows = ordinary.iter().map(|work| counts(work)).collect::<Result<Vec<_>>>()?;
    let found: Vec<f64> = ordinary.iter().map(each).collect();
    let times = fit::non_negative(&rows, &found);
    let expected: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().zip(&times).map(|(count, time)| count * time).sum())
        .collect();
    let determination = fit::determination(&expected, &found);
    // The slowest steps of the class that costs the most in them.
    let mut slowest: Vec<Vec<(&Work, f64)>> = vec![Vec::new(); classes.len()];
    for work in &steps {
        let row = counts(work)?;
        let dearest = (0..classes.len())
            .filter(|&at| row[at] > 0.0)
            .max_by_key(|&at| classes[at].weight)
            .context("a step has operators")?;
        slowest[dearest].push((work, each(work)));
    }
    let mut text = "## Operators\n\n".to_owned();
    text += &format!(
        "{} chains of operators, each step of which needs what the one before gave. *Fitted* is the time of one of \
         the class, by least squares over all chains with ordinary numbers, none below zero (coefficient of \
         determination {determination:.2}: a class is what takes about the same at its worst, not on average). *Needed* \
         is the least whole number that keeps the slowest chain within {WORST_RATIO:.0} times of the models' median; \
         a weight is that or more. Classes without chains are measured below.\n\n",
        steps.len()
    );
    let rows = classes.iter().zip(&times).zip(&mut slowest).map(|((class, time), slowest)| {
        slowest.sort_by(|one, other| other.1.total_cmp(&one.1));
        let Class { name, weight, operators } = class;
        let shown: Vec<_> = slowest
            .iter()
            .take(SHOWN)
            .map(|(work, ns)| format!("`{}` {ns:.1}", work.name))
            .collect();
        let needed = slowest
            .iter()
            .map(|(work, ns)| {
                // What the other operators of the step pay for.
                let rest = work.fuel as f64 / work.turns as f64 - f64::from(*weight);
                (ns / (WORST_RATIO * by_fuel.median) - rest).ceil()
            })
            .fold(None, |most: Option<f64>, needed| {
                Some(most.map_or(needed, |most| most.max(needed)))
            });
        vec![
            name.clone(),
            operators.len().to_string(),
            weight.to_string(),
            needed.map_or("-".into(), |needed| (needed as u64).to_string()),
            if slowest.is_empty() { "-".into() } else { format!("{time:.2}") },
            if shown.is_empty() { "-".into() } else { shown.join(", ") },
        ]
    });
    let columns = ["class", "operators", "weight", "needed", "fitted, ns", "slowest steps, ns"];
    text += &table(&columns, rows);
    Ok(text)
}

fn other_table(data: &Data, by_fuel: &Spread, by_price: &Spread) -> String {
    let others = data.work.iter().filter(|work| work.turns == 0 && !work.is_model());
    let rows = others.map(|work| {
        let mut row = vec![
            work.name.clone(),
            count(work.fuel),
            count(work.memory_bytes >> 20),
            count(work.ns / 1_000),
        ];
        row.extend(ratios(work, by_fuel, by_price));
        row
    });
    let columns =
        ["work", "fuel", "MiB", "us", "ns a unit", "by the models' median", "for its price"];
    let super::Schedule { pages_free, page_fuel, distance_pages, distance_max, .. } = data.schedule;
    format!(
        "## Memory, calls, host calls, kernels\n\nA page of 64 KiB beyond {pages_free} costs {} fuel, and every \
         {distance_pages} of them make a guest's own fuel count once more, up to {distance_max} times.\n\n{}",
        count(page_fuel),
        table(&columns, rows)
    )
}

fn search_text(searches: &[Search], by_price: &Spread) -> String {
    let mut text = "## Searches\n\nRandom programs of operators, memory, calls and host calls, and a climb from the best of \
                    them by small changes. The worst of each, by what it takes for its price:\n\n"
        .to_owned();
    for Search { seed, seconds, programs, worst } in searches {
        let numbers = if worst.subnormal { "subnormal" } else { "ordinary" };
        text += &format!(
            "- Seed {seed}, {seconds} s, {} programs: {:.2} times the models' median; {} pages, {numbers} numbers, a loop of:\n",
            count(*programs),
            worst.ns_per_micro_credit / by_price.median,
            worst.pages
        );
        let mut statements: Vec<(&str, usize)> = Vec::new();
        for statement in &worst.statements {
            match statements.iter_mut().find(|(known, _)| known == statement) {
                Some((_, times)) => *times += 1,
                None => statements.push((statement, 1)),
            }
        }
        for (statement, times) in statements {
            text += &format!("  - {times} times `{statement}`\n");
        }
    }
    text + "\n"
}
