//! A server that misbehaves on demand: it says what a test wants, or breaks the connection. What a good
//! server never does, clients must survive all the same.

use super::*;
use fuelbox_engine::{
    DataType, Digest, Place, Shape, Tensor, encode_parameters, encode_tensors, output_digest,
};
use fuelbox_receipt::{Envelope, HostKey, Receipt};
use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Method and path.
    pub(super) what: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What is answered: status, headers, body.
pub(super) struct Said(pub(super) u16, pub(super) String, pub(super) Vec<u8>);

impl Said {
    pub(super) fn json(status: u16, body: Value) -> Option<Self> {
        Some(Self(status, String::new(), body.to_string().into_bytes()))
    }

    pub(super) fn refusal(status: u16, code: &str, headers: &str) -> Option<Self> {
        let body = serde_json::json!({ "code": code, "error": format!("it is {code}") });
        Some(Self(status, headers.into(), body.to_string().into_bytes()))
    }
}

/// The server. It lives as long as the test.
pub(super) struct StandIn {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    /// Answers each request as `say` does; none breaks the connection.
    pub(super) fn new(mut say: impl FnMut(&Asked) -> Option<Said> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = receive(&stream) else { continue };
                log.lock().unwrap().push(request.clone());
                if let Some(Said(status, headers, body)) = say(&request) {
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
                    );
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&body);
                }
            }
        });
        Self { url, asked }
    }

    /// All that was asked for that begins so.
    pub(super) fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.what.starts_with(what)).cloned().collect()
    }
}

fn receive(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let what = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut asked = Asked { what, headers, body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body.resize(length, 0);
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

fn metadata() -> Option<Said> {
    Said::json(
        200,
        serde_json::json!({
            "name": "m", "versions": ["1"], "platform": "fuelbox",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        }),
    )
}

fn answered() -> Option<Said> {
    Said::json(
        200,
        serde_json::json!({
            "model_name": "m",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [2.5]}],
        }),
    )
}

/// A server whose answers to the first inference requests are these.
fn stand_in(answers: Vec<Option<Said>>) -> StandIn {
    let mut answers = answers.into_iter();
    StandIn::new(move |asked| match asked.what.as_str() {
        "GET /v2/models/m" => metadata(),
        "POST /v2/models/m/infer" => answers.next().unwrap_or_else(answered),
        other => panic!("{other}"),
    })
}

fn infer(site: &Site, server: &StandIn, more: &str) -> Command {
    site.write_key("a.key", "fbx_abcdefghij234567_secretsecret");
    site.run(&format!("infer m --url {} --key-file {{}}/a.key --random 1 {more}", server.url))
}

#[test]
fn a_request_is_sent_again_under_the_same_name_until_it_is_answered() {
    let site = Site::empty();
    let server = stand_in(vec![
        None,
        Said::refusal(503, "busy", "retry-after: 0\r\n"),
        Said::refusal(409, "in_flight", "retry-after: 0\r\n"),
        Some(Said(200, "content-length: 9\r\n".into(), Vec::new())),
        Said::refusal(429, "rate_limited", "retry-after: 0\r\n"),
    ]);
    let (table, stderr) = check(&mut infer(&site, &server, ""), 0);
    assert!(table.starts_with("y  FP32 [1]\n  2.5\n"), "{table}");
    assert_eq!(stderr.lines().count(), 5, "one line for each time: {stderr}");
    let asked = server.asked("POST");
    assert_eq!(asked.len(), 6);
    let name = asked[0].header("idempotency-key").unwrap();
    assert!(name.len() >= 32, "a name of its own: {name}");
    for asked in &asked {
        assert_eq!(asked.header("idempotency-key"), Some(name));
        assert_eq!(asked.header("authorization"), Some("Bearer fbx_abcdefghij234567_secretsecret"));
    }
    assert!(asked.windows(2).all(|pair| pair[0].body == pair[1].body));
    // Another call is another request.
    check(&mut infer(&site, &server, ""), 0);
    assert_ne!(server.asked("POST")[6].header("idempotency-key"), Some(name));
}

