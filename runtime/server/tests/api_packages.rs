//! Packages and uploads of fuelbox's own API.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_digest::Digest;
use fuelbox_engine::Archive;
use fuelbox_jobs::Scope;
use fuelbox_ledger::AccountKind;
use fuelbox_receipt::{HostKey, PackageSignature};
use fuelbox_test_support::guest::Guest;
use reqwest::{
    Method,
    blocking::{RequestBuilder, Response},
};
use serde_json::{Value, json};
use std::{io::Write, net::TcpStream, thread};
use support::{
    Served, account, config, json as read_json, key, package, refusal, serve, serve_with,
};

const PACKAGE: &str = "application/vnd.fuelbox.package";

/// A publisher's package, and his signature of it.
struct Signed {
    file: Vec<u8>,
    envelope: Vec<u8>,
}

fn signed(served: &Served, name: &str, version: &str) -> Signed {
    let key = HostKey::from_secret(&[7; 32]);
    served.host.publishers().register_key(&account("pub"), &key.public_pem()).unwrap();
    let file = package(served.folder.path(), name, version, &Guest::default());
    let digest = Archive::read(&file[..]).unwrap().manifest().digest();
    let envelope = PackageSignature::sign(&key, &digest, name, version).to_bytes();
    Signed { file, envelope }
}

fn send_file(served: &Served, key: &str, signed: &Signed) -> RequestBuilder {
    send_file_as(served, key, signed, "public")
}

fn send_file_as(served: &Served, key: &str, signed: &Signed, visibility: &str) -> RequestBuilder {
    let path = format!("/api/v1/packages?visibility={visibility}");
    let request = served.post(&path, key).header("content-type", PACKAGE);
    let request = request.header("fuelbox-signature", BASE64_STANDARD.encode(&signed.envelope));
    request.body(signed.file.clone())
}

fn published(served: &Served, name: &str, version: &str, visibility: &str) -> Value {
    let signed = signed(served, name, version);
    let request = send_file_as(served, &served.publisher, &signed, visibility);
    let (status, body) = read_json(request.send().unwrap());
    assert_eq!(status, 201, "{body}");
    body
}

fn get(served: &Served, path: &str, key: &str) -> (u16, Value) {
    read_json(served.get(&format!("/api/v1{path}"), key).send().unwrap())
}

fn request(served: &Served, method: Method, path: &str, key: &str) -> RequestBuilder {
    served.client.request(method, served.url(&format!("/api/v1{path}"))).bearer_auth(key)
}

fn change(served: &Served, path: &str, key: &str, body: &Value) -> (u16, Value) {
    read_json(request(served, Method::PATCH, path, key).json(body).send().unwrap())
}

fn infer(served: &Served, model: &str, key: &str) -> u16 {
    let body = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]});
    let path = format!("/v2/models/{model}/infer");
    served.post(&path, key).json(&body).send().unwrap().status().as_u16()
}

fn leftovers(served: &Served) -> usize {
    std::fs::read_dir(served.folder.path().join("data/uploads")).unwrap().count()
}

#[test]
fn a_package_is_published_shown_and_downloaded() {
    let served = serve();
    let signed = signed(&served, "tiny", "1");
    let digest = BASE64_STANDARD.encode(Digest::of(&signed.file).as_bytes());
    let send = || {
        let request = send_file(&served, &served.publisher, &signed);
        request.header("content-digest", format!("sha-512=:eA==:, sha-256=:{digest}:"))
    };
    let before = served.available("pub");
    let (status, body) = read_json(send().send().unwrap());
    assert_eq!(status, 201, "{body}");
    assert_eq!((&body["repeated"], &body["publisher"]), (&json!(false), &json!("pub")));
    let paid = before - served.available("pub");
    assert_eq!(
        body["credits"],
        fuelbox_ledger::Credits::from_micros(paid as u64).unwrap().to_string()
    );
    assert_eq!(body["manifest"]["signature"]["inputs"][0]["name"], "x");
    assert_eq!(body["file_bytes"], signed.file.len());
    let envelope: Value = serde_json::from_slice(&signed.envelope).unwrap();
    assert_eq!(body["signature"], envelope);
    let (status, again) = read_json(send().send().unwrap());
    assert_eq!((status, &again["repeated"], &again["credits"]), (200, &json!(true), &json!("0")));

    let (_, seen) = get(&served, "/packages/tiny/1", &served.alice);
    assert_eq!(seen["digest"], body["digest"]);
    assert_eq!((&seen["load_credits"], &seen["readers"]), (&Value::Null, &Value::Null));
    let file = served.get("/api/v1/packages/tiny/1/file", &served.alice).send().unwrap();
    assert_eq!(file.headers()["content-type"], PACKAGE);
    assert_eq!(file.bytes().unwrap(), signed.file);
    assert_eq!(infer(&served, "tiny", &served.alice), 200);
    assert_eq!(leftovers(&served), 0);
}

