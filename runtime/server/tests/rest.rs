//! The Open Inference Protocol over HTTP, as its clients speak it.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Config as HostConfig, JobFilter, QueueLimits, State};
use fuelbox_test_support::{another_secret, guest::Guest};
use reqwest::blocking::Response;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};
use support::{
    LONG, RICH_MICROS, Served, account, burn, config, json as read_json, refusal, serve, serve_with,
};

fn body() -> Value {
    json!({"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]})
}

fn infer(served: &Served, key: &str, body: &Value) -> Response {
    served.post("/v2/models/tiny/infer", key).json(body).send().unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_server_says_what_it_is_without_a_key() {
    let served = serve();
    let (status, metadata) = read_json(served.get("/v2", "").send().unwrap());
    assert_eq!(status, 200);
    assert_eq!(metadata["name"], "fuelbox");
    assert!(metadata["extensions"].as_array().unwrap().contains(&"binary_tensor_data".into()));
    for path in ["/v2/health/live", "/v2/health/ready", "/healthz"] {
        let answer = read_json(served.get(path, "").send().unwrap());
        assert_eq!(answer, (200, json!({"live": true, "ready": true})), "{path}");
    }
}

#[test]
fn an_answer_carries_its_bill() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let response = infer(&served, &served.alice, &body());
    assert_eq!(header(&response, "content-type"), "application/json");
    let bill = ["job", "fuel", "credits", "receipt", "package"]
        .map(|name| header(&response, &format!("fuelbox-{name}")).to_owned());
    assert_eq!(header(&response, "fuelbox-verdict"), "completed");
    let (status, answer) = read_json(response);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["model_name"], "tiny");
    assert_eq!(answer["model_version"], "1");
    assert_eq!(answer["id"], "7");
    let outputs = json!([{"name": "y", "datatype": "FP32", "shape": [1], "data": [42.0]}]);
    assert_eq!(answer["outputs"], outputs);
    let [job, fuel, credits, receipt, package] = bill;
    let parameters = json!({"fuelbox_job": job, "fuelbox_fuel": fuel.parse::<u64>().unwrap(),
        "fuelbox_credits": credits, "fuelbox_receipt": receipt, "fuelbox_package": package});
    assert_eq!(answer["parameters"], parameters);
    let record = served.host.job(&job.parse().unwrap()).unwrap();
    let end = record.end.unwrap();
    assert_eq!(end.receipt.to_string(), receipt);
    assert_eq!(end.credits.to_string(), credits);
    let paid = i128::from(end.credits.micros());
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS) - paid);
}

#[test]
fn tensors_travel_as_bytes_both_ways() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let head = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32",
        "parameters": {"binary_data_size": 4}}], "parameters": {"binary_data_output": true}});
    let head = head.to_string();
    let mut bytes = head.clone().into_bytes();
    bytes.extend(1.5f32.to_le_bytes());
    let request = served.post("/v2/models/tiny/versions/1/infer", &served.alice);
    let request = request.header("Inference-Header-Content-Length", head.len()).body(bytes);
    let response = request.send().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/octet-stream");
    let length: usize = header(&response, "inference-header-content-length").parse().unwrap();
    let answer = response.bytes().unwrap();
    let (head, tail) = answer.split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 4}));
    assert_eq!(tail, 42f32.to_le_bytes());
    // One tensor, and nothing around it.
    let request = served.post("/v2/models/tiny/infer", &served.alice);
    let raw = request.header("Inference-Header-Content-Length", 0).body(vec![0u8; 4]);
    let response = raw.send().unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().unwrap().ends_with(&42f32.to_le_bytes()));
}

#[test]
fn bodies_may_be_packed_and_in_pieces() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(body().to_string().as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let request = served.post("/v2/models/tiny/infer", &served.alice);
    let response = request.header("Content-Encoding", "gzip").body(packed).send().unwrap();
    assert_eq!(response.status(), 200);
    let text = body().to_string().into_bytes();
    let request = served.post("/v2/models/tiny/infer", &served.alice);
    let pieces = reqwest::blocking::Body::new(std::io::Cursor::new(text));
    assert_eq!(request.body(pieces).send().unwrap().status(), 200);
}

