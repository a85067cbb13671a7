//! `cargo xtask guests`: builds the guests for Wasm and writes them to `guest/prebuilt`, each
//! compressed, with a list of digests, sizes, toolchain and flags.
//!
//! Invariant: the same sources, lock file and toolchain give the same bytes, whatever the folders of
//! workspace, target, Cargo home and toolchain. `--check` builds again and compares.

mod toolchain;
mod build;
mod list;

use anyhow::{Context, Result, bail};
use list::{Entry, List};
use std::{fs, path::PathBuf};
use toolchain::Toolchain;

/// The guests, by the names of their packages and of the files in `guest/prebuilt`.
const GUESTS: [Guest; 2] = [
    Guest { name: "onnx", package: "fuelbox-onnx" },
    Guest { name: "digits-image", package: "digits-image-guest" },
];

/// zstd's best level short of "ultra", whose windows take more memory to open.
const COMPRESSION_LEVEL: i32 = 19;

struct Guest {
    name: &'static str,
    package: &'static str,
}

/// Arguments of this chore.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the bytes differ from those in guest/prebuilt.
    #[arg(long)]
    check: bool,
    /// Write to this folder instead of guest/prebuilt.
    #[arg(long, conflicts_with = "check")]
    out: Option<PathBuf>,
}

/// Runs the chore.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let prebuilt = toolchain.workspace.join("guest/prebuilt");
    if arguments.check {
        // Read before minutes are spent on a build.
        let listed = List::read(&prebuilt)?;
        return check(&listed, &build_all(&toolchain)?);
    }
    let folder = arguments.out.as_ref().unwrap_or(&prebuilt);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    write(folder, &build_all(&toolchain)?)
}

/// The modules in the order of [`GUESTS`], and what they were built with.
struct Built {
    modules: Vec<Vec<u8>>,
    list: List,
}

fn build_all(toolchain: &Toolchain) -> Result<Built> {
    let packages = GUESTS.map(|guest| guest.package);
    let modules = build::modules(toolchain, &packages)?;
    let entries = GUESTS.iter().zip(&modules);
    let list = List {
        rustc: toolchain.rustc.clone(),
        target: toolchain::TARGET.into(),
        standard_library_sha256: toolchain.standard_library_sha256()?,
        profile: build::PROFILE.into(),
        rustflags: build::FLAGS.map(String::from).to_vec(),
        guests: entries.map(|(guest, module)| Entry::of(guest.name, module)).collect(),
    };
    Ok(Built { modules, list })
}

fn check(listed: &List, built: &Built) -> Result<()> {
    let mut problems = Vec::new();
    for found in &built.list.guests {
        match listed.guests.iter().find(|entry| entry.name == found.name) {
            Some(entry) if entry.sha256 == found.sha256 => {
                println!("{}: sha256 {} as listed", found.name, found.sha256);
            }
            Some(entry) => problems.push(format!(
                "{}: sha256 {} built, {} listed",
                found.name, found.sha256, entry.sha256
            )),
            None => problems.push(format!("{}: not listed", found.name)),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    // Other bytes are no wonder where the tools are others: say so first.
    problems.splice(0..0, listed.differences_in_tools(&built.list));
    bail!(
        "prebuilt guests differ from their sources:\n  {}\nto write new ones: cargo xtask guests",
        problems.join("\n  ")
    )
}

fn write(folder: &std::path::Path, built: &Built) -> Result<()> {
    for (entry, module) in built.list.guests.iter().zip(&built.modules) {
        let path = folder.join(format!("{}.wasm.zst", entry.name));
        let compressed = zstd::bulk::compress(module, COMPRESSION_LEVEL)?;
        fs::write(&path, &compressed).with_context(|| path.display().to_string())?;
        println!(
            "{}: {} bytes, {} compressed, sha256 {}",
            entry.name,
            entry.size_bytes,
            compressed.len(),
            entry.sha256
        );
    }
    built.list.write(folder)
}
