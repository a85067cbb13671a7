//! The attack suite: all of it on a server of its own, and on one that is there.

use crate::flow::cli::{fuelbox, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;

/// The groups of cases, and how many there are of each at least.
const GROUPS: [(&str, usize); 6] =
    [("escape", 40), ("denial", 30), ("free_ride", 25), ("leak", 15), ("lie", 25), ("model", 20)];

#[test]
fn every_case_holds_and_what_is_burned_is_billed() {
    let output = fuelbox("attack --quiet --json").output().unwrap();
    let (stdout, stderr) = (stdout(&output), stderr(&output));
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
    let cases = report["cases"].as_array().unwrap();
    let broken = cases.iter().filter(|case| case["held"] != true);
    let broken: Vec<_> =
        broken.map(|case| format!("{}: {}", case["name"], case["detail"])).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let (mut groups, mut names) = (BTreeMap::new(), BTreeMap::new());
    for case in cases {
        *groups.entry(case["group"].as_str().unwrap()).or_insert(0) += 1;
        *names.entry(case["name"].as_str().unwrap()).or_insert(0) += 1;
        let count = |name: &str| case[name].as_u64().unwrap();
        // Jobs cost something each; what is refused before anything ran costs nothing.
        assert!(count("uploads") + count("jobs") > 0, "{case}");
        assert!(count("jobs") == 0 || count("credits_micro") > 0, "{case}");
        // By the default prices a million fuel costs 25 millionths of a credit in a load, and 30 in a job
        // whose publisher is the caller himself and that completed: the least of all.
        assert!(count("credits_micro") >= count("fuel") * 25 / 1_000_000, "{case}");
        assert!(!case["detail"].as_str().unwrap().is_empty(), "{case}");
    }
    for (group, least) in GROUPS {
        assert!(groups[group] >= least, "{groups:?}");
    }
    assert_eq!(groups.len(), GROUPS.len(), "{groups:?}");
    assert!(names.values().all(|count| *count == 1), "{names:?}");
}

#[test]
fn cases_are_chosen_by_group_and_by_name() {
    let output = fuelbox("attack --only leak --only sched_yield").output().unwrap();
    let (text, stderr) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{text}{stderr}");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("group"), "{text}");
    let (cases, rest) =
        lines[1..].split_at(lines.iter().position(|line| line.is_empty()).unwrap() - 1);
    let is_wanted = |line: &&str| line.starts_with("leak ") || line.contains("sched_yield");
    assert!(cases.iter().all(|line| is_wanted(line) && line.contains("  held  ")), "{text}");
    assert!(
        rest[1].starts_with(&format!("{} of {} cases held: ", cases.len(), cases.len())),
        "{text}"
    );
    let output = fuelbox("attack --only nothing-of-the-kind").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(self::stderr(&output).contains("no case is called 'nothing-of-the-kind'"));
}
