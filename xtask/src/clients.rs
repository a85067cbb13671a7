//! `cargo xtask clients`: clients that others wrote, and our own, against a real server.
//!
//! In: `tests/clients`, `clients/python`, and the binary. Out: nothing, or the first suite that fails.
//! Everything is installed into virtual environments in the target folder, in pinned versions, once.

use crate::tools::{need, root, target_folder, works};
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A set of packages that install together, and what they test.
struct Suite {
    name: &'static str,
    requirements: &'static str,
    /// Whether the tests use our own package.
    own: bool,
    /// Folders, each of them a process: tritonclient and kserve bring the same messages for gRPC, and one
    /// process takes them from one only.
    tests: &'static [&'static str],
}

/// mlserver stands apart: it asks for an older fastapi than kserve.
const SUITES: [Suite; 2] = [
    Suite {
        name: "clients",
        requirements: "tests/clients/requirements.txt",
        own: true,
        tests: &["clients/python", "tests/clients", "tests/clients/kserve"],
    },
    Suite {
        name: "mlserver",
        requirements: "tests/clients/mlserver/requirements.txt",
        own: false,
        tests: &["tests/clients/mlserver"],
    },
];

/// Our own package.
const PACKAGE: &str = "clients/python";

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Test this binary, in place of a debug build of this tree.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// For pytest, such as `-k stream`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    need("python3", "Python 3.11 or later with its venv module (Debian: python3 python3-venv)")?;
    need("curl", "curl")?;
    let root = root()?;
    let target = target_folder(root)?;
    let binary = match &arguments.bin {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => build(root, &target)?,
    };
    let folder = target.join("clients-venv");
    let mut failed = Vec::new();
    for suite in &SUITES {
        let python = environment(root, &folder, suite)?;
        for tests in suite.tests {
            println!("--- {tests}");
            if !pytest(&python, &root.join(tests), &binary, &arguments.pytest)? {
                failed.push(*tests);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let mut build = Command::new(env!("CARGO"));
    // As `cargo build` at the top: with another selection, other features would be built.
    build.args(["build", "--quiet"]).current_dir(root);
    ensure!(build.status()?.success(), "fuelbox does not build");
    Ok(target.join("debug/fuelbox"))
}

/// The interpreter of a suite's environment, which is made where there is none for these versions.
fn environment(root: &Path, folder: &Path, suite: &Suite) -> Result<PathBuf> {
    let requirements = root.join(suite.requirements);
    let wanted = fs::read_to_string(&requirements).context(suite.requirements)?;
    let venv = folder.join(suite.name);
    let python = venv.join("bin/python");
    // Written last: an installation that was broken off is made anew.
    let installed = venv.join("installed.txt");
    let complete = fs::read_to_string(&installed).is_ok_and(|found| found == wanted);
    if !complete || !works(Command::new(&python).arg("--version")) {
        eprintln!("installing {} ...", suite.requirements);
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status()?;
        ensure!(
            made.success(),
            "python3 -m venv failed: install its venv module (Debian: python3-venv)"
        );
        pip(&python, &["-r".as_ref(), requirements.as_os_str()])?;
        fs::write(&installed, &wanted)?;
    }
    if suite.own {
        // As a user installs it, but with the versions above and nothing from elsewhere.
        let package = root.join(PACKAGE);
        let options = ["--no-deps", "--no-build-isolation", "--force-reinstall"].map(OsStr::new);
        pip(&python, &[&options[..], &[package.as_os_str()]].concat())?;
    }
    Ok(python)
}

fn pip(python: &Path, arguments: &[&OsStr]) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    let status = pip.args(arguments).status()?;
    ensure!(status.success(), "pip cannot install: is there a package index?");
    Ok(())
}

/// Runs the tests of a folder; whether all of them passed.
fn pytest(python: &Path, tests: &Path, binary: &Path, more: &[String]) -> Result<bool> {
    let folder = python.ancestors().nth(2).context("an interpreter in an environment")?;
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp"])
        .arg(folder.join("tmp"))
        .arg(".")
        .args(more)
        // pytest's settings are those of the nearest folder above.
        .current_dir(tests)
        .env("FUELBOX_BIN", binary)
        // The tree stays as it is.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let status = pytest.status()?;
    match status.code() {
        Some(0) => Ok(true),
        // None of the tests that were asked for is here.
        Some(5) if !more.is_empty() => Ok(true),
        Some(_) => Ok(false),
        None => bail!("pytest was ended: {status}"),
    }
}
