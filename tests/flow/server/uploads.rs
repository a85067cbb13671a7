//! Packages by `fuelbox push`: in pieces, gone on with after an interruption, signed.

use super::{
    stand_in::{Asked, Said, StandIn},
    *,
};
use fuelbox_engine::Digest;
use fuelbox_receipt::{HostKey, PackageSignature, SignedPackage};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// What a server of uploads has, and how it fails.
#[derive(Default)]
struct Store {
    bytes: Vec<u8>,
    digest: String,
    /// Pieces that arrive and are not acknowledged.
    lose_answers: usize,
    /// Pieces that break off before they arrive.
    break_at: Option<usize>,
    /// Whether the upload was forgotten.
    gone: bool,
    published: bool,
    lose_publication: bool,
}

impl Store {
    fn say(&mut self, asked: &Asked) -> Option<Said> {
        let offset = self.bytes.len();
        match asked.what.as_str() {
            "POST /api/v1/uploads" => {
                let request: Value = serde_json::from_slice(&asked.body).unwrap();
                self.digest = request["digest"].as_str().unwrap().to_owned();
                self.bytes.clear();
                self.gone = false;
                Said::json(201, json!({"id": "up-1", "offset": 0, "chunk_bytes_max": 100}))
            }
            "GET /api/v1/uploads/up-1" if !self.gone => Said::json(200, json!({"offset": offset})),
            "PATCH /api/v1/uploads/up-1" if !self.gone => {
                if asked.header("upload-offset").unwrap().parse() != Ok(offset) {
                    return Said::refusal(409, "conflict", "");
                }
                if self.break_at.is_some_and(|at| offset >= at) {
                    return None;
                }
                self.bytes.extend(&asked.body);
                if self.lose_answers > 0 {
                    self.lose_answers -= 1;
                    return None;
                }
                let next = format!("upload-offset: {}\r\n", self.bytes.len());
                Some(Said(204, next, Vec::new()))
            }
            "POST /api/v1/packages" if !self.published => {
                assert_eq!(Digest::of(&self.bytes).to_string(), self.digest);
                self.published = true;
                self.gone = true;
                if self.lose_publication {
                    return None;
                }
                let bill =
                    json!({"name": "tiny", "version": "1.0.0", "fuel": 1234, "credits": "0.5"});
                Said::json(201, bill)
            }
            "GET /api/v1/packages/tiny/1.0.0" if self.published => {
                Said::json(200, json!({"name": "tiny", "digest": package(&self.bytes).digest}))
            }
            _ => Said::refusal(404, "not_found", ""),
        }
    }
}

fn package(bytes: &[u8]) -> SignedPackage {
    let archive = fuelbox_engine::Archive::read(bytes).unwrap();
    let manifest = archive.manifest();
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    SignedPackage { digest: manifest.digest(), name, version }
}

/// A server with this store, and a site with a package.
fn stand_in(store: Store) -> (Site, StandIn, Arc<Mutex<Store>>) {
    let site = Site::empty();
    site.pack("tiny", "1.0.0", &Guest::default());
    let store = Arc::new(Mutex::new(store));
    let inside = store.clone();
    let server = StandIn::new(move |asked| inside.lock().unwrap().say(asked));
    (site, server, store)
}

fn push(site: &Site, server: &StandIn, more: &str) -> Command {
    site.run(&format!("push {{}}/tiny-1.0.0.fbx --url {} --retries 1 {more}", server.url))
}

#[test]
fn a_package_goes_in_pieces_and_says_what_it_cost() {
    let (site, server, store) = stand_in(Store::default());
    let (table, stderr) = check(&mut push(&site, &server, "-q"), 0);
    let file = fs::read(site.path("tiny-1.0.0.fbx")).unwrap();
    assert_eq!(store.lock().unwrap().bytes, file);
    assert_eq!(server.asked("PATCH").len(), file.len().div_ceil(100));
    let digest = package(&file).digest;
    let expected = format!(
        "package  tiny:1.0.0\ndigest   {digest}\nfuel     1,234 to load and to run its golden cases\n\
         bill     0.5 credits\n"
    );
    assert_eq!((table, stderr.as_str()), (expected, ""));
    let request: Value =
        serde_json::from_slice(&server.asked("POST /api/v1/packages")[0].body).unwrap();
    assert_eq!(request, json!({"upload": "up-1", "visibility": "public"}));
    assert!(!site.path("tiny-1.0.0.fbx.upload").exists());
}