#[test]
fn tries_end() {
    let site = Site::empty();
    let busy = || Said::refusal(503, "busy", "retry-after: 0\r\n");
    let server = stand_in(vec![busy(), busy(), busy(), busy()]);
    let (_, stderr) = check(&mut infer(&site, &server, "--retries 2 -q"), 5);
    assert_eq!((stderr.as_str(), server.asked("POST").len()), ("error: it is busy\n", 3));
    // Not what will not pass, and not what takes longer than anybody waits.
    for (status, code, headers, exit) in [
        (402, "payment_required", "retry-after: 0\r\n", 7),
        (500, "host_fault", "", 6),
        (503, "unavailable", "", 5),
        (503, "stopping", "retry-after: 3600\r\n", 5),
        (504, "deadline", "retry-after: 0\r\n", 5),
        (302, "", "location: http://127.0.0.1:1/\r\n", 6),
    ] {
        let server = stand_in(vec![Said::refusal(status, code, headers)]);
        check(&mut infer(&site, &server, ""), exit);
        assert_eq!(server.asked("POST").len(), 1, "{status} {code}");
    }
}

#[test]
fn options_are_headers_and_the_models_own_settings_are_not() {
    let site = Site::empty();
    let server = stand_in(vec![]);
    let options = "--fuel-limit 1M --memory-limit 64KiB --load-fuel-limit 2M --deadline 1500us --seed 7 \
         --idempotency-key order-1 --param top=3";
    check(&mut infer(&site, &server, options), 0);
    let asked = &server.asked("POST")[0];
    for (name, expected) in [
        ("fuelbox-fuel-limit", "1000000"),
        ("fuelbox-memory-limit", "65536"),
        ("fuelbox-load-fuel-limit", "2000000"),
        ("fuelbox-deadline-ms", "2"),
        ("fuelbox-seed", "7"),
        ("idempotency-key", "order-1"),
        ("content-type", "application/octet-stream"),
    ] {
        assert_eq!(asked.header(name), Some(expected), "{name}");
    }
    let json_bytes = asked.header("inference-header-content-length").unwrap().parse().unwrap();
    let json: Value = serde_json::from_slice(&asked.body[..json_bytes]).unwrap();
    assert_eq!(json["parameters"], serde_json::json!({"binary_data_output": true, "top": 3}));
    assert_eq!(asked.body.len(), json_bytes + 4, "the input is binary data");
}

