//! Who may know whom: the crates' dependencies are those of ARCHITECTURE.md.

use super::cli::root;
use serde_json::Value;
use std::{collections::BTreeMap, process::Command};

/// Each crate with all the crates of this workspace that it may depend on, at run time.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("fuelbox-abi", &[]),
    ("fuelbox-sdk", &["fuelbox-abi"]),
    ("fuelbox-onnx", &["fuelbox-abi", "fuelbox-sdk"]),
    ("digits-image-guest", &["fuelbox-abi", "fuelbox-sdk"]),
    ("fuelbox-prebuilt", &[]),
    ("fuelbox-engine", &["fuelbox-abi"]),
    ("fuelbox", &["fuelbox-abi", "fuelbox-engine", "fuelbox-prebuilt"]),
    ("fuelbox-test-support", &["fuelbox-abi", "fuelbox-engine", "fuelbox-prebuilt"]),
    ("xtask", &[]),
];

/// What must never be found below a crate: the host does not link tract, guests do not link the host.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    ("fuelbox", &["tract-core", "tract-onnx", "tokio"]),
    ("fuelbox-engine", &["tract-core", "clap", "tokio", "rusqlite"]),
    ("fuelbox-sdk", &["wasmtime", "wasi-common"]),
    ("fuelbox-abi", &["wasmtime", "tract-core", "half"]),
];

#[test]
fn crates_know_only_whom_they_may() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--locked", "--offline"]).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<_, _> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let normal = list(&node["deps"]).into_iter().filter(|dependency| {
            list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
        });
        let normal = normal.map(|dependency| names[&text(&dependency["pkg"])].clone()).collect();
        needs.insert(names[&text(&node["id"])].clone(), normal);
    }
    let members: Vec<_> =
        list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
    for member in &members {
        let rule = ALLOWED.iter().find(|(name, _)| name == member);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("no rule for {member}"));
        for needed in below(&needs, member) {
            if members.contains(&needed) {
                assert!(allowed.contains(&needed.as_str()), "{member} knows {needed}");
            }
        }
    }
    for (member, forbidden) in FORBIDDEN {
        let below = below(&needs, member);
        assert!(!below.is_empty());
        for name in forbidden {
            assert!(!below.iter().any(|needed| needed == name), "{name} is below {member}");
        }
    }
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