#[test]
fn a_body_that_is_not_what_it_says_is_not_published() {
    let mut config = config();
    config.limits.package_bytes = 100_000;
    let served = serve_with(config, fuelbox_jobs::Config::default());
    let signed = signed(&served, "tiny", "1");
    let refused = |request: RequestBuilder| {
        let (status, code, _) = refusal(request.send().unwrap());
        (status, code)
    };
    let send = || send_file(&served, &served.publisher, &signed);
    let other = BASE64_STANDARD.encode([0; 32]);
    let bad = send().header("content-digest", format!("sha-256=:{other}:"));
    assert_eq!(refused(bad), (400, "bad_input".into()));
    assert_eq!(refused(send().header("content-digest", "sha-256=abc")), (400, "bad_input".into()));
    let large = served.post("/api/v1/packages", &served.publisher).header("content-type", PACKAGE);
    assert_eq!(refused(large.body(vec![0; 100_001])), (413, "too_large".into()));
    let rubbish =
        served.post("/api/v1/packages", &served.publisher).header("content-type", PACKAGE);
    assert_eq!(refused(rubbish.body("rubbish")), (422, "package_refused".into()));
    let unsigned =
        served.post("/api/v1/packages", &served.publisher).header("content-type", PACKAGE);
    assert_eq!(refused(unsigned.body(signed.file.clone())), (403, "forbidden".into()));
    let nothing =
        served.post("/api/v1/packages", &served.publisher).header("content-type", PACKAGE);
    let nothing = nothing.header("fuelbox-signature", "e30=");
    assert_eq!(refused(nothing.body(signed.file.clone())), (400, "bad_input".into()));
    let text =
        served.post("/api/v1/packages", &served.publisher).header("content-type", "text/plain");
    assert_eq!(refused(text.body("x")), (415, "unsupported_media".into()));
    assert_eq!(
        refused(send_file_as(&served, &served.publisher, &signed, "secret")),
        (400, "bad_input".into())
    );
    assert_eq!(refused(send_file(&served, &served.alice, &signed)), (403, "forbidden".into()));
    assert_eq!(get(&served, "/packages", &served.alice).1["packages"], json!([]));
    assert_eq!(leftovers(&served), 0);
}

/// A request to publish whose body does not come.
fn promise(served: &Served, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.addresses.http).unwrap();
    write!(
        stream,
        "POST /api/v1/packages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: {PACKAGE}\r\nContent-Length: 1000\r\n\r\n"
    )
    .unwrap();
    stream
}

#[test]
fn no_account_takes_the_places_of_all() {
    let served = serve();
    let signed = signed(&served, "tiny", "1");
    let held: Vec<_> = (0..4).map(|_| promise(&served, &served.publisher)).collect();
    while leftovers(&served) < held.len() {
        thread::yield_now();
    }
    let response = send_file(&served, &served.publisher, &signed).send().unwrap();
    assert_eq!(response.headers()["retry-after"], "10");
    let (status, code, sentence) = refusal(response);
    assert_eq!((status, code.as_str()), (503, "busy"));
    assert!(sentence.starts_with("too many packages of this account are being received"));
    // Another one's file is received; whether it may be published is asked later.
    served.host.accounts().create(&account("eve"), AccountKind::Publisher).unwrap();
    let eve = key(&served.host, "eve", &[Scope::Publisher]);
    let (status, code, _) = refusal(send_file(&served, &eve, &signed).send().unwrap());
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    drop(held);
    while leftovers(&served) > 0 {
        thread::yield_now();
    }
    assert_eq!(send_file(&served, &served.publisher, &signed).send().unwrap().status(), 201);
}

fn begin(served: &Served, file: &[u8]) -> (u16, Value) {
    let body = json!({"bytes": file.len(), "digest": Digest::of(file).to_string()});
    read_json(served.post("/api/v1/uploads", &served.publisher).json(&body).send().unwrap())
}

