//! Receipts as bytes, what readers refuse, and what two receipts do not have in common.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::{
    Receipt,
    receipt::{Asset, Load, STATEMENT_BYTES_MAX},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::receipt;

/// The statement of the test receipt after a change to its JSON.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut statement = serde_json::from_slice(&receipt().statement_bytes()).unwrap();
    change(&mut statement);
    serde_json::to_vec(&statement).unwrap()
}

fn error(bytes: &[u8]) -> String {
    match Receipt::from_statement_bytes(bytes) {
        Ok(_) => "taken".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn bytes_and_receipt_are_one_to_one() {
    let mut odd = receipt();
    odd.assets.clear();
    odd.load = None;
    odd.verdict.kind = Some("out_of_bounds \"\u{e9}\"\\".into());
    for receipt in [receipt(), odd] {
        let bytes = receipt.statement_bytes();
        assert_eq!(Receipt::from_statement_bytes(&bytes).unwrap(), receipt);
        // Objects of a `Value` are sorted maps.
        let sorted: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_vec(&sorted).unwrap(), bytes);
    }
}

#[test]
fn what_is_no_receipt_is_refused_with_a_reason() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 24] = [
        (
            |v| v["_type"] = json!("https://in-toto.io/Statement/v2"),
            "receipt: statement type 'https://in-toto.io/Statement/v2', allowed is 'https://in-toto.io/Statement/v1'",
        ),
        (
            |v| v["predicateType"] = json!("https://fuelbox.dev/receipt/v2"),
            "receipt: predicate type 'https://fuelbox.dev/receipt/v2', allowed is 'https://fuelbox.dev/receipt/v1'",
        ),
        (|v| v["predicateType"] = json!(null), "receipt: predicate type is missing or no text"),
        (
            |v| v["predicate"]["format"] = json!("fuelbox-receipt/2"),
            "receipt: format 'fuelbox-receipt/2', allowed is 'fuelbox-receipt/1'",
        ),
        // A later version's other fields are not looked at.
        (
            |v| v["predicate"] = json!({"format": "fuelbox-receipt/9", "new": 1.5}),
            "receipt: format 'fuelbox-receipt/9', allowed is 'fuelbox-receipt/1'",
        ),
        (|v| v["predicate"] = json!([]), "receipt: format is missing or no text"),
        (|v| *v = json!([1]), "receipt: statement type is missing or no text"),
        (
            |v| v["subject"] = json!([]),
            "receipt: subject is not one SHA-256 digest named 'outputs'",
        ),
        (
            |v| v["subject"][0]["name"] = json!("other"),
            "receipt: subject is not one SHA-256 digest named 'outputs'",
        ),
        (
            |v| v["subject"][0]["digest"]["sha256"] = json!("00"),
            "receipt: subject is not one SHA-256 digest named 'outputs'",
        ),
        (
            |v| v["subject"][0]["digest"]["sha1"] = json!("00"),
            "receipt: subject is not one SHA-256 digest named 'outputs'",
        ),
        (
            |v| {
                let again = v["subject"][0].clone();
                v["subject"].as_array_mut().unwrap().push(again);
            },
            "receipt: subject is not one SHA-256 digest named 'outputs'",
        ),
        (|v| v["more"] = json!(1), "receipt: not in canonical form (keys sorted, no white space)"),
        (
            |v| v["predicate"]["output"] = json!(1),
            "receipt: not in canonical form (keys sorted, no white space)",
        ),
        (|v| v["predicate"]["more"] = json!(1), "receipt: unknown field `more`"),
        (
            |v| drop(v["predicate"].as_object_mut().unwrap().remove("seed")),
            "receipt: missing field `seed`",
        ),
        (
            |v| drop(v["predicate"].as_object_mut().unwrap().remove("load")),
            "receipt: not in canonical form (keys sorted, no white space)",
        ),
        (
            |v| v["predicate"]["usage"]["fuel"] = json!(1.0),
            "receipt: invalid type: floating point `1.0`, expected u64",
        ),
        (
            |v| v["predicate"]["seed"] = json!(-1),
            "receipt: invalid value: integer `-1`, expected u64",
        ),
        (|v| v["predicate"]["price"]["more"] = json!(1), "receipt: unknown field `more`"),
        (
            |v| v["predicate"]["job"] = json!("0192F0C4-7A3E-7C11-8D2B-3F5A6B7C8D9E"),
            "receipt: job '0192F0C4-7A3E-7C11-8D2B-3F5A6B7C8D9E', allowed is a UUID in lower case",
        ),
        (
            |v| v["predicate"]["payer"] = json!(""),
            "receipt: payer '', allowed are 1 to 256 bytes without control characters",
        ),
        (
            |v| v["predicate"]["publisher"] = json!("a\u{1b}[2Jb"),
            "receipt: publisher 'a\\u{1b}[2Jb', allowed are 1 to 256 bytes without control characters",
        ),
        (
            |v| v["predicate"]["verdict"]["kind"] = json!("k".repeat(257)),
            "receipt: verdict.kind 'kkkk",
        ),
    ];
    for (change, expected) in table {
        let found = error(&changed(change));
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn other_forms_of_the_same_content_are_refused() {
    let bytes = receipt().statement_bytes();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let refused = "receipt: not in canonical form (keys sorted, no white space)";
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    for other in [
        format!("{text}\n"),
        serde_json::to_string_pretty(&value).unwrap(),
        text.replace("completed", "\\u0063ompleted"),
        text.replacen("\"seed\":", "\"seed\":1,\"seed\":", 1),
        text.replacen("{\"_type\":", "{\"_type\":\"x\",\"_type\":", 1),
    ] {
        assert_eq!(error(other.as_bytes()), refused, "{other}");
    }
    assert_eq!(
        error(&[b' '; STATEMENT_BYTES_MAX]),
        "receipt: EOF while parsing a value at line 1 column 131072"
    );
    assert_eq!(
        error(&[b' '; STATEMENT_BYTES_MAX + 1]),
        "receipt: 131073 bytes, allowed are 131072"
    );
}

#[test]
fn each_field_that_differs_is_named_and_nothing_else() {
    type Change = fn(&mut Receipt);
    fn other() -> Digest {
        Digest::of(b"other")
    }
    let table: [(Change, &[&str]); 36] = [
        (|_| (), &[]),
        (|r| r.output = other(), &["output"]),
        (|r| r.format = "f".into(), &["format"]),
        (|r| r.job = "j".into(), &["job"]),
        (|r| r.package = other(), &["package"]),
        (|r| r.guest = other(), &["guest"]),
        (|r| r.image = other(), &["image"]),
        (|r| r.assets[0].name = "n".into(), &["assets[0].name"]),
        (|r| r.assets[1].digest = other(), &["assets[1].digest"]),
        (|r| drop(r.assets.pop()), &["assets[1].name", "assets[1].digest"]),
        (
            |r| r.assets.push(Asset { name: "none".into(), digest: other() }),
            &["assets[2].name", "assets[2].digest"],
        ),
        (|r| r.input = other(), &["input"]),
        (|r| r.parameters = other(), &["parameters"]),
        (|r| r.seed = 1, &["seed"]),
        (|r| r.profile = other(), &["profile"]),
        (|r| r.limits.fuel = 1, &["limits.fuel"]),
        (|r| r.limits.memory_bytes = 1, &["limits.memory_bytes"]),
        (|r| r.limits.input_bytes = 1, &["limits.input_bytes"]),
        (|r| r.limits.output_bytes = 1, &["limits.output_bytes"]),
        (|r| r.limits.log_bytes = 1, &["limits.log_bytes"]),
        (|r| r.usage.fuel = 1, &["usage.fuel"]),
        (|r| r.usage.memory_bytes_peak = 1, &["usage.memory_bytes_peak"]),
        (|r| r.verdict.name = "v".into(), &["verdict.name"]),
        // The text is not nothing.
        (|r| r.verdict.kind = Some("none".into()), &["verdict.kind"]),
        (|r| r.replayable = false, &["replayable"]),
        (|r| r.load = None, &["load.fuel", "load.credits_micro"]),
        (|r| r.load = Some(Load { fuel: 1, credits_micro: 502 }), &["load.fuel"]),
        (|r| r.load = Some(Load { fuel: 5_021_337, credits_micro: 1 }), &["load.credits_micro"]),
        (|r| r.price.schedule = other(), &["price.schedule"]),
        (|r| r.price.version = 1, &["price.version"]),
        (|r| r.price.credits_micro = 1, &["price.credits_micro"]),
        (|r| r.price.publisher_micro = 1, &["price.publisher_micro"]),
        (|r| r.payer = "p".into(), &["payer"]),
        (|r| r.publisher = "p".into(), &["publisher"]),
        (|r| r.finished_unix_ms = 1, &["finished_unix_ms"]),
        (|r| (r.seed, r.usage.fuel) = (1, 1), &["seed", "usage.fuel"]),
    ];
    let here = receipt();
    for (change, expected) in table {
        let mut there = here.clone();
        change(&mut there);
        for (one, two) in [(&here, &there), (&there, &here)] {
            let differences = one.differences(two);
            let found: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_difference_has_both_values() {
    let (here, mut there) = (receipt(), receipt());
    there.usage.fuel = 7;
    there.load = None;
    there.payer = "acct:\ncarol".into();
    let lines: Vec<String> = (here.differences(&there).iter())
        .map(|d| format!("{}: {} / {}", d.field, d.here, d.there))
        .collect();
    assert_eq!(
        lines,
        [
            "usage.fuel: 126256 / 7",
            "load.fuel: 5021337 / none",
            "load.credits_micro: 502 / none",
            "payer: \"acct:alice\" / \"acct:\\ncarol\"",
        ]
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Receipt::from_statement_bytes(&bytes);
    }

    /// What is taken is the only form of what it says.
    #[test]
    fn mutated_receipts_are_refused_or_canonical(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let mut bytes = receipt().statement_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(receipt) = Receipt::from_statement_bytes(&bytes) {
            prop_assert_eq!(receipt.statement_bytes(), bytes);
        }
    }
}