#[test]
fn a_body_that_unpacks_beyond_the_limit_is_refused() {
    let mut small = config();
    small.limits.request_bytes = 100_000;
    let served = serve_with(small, HostConfig { workers: Some(1), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::default());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&vec![b' '; 10_000_000]).unwrap();
    let packed = packer.finish().unwrap();
    assert!(packed.len() < 20_000);
    let request = served.post("/v2/models/tiny/infer", &served.alice);
    let response = request.header("Content-Encoding", "gzip").body(packed).send().unwrap();
    let (status, code, _) = refusal(response);
    assert_eq!((status, code.as_str()), (413, "too_large"));
    // A size that is only claimed is refused before any of it comes.
    let mut stream = TcpStream::connect(served.addresses.http).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(
        stream,
        "POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 99999999999\r\n\r\n",
        served.alice
    )
    .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(infer(&served, &served.alice, &body()).status(), 200);
}

#[test]
fn models_are_described_as_clients_expect() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.publish("tiny", "2", &Guest::running("nop"));
    let get = |path: &str| read_json(served.get(path, &served.alice).send().unwrap());
    let tensor = |name: &str| json!([{"name": name, "datatype": "FP32", "shape": [1]}]);
    let expected = json!({"name": "tiny", "versions": ["1", "2"], "platform": "fuelbox",
        "inputs": tensor("x"), "outputs": tensor("y")});
    assert_eq!(get("/v2/models/tiny"), (200, expected));
    assert_eq!(get("/v2/models/tiny/versions/1").1["versions"], json!(["1"]));
    assert_eq!(get("/v2/models/tiny/ready"), (200, json!({"name": "tiny", "ready": true})));
    let (_, configuration) = get("/v2/models/tiny/config");
    let input = json!([{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}]);
    assert_eq!(configuration["input"], input);
    assert_eq!(configuration["max_batch_size"], 0);
    let index = read_json(served.post("/v2/repository/index", &served.alice).send().unwrap());
    let entry =
        |version| json!({"name": "tiny", "version": version, "state": "READY", "reason": ""});
    assert_eq!(index, (200, json!([entry("1"), entry("2")])));
    infer(&served, &served.alice, &body());
    infer(&served, &served.alice, &json!({}));
    let (_, statistics) = get("/v2/models/tiny/stats");
    let one = &statistics["model_stats"][0];
    assert_eq!(one["version"], "2");
    assert_eq!(one["inference_count"], 1);
    for phase in ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(one["inference_stats"][phase]["count"], 1, "{phase}");
        assert!(one["inference_stats"][phase]["ns"].as_u64().unwrap() > 0, "{phase}");
    }
    let (_, all) = get("/v2/models/stats");
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 2);
}

