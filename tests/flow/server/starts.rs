//! Servers that do not start: one sentence says why, and nothing was touched.

use super::*;
use std::net::TcpListener;

#[test]
fn a_server_that_cannot_start_says_why() {
    let site = Site::empty();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(site.path("empty.pem"), "").unwrap();
    let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(site.path("cert.pem"), cert.cert.pem()).unwrap();
    fs::write(site.path("key.pem"), cert.signing_key.serialize_pem()).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(site.path("other.pem"), other.serialize_pem()).unwrap();
    let any = "--grpc 127.0.0.1:0 --metrics 127.0.0.1:0";
    for (arguments, code, expected) in [
        (
            format!("--http 127.0.0.1:{port} {any}"),
            6,
            format!(
                "HTTP: another process listens on 127.0.0.1:{port}; choose another port with --http"
            ),
        ),
        (
            format!("--http 0.0.0.0:{port} {any}"),
            2,
            format!("HTTP would listen on 0.0.0.0:{port} without TLS"),
        ),
        (
            "--http 127.0.0.1:0 --grpc [::]:0".into(),
            2,
            "gRPC would listen on [::]:0 without TLS".into(),
        ),
        (
            "--http 127.0.0.1:0 --grpc 127.0.0.1:0 --metrics 0.0.0.0:0".into(),
            2,
            "metrics would listen on 0.0.0.0:0".into(),
        ),
        (
            "--http 127.0.0.1:9 --grpc 127.0.0.1:9 --metrics 127.0.0.1:0".into(),
            2,
            "HTTP and gRPC would both listen on 127.0.0.1:9".into(),
        ),
        (
            format!("--http 127.0.0.1:0 {any} --tls-cert {{}}/nowhere.pem --tls-key {{}}/key.pem"),
            3,
            "nowhere.pem".into(),
        ),
        (
            format!("--http 127.0.0.1:0 {any} --tls-cert {{}}/empty.pem --tls-key {{}}/key.pem"),
            3,
            "empty.pem: no certificate in it".into(),
        ),
        (
            format!("--http 127.0.0.1:0 {any} --tls-cert {{}}/cert.pem --tls-key {{}}/empty.pem"),
            3,
            "empty.pem".into(),
        ),
        (
            format!("--http 127.0.0.1:0 {any} --tls-cert {{}}/cert.pem --tls-key {{}}/other.pem"),
            3,
            "TLS: ".into(),
        ),
        (format!("--http 127.0.0.1:0 {any} --tls-cert {{}}/cert.pem"), 2, "--tls-key".into()),
        ("--http localhost:0".into(), 2, "invalid socket address".into()),
        ("--grace soon".into(), 2, "soon".into()),
    ] {
        let (stdout, stderr) = check(&mut site.run(&format!("serve {arguments}")), code);
        assert!(stderr.contains(&expected), "{arguments}: {stderr}");
        assert_eq!(stdout, "", "{arguments}");
    }
    assert!(!site.path("data").exists(), "a server that does not start leaves nothing behind");
}

#[test]
fn one_server_works_on_a_data_folder() {
    let site = Site::empty();
    let _serving = site.serve("");
    let any = "--http 127.0.0.1:0 --grpc 127.0.0.1:0 --metrics 127.0.0.1:0";
    let (stdout, stderr) = check(&mut site.run(&format!("serve {any}")), 6);
    assert!(stderr.contains("another process works on this data folder"), "{stderr}");
    assert_eq!(stdout, "");
}

#[test]
fn options_can_be_variables() {
    let site = Site::empty();
    let mut command = site.run("serve --http 127.0.0.1:0 --metrics 127.0.0.1:0 -q");
    let mut serving = Serving::start(command.env("FUELBOX_GRPC", "[::1]:0"));
    assert!(serving.grpc.starts_with("[::1]:"), "{}", serving.grpc);
    let stderr = serving.stop();
    assert!(!stderr.contains("note:"), "notes are not for the quiet: {stderr}");
    let mut command = site.run("serve --http 127.0.0.1:0 --metrics 127.0.0.1:0");
    let (_, stderr) = check(command.env("FUELBOX_GRPC", "nowhere"), 2);
    assert!(stderr.contains("'nowhere'"), "{stderr}");
}
