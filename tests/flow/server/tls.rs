//! TLS: who is trusted, and who is not.

use super::*;

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
