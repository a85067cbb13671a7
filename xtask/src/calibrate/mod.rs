//! `cargo xtask calibrate`: measures what a unit of fuel takes, for every operator, for memory, host calls,
//! kernels and whole models, searches for what takes longer, and writes `docs/fuel.json` (what was
//! measured) and `docs/fuel.md` (what follows from it).

mod fit;
mod report;

use crate::{
    machine::Machine,
    tools::{output, root, target_folder},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, process::Command};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passes over all work: others on the machine are not there in each of them.
    #[arg(long, default_value_t = 3)]
    passes: u32,
    /// Rounds of each kind of work in a pass; the least time of all counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of search, for each seed.
    #[arg(long, default_value_t = 60)]
    search: u32,
    /// Where searches begin.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Measure nothing: write the page of what docs/fuel.json has.
    #[arg(long, conflicts_with = "quick")]
    page: bool,
    /// One pass of one round, and a short search; written to target/calibrate: says whether it works.
    #[arg(long)]
    quick: bool,
}

/// Seconds of a quick search: some programs.
const QUICK_SEARCH: u32 = 3;

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    machine: String,
    passes: u32,
    rounds: u32,
    schedule: Schedule,
    work: Vec<Work>,
    searches: Vec<Search>,
}

impl Data {
    /// A line for each kind of work and each search.
    fn json(&self) -> Result<String> {
        let Self { machine, passes, rounds, schedule, work, searches } = self;
        let lines = |lines: Result<Vec<String>, _>| -> Result<String, serde_json::Error> {
            lines.map(|lines| lines.join(",\n"))
        };
        Ok(format!(
            "{{\"machine\": {},\n\"passes\": {passes},\n\"rounds\": {rounds},\n\"schedule\": {},\n\
             \"work\": [\n{}\n],\n\"searches\": [\n{}\n]}}\n",
            serde_json::to_string(machine)?,
            serde_json::to_string(schedule)?,
            lines(work.iter().map(serde_json::to_string).collect())?,
            lines(searches.iter().map(serde_json::to_string).collect())?,
        ))
    }
}

/// The cost schedule that it was measured with.
#[derive(Debug, Serialize, Deserialize)]
struct Schedule {
    cost_schedule: u32,
    pages_free: u64,
    page_fuel: u64,
    distance_pages: u64,
    distance_max: u64,
    classes: Vec<Class>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Class {
    name: String,
    weight: u32,
    operators: Vec<String>,
}

/// A kind of work.
#[derive(Debug, Serialize, Deserialize)]
struct Work {
    name: String,
    class: String,
    /// What a step of a chain executes, and how many steps there were; of operators only.
    operators: Vec<String>,
    turns: u64,
    fuel: u64,
    memory_bytes: u64,
    micro_credits: u64,
    /// CPU time: the least of all rounds, and the median of the first pass.
    ns: u64,
    ns_median: u64,
}

impl Work {
    fn ns_per_fuel(&self) -> f64 {
        self.ns as f64 / self.fuel as f64
    }

    fn ns_per_micro_credit(&self) -> f64 {
        self.ns as f64 / self.micro_credits as f64
    }

    fn is_model(&self) -> bool {
        self.class == "model"
    }
}

/// A search: how many programs it looked at, and the worst of them.
#[derive(Debug, Serialize, Deserialize)]
struct Search {
    seed: u64,
    seconds: u32,
    programs: u64,
    worst: Program,
}

#[derive(Debug, Serialize, Deserialize)]
struct Program {
    programs: u64,
    ns_per_micro_credit: f64,
    fuel: u64,
    ns: u64,
    pages: u32,
    subnormal: bool,
    statements: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    let folder =
        if arguments.quick { target_folder(root)?.join("calibrate") } else { root.join("docs") };
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (json, page) = (folder.join("fuel.json"), folder.join("fuel.md"));
    if !arguments.page {
        let data = match arguments {
            Arguments { quick: true, .. } => measure(1, 1, QUICK_SEARCH, &[1])?,
            Arguments { passes, rounds, search, seeds, .. } => {
                measure(*passes, *rounds, *search, seeds)?
            }
        };
        fs::write(&json, data.json()?)?;
    }
    let data = fs::read(&json).with_context(|| json.display().to_string())?;
    fs::write(&page, report::markdown(&serde_json::from_slice(&data)?)?)?;
    eprintln!("{} and {} are written", json.display(), page.display());
    Ok(())
}

fn measure(passes: u32, rounds: u32, seconds: u32, seeds: &[u64]) -> Result<Data> {
    let root = root()?;
    eprintln!("building ...");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--locked", "-p", "fuelbox-bench-box"]);
    ensure!(build.current_dir(root).status()?.success(), "fuelbox-bench-box does not build");
    let target = target_folder(root)?;
    let (program, cache) =
        (target.join("release/fuelbox-bench-box"), target.join("calibrate-cache"));
    let mut machine = Machine::here();
    let pass = |number: u32| -> Result<(Schedule, Vec<Work>)> {
        eprintln!("measuring, pass {number} of {passes} ...");
        let mut calibrate = Command::new(&program);
        calibrate.arg("calibrate").arg(&cache).arg(rounds.to_string());
        let lines = output(&mut calibrate)?;
        let mut lines = lines.lines();
        let schedule = serde_json::from_str(lines.next().context("no first line")?)?;
        Ok((schedule, lines.map(serde_json::from_str).collect::<Result<_, _>>()?))
    };
    let (schedule, mut work) = pass(1)?;
    for number in 2..=passes {
        for (work, again) in work.iter_mut().zip(pass(number)?.1) {
            ensure!(
                (&work.name, work.fuel) == (&again.name, again.fuel),
                "{}: other fuel",
                work.name
            );
            work.ns = work.ns.min(again.ns);
        }
    }
    let mut searches = Vec::new();
    for &seed in seeds {
        eprintln!("searching, {seconds} s, seed {seed} ...");
        // Each program leaves an image: gigabytes, of no use to anybody.
        let cache = cache.with_extension("search");
        let mut search = Command::new(&program);
        search.arg("search").arg(&cache).args([seconds.to_string(), seed.to_string()]);
        let lines = output(&mut search);
        if cache.exists() {
            fs::remove_dir_all(&cache).with_context(|| cache.display().to_string())?;
        }
        let lines = lines?;
        let lines: Vec<_> = lines.lines().collect();
        let [.., worst, last] = lines.as_slice() else {
            anyhow::bail!("a search of {seconds} s found no program")
        };
        #[derive(Deserialize)]
        struct Last {
            programs: u64,
        }
        let Last { programs } = serde_json::from_str(last)?;
        let worst = serde_json::from_str(worst)?;
        searches.push(Search { seed, seconds, programs, worst });
    }
    machine.done();
    Ok(Data { machine: machine.line(), passes, rounds, schedule, work, searches })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is what is read.
    #[test]
    fn data_have_one_form() {
        let bytes = fs::read(root().expect("a tree").join("docs/fuel.json")).expect("data");
        let data: Data = serde_json::from_slice(&bytes).expect("what was measured");
        assert!(data.json().expect("a file").as_bytes() == bytes);
    }

    /// The page says what the data say.
    #[test]
    fn the_page_is_that_of_the_data() {
        let folder = root().expect("a tree").join("docs");
        let data = fs::read(folder.join("fuel.json")).expect("data");
        let data = serde_json::from_slice(&data).expect("what was measured");
        let page = fs::read_to_string(folder.join("fuel.md")).expect("a page");
        assert!(page == report::markdown(&data).expect("a page"), "`cargo xtask calibrate --page`");
    }
}
