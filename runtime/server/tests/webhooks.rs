//! Webhooks: receivers on this machine hear of the ends of jobs.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_jobs::{Config as HostConfig, WebhookState};
use fuelbox_ledger::rusqlite::Connection;
use fuelbox_receipt::webhook;
use fuelbox_test_support::guest::Guest;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};
use support::{LONG, Served, account, config, json as read_json, serve_with};

fn serve() -> Served {
    let mut config = config();
    config.limits.webhooks_insecure = true;
    let served = serve_with(config, HostConfig { workers: Some(1), ..HostConfig::default() });
    served.publish("tiny", "1", &Guest::default());
    served
}

/// What a receiver was sent.
struct Message {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn read_message(stream: &TcpStream) -> Message {
    let mut reader = BufReader::new(stream);
    let mut headers = HashMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let length = headers["content-length"].parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Message { headers, body }
}

/// A receiver that answers with these status lines, one after the other, and says what it was sent.
fn receiver(answers: &'static [&'static str]) -> (String, Receiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, messages) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let message = read_message(&stream);
            let answer =
                format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    (url, messages)
}

fn submit(served: &Served, url: &str) -> String {
    submit_as(served, &served.alice, url)
}

fn submit_as(served: &Served, key: &str, url: &str) -> String {
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]});
    let job = json!({"model": "tiny", "inputs": [x], "webhook": {"url": url}});
    let (status, body) = read_json(served.post("/api/v1/jobs", key).json(&job).send().unwrap());
    assert_eq!(status, 202, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

/// The job's webhook once it was tried.
fn tried(served: &Served, job: &str) -> fuelbox_jobs::Webhook {
    let started = std::time::Instant::now();
    loop {
        let found = served.host.webhooks().of(&job.parse().unwrap()).unwrap().unwrap();
        if found.attempts > 0 {
            return found;
        }
        assert!(started.elapsed() < LONG, "{found:?}");
        thread::yield_now();
    }
}

#[test]
fn a_receiver_hears_of_a_jobs_end_and_knows_who_says_so() {
    let served = serve();
    let (url, messages) = receiver(&["204 No Content"]);
    let job = submit(&served, &url);
    let Message { headers, body } = messages.recv_timeout(LONG).unwrap();
    assert_eq!(headers["webhook-id"], job);
    let signature = headers["webhook-signature"].strip_prefix("v1a,").unwrap();
    let signature = BASE64_STANDARD.decode(signature).unwrap().try_into().unwrap();
    let time = headers["webhook-timestamp"].parse().unwrap();
    assert!(webhook::verify(&served.host.key_ring(), &job, time, &body, &signature));
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&said["id"], &said["state"]), (&json!(job), &json!("succeeded")));
    let found = tried(&served, &job);
    assert_eq!((found.state, found.status), (WebhookState::Delivered, Some(204)));
    let (_, shown) =
        read_json(served.get(&format!("/api/v1/jobs/{job}"), &served.alice).send().unwrap());
    assert_eq!(
        (&shown["webhook"]["state"], &shown["webhook"]["url"]),
        (&json!("delivered"), &json!(url))
    );
}

#[test]
fn a_redirect_is_not_followed_and_an_error_is_tried_again() {
    let served = serve();
    let (aim, never) = receiver(&["204 No Content"]);
    let answer: &'static str = format!("307 Temporary Redirect\r\nlocation: {aim}").leak();
    for (answer, expected) in [(answer, 307), ("500 Internal Server Error", 500)] {
        let (url, messages) = receiver(vec![answer].leak());
        let job = submit(&served, &url);
        messages.recv_timeout(LONG).unwrap();
        let found = tried(&served, &job);
        assert_eq!(found.state, WebhookState::Waiting);
        let error = format!("the receiver answered with status {expected}");
        assert_eq!(found.error.as_deref(), Some(error.as_str()));
        assert!(found.next_unix_ms > 0);
    }
    assert!(never.try_recv().is_err());
}

