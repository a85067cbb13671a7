//! TLS: who is trusted, and who is not.

use super::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{io::ErrorKind, net::TcpStream, sync::Arc, time::Duration};

/// A site with a certificate for 127.0.0.1 in `cert.pem`, and its key in `key.pem`.
fn site() -> Site {
    let site = Site::new();
    let cert = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(site.path("cert.pem"), cert.cert.pem()).unwrap();
    fs::write(site.path("key.pem"), cert.signing_key.serialize_pem()).unwrap();
    site
}

#[test]
fn a_certificate_is_trusted_when_it_is_told_to_be_and_fits() {
    let site = site();
    let serving = site.serve("--tls-cert {}/cert.pem --tls-key {}/key.pem");
    let https = serving.url.replace("http:", "https:");
    let infer = |url: &str, more: &str| {
        site.run(&format!("infer tiny --url {url} --key-file {{}}/alice.key --random 1 {more}"))
    };
    let answer = json(&mut infer(&https, "--ca {}/cert.pem --json"), 0);
    assert_eq!(answer["outputs"][0]["data"][0], 42.0);
    // Nobody's, for another name, and no TLS at all. Trying again would not help.
    let (_, stderr) = check(&mut infer(&https, ""), 6);
    assert!(stderr.contains("certificate") && stderr.lines().count() == 1, "{stderr}");
    let named = https.replace("127.0.0.1", "localhost");
    let (_, stderr) = check(&mut infer(&named, "--ca {}/cert.pem"), 6);
    assert!(stderr.contains("certificate") && stderr.lines().count() == 1, "{stderr}");
    check(&mut infer(&serving.url, "--retries 0"), 6);
    // Metrics have no keys and no TLS.
    let health = client().get(format!("{}/healthz", serving.metrics)).send().unwrap();
    assert_eq!(health.status(), 200);
}

#[test]
fn the_operator_is_told_the_address_with_its_scheme() {
    let site = site();
    let mut serving = site.serve("--tls-cert {}/cert.pem --tls-key {}/key.pem");
    let stderr = serving.stop();
    assert!(stderr.contains(&serving.url.replace("http:", "https:")), "{stderr}");
}

#[test]
fn who_says_nothing_after_the_handshake_is_let_go() {
    let site = site();
    let serving = site.serve("--tls-cert {}/cert.pem --tls-key {}/key.pem --header-time 1s");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.path("cert.pem")).unwrap()).unwrap();
    for protocol in ["h2", "http/1.1"] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let name = "127.0.0.1".try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(serving.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).unwrap();
        }
        assert_eq!(tls.alpn_protocol(), Some(protocol.as_bytes()));
        let ended = rustls::Stream::new(&mut tls, &mut stream).read_to_end(&mut Vec::new());
        // Closed, with or without a word.
        let kind = ended.map_err(|error| error.kind());
        assert!(!matches!(kind, Err(ErrorKind::WouldBlock)), "{protocol}: {kind:?}");
    }
}