fn write(served: &Served, key: &str, id: &str, offset: usize, part: &[u8]) -> Response {
    let request = request(served, Method::PATCH, &format!("/uploads/{id}"), key);
    let request = request.header("content-type", "application/octet-stream");
    request.header("upload-offset", offset).body(part.to_vec()).send().unwrap()
}

#[test]
fn an_upload_comes_in_parts_and_is_published() {
    let served = serve();
    let signed = signed(&served, "tiny", "1");
    let (file, middle) = (&signed.file, signed.file.len() / 2);
    let (status, begun) = begin(&served, file);
    assert_eq!((status, &begun["offset"]), (201, &json!(0)));
    let id = begun["id"].as_str().unwrap();
    let first = write(&served, &served.publisher, id, 0, &file[..middle]);
    assert_eq!(first.status(), 204);
    assert_eq!(first.headers()["upload-offset"], middle.to_string().as_str());
    assert_eq!(get(&served, &format!("/uploads/{id}"), &served.publisher).1["offset"], middle);
    // The same part again, as after a broken connection: the host says where it is.
    let (status, conflict) = read_json(write(&served, &served.publisher, id, 0, &file[..middle]));
    assert_eq!((status, &conflict["offset"]), (409, &json!(middle)));
    let envelope: Value = serde_json::from_slice(&signed.envelope).unwrap();
    let body = json!({"upload": id, "signature": envelope, "visibility": "private"});
    let publish = || served.post("/api/v1/packages", &served.publisher).json(&body).send().unwrap();
    assert_eq!(refusal(publish()).0, 409);
    assert_eq!(write(&served, &served.publisher, id, middle, &file[middle..]).status(), 204);
    let (status, package) = read_json(publish());
    assert_eq!((status, &package["visibility"]), (201, &json!("private")));
    assert_eq!(get(&served, &format!("/uploads/{id}"), &served.publisher).0, 404);
    assert_eq!(leftovers(&served), 0);
}

#[test]
fn an_upload_with_another_digest_is_removed() {
    let served = serve();
    let (_, begun) = begin(&served, b"abc");
    let id = begun["id"].as_str().unwrap();
    assert_eq!(refusal(write(&served, &served.publisher, id, 0, b"abcd")).0, 413);
    let (status, body) = read_json(write(&served, &served.publisher, id, 0, b"abd"));
    assert_eq!((status, &body["reason"]), (400, &json!("bad_digest")));
    assert_eq!(get(&served, &format!("/uploads/{id}"), &served.publisher).0, 404);
    assert_eq!(leftovers(&served), 0);
}

#[test]
fn an_upload_of_another_account_is_like_one_that_is_not_there() {
    let served = serve();
    let kind = fuelbox_ledger::AccountKind::Publisher;
    served.host.accounts().create(&account("other"), kind).unwrap();
    let other = support::key(&served.host, "other", &[fuelbox_jobs::Scope::Publisher]);
    let (_, begun) = begin(&served, b"abc");
    let id = begun["id"].as_str().unwrap();
    let ask = |id: &str| {
        let path = format!("/uploads/{id}");
        let answers = [
            request(&served, Method::GET, &path, &other).send().unwrap(),
            write(&served, &other, id, 0, b"abc"),
            request(&served, Method::DELETE, &path, &other).send().unwrap(),
            served.post("/api/v1/packages", &other).json(&json!({"upload": id})).send().unwrap(),
        ];
        answers.map(|answer| (answer.status().as_u16(), answer.text().unwrap().replace(id, "ID")))
    };
    let found = ask(id);
    assert!(found.iter().all(|(status, _)| *status == 404), "{found:?}");
    assert_eq!(found, ask("01890a5d-ac96-774b-bcce-b302099a8057"));
    let removed = request(&served, Method::DELETE, &format!("/uploads/{id}"), &served.publisher);
    assert_eq!(removed.send().unwrap().status(), 204);
}

