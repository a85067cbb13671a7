//! The host's own failures, made to happen: errors with an exit code of their own, no verdict, no bill,
//! nothing left behind.

use crate::flow::cli::{fuelbox, stderr, stdout};
use fuelbox_test_support::guest::Guest;
use std::{fs, path::Path, process::Command};

/// A guest that grows its memory by 1 GiB for each job, packed.
fn greedy(folder: &Path) -> std::path::PathBuf {
    let (wasm, package) = (folder.join("greedy.wasm"), folder.join("greedy.fbx"));
    let grow = "(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))";
    fs::write(&wasm, Guest::running(grow).wasm()).unwrap();
    let mut pack = fuelbox("pack --guest");
    let output = pack.arg(&wasm).arg("-o").arg(&package).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    package
}

/// Runs the package under limits of the shell, and gives what it says.
fn fault(package: &Path, cache: &Path, limits: &str) -> String {
    let script = format!("{limits}; exec \"$0\" run --random 1 --json \"$1\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_fuelbox")]).arg(package);
    let output = command.env("FUELBOX_CACHE", cache).env_remove("RUST_BACKTRACE").output().unwrap();
    let (stdout, stderr) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(6), "{limits}\n{stdout}\n{stderr}");
    assert_eq!(stdout, "", "a fault has no verdict and no bill");
    stderr
}

fn run(package: &Path, cache: &Path) -> String {
    let mut command = fuelbox("run --random 1 --json");
    let output = command.arg(package).env("FUELBOX_CACHE", cache).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn a_host_out_of_memory_is_a_fault_and_not_the_guests_failure() {
    let folder = tempfile::tempdir().unwrap();
    let package = greedy(folder.path());
    let cache = folder.path().join("cache");
    let good = run(&package, &cache);
    // No address space for a slot.
    let said = fault(&package, &cache, "ulimit -v 3000000");
    assert!(said.starts_with("error: memory for a job: "), "{said}");
    // A slot, and no memory to grow it: the guest would trap if it saw its growth fail.
    let said = fault(&package, &cache, "ulimit -d 600000");
    assert!(said.contains("memory could not grow within its limit"), "{said}");
    let fuel =
        |json: &str| json.split("\"fuel\":").nth(1).unwrap().split('}').next().unwrap().to_owned();
    assert_eq!(fuel(&run(&package, &cache)), fuel(&good), "and the next job is as if nothing was");
}

#[test]
fn a_full_disk_is_a_fault_and_leaves_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let package = greedy(folder.path());
    let cache = folder.path().join("cache");
    // Files may have no bytes; the signal that would say so is ignored, so that writing fails.
    let said = fault(&package, &cache, "trap '' XFSZ; ulimit -f 0");
    assert!(said.starts_with("error: cache "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    run(&package, &cache);
    let unfinished = fs::read_dir(cache.join("unfinished")).unwrap().count();
    assert_eq!(unfinished, 0, "nothing is left of what failed");
}
