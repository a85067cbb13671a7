//! Logs of a server, as it writes them. One test: a process has one log.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_server::{LogFormat, LogsError, logs_to};
use fuelbox_test_support::guest::Guest;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use support::serve;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_request_has_a_line_and_no_line_has_a_key() {
    let bad = logs_to(LogFormat::Json, "fuelbox=loud", io::sink()).map(|_| ());
    assert!(matches!(bad, Err(LogsError::Filter { .. })), "{bad:?}");

    let captured = Captured::default();
    // Everything that anybody says.
    let logs = logs_to(LogFormat::Json, "trace", captured.clone()).unwrap();
    let mut served = serve();
    served.publish("tiny", "1", &Guest::default());
    let key = served.alice.clone();
    let body = json!({
        "id": key,
        "parameters": {"secret": key},
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}],
    });
    let path = format!("/v2/models/tiny/infer?key={key}");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = served
        .post(&path, &key)
        .header("x-request-id", "mine-7")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-00"))
        .header("x-key", &key)
        .json(&body)
        .send()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-request-id"], "mine-7");
    let job = answer.headers()["fuelbox-job"].to_str().unwrap().to_owned();

    // Keys where they do not belong, and keys that are wrong.
    let other = served.bob.clone();
    let misplaced = served.get("/v2", "").header("x-request-id", &other).send().unwrap();
    let made = misplaced.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(made.len(), 32);
    let wrong = other.replace(&other[other.len() - 8..], "AAAAAAAA");
    assert_eq!(served.get("/v2/models/tiny", &wrong).send().unwrap().status(), 401);
    let path = format!("/v2/models/{other}");
    assert_eq!(served.get(&path, &key).send().unwrap().status(), 404);
    let sent = served.post("/v2/models/tiny/infer", &key).body(other.clone()).send().unwrap();
    assert_eq!(sent.status(), 400);
    assert_eq!(served.get("/healthz", "").send().unwrap().status(), 200);
    // What a careless line of ours, and a library that talks, would say.
    tracing::info!(target: "fuelbox_server::careless", %key, "a line with {other}");
    tracing::debug!(target: "h2::frame", "the value of a header");
    tracing::warn!(target: "h2::frame", "a warning of a library");
    served.stop();
    drop(logs);

    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    for key in [&key, &other, &wrong, &served.operator] {
        // The first part is public, and stands in lines; the second is the secret.
        let secret = key.splitn(3, '_').nth(2).unwrap();
        assert!(!text.contains(&secret[..8]), "{secret} in {text}");
    }
    assert!(text.contains("a line with fbx_[hidden]"), "{text}");
    assert!(text.contains("a warning of a library") && !text.contains("value of a header"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<_> =
        lines.iter().filter(|line| line["target"] == "fuelbox_server::request").collect();
    assert_eq!(requests.len(), 6, "{requests:#?}");
    let line = requests.iter().find(|line| line["request"] == "mine-7").unwrap();
    for (name, value) in [
        ("level", "info"),
        ("trace", trace),
        ("method", "POST"),
        ("route", "/v2/models/{name}/infer"),
        ("status", "200"),
        ("account", "alice"),
        ("key", key.split('_').nth(1).unwrap()),
        ("job", &job),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    assert!(line["ms"].as_f64().unwrap() > 0.0, "{line}");
    let line = requests.iter().find(|line| line["request"] == made.as_str()).unwrap();
    assert_eq!((&line["key"], &line["trace"]), (&Value::Null, &Value::from(made)));
    let probe = requests.iter().find(|line| line["route"] == "/healthz").unwrap();
    assert_eq!(probe["level"], "debug");
    // What was said on the way names the request as well.
    let refused = lines.iter().find(|line| line["message"] == "key refused").unwrap();
    let line = requests.iter().find(|line| line["status"] == "401").unwrap();
    assert_eq!(refused["request"], line["request"]);
}
