//! Jobs of fuelbox's own API: queued, waited for, cancelled, proven; and its document.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_digest::Digest;
use fuelbox_jobs::Config as HostConfig;
use fuelbox_receipt::{Envelope, log::InclusionProof};
use fuelbox_test_support::guest::Guest;
use reqwest::{Method, blocking::Response};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
};
use support::{Served, config, giving, json as read_json, refusal, serve, serve_with};

fn job() -> Value {
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]});
    json!({"model": "tiny", "inputs": [x]})
}

/// With these members changed.
fn job_with(members: Value) -> Value {
    let mut job = job();
    for (name, value) in members.as_object().unwrap() {
        job[name] = value.clone();
    }
    job
}

fn submit(served: &Served, key: &str, job: &Value) -> Response {
    served.post("/api/v1/jobs", key).json(job).send().unwrap()
}

fn submitted(served: &Served, key: &str, job: &Value) -> String {
    let (status, body) = read_json(submit(served, key, job));
    assert_eq!(status, 202, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

fn get(served: &Served, path: &str, key: &str) -> Response {
    served.get(&format!("/api/v1{path}"), key).send().unwrap()
}

fn ended(served: &Served, key: &str, id: &str) -> Value {
    let (status, body) = read_json(get(served, &format!("/jobs/{id}?wait_s=50"), key));
    assert_eq!(status, 200, "{body}");
    body
}

/// A host that takes jobs and runs none.
fn idle() -> Served {
    let served = serve_with(config(), HostConfig { workers: Some(0), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::default());
    served
}

#[test]
fn a_job_is_queued_waited_for_and_proven() {
    let served = serve();
    let publication = served.publish("tiny", "1", &Guest::default());
    let response = submit(&served, &served.alice, &job_with(json!({"seed": 7, "priority": 9})));
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, body) = read_json(response);
    assert_eq!(status, 202, "{body}");
    let id = body["id"].as_str().unwrap();
    assert_eq!(location, format!("/api/v1/jobs/{id}"));
    let found = ended(&served, &served.alice, id);
    for (name, expected) in [
        ("account", json!("alice")),
        ("model", json!("tiny")),
        ("version", json!("1")),
        ("package", json!(publication.digest.to_string())),
        ("state", json!("succeeded")),
        ("verdict", json!("completed")),
        ("priority", json!(9)),
        ("seed", json!(7)),
    ] {
        assert_eq!(found[name], expected, "{found}");
    }
    let response = get(&served, &format!("/jobs/{id}/result"), &served.alice);
    assert_eq!(response.headers()["fuelbox-credits"], found["credits"].as_str().unwrap());
    let (_, result) = read_json(response);
    let y = json!([{"name": "y", "datatype": "FP32", "shape": [1], "data": [42.0]}]);
    assert_eq!(result["outputs"], y);
    assert_eq!(result["parameters"]["fuelbox_job"], id);

    let receipt = get(&served, &format!("/jobs/{id}/receipt"), &served.alice);
    assert_eq!(receipt.headers()["content-type"], "application/vnd.dsse.envelope.v1+json");
    let envelope = Envelope::parse(&receipt.bytes().unwrap()).unwrap();
    let keys = served.host.key_ring();
    let verified = envelope.verify(&keys).unwrap().receipt;
    assert_eq!(verified.job, id);
    assert_eq!(found["receipt"], envelope.digest().to_string());

    let (_, proof) = read_json(get(&served, &format!("/jobs/{id}/proof"), &served.alice));
    let hashes = proof["hashes"].as_array().unwrap().iter();
    let inclusion = InclusionProof {
        index: proof["index"].as_u64().unwrap(),
        hashes: hashes.map(|hash| hash.as_str().unwrap().parse().unwrap()).collect(),
        checkpoint: proof["checkpoint"].as_str().unwrap().to_owned(),
    };
    let held = inclusion.verify(&envelope.digest(), &keys, &served.host.log_origin()).unwrap();
    assert_eq!(proof["size"], held.size);

    let input = get(&served, &format!("/jobs/{id}/input"), &served.alice).bytes().unwrap();
    assert_eq!(found["input"], Digest::of(&input).to_string());
}

#[test]
fn outputs_come_as_binary_data_when_asked_for() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let id = submitted(&served, &served.alice, &job());
    ended(&served, &served.alice, &id);
    let response = get(&served, &format!("/jobs/{id}/result?binary=true"), &served.alice);
    let length = &response.headers()["inference-header-content-length"];
    let length: usize = length.to_str().unwrap().parse().unwrap();
    let body = response.bytes().unwrap();
    assert_eq!(body[length..], 42_f32.to_le_bytes());
}

/// Asks for the answer of a job and reads its first line alone, once it is an answer.
fn hold_result(served: &Served, key: &str, id: &str) -> TcpStream {
    loop {
        let mut stream = TcpStream::connect(served.addresses.http).unwrap();
        write!(
            stream,
            "GET /api/v1/jobs/{id}/result?binary=true HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {key}\r\n\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(1, &stream).read_line(&mut line).unwrap();
        if line == "HTTP/1.1 200 OK\r\n" {
            return stream;
        }
    }
}

/// The first answer that is not `busy`: what was read before is given back a moment later.
fn not_busy(ask: impl Fn() -> Response) -> Response {
    loop {
        let response = ask();
        if response.status() != 503 {
            return response;
        }
        thread::yield_now();
    }
}

#[test]
fn large_answers_share_memory_until_they_are_sent_or_their_client_is_gone() {
    let mut config = config();
    config.limits.answers_bytes = 32 << 20;
    let served = serve_with(config, HostConfig { workers: Some(1), ..HostConfig::default() });
    // More than the buffers between client and server take.
    served.publish("tiny", "1", &giving(16 << 20));
    served.publish("small", "1", &Guest::default());
    let body = json!({"inputs": job()["inputs"], "parameters": {"binary_data_output": true}});
    let infer = || {
        let request = served.post("/v2/models/tiny/infer", &served.alice).json(&body);
        request.header("Idempotency-Key", "one").send().unwrap()
    };
    let first = infer();
    let id = first.headers()["fuelbox-job"].to_str().unwrap().to_owned();
    assert_eq!(first.bytes().unwrap()[..].len() >> 20, 16);
    let small = submitted(&served, &served.alice, &job_with(json!({"model": "small"})));
    ended(&served, &served.alice, &small);
    let bobs = submitted(&served, &served.bob, &job());
    ended(&served, &served.bob, &bobs);
    let result = |key: &str, id: &str| get(&served, &format!("/jobs/{id}/result?binary=true"), key);

    let held = hold_result(&served, &served.alice, &id);
    let sentence = "too many large answers of this account are being read or sent at once";
    let again = || result(&served.alice, &id);
    let asks: [&dyn Fn() -> Response; 2] = [&again, &infer];
    for ask in asks {
        let response = ask();
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(refusal(response), (503, "busy".into(), sentence.into()));
    }
    assert_eq!(result(&served.alice, &small).status(), 200);
    assert_eq!(result(&served.bob, &bobs).status(), 200);
    drop(held);
    assert_eq!(not_busy(again).status(), 200);
    let replayed = not_busy(infer);
    assert_eq!(replayed.status(), 200);
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
}

#[test]
fn large_outputs_are_read_again_as_binary_data_alone() {
    let served = serve();
    let bytes = 33 << 20;
    served.publish("tiny", "1", &giving(bytes));
    let infer = || {
        let request = served.post("/v2/models/tiny/infer", &served.alice);
        let request = request.json(&json!({"inputs": job()["inputs"]}));
        request.header("Idempotency-Key", "one").send().unwrap()
    };
    // What was just paid for is given as it was asked for.
    let first = infer();
    let id = first.headers()["fuelbox-job"].to_str().unwrap().to_owned();
    assert_eq!((first.status().as_u16(), first.bytes().unwrap().len() > bytes / 2), (200, true));
    let refused = |response| {
        let (status, body) = read_json(response);
        assert_eq!((status, &body["reason"]), (400, &json!("json_too_large")), "{body}");
        body["error"].as_str().unwrap().to_owned()
    };
    let found = refused(not_busy(infer));
    assert_eq!(
        found,
        format!(
            "outputs over limit as JSON: found {bytes} bytes, allowed 33554432; ask for binary data"
        )
    );
    let path = format!("/jobs/{id}/result");
    let found = refused(get(&served, &path, &served.alice));
    assert!(found.starts_with("outputs over limit as JSON: found "), "{found}");
    assert!(found.ends_with("ask for binary data; here, by the query binary=true"), "{found}");
    let response = not_busy(|| get(&served, &format!("{path}?binary=true"), &served.alice));
    let length = &response.headers()["inference-header-content-length"];
    let length: usize = length.to_str().unwrap().parse().unwrap();
    assert_eq!(response.bytes().unwrap().len(), length + bytes);
}

#[test]
fn the_same_key_is_the_same_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let send = |job: &Value| {
        let request = served.post("/api/v1/jobs", &served.alice).header("idempotency-key", "k");
        request.json(job).send().unwrap()
    };
    let (_, first) = read_json(send(&job()));
    ended(&served, &served.alice, first["id"].as_str().unwrap());
    let paid = served.available("alice");
    let second = send(&job());
    assert_eq!(second.headers()["idempotent-replayed"], "true");
    assert_eq!(read_json(second).1["id"], first["id"]);
    assert_eq!(served.available("alice"), paid);
    let (status, code, _) = refusal(send(&job_with(json!({"seed": 8}))));
    assert_eq!((status, code.as_str()), (422, "key_reused"));
}

#[test]
fn a_model_that_fails_is_billed_and_says_so() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(unreachable)"));
    let id = submitted(&served, &served.alice, &job());
    let found = ended(&served, &served.alice, &id);
    assert_eq!((&found["state"], &found["verdict"]), (&json!("failed"), &json!("trap")));
    let response = get(&served, &format!("/jobs/{id}/result"), &served.alice);
    assert_eq!(response.headers()["fuelbox-credits"], found["credits"].as_str().unwrap());
    let (status, code, _) = refusal(response);
    assert_eq!((status, code.as_str()), (422, "model_failed"));
}