#[test]
fn the_publisher_unloads_a_model_and_nobody_else() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let post = |action: &str, key: &str| {
        served.post(&format!("/v2/repository/models/tiny/{action}"), key).send().unwrap()
    };
    assert_eq!(refusal(post("unload", &served.alice)).0, 403);
    assert_eq!(post("unload", &served.publisher).status(), 200);
    let (status, code, sentence) = refusal(infer(&served, &served.alice, &body()));
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    assert_eq!(sentence, "model 'tiny' version '1' is unloaded");
    assert_eq!(served.get("/v2/models/tiny/ready", &served.alice).send().unwrap().status(), 503);
    let ready = served.post("/v2/repository/index", &served.alice).json(&json!({"ready": true}));
    assert_eq!(read_json(ready.send().unwrap()).1, json!([]));
    assert_eq!(post("load", &served.operator).status(), 200);
    assert_eq!(infer(&served, &served.alice, &body()).status(), 200);
    let configured = served.post("/v2/repository/models/tiny/load", &served.operator);
    let configured = configured.json(&json!({"parameters": {"config": "{}"}})).send().unwrap();
    assert_eq!(refusal(configured).1, "not_supported");
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_cost_nothing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let x = |datatype: &str, shape: Value, data: Value| json!({"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}]});
    let with = |parameters: Value| {
        let mut body = body();
        body["parameters"] = parameters;
        body
    };
    for (request, expected) in [
        (x("FP32", json!([2]), json!([1.0, 2.0])), "input 'x': shape [2], the model takes [1]"),
        (x("FP64", json!([1]), json!([1.0])), "input 'x': datatype FP64, the model takes FP32"),
        (json!({"inputs": []}), "input 'x': missing, the model takes 'x'"),
        (
            with(json!({"fuelbox_fuel_limit": 1u64 << 60})),
            "fuel limit over the host's: found 1152921504606846976, allowed 1000000000000",
        ),
        (
            with(json!({"sequence_id": 3})),
            "sequences are not supported: every job runs in a fresh copy of its model",
        ),
    ] {
        let (status, _, sentence) = refusal(infer(&served, &served.alice, &request));
        assert!(matches!(status, 400 | 501), "{status}");
        assert_eq!(sentence, expected);
    }
    for (text, status) in [
        ("{\"inputs\": [", 400),
        ("{\"id\": \"a\", \"id\": \"b\", \"inputs\": []}", 400),
        (
            "{\"inputs\": [{\"name\": \"x\", \"shape\": [1], \"datatype\": \"FP32\", \"data\": [NaN]}]}",
            400,
        ),
        (
            "{\"inputs\": [{\"name\": \"x\", \"shape\": [9223372036854775807, 9], \"datatype\": \"FP32\", \"data\": []}]}",
            400,
        ),
        ("\u{7f}", 400),
    ] {
        let request = served.post("/v2/models/tiny/infer", &served.alice).body(text);
        assert_eq!(refusal(request.send().unwrap()).0, status, "{text}");
    }
    let deep = "[".repeat(200_000);
    let request = served.post("/v2/models/tiny/infer", &served.alice).body(deep);
    assert_eq!(refusal(request.send().unwrap()).0, 400);
    let invalid = served.post("/v2/models/tiny/infer", &served.alice).body(vec![b'{', 0xff, b'}']);
    assert_eq!(refusal(invalid.send().unwrap()).0, 400);
    for length in ["-1", "x", "+4", "99999999999999999999", "1e3", ""] {
        let request = served.post("/v2/models/tiny/infer", &served.alice).body("{}");
        let request = request.header("Inference-Header-Content-Length", length);
        assert_eq!(refusal(request.send().unwrap()).0, 400, "{length}");
    }
    let request = served.post("/v2/models/tiny/infer", &served.alice);
    let request = request.header("Content-Type", "text/xml").body("<x/>");
    assert_eq!(refusal(request.send().unwrap()).0, 415);
    for (path, status) in [
        ("/v2/models/other/infer", 404),
        ("/v2/models/tiny/versions/9/infer", 404),
        ("/v2/nothing", 404),
        ("/v2/models/tiny%00/infer", 404),
    ] {
        let request = served.post(path, &served.alice).json(&body());
        assert_eq!(refusal(request.send().unwrap()).0, status, "{path}");
    }
    assert_eq!(refusal(served.get("/v2/models/tiny/infer", &served.alice).send().unwrap()).0, 405);
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS));
    assert!(
        served
            .host
            .read(|records| records.jobs(&JobFilter::default(), 9))
            .unwrap()
            .unwrap()
            .is_empty()
    );
    assert_eq!(infer(&served, &served.alice, &body()).status(), 200);
}

#[test]
fn whoever_has_no_valid_key_learns_nothing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let revoked = support::key(&served.host, "alice", &[fuelbox_jobs::Scope::Caller]);
    let id = revoked[4..20].parse().unwrap();
    served.host.access().revoke(&id).unwrap();
    let wrong = another_secret(&served.alice);
    let bodies: Vec<_> = [revoked.as_str(), &wrong, "fbx_", "x", &"k".repeat(10_000)]
        .iter()
        .flat_map(|key| {
            ["/v2/models/tiny", "/v2/models/none", "/v2/models/tiny/stats"].map(|path| {
                let response = served.get(path, key).send().unwrap();
                assert_eq!(header(&response, "www-authenticate"), "Bearer");
                read_json(response)
            })
        })
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(bodies[0].0, 401);
    for scheme in ["Basic abc", "Bearer", "Bearer ", &served.alice] {
        let request = served.get("/v2/models/tiny", "").header("Authorization", scheme);
        assert_eq!(refusal(request.send().unwrap()).0, 401, "{scheme}");
    }
    let operator_only = support::key(&served.host, "pub", &[fuelbox_jobs::Scope::Publisher]);
    assert_eq!(refusal(infer(&served, &operator_only, &body())).0, 403);
}