#[test]
fn answers_that_are_none_are_the_hosts_fault() {
    let site = Site::empty();
    for (headers, body) in [
        ("", "no json".to_owned()),
        ("inference-header-content-length: x\r\n", "{}".to_owned()),
        ("inference-header-content-length: 9\r\n", "{}".to_owned()),
        ("", r#"{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[9],"data":[1]}]}"#.to_owned()),
    ] {
        let said = Said(200, headers.into(), body.clone().into_bytes());
        let server = stand_in(vec![Some(said)]);
        let (stdout, stderr) = check(&mut infer(&site, &server, ""), 6);
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{body}: {stderr}");
    }
}

/// A job's receipt, as a host with this key would give it, changed as a test wants.
fn receipt(template: &Receipt, key: &HostKey, change: impl Fn(&mut Receipt)) -> Envelope {
    let tensor = |name: &str, value: f32| Tensor {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: Shape::new(&[1]).unwrap(),
        bytes: value.to_le_bytes().to_vec(),
    };
    let mut receipt = Receipt {
        output: output_digest(&[tensor("y", 2.5)]),
        input: Digest::of(&encode_tensors(Place::Inputs, &[tensor("x", 0.5)])),
        parameters: Digest::of(&encode_parameters(&[])),
        ..template.clone()
    };
    change(&mut receipt);
    Envelope::sign(&receipt, key).unwrap()
}

#[test]
fn receipts_hold_only_for_what_was_sent_and_what_came_back() {
    let site = Site::new();
    site.ok("submit tiny --account alice --random 1 --receipt {}/template.json");
    let template = Envelope::parse(&fs::read(site.path("template.json")).unwrap()).unwrap();
    let template = Receipt::from_statement_bytes(template.payload()).unwrap();
    let (key, stranger) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
    fs::write(site.path("host.pem"), key.public_pem()).unwrap();
    site.write_input("half.json", 0.5);
    let other = Digest::of(b"another");
    let check_receipt = |envelope: &Envelope, named: Digest, code: i32, expected: &str| {
        let (bytes, job) = (envelope.to_bytes(), template.job.clone());
        let (fuel, receipt_path) = (template.usage.fuel, format!("GET /api/v1/jobs/{job}/receipt"));
        let server = StandIn::new(move |asked| match asked.what.as_str() {
            "GET /v2/models/m" => metadata(),
            "POST /v2/models/m/infer" => {
                let said = answered().unwrap();
                let bill = format!(
                    "fuelbox-job: {job}\r\nfuelbox-receipt: {named}\r\nfuelbox-fuel: {fuel}\r\n"
                );
                Some(Said(said.0, bill, said.2))
            }
            path if path == receipt_path => Some(Said(200, String::new(), bytes.clone())),
            _ => Said::refusal(404, "not_found", ""),
        });
        let files = "--receipt {}/job.json --output {}/out.npz --verify {}/host.pem";
        let arguments =
            format!("infer m --url {} --input {{}}/half.json --json {files}", server.url);
        let _ = fs::remove_file(site.path("out.npz"));
        let output = site.run(&arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{expected}: {stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["verified"], code == 0, "{expected}");
        assert_eq!(fs::read(site.path("job.json")).unwrap(), envelope.to_bytes());
        assert_eq!(site.path("out.npz").exists(), code == 0, "what does not hold is not written");
    };
    let good = receipt(&template, &key, |_| ());
    check_receipt(&good, good.digest(), 0, "");
    check_receipt(&good, other, 8, "the answer names sha256:");
    let theirs = receipt(&template, &stranger, |_| ());
    check_receipt(&theirs, theirs.digest(), 8, "not among the 1 known keys");
    let mut signature = *good.signature();
    signature[0] ^= 1;
    let forged = Envelope::from_parts(good.payload().to_vec(), good.key_id(), signature);
    check_receipt(&forged, forged.digest(), 8, "does not fit the payload");
    for (field, change) in [
        ("output", (|receipt, other| receipt.output = other) as fn(&mut Receipt, Digest)),
        ("input", |receipt, other| receipt.input = other),
        ("parameters", |receipt, other| receipt.parameters = other),
        ("seed", |receipt, _| receipt.seed = 9),
        ("usage.fuel", |receipt, _| receipt.usage.fuel += 1),
        ("verdict.name", |receipt, _| receipt.verdict.name = "trap".into()),
        ("job", |receipt, _| receipt.job = "01890a5d-ac96-774b-bcce-b302099a8057".into()),
    ] {
        let wrong = receipt(&template, &key, |receipt| change(receipt, other));
        check_receipt(&wrong, wrong.digest(), 8, &format!("answer: {field} ("));
    }
}

#[test]
fn no_receipt_is_no_proof() {
    let site = Site::empty();
    let key = HostKey::generate().unwrap();
    fs::write(site.path("host.pem"), key.public_pem()).unwrap();
    let server = stand_in(vec![]);
    let (table, stderr) = check(&mut infer(&site, &server, "--verify {}/host.pem"), 8);
    assert!(table.contains("2.5") && stderr.contains("names no job"), "{stderr}");
}

#[test]
fn a_server_names_no_dimensions() {
    let site = Site::empty();
    let server = stand_in(vec![]);
    let (_, stderr) = check(&mut infer(&site, &server, "--dim batch=3"), 3);
    assert!(stderr.contains("dimension 'batch'"), "{stderr}");
}
