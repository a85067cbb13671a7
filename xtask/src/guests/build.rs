//! One run of cargo that builds all guests, so that their links (minutes each) run side by side.

use super::toolchain::{TARGET, Toolchain};
use anyhow::{Context, Result, ensure};
use std::{ffi::OsString, fs, path::Path, process::Command};

/// The profile in the workspace's manifest.
pub(super) const PROFILE: &str = "guest";

/// Flags that decide what the code is. 128-bit SIMD, and not its relaxed kind, whose results depend on
/// the machine.
pub(super) const FLAGS: [&str; 2] = ["-C", "target-feature=+simd128"];

/// Builds these packages; the modules come in the same order.
pub(super) fn modules(toolchain: &Toolchain, packages: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(&toolchain.workspace)
        .args(["build", "--locked", "--target", TARGET, "--profile", PROFILE])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain))
        .env("CARGO_TARGET_DIR", &toolchain.target_folder)
        .env_remove("RUSTFLAGS")
        // Incremental code is split into other units, which gives other bytes.
        .env("CARGO_INCREMENTAL", "0");
    let status = cargo.status().with_context(|| format!("{cargo:?}"))?;
    ensure!(status.success(), "{cargo:?}: {status}");
    let folder = toolchain.target_folder.join(TARGET).join(PROFILE);
    packages.iter().map(|package| module(&folder, package)).collect()
}

fn module(folder: &Path, package: &str) -> Result<Vec<u8>> {
    let path = folder.join(package.replace('-', "_")).with_extension("wasm");
    fs::read(&path).with_context(|| path.display().to_string())
}

/// The flags, and fixed names for the folders of this machine, which end up in panic messages.
/// Cargo's separator between flags is 0x1f, so folders may have spaces.
fn rustflags(toolchain: &Toolchain) -> OsString {
    let mut flags = OsString::from(FLAGS.join("\x1f"));
    // Of two that match the later one counts: a target folder is often inside of its workspace.
    for (from, to) in [
        (&toolchain.workspace, "/fuelbox"),
        (&toolchain.target_folder, "/target"),
        (&toolchain.cargo_home, "/cargo"),
        (&toolchain.sysroot, "/rust"),
    ] {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}