#[test]
fn a_receiver_that_says_nothing_holds_up_no_other() {
    let served = serve();
    // It takes connections, and never answers.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", dead.local_addr().unwrap());
    let waiting: Vec<_> = (0..40).map(|_| submit(&served, &silent)).collect();
    let (url, messages) = receiver(&["200 OK"]);
    let job = submit(&served, &url);
    assert_eq!(messages.recv_timeout(LONG).unwrap().headers["webhook-id"], job);
    let tries =
        |job: &String| served.host.webhooks().of(&job.parse().unwrap()).unwrap().unwrap().attempts;
    // Their first try lasts until nobody waits for the answer any more.
    assert!(waiting.iter().all(|job| tries(job) == 0));
}

/// Adds ended jobs like this one, each with a webhook that is due to one of these receivers since 1970.
fn add_due(served: &Served, like: &str, count: u32, receivers: &[String]) {
    let database = served.folder.path().join("data/fuelbox.db");
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(LONG).unwrap();
    let mut select = connection.prepare("SELECT name FROM pragma_table_info('job')").unwrap();
    let names = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names: Vec<_> = names.map(Result::unwrap).filter(|name| name != "id").collect();
    let columns = names.join(", ");
    let like = like.replace('-', "");
    let sql = format!(
        "INSERT INTO job (id, {columns})
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count})
         SELECT unhex(printf('%032x', n)), {columns} FROM job, number WHERE id = unhex('{like}');"
    );
    let urls = receivers.iter().enumerate().map(|(n, url)| format!("WHEN {n} THEN '{url}'"));
    let urls = urls.collect::<Vec<_>>().join(" ");
    let hooks = format!(
        "INSERT INTO webhook (job, account, url, state, next_unix_ms)
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count})
         SELECT unhex(printf('%032x', n)), 'alice', CASE n % {} {urls} END, 'waiting', n FROM number;",
        receivers.len()
    );
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {sql} {hooks} COMMIT;")).unwrap();
}

#[test]
fn ten_thousand_webhooks_of_one_account_hold_up_no_other() {
    let served = serve();
    let dead: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let silent = dead.iter().map(|dead| format!("http://{}/", dead.local_addr().unwrap()));
    let silent: Vec<_> = silent.collect();
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]});
    let body = json!({"inputs": [x]});
    let answer = served.post("/v2/models/tiny/infer", &served.alice).json(&body).send().unwrap();
    let like = answer.headers()["fuelbox-job"].to_str().unwrap().to_owned();
    add_due(&served, &like, 10_000, &silent);
    let (url, messages) = receiver(&["200 OK"]);
    let job = submit_as(&served, &served.bob, &url);
    assert_eq!(messages.recv_timeout(LONG).unwrap().headers["webhook-id"], job);
    // Bob's was in the first batch: nobody has waited for any of alice's receivers to the end.
    let first: Vec<_> = served.host.webhooks().due(&account("alice"), u64::MAX, 100).unwrap();
    assert!(first.iter().map(|webhook| webhook.next_unix_ms).eq(1..=100), "{first:?}");
    assert!(first.iter().all(|webhook| webhook.attempts == 0), "{first:?}");
}

#[test]
fn an_open_host_refuses_receivers_of_its_own_network() {
    let served = support::serve();
    served.publish("tiny", "1", &Guest::default());
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]});
    for url in
        ["http://example.com/", "https://127.0.0.1:8443/", "https://localhost/", "https://[::1]/"]
    {
        let job = json!({"model": "tiny", "inputs": [x], "webhook": {"url": url}});
        let answer = served.post("/api/v1/jobs", &served.alice).json(&job).send().unwrap();
        assert_eq!(support::refusal(answer).0, 400, "{url}");
    }
    assert_eq!(
        served.host.read(|records| records.jobs(&Default::default(), 10)).unwrap().unwrap(),
        []
    );
}