#[test]
fn a_job_that_waits_is_cancelled_without_a_bill() {
    let served = idle();
    let before = served.available("alice");
    let id = submitted(&served, &served.alice, &job());
    assert!(served.available("alice") < before, "its price is held");
    for path in ["result", "receipt", "proof"] {
        let (status, code, _) = refusal(get(&served, &format!("/jobs/{id}/{path}"), &served.alice));
        assert_eq!((status, code.as_str()), (409, "conflict"), "{path}");
    }
    let cancel =
        || served.post(&format!("/api/v1/jobs/{id}/cancel"), &served.alice).send().unwrap();
    let (status, found) = read_json(cancel());
    assert_eq!(status, 200);
    assert_eq!(found["state"], "cancelled");
    assert_eq!(found["credits"], Value::Null);
    assert_eq!(served.available("alice"), before);
    assert_eq!(refusal(cancel()).0, 409);
    assert_eq!(refusal(get(&served, &format!("/jobs/{id}/result"), &served.alice)).0, 409);
    assert_eq!(refusal(get(&served, &format!("/jobs/{id}/receipt"), &served.alice)).0, 404);
}

#[test]
fn events_tell_each_state_and_end_with_the_job() {
    let served = idle();
    let id = submitted(&served, &served.alice, &job());
    let response = get(&served, &format!("/jobs/{id}/events"), &served.alice);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut lines = BufReader::new(response).lines();
    let mut next = || -> Option<String> {
        let data = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("data: "))?;
        let job: Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
        assert_eq!(job["id"], *id);
        Some(job["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(next().as_deref(), Some("queued"));
    served.host.cancel(&id.parse().unwrap()).unwrap();
    assert_eq!(next().as_deref(), Some("cancelled"));
    assert_eq!(next(), None);
}

#[test]
fn streams_of_events_are_bounded() {
    let served = idle();
    let id = submitted(&served, &served.alice, &job());
    let path = format!("/jobs/{id}/events");
    let open: Vec<_> = (0..256).map(|_| get(&served, &path, &served.alice)).collect();
    assert!(open.iter().all(|response| response.status() == 200));
    let (status, code, _) = refusal(get(&served, &path, &served.alice));
    assert_eq!((status, code.as_str()), (503, "busy"));
}

#[test]
fn a_list_has_pages_and_filters() {
    let served = idle();
    let ids: Vec<_> = (0..5).map(|_| submitted(&served, &served.alice, &job())).collect();
    submitted(&served, &served.bob, &job());
    served.host.cancel(&ids[2].parse().unwrap()).unwrap();
    let list = |query: &str, key: &str| {
        let (status, page) = read_json(get(&served, &format!("/jobs?{query}"), key));
        assert_eq!(status, 200, "{page}");
        let jobs = page["jobs"].as_array().unwrap().iter();
        let ids: Vec<_> = jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    let newest: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(list("", &served.alice), (newest.clone(), None));
    let (first, next) = list("limit=3", &served.alice);
    assert_eq!(first, newest[..3]);
    assert_eq!(list(&format!("before={}", next.unwrap()), &served.alice).0, newest[3..]);
    assert_eq!(list("state=cancelled", &served.alice).0, [ids[2].clone()]);
    assert_eq!(list("", &served.operator).0.len(), 6);
    assert_eq!(list("account=bob", &served.operator).0.len(), 1);
    let (status, code, _) = refusal(get(&served, "/jobs?account=bob", &served.alice));
    assert_eq!((status, code.as_str()), (403, "forbidden"));
}

#[test]
fn a_job_of_another_account_is_like_one_that_is_not_there() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let id = submitted(&served, &served.alice, &job());
    ended(&served, &served.alice, &id);
    let nothing = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/result"),
        (Method::GET, "/events"),
        (Method::GET, "/receipt"),
        (Method::GET, "/proof"),
        (Method::GET, "/input"),
        (Method::POST, "/cancel"),
    ] {
        let ask = |id: &str| {
            let url = served.url(&format!("/api/v1/jobs/{id}{path}"));
            let request = served.client.request(method.clone(), url).bearer_auth(&served.bob);
            let response = request.send().unwrap();
            (response.status().as_u16(), response.text().unwrap().replace(id, "ID"))
        };
        let (status, body) = ask(&id);
        assert_eq!(status, 404, "{method} {path}: {body}");
        assert_eq!((status, body), ask(nothing), "{method} {path}");
    }
    assert_eq!(read_json(get(&served, "/jobs", &served.bob)).1["jobs"], json!([]));
}

#[test]
fn what_nobody_knows_is_refused_in_one_form() {
    let served = idle();
    let send = |body: &str| {
        let request = served.post("/api/v1/jobs", &served.alice);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let response = request.send().unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{body}");
        let (status, _, sentence) = refusal(response);
        (status, sentence)
    };
    let bad = |members: Value| send(&job_with(members).to_string());
    for (found, expected) in [
        (send(""), "body: EOF while parsing a value at line 1 column 0"),
        (send("[]"), "body: invalid type: sequence, expected an object at line 1 column 0"),
        (
            send("{\"model\": \"tiny\",\n\"model\": \"tiny\"}"),
            "body: duplicate field `model` at line 2 column 7",
        ),
        (bad(json!({"priority": 10})), "priority: found 10, allowed are 0 to 9"),
        (
            bad(json!({"deadline_ms": 86_400_001})),
            "deadline_ms: found 86400001 ms, allowed are 86400000",
        ),
        (
            bad(json!({"webhook": {"url": "https://127.0.0.1/"}})),
            "webhook: address 127.0.0.1 is not a public one",
        ),
        (
            bad(json!({"parameters": {"fuelbox_sed": 1}})),
            "parameter 'fuelbox_sed': no such option; allowed are fuelbox_seed, \
             fuelbox_fuel_limit, fuelbox_memory_limit, fuelbox_load_fuel_limit, \
             fuelbox_deadline_ms, fuelbox_idempotency_key",
        ),
    ] {
        assert_eq!(found, (400, expected.to_owned()));
    }
    for members in [
        json!({"more": 1}),
        json!({"limits": {"fuel": 1, "more": 1}}),
        json!({"limits": [1, 2, 3]}),
        json!({"seed": -1}),
        json!({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.5]}]}),
    ] {
        assert_eq!(bad(members.clone()).0, 400, "{members}");
    }
    assert_eq!(bad(json!({"model": "nothing"})).0, 404);
    let (status, code, _) =
        refusal(served.post("/api/v1/jobs", &served.alice).body("{}").send().unwrap());
    assert_eq!((status, code.as_str()), (415, "unsupported_media"));
    for query in ["wait_s=61", "wait_s=-1", "wait_s=a", "more=1", "wait_s=1&wait_s=1"] {
        let id = submitted(&served, &served.alice, &job());
        let (status, _, sentence) =
            refusal(get(&served, &format!("/jobs/{id}?{query}"), &served.alice));
        assert_eq!(status, 400, "{query}: {sentence}");
    }
    let (status, code, _) = refusal(get(&served, "/nothing", ""));
    assert_eq!((status, code.as_str()), (404, "not_found"));
    let (status, code, _) = refusal(get(&served, "/jobs/%ff", &served.alice));
    assert_eq!((status, code.as_str()), (404, "not_found"));
}