#[test]
fn a_private_package_is_not_there_but_for_its_readers() {
    let served = serve();
    published(&served, "secret", "1", "private");
    let paths = |name: &str| {
        [
            format!("/packages/{name}"),
            format!("/packages/{name}/1"),
            format!("/packages/{name}/1/file"),
        ]
    };
    let ask = |name: &str, key: &str| {
        paths(name).map(|path| {
            let answer = served.get(&format!("/api/v1{path}"), key).send().unwrap();
            (answer.status().as_u16(), answer.text().unwrap_or_default().replace(name, "NAME"))
        })
    };
    let found = ask("secret", &served.bob);
    assert!(found.iter().all(|(status, _)| *status == 404), "{found:?}");
    assert_eq!(found, ask("nothing", &served.bob));
    assert_eq!(get(&served, "/packages", &served.bob).1["packages"], json!([]));
    assert_eq!(infer(&served, "secret", &served.bob), 404);
    let readers = json!({"readers": ["bob"]});
    let (status, package) = change(&served, "/packages/secret/1", &served.publisher, &readers);
    assert_eq!((status, &package["readers"]), (200, &json!(["bob"])));
    assert_eq!(get(&served, "/packages/secret/1", &served.bob).0, 200);
    assert_eq!(infer(&served, "secret", &served.bob), 200);
    assert_eq!(infer(&served, "secret", &served.alice), 404);
    change(&served, "/packages/secret/1", &served.publisher, &json!({"readers": []}));
    assert_eq!(infer(&served, "secret", &served.bob), 404);
}

#[test]
fn packages_are_changed_by_their_publisher_alone() {
    let served = serve();
    published(&served, "tiny", "1", "public");
    published(&served, "tiny", "2", "public");
    let kind = fuelbox_ledger::AccountKind::Publisher;
    served.host.accounts().create(&account("other"), kind).unwrap();
    let other = support::key(&served.host, "other", &[fuelbox_jobs::Scope::Publisher]);
    let old = json!({"deprecated": "use version 1"});
    for key in [&other, &served.alice] {
        assert_eq!(change(&served, "/packages/tiny/2", key, &old).0, 403);
        let removed = request(&served, Method::DELETE, "/packages/tiny/2", key).send().unwrap();
        assert_eq!(refusal(removed).0, 403);
    }
    let (status, package) = change(&served, "/packages/tiny/2", &served.publisher, &old);
    assert_eq!((status, &package["deprecated"]), (200, &json!("use version 1")));
    let (_, versions) = get(&served, "/packages/tiny", &served.alice);
    assert_eq!(
        (&versions["latest"], &versions["versions"][0]["version"]),
        (&json!("1"), &json!("2"))
    );
    let (_, package) =
        change(&served, "/packages/tiny/2", &served.publisher, &json!({"deprecated": null}));
    assert_eq!(package["deprecated"], Value::Null);
    for bad in [
        json!({"deprecated": ""}),
        json!({"visibility": "secret"}),
        json!({"readers": ["nobody"]}),
        json!({"readers": ["No Body"]}),
        json!({"more": 1}),
    ] {
        assert_eq!(change(&served, "/packages/tiny/2", &served.publisher, &bad).0, 400, "{bad}");
    }
    assert_eq!(infer(&served, "tiny", &served.alice), 200);
    let remove = |version: &str| {
        let path = format!("/packages/tiny/{version}");
        request(&served, Method::DELETE, &path, &served.publisher).send().unwrap()
    };
    assert_eq!(refusal(remove("2")).0, 409, "a job names it");
    assert_eq!(remove("1").status(), 204);
    assert_eq!(refusal(remove("1")).0, 404);
}

#[test]
fn lists_of_packages_have_pages() {
    let served = serve();
    for version in ["1", "2", "3"] {
        published(&served, "tiny", version, "public");
    }
    let list = |query: &str| {
        let (_, page) = get(&served, &format!("/packages?{query}"), &served.alice);
        let packages = page["packages"].as_array().unwrap().iter();
        let versions: Vec<_> =
            packages.map(|it| it["version"].as_str().unwrap().to_owned()).collect();
        (versions, page["next"].as_str().map(str::to_owned))
    };
    let (first, next) = list("limit=2");
    assert_eq!(first, ["3", "2"]);
    assert_eq!(list(&format!("after={}", next.unwrap())), (vec!["1".to_owned()], None));
    assert_eq!(list("name=tiny").0.len(), 3);
    assert_eq!(list("name=nothing").0.len(), 0);
    for query in ["limit=0", "limit=1001", "after=x", "more=1"] {
        assert_eq!(get(&served, &format!("/packages?{query}"), &served.alice).0, 400, "{query}");
    }
}
