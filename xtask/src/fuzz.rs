//! `cargo xtask fuzz`: builds the fuzz targets and lets each run for a while, from its seeds and from what
//! it found of interest before.
//!
//! With the stable compiler: what cargo-fuzz takes a nightly one for are a sanitizer and counters of
//! coverage, which are behind flags that are switched on here by hand.

use crate::tools::{root, target_folder};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets; all of them when none is given.
    targets: Vec<String>,
    /// Seconds of each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Write what each target needs of all that it found of interest to fuzz/seeds.
    #[arg(long)]
    keep: bool,
}

/// What cargo-fuzz gives the compiler.
const FLAGS: [&str; 9] = [
    "--cfg fuzzing",
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebuginfo=line-tables-only",
    "-Cforce-frame-pointers=yes",
];

/// Memory of a target, in MiB: with the sanitizer's own, and a sandbox's.
const MEMORY_MIB: u64 = 4_096;

/// Bytes of a file under fuzz/seeds: they are in the repository.
const SEED_BYTES_MAX: u64 = 4 << 10;
/// Seeds of a target: what a run begins with; the rest it finds again in a minute.
const SEEDS_MAX: usize = 32;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    let folder = target_folder(root)?.join("fuzz");
    let known = targets(root)?;
    for target in &arguments.targets {
        ensure!(known.contains(target), "no target '{target}', there are {}", known.join(", "));
    }
    let host = host()?;
    eprintln!("building ...");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--bins", "--target", &host])
        .arg("--manifest-path")
        .arg(root.join("fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("RUSTC_BOOTSTRAP", "1")
        .status()?;
    ensure!(status.success(), "the targets do not build");
    let wanted = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    for target in wanted {
        let program = folder.join(&host).join("release").join(target);
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let findings = folder.join("findings").join(target);
        fs::create_dir_all(&findings).with_context(|| findings.display().to_string())?;
        let seeds = seeds(root, target);
        eprintln!("{target}: {} s ...", arguments.seconds);
        let mut fuzz = Command::new(&program);
        fuzz.arg(format!("-max_total_time={}", arguments.seconds));
        fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
        fuzz.args(["-print_final_stats=1", "-verbosity=0", "-print_funcs=0", "-len_control=0"]);
        fuzz.arg(&corpus).args(&seeds);
        let status = fuzz.status().with_context(|| program.display().to_string())?;
        ensure!(status.success(), "{target}: a finding in {}", findings.display());
        if arguments.keep {
            keep(&program, &corpus, &root.join("fuzz/seeds").join(target))?;
        }
    }
    Ok(())
}

/// The targets, by the names of their files.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.context("a target has a name")?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// What a target starts from: its own seeds, and files of the tests.
fn seeds(root: &Path, target: &str) -> Vec<PathBuf> {
    let golden = match target {
        "messages" => Some("guest/abi/tests/golden"),
        "receipts" => Some("tests/golden/receipts"),
        _ => None,
    };
    let folders = [Some(format!("fuzz/seeds/{target}")), golden.map(str::to_owned)];
    let folders = folders.into_iter().flatten().map(|folder| root.join(folder));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// Writes the small files among those that are enough to reach what all of the corpus reaches.
fn keep(program: &Path, corpus: &Path, seeds: &Path) -> Result<()> {
    let enough = corpus.with_extension("enough");
    if enough.exists() {
        fs::remove_dir_all(&enough)?;
    }
    fs::create_dir_all(&enough)?;
    let status = Command::new(program).arg("-merge=1").arg(&enough).arg(corpus).status()?;
    ensure!(status.success(), "{}: merge", program.display());
    let mut files = Vec::new();
    for file in fs::read_dir(&enough)? {
        let file = file?;
        let len = file.metadata()?.len();
        if len <= SEED_BYTES_MAX {
            files.push((len, file.file_name(), file.path()));
        }
    }
    files.sort();
    if seeds.exists() {
        fs::remove_dir_all(seeds)?;
    }
    fs::create_dir_all(seeds)?;
    // Of all sizes.
    let step = files.len().div_ceil(SEEDS_MAX).max(1);
    for (_, name, path) in files.into_iter().step_by(step) {
        fs::copy(path, seeds.join(name))?;
    }
    Ok(())
}

/// What this compiler builds for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc says no host")?.to_owned())
}