#[test]
fn who_cannot_pay_hears_what_is_missing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let poor = account("poor");
    served.host.accounts().create(&poor, fuelbox_ledger::AccountKind::Caller).unwrap();
    let key = support::key(&served.host, "poor", &[fuelbox_jobs::Scope::Caller]);
    let (status, answer) = read_json(infer(&served, &key, &body()));
    assert_eq!(status, 402);
    assert_eq!(answer["code"], "payment_required");
    assert_eq!(answer["balance"], "0");
    assert_eq!(answer["price"], answer["shortfall"]);
    assert!(answer["price"].as_str().unwrap().starts_with("0.00"));
}

#[test]
fn a_model_that_fails_is_an_answer_with_a_bill() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(unreachable)"));
    let response = infer(&served, &served.alice, &body());
    assert_eq!(header(&response, "fuelbox-verdict"), "trap");
    let credits = header(&response, "fuelbox-credits").to_owned();
    let (status, answer) = read_json(response);
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["code"], "model_failed");
    assert_eq!(answer["verdict"], "trap");
    assert_eq!(answer["credits"], credits);
    assert!(served.available("alice") < i128::from(RICH_MICROS));
    let (_, statistics) =
        read_json(served.get("/v2/models/tiny/stats", &served.alice).send().unwrap());
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["fail"]["count"], 1);
}

#[test]
fn a_deadline_ends_a_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let request = served.post("/v2/models/tiny/infer", &served.alice).json(&body());
    let request = request.header("Fuelbox-Deadline-Ms", "50");
    let response = request.header("Fuelbox-Fuel-Limit", "900000000000").send().unwrap();
    assert_eq!(header(&response, "fuelbox-verdict"), "cancelled");
    let (status, code, _) = refusal(response);
    assert_eq!((status, code.as_str()), (504, "deadline"));
}

#[test]
fn one_idempotency_key_is_one_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let post = |body: &Value| {
        let request = served.post("/v2/models/tiny/infer", &served.alice).json(body);
        request.header("Idempotency-Key", "\"one\"").send().unwrap()
    };
    let first = post(&body());
    assert_eq!(header(&first, "idempotent-replayed"), "");
    let (_, first) = read_json(first);
    let left = served.available("alice");
    let again = post(&body());
    assert_eq!(header(&again, "idempotent-replayed"), "true");
    assert_eq!(read_json(again), (200, first));
    assert_eq!(served.available("alice"), left);
    let mut other = body();
    other["inputs"][0]["data"] = json!([2.5]);
    let (status, code, _) = refusal(post(&other));
    assert_eq!((status, code.as_str()), (422, "key_reused"));
    // The same name of another account is another key.
    let request = served.post("/v2/models/tiny/infer", &served.bob).json(&other);
    assert_eq!(request.header("Idempotency-Key", "one").send().unwrap().status(), 200);
}

#[test]
fn a_key_in_flight_is_a_conflict_and_its_job_outlives_its_client() {
    let served = serve();
    // Some seconds of work.
    served.publish("tiny", "1", &Guest::running(&burn(200_000_000)));
    let mut body = body();
    body["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let mut stream = start(&served, &body, "Idempotency-Key: k\r\n");
    wait_until(|| served.host.running() == 1);
    let again = || {
        let request = served.post("/v2/models/tiny/infer", &served.alice).json(&body);
        request.header("Idempotency-Key", "k").send().unwrap()
    };
    let (status, code, _) = refusal(again());
    assert_eq!((status, code.as_str()), (409, "in_flight"));
    stream.shutdown(Shutdown::Both).unwrap();
    let _ = stream.flush();
    drop(stream);
    // The job is under way until it is committed.
    let replayed = loop {
        let response = again();
        if response.status() != 409 {
            break response;
        }
        thread::yield_now();
    };
    assert_eq!(header(&replayed, "idempotent-replayed"), "true");
    assert_eq!(replayed.status(), 200);
}

#[test]
fn a_job_stops_when_its_client_goes_away() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let mut body = body();
    body["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let stream = start(&served, &body, "");
    wait_until(|| served.host.running() == 1);
    drop(stream);
    let jobs =
        || served.host.read(|records| records.jobs(&JobFilter::default(), 9)).unwrap().unwrap();
    wait_until(|| !jobs().is_empty());
    let jobs = jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].state, State::Cancelled);
    assert!(jobs[0].end.as_ref().unwrap().fuel < 900_000_000_000);
}

