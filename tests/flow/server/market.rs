//! Publishers, callers and a server, each with the real program: from a package that is pushed to an answer
//! whose receipt is checked.

use super::*;
use serde_json::json;

#[test]
fn a_signed_package_is_pushed_and_its_answers_are_proven() {
    let site = Site::new();
    site.key("acme", "publisher", "");
    let operator = site.key("operator", "operator", "");
    let operator = operator["key"].as_str().unwrap();
    fs::write(site.path("host.pem"), site.ok("keys export")).unwrap();
    site.ok("publisher-key new -o {}/acme.pem");
    site.ok("publisher-key new -o {}/other.pem");
    for (version, value) in [("1.0.0", 1.0), ("1.1.0", 2.0)] {
        let outputs = fuelbox_test_support::guest::outputs(value);
        site.pack("acme.model", version, &Guest { outputs, ..Guest::default() });
    }
    let mut serving = site.serve("");
    let url = serving.url.clone();
    let server = format!("--url {url} --key-file {{}}/acme.key");
    let space = json!({"space": "acme", "account": "acme"});
    let made = client().post(format!("{url}/api/v1/spaces")).bearer_auth(operator).json(&space);
    assert_eq!(made.send().unwrap().status(), 201);
    site.ok(&format!("publisher-key register {{}}/acme.pem {server}"));

    let push = |version: &str, more: &str| {
        site.run(&format!("push {{}}/acme.model-{version}.fbx {server} {more}"))
    };
    let (_, stderr) = check(&mut push("1.0.0", ""), 3);
    assert!(stderr.contains("'acme.model' needs a signature"), "{stderr}");
    let (_, stderr) = check(&mut push("1.0.0", "--sign {}/other.pem"), 3);
    assert!(stderr.contains("key"), "{stderr}");
    let private = json(&mut push("1.0.0", "--sign {}/acme.pem --private --json"), 0);
    check(&mut push("1.1.0", "--sign {}/acme.pem"), 0);

    let infer = |more: &str| {
        let key = "--key-file {}/alice.key";
        site.run(&format!("infer --url {url} {key} --random 1 {more}"))
    };
    // The newest version that alice may see.
    let answer = json(&mut infer("acme.model --verify {}/host.pem --json"), 0);
    assert_eq!((&answer["version"], &answer["verified"]), (&"1.1.0".into(), &true.into()));
    assert_eq!(answer["outputs"][0]["data"], json!([2.0]), "{answer}");
    let (_, stderr) = check(&mut infer("acme.model:1.0.0"), 3);
    assert!(stderr.contains("acme.model"), "{stderr}");
    // Another host's key does not fit this host's receipt.
    fs::write(site.path("other-host.pem"), Site::new().ok("keys export")).unwrap();
    check(&mut infer("acme.model --verify {}/other-host.pem"), 8);
    serving.stop();

    // What the server told is in the books, and the receipts of a package that was pushed replay.
    assert_eq!(private["credits"], "0.000001", "{private}");
    let paid = 2 * answer["credits_micro"].as_i64().unwrap();
    assert_eq!(site.balance("alice"), 25_000_000 - paid);
    let audit = site.json("audit --sample 100%");
    assert_eq!((&audit["same"], &audit["replayed"]), (&2.into(), &2.into()), "{audit}");
}