/// All that the API has. A route that is not here is not in the contract.
const ROUTES: &[(&str, &str)] = &[
    ("/account", "get"),
    ("/account/statement", "get"),
    ("/accounts", "get post"),
    ("/accounts/{id}", "get"),
    ("/accounts/{id}/payouts", "post"),
    ("/accounts/{id}/refunds", "post"),
    ("/accounts/{id}/statement", "get"),
    ("/accounts/{id}/top-ups", "post"),
    ("/jobs", "get post"),
    ("/jobs/{id}", "get"),
    ("/jobs/{id}/cancel", "post"),
    ("/jobs/{id}/events", "get"),
    ("/jobs/{id}/input", "get"),
    ("/jobs/{id}/proof", "get"),
    ("/jobs/{id}/receipt", "get"),
    ("/jobs/{id}/result", "get"),
    ("/keys", "get post"),
    ("/keys/{id}", "delete"),
    ("/log/checkpoint", "get"),
    ("/log/consistency", "get"),
    ("/log/keys", "get"),
    ("/openapi.json", "get"),
    ("/packages", "get post"),
    ("/packages/{name}", "get"),
    ("/packages/{name}/{version}", "delete get patch"),
    ("/packages/{name}/{version}/file", "get"),
    ("/prices", "get"),
    ("/publisher-keys", "get post"),
    ("/publisher-keys/{id}", "delete"),
    ("/spaces", "get post"),
    ("/uploads", "post"),
    ("/uploads/{id}", "delete get patch"),
    ("/usage", "get"),
];