#[test]
fn a_signature_is_of_the_package_and_by_the_key() {
    let (site, server, _) = stand_in(Store::default());
    site.ok("publisher-key new -o {}/acme.pem");
    check(&mut push(&site, &server, "--sign {}/acme.pem --private --load-fuel-limit 2M"), 0);
    let request: Value =
        serde_json::from_slice(&server.asked("POST /api/v1/packages")[0].body).unwrap();
    assert_eq!(
        (&request["visibility"], &request["load_fuel"]),
        (&"private".into(), &2_000_000.into())
    );
    let signature = PackageSignature::parse(request["signature"].to_string().as_bytes()).unwrap();
    let key = HostKey::from_pem(&read(&site.path("acme.pem"))).unwrap();
    let file = fs::read(site.path("tiny-1.0.0.fbx")).unwrap();
    signature.verify(&key.ring(), &package(&file)).unwrap();
    let sent = server
        .asked("")
        .iter()
        .any(|asked| String::from_utf8_lossy(&asked.body).contains("PRIVATE"));
    assert!(!sent, "the private half stays where it is");
}

#[test]
fn lost_answers_are_asked_for_and_nothing_is_sent_twice_into_the_file() {
    let (site, server, store) = stand_in(Store { lose_answers: 3, ..Store::default() });
    check(&mut push(&site, &server, ""), 0);
    assert_eq!(store.lock().unwrap().bytes, fs::read(site.path("tiny-1.0.0.fbx")).unwrap());
    assert!(!server.asked("GET /api/v1/uploads/up-1").is_empty());
}

#[test]
fn an_interrupted_upload_goes_on_where_it_was() {
    let (site, server, store) = stand_in(Store { break_at: Some(300), ..Store::default() });
    let (_, stderr) = check(&mut push(&site, &server, ""), 6);
    assert!(stderr.contains("no answer"), "{stderr}");
    assert!(site.path("tiny-1.0.0.fbx.upload").is_file());
    store.lock().unwrap().break_at = None;
    let before = server.asked("PATCH").len();
    let (_, stderr) = check(&mut push(&site, &server, ""), 0);
    assert!(stderr.contains("going on at byte 300 of "), "{stderr}");
    assert_eq!(server.asked("PATCH")[before].header("upload-offset"), Some("300"));
    assert_eq!(server.asked("POST /api/v1/uploads").len(), 1);
    assert!(!site.path("tiny-1.0.0.fbx.upload").exists());
}

#[test]
fn an_upload_that_the_server_forgot_begins_anew() {
    let (site, server, store) = stand_in(Store { break_at: Some(300), ..Store::default() });
    check(&mut push(&site, &server, ""), 6);
    *store.lock().unwrap() = Store { gone: true, ..Store::default() };
    check(&mut push(&site, &server, ""), 0);
    assert_eq!(server.asked("POST /api/v1/uploads").len(), 2);
    assert_eq!(store.lock().unwrap().bytes, fs::read(site.path("tiny-1.0.0.fbx")).unwrap());
}

#[test]
fn another_file_is_another_upload() {
    let (site, server, store) = stand_in(Store { break_at: Some(300), ..Store::default() });
    check(&mut push(&site, &server, ""), 6);
    store.lock().unwrap().break_at = None;
    site.pack("tiny", "1.0.0", &Guest::running("(nop)"));
    check(&mut push(&site, &server, ""), 0);
    assert_eq!(server.asked("POST /api/v1/uploads").len(), 2);
}

#[test]
fn a_package_whose_publication_was_not_heard_of_is_found() {
    let (site, server, _) = stand_in(Store { lose_publication: true, ..Store::default() });
    let found = json(&mut push(&site, &server, "--json"), 0);
    let file = fs::read(site.path("tiny-1.0.0.fbx")).unwrap();
    assert_eq!(found["digest"], package(&file).digest.to_string());
    assert_eq!(server.asked("POST /api/v1/packages").len(), 2);
}

#[test]
fn what_is_no_package_is_not_sent() {
    let (site, server, _) = stand_in(Store::default());
    fs::write(site.path("tiny-1.0.0.fbx"), "no package").unwrap();
    check(&mut push(&site, &server, ""), 3);
    fs::write(site.path("none.pem"), "no key").unwrap();
    site.pack("tiny", "1.0.0", &Guest::default());
    check(&mut push(&site, &server, "--sign {}/none.pem"), 3);
    assert!(server.asked("").is_empty());
}