/// Sends a request by hand, and leaves it at that.
fn start(served: &Served, body: &Value, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.addresses.http).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        served.alice,
        body.len()
    )
    .unwrap();
    stream
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let queue = QueueLimits { jobs: 2, account_jobs: 1, ..QueueLimits::default() };
    let served =
        serve_with(config(), HostConfig { workers: Some(1), queue, ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let mut endless = body();
    endless["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let _running = start(&served, &endless, "");
    wait_until(|| served.host.running() == 1);
    let _waiting = start(&served, &endless, "");
    wait_until(|| served.host.queued() == 1);
    let response = infer(&served, &served.alice, &body());
    assert_eq!(header(&response, "retry-after"), "1");
    let (status, code, sentence) = refusal(response);
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    assert_eq!(
        sentence,
        "the account's share of the queue is full: 1 of its jobs wait, allowed are 1"
    );
}

#[test]
fn readiness_tells_the_truth() {
    let queue = QueueLimits { jobs: 1, ..QueueLimits::default() };
    let served =
        serve_with(config(), HostConfig { workers: Some(1), queue, ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let ready = || served.get("/v2/health/ready", "").send().unwrap();
    assert_eq!(ready().status(), 200);
    let mut endless = body();
    endless["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let running = start(&served, &endless, "");
    wait_until(|| served.host.running() == 1);
    let waiting = start(&served, &endless, "");
    wait_until(|| served.host.queued() == 1);
    let (status, code, _) = refusal(ready());
    assert_eq!((status, code.as_str()), (503, "busy"));
    assert_eq!(served.get("/v2/health/live", "").send().unwrap().status(), 200);
    drop((running, waiting));
    wait_until(|| served.host.queued() == 0);
    assert_eq!(ready().status(), 200);
}

#[test]
fn jobs_of_one_package_at_once_are_bounded() {
    let mut limited = config();
    limited.limits.package_jobs = 1;
    let served = serve_with(limited, HostConfig { workers: Some(1), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    served.publish("other", "1", &Guest::default());
    let mut endless = body();
    endless["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let running = start(&served, &endless, "");
    wait_until(|| served.host.running() == 1);
    let (status, code, sentence) = refusal(infer(&served, &served.bob, &body()));
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    assert_eq!(sentence, "too many jobs of this model at once: allowed are 1");
    drop(running);
    let other = served.post("/v2/models/other/infer", &served.bob).json(&body());
    assert_eq!(other.send().unwrap().status(), 200);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let mut quick = config();
    quick.limits.header_time = std::time::Duration::from_millis(300);
    quick.limits.connections = 1;
    let served = serve_with(quick, HostConfig { workers: Some(1), ..HostConfig::default() });
    // Requests enough that their answers fill all buffers between the two.
    let mut stream = TcpStream::connect(served.addresses.http).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let request = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    while stream.write_all(&request).is_ok() {}
    assert_eq!(served.get("/v2", "").send().unwrap().status(), 200);
}

#[test]
fn a_key_that_asks_too_often_is_told_to_wait() {
    let mut limited = config();
    limited.limits.key_rate = 1;
    limited.limits.key_burst = 2;
    let served = serve_with(limited, HostConfig { workers: Some(1), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::default());
    let get = |key: &str| served.get("/v2/models/tiny/ready", key).send().unwrap();
    // A slow machine takes a second now and then, in which one more is allowed.
    let refused = (0..100).map(|_| get(&served.alice)).find(|answer| answer.status() != 200);
    let refused = refused.expect("a refusal");
    assert_eq!(refused.status(), 429);
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(header(&refused, "ratelimit"), "\"requests\";r=0;t=1");
    assert_eq!(header(&refused, "ratelimit-policy"), "\"requests\";q=2;w=2");
    assert_eq!(get(&served.bob).status(), 200);
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let mut quick = config();
    quick.limits.header_time = std::time::Duration::from_millis(300);
    quick.limits.connections = 2;
    let served = serve_with(quick, HostConfig { workers: Some(1), ..HostConfig::default() });
    let mut silent: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(served.addresses.http).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(b"GET /v2 HTTP/1.1\r\nHost: x").unwrap();
            stream
        })
        .collect();
    // All places are taken; the third has one when they are let go.
    assert_eq!(served.get("/v2", "").send().unwrap().status(), 200);
    for stream in &mut silent {
        let mut rest = Vec::new();
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut rest);
    }
}

/// How an HTTP/2 client begins: the preface, and settings that change nothing.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `GET /v2` on stream 1: method and scheme by number, the path as it is.
const HTTP2_GET: &[u8] = b"\0\0\x07\x01\x05\0\0\0\x01\x82\x86\x44\x03/v2";

/// The next frame's kind, flags and content; none when the server has closed.
fn next_frame(stream: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut content = vec![0; length as usize];
    stream.read_exact(&mut content).ok()?;
    Some((header[3], header[4], content))
}

/// What a client hears that answers settings and pings as it must, or does not, until it is let go.
fn hear(stream: &mut TcpStream, answers: bool) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((kind, flags, content)) = next_frame(stream) {
        kinds.push(kind);
        let acknowledged: &[u8] = match kind {
            4 => b"\0\0\0\x04\x01\0\0\0\0",
            6 => b"\0\0\x08\x06\x01\0\0\0\0",
            _ => continue,
        };
        if answers && flags & 1 == 0 {
            let content: &[u8] = if kind == 6 { &content } else { b"" };
            // It may be closed by now.
            let _ = stream.write_all(&[acknowledged, content].concat());
        }
    }
    kinds
}

/// A connection that waits for long, and no longer.
fn connect(served: &Served, said: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(served.addresses.http).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(said).unwrap();
    stream
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    !stream.read(&mut [0; 1]).is_err_and(|error| timed_out(&error))
}

#[test]
fn clients_that_ask_for_nothing_are_let_go_whatever_they_say() {
    let mut quick = config();
    quick.limits.header_time = std::time::Duration::from_millis(300);
    let served = serve_with(quick, HostConfig { workers: Some(1), ..HostConfig::default() });
    for said in [&b""[..], b"P", &HTTP2[..23]] {
        assert!(is_closed(&mut connect(&served, said)), "{said:?}");
    }
    for answers in [false, true] {
        let mut stream = connect(&served, HTTP2);
        assert_eq!(hear(&mut stream, answers).first(), Some(&4), "settings");
        assert!(is_closed(&mut stream));
    }
}

#[test]
fn an_http2_client_that_has_no_more_requests_is_told_to_go_and_then_let_go() {
    let mut quick = config();
    quick.limits.header_time = std::time::Duration::from_secs(2);
    quick.limits.idle_time = std::time::Duration::from_millis(100);
    let served = serve_with(quick, HostConfig { workers: Some(1), ..HostConfig::default() });
    for answers in [true, false] {
        let mut stream = connect(&served, &[HTTP2, HTTP2_GET].concat());
        let kinds = hear(&mut stream, answers);
        // The answer, then GOAWAY.
        let at = |kind| kinds.iter().position(|found| *found == kind);
        assert!(at(1).is_some() && at(1) < at(0) && at(0) < at(7), "{kinds:?}");
        assert!(is_closed(&mut stream));
    }
}

#[test]
fn a_server_that_stops_says_so_and_takes_nothing_for_it() {
    let mut served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let mut endless = body();
    endless["parameters"] = json!({"fuelbox_fuel_limit": 900_000_000_000u64});
    let mut stream = start(&served, &endless, "");
    wait_until(|| served.host.running() == 1);
    served.stop();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"code\":\"stopping\""), "{answer}");
    assert_eq!(served.available("alice"), i128::from(RICH_MICROS));
}
