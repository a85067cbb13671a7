//! Who may know whom: the crates' dependencies are those of ARCHITECTURE.md.

use super::cli::root;
use serde_json::Value;
use std::{collections::BTreeMap, fs, process::Command};

/// Each crate with all the crates of this workspace that it may depend on, at run time.
const ALLOWED: [(&str, &[&str]); 21] = [
    ("fuelbox-abi", &[]),
    ("fuelbox-kernels", &[]),
    ("fuelbox-sdk", &["fuelbox-abi", "fuelbox-kernels"]),
    ("fuelbox-onnx", &["fuelbox-abi", "fuelbox-sdk"]),
    ("digits-image-guest", &["fuelbox-abi", "fuelbox-sdk"]),
    ("fuelbox-prebuilt", &[]),
    ("fuelbox-digest", &[]),
    ("fuelbox-engine", &["fuelbox-abi", "fuelbox-digest", "fuelbox-kernels"]),
    ("fuelbox-ledger", &[]),
    ("fuelbox-receipt", &["fuelbox-digest"]),
    (
        "fuelbox-jobs",
        &["fuelbox-abi", "fuelbox-digest", "fuelbox-engine", "fuelbox-ledger", "fuelbox-receipt"],
    ),
    ("fuelbox-oip", &["fuelbox-abi", "fuelbox-engine"]),
    (
        "fuelbox-server",
        &[
            "fuelbox-abi",
            "fuelbox-digest",
            "fuelbox-engine",
            "fuelbox-jobs",
            "fuelbox-ledger",
            "fuelbox-oip",
            "fuelbox-receipt",
        ],
    ),
    ("fuelbox-attack", &["fuelbox-abi", "fuelbox-engine", "fuelbox-kernels"]),
    (
        "fuelbox",
        &[
            "fuelbox-abi",
            "fuelbox-attack",
            "fuelbox-engine",
            "fuelbox-jobs",
            "fuelbox-ledger",
            "fuelbox-oip",
            "fuelbox-prebuilt",
            "fuelbox-receipt",
            "fuelbox-server",
        ],
    ),
    (
        "fuelbox-test-support",
        &["fuelbox-abi", "fuelbox-attack", "fuelbox-engine", "fuelbox-prebuilt"],
    ),
    (
        "fuelbox-bench-box",
        &[
            "fuelbox-abi",
            "fuelbox-engine",
            "fuelbox-jobs",
            "fuelbox-kernels",
            "fuelbox-prebuilt",
            "fuelbox-test-support",
        ],
    ),
    ("fuelbox-bench-tract", &[]),
    ("fuelbox-load", &[]),
    ("fuelbox-bench-host", &["fuelbox-abi", "fuelbox-engine", "fuelbox-jobs", "fuelbox-ledger"]),
    ("xtask", &["fuelbox-load"]),
];

/// What must never be found below a crate: the host does not link tract, guests do not link the host.
const FORBIDDEN: [(&str, &[&str]); 8] = [
    ("fuelbox", &["tract-core", "tract-onnx"]),
    ("fuelbox-jobs", &["tokio", "axum", "clap"]),
    ("fuelbox-engine", &["tract-core", "clap", "tokio", "rusqlite"]),
    ("fuelbox-ledger", &["wasmtime", "tokio", "serde_json", "fuelbox-digest"]),
    ("fuelbox-receipt", &["wasmtime", "tokio", "rusqlite"]),
    ("fuelbox-oip", &["tokio", "rusqlite"]),
    ("fuelbox-sdk", &["wasmtime", "wasi-common"]),
    ("fuelbox-abi", &["wasmtime", "tract-core", "half"]),
];

#[test]
fn crates_know_only_whom_they_may() {
    let needs = locked();
    for member in members() {
        let rule = ALLOWED.iter().find(|(name, _)| *name == member.name);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("no rule for {}", member.name));
        for needed in &member.needs {
            let known = ALLOWED.iter().any(|(name, _)| name == needed);
            assert!(!known || allowed.contains(&needed.as_str()), "{} knows {needed}", member.name);
        }
    }
    for (member, forbidden) in FORBIDDEN {
        let below = below(&needs, member);
        assert!(below.len() > 1, "{member} is in the lock file");
        for name in forbidden {
            assert!(!below.iter().any(|needed| needed == name), "{name} is below {member}");
        }
    }
}

struct Member {
    name: String,
    /// What it needs at run time: not its tests, not its build script.
    needs: Vec<String>,
}

/// The crates of this workspace, from their manifests alone: nothing has to be there but this tree.
fn members() -> Vec<Member> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let member = |package: &Value| {
        let needs = package["dependencies"].as_array().unwrap().iter();
        let needs = needs.filter(|dependency| dependency["kind"].is_null());
        Member {
            name: text(&package["name"]),
            needs: needs.map(|dependency| text(&dependency["name"])).collect(),
        }
    };
    let members: Vec<_> = metadata["packages"].as_array().unwrap().iter().map(member).collect();
    assert_eq!(members.len(), ALLOWED.len());
    members
}

/// Every crate of the lock file with those that it needs, for whatever purpose.
fn locked() -> BTreeMap<String, Vec<String>> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.split('"').nth(1).unwrap().to_owned();
        let listed = package.split_once("dependencies = [").map_or("", |(_, listed)| listed);
        let listed = listed.split('"').skip(1).step_by(2);
        // A version follows the name where there are several.
        let listed = listed.map(|entry| entry.split(' ').next().unwrap().to_owned());
        needs.entry(name).or_default().extend(listed);
    }
    needs
}

/// All that a crate depends on, directly or not.
fn below(needs: &BTreeMap<String, Vec<String>>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = needs.get(name).cloned().unwrap_or_default();
    while let Some(name) = next.pop() {
        if !found.contains(&name) {
            next.extend(needs.get(&name).cloned().unwrap_or_default());
            found.push(name);
        }
    }
    found
}
