//! Metrics: what a server that worked says of itself, and whether the dashboard asks for what there is.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_test_support::guest::Guest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{Served, serve};

const DASHBOARD: &str = include_str!("../../../deploy/grafana/fuelbox.json");

/// A scrape, taken apart: kinds by family, and values by sample, labels included.
struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

fn scrape(served: &Served) -> Scrape {
    let url = format!("http://{}/metrics", served.addresses.metrics);
    let response = served.client.get(url).send().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&response.text().unwrap())
}

/// Reads the text as strictly as a linter: each family once, with help and type before its samples.
fn parse(text: &str) -> Scrape {
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut family = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(words.ends_with('.'), "{line}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} twice");
            family = name.to_owned();
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let suffix = name_of(sample).strip_prefix(&family).unwrap_or_else(|| panic!("{line}"));
        let expected: &[&str] = match kinds[&family].as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(expected.contains(&suffix), "{line}");
        assert_eq!(samples.insert(sample.to_owned(), value.parse().unwrap()), None, "{line} twice");
    }
    Scrape { kinds, samples }
}

fn name_of(sample: &str) -> &str {
    sample.split('{').next().unwrap()
}

fn body(value: f32) -> Value {
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [value]});
    json!({"inputs": [x]})
}

fn infer(served: &Served, model: &str, body: &Value) -> u16 {
    let path = format!("/v2/models/{model}/infer");
    served.post(&path, &served.alice).json(body).send().unwrap().status().as_u16()
}

/// A server that has seen something of everything.
fn worked() -> Served {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("broken", "2", &Guest { run: "unreachable".into(), ..Guest::default() });
    assert_eq!(infer(&served, "tiny", &body(1.0)), 200);
    assert_eq!(infer(&served, "tiny", &body(2.0)), 200);
    assert_eq!(infer(&served, "tiny", &json!({"inputs": []})), 400);
    assert_eq!(infer(&served, "broken", &body(1.0)), 422);
    assert_eq!(infer(&served, "absent", &body(1.0)), 404);
    served
}

#[test]
fn metrics_are_what_happened() {
    let served = worked();
    let revenue = served.host.accounts().earned_micros().unwrap();
    let Scrape { samples, .. } = scrape(&served);
    let infer = "route=\"/v2/models/{name}/infer\"";
    for (sample, value) in [
        ("fuelbox_jobs_total{model=\"tiny\",version=\"1\",verdict=\"completed\"}", 2.0),
        ("fuelbox_jobs_total{model=\"broken\",version=\"2\",verdict=\"trap\"}", 1.0),
        ("fuelbox_job_run_seconds_count", 3.0),
        ("fuelbox_job_wait_seconds_count", 3.0),
        ("fuelbox_log_receipts", 3.0),
        ("fuelbox_ready", 1.0),
        ("fuelbox_queue_jobs", 0.0),
        ("fuelbox_queue_oldest_seconds", 0.0),
        ("fuelbox_running_jobs", 0.0),
        ("fuelbox_publishing", 0.0),
        ("fuelbox_revenue_credits", revenue as f64 / 1e6),
        ("fuelbox_refusals_total{code=\"model_failed\"}", 1.0),
        ("fuelbox_refusals_total{code=\"not_found\"}", 1.0),
        ("fuelbox_refusals_total{code=\"busy\"}", 0.0),
        (&format!("fuelbox_request_seconds_count{{{infer},status=\"200\"}}"), 2.0),
        (&format!("fuelbox_request_seconds_count{{{infer},status=\"422\"}}"), 1.0),
        ("nv_inference_request_success{model=\"tiny\",version=\"1\"}", 2.0),
        ("nv_inference_count{model=\"tiny\",version=\"1\"}", 2.0),
        ("nv_inference_request_failure{model=\"tiny\",version=\"1\",reason=\"OTHER\"}", 1.0),
        ("nv_inference_request_failure{model=\"broken\",version=\"2\",reason=\"BACKEND\"}", 1.0),
        ("nv_inference_request_failure{model=\"broken\",version=\"2\",reason=\"OTHER\"}", 0.0),
        ("nv_inference_pending_request_count{model=\"tiny\",version=\"1\"}", 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
    // The box took some of the time of the request, and both are in one unit.
    let us = |name: &str| samples[&format!("{name}{{model=\"tiny\",version=\"1\"}}")];
    let (whole, run) =
        (us("nv_inference_request_duration_us"), us("nv_inference_compute_infer_duration_us"));
    assert!(run <= whole && whole > 0.0, "{run} of {whole}");
    assert!(samples["fuelbox_connections{port=\"metrics\"}"] >= 1.0);
    let credits = |sample: &str| samples[&format!("fuelbox_credits_total{sample}")];
    let paid =
        credits("{model=\"tiny\",version=\"1\"}") + credits("{model=\"broken\",version=\"2\"}");
    let spent = (support::RICH_MICROS as i128 - served.available("alice")) as f64 / 1e6;
    assert!((paid - spent).abs() < 1e-9, "{paid} was paid, {spent} is gone");
}

#[test]
fn names_follow_the_rules() {
    let Scrape { kinds, samples } = scrape(&worked());
    for (name, kind) in &kinds {
        let base = name.strip_suffix("_total").unwrap_or(name);
        assert!(!base.ends_with("_ms") && !base.ends_with("_bytes_total"), "{name}");
        // Triton's names are as they are.
        if !name.starts_with("nv_") {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(!base.ends_with("_us"), "{name}");
            assert!(name.starts_with("fuelbox_") || name.starts_with("process_"), "{name}");
        }
    }
    // Whoever scrapes twice gets the same families.
    assert!(samples.len() > kinds.len());
}

#[test]
fn a_path_that_is_not_there_makes_no_metric_of_its_own() {
    let served = serve();
    for number in 0..5 {
        let path = format!("/v9/{number}");
        assert_eq!(served.get(&path, "").send().unwrap().status(), 404);
    }
    let Scrape { samples, .. } = scrape(&served);
    let sample = "fuelbox_request_seconds_count{route=\"unmatched\",status=\"404\"}";
    assert_eq!(samples.get(sample), Some(&5.0));
    assert!(!samples.keys().any(|sample| sample.contains("v9")));
}

#[test]
fn metrics_are_on_their_own_port_alone() {
    let served = serve();
    for key in ["", &served.operator] {
        assert_eq!(served.get("/metrics", key).send().unwrap().status(), 404);
    }
    let url = format!("http://{}/v2", served.addresses.metrics);
    assert_eq!(served.client.get(url).send().unwrap().status(), 404);
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let served = worked();
    let Scrape { samples, .. } = scrape(&served);
    let names: BTreeSet<&str> = samples.keys().map(|sample| name_of(sample)).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut exprs = Vec::new();
    collect(&dashboard, &mut exprs);
    assert!(exprs.len() > 10, "{exprs:?}");
    for expr in exprs {
        let word = |char: char| !(char.is_ascii_alphanumeric() || matches!(char, '_' | ':'));
        let ours = ["fuelbox_", "nv_", "process_"];
        let asked: Vec<_> =
            expr.split(word).filter(|word| ours.iter().any(|our| word.starts_with(our))).collect();
        assert!(!asked.is_empty(), "{expr}");
        for name in asked {
            assert!(names.contains(name), "no metric {name}: {expr}");
        }
    }
}

/// All members called `expr`.
fn collect<'a>(value: &'a Value, exprs: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(expr) if name == "expr" => exprs.push(expr),
                    other => collect(other, exprs),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, exprs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