#[test]
fn every_route_is_in_the_document_and_every_entry_is_a_route() {
    let served = idle();
    let (_, document) = read_json(get(&served, "/openapi.json", ""));
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let found = paths.iter().map(|(path, item)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        (path.strip_prefix("/api/v1").unwrap(), methods.join(" "))
    });
    let expected: Vec<_> =
        ROUTES.iter().map(|(path, methods)| (*path, methods.to_string())).collect();
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let mut ids = std::collections::HashSet::new();
    for (path, item) in paths {
        let at = path.replace(['{', '}'], "");
        for method in ["get", "post", "put", "patch", "delete"] {
            let known = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let response = served.client.request(known, served.url(&at)).send().unwrap();
            let there = response.status() != 405;
            assert_eq!(there, !item[method].is_null(), "{method} {path}");
            let operation = &item[method];
            if !there {
                continue;
            }
            let status = response.status().as_u16().to_string();
            assert!(operation["responses"][&status].is_object(), "{method} {path}: {status}");
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id), "{method} {path}: {}", operation["operationId"]);
            let public = operation["security"] == json!([]);
            assert_eq!(status == "401", !public, "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let served = idle();
    let page = served.get("/docs/", "").send().unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text().unwrap();
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert!(text.contains(file), "{file}");
        assert_eq!(served.get(&format!("/docs/{file}"), "").send().unwrap().status(), 200);
    }
    let start = served.get("/docs/swagger-initializer.js", "").send().unwrap().text().unwrap();
    assert!(start.contains("\"/api/v1/openapi.json\"") && start.contains("\"none\""), "{start}");
    assert_eq!(served.get("/docs", "").send().unwrap().headers()["location"], "/docs/");
    assert_eq!(refusal(served.get("/docs/nothing", "").send().unwrap()).0, 404);
}
