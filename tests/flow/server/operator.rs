//! Keys: the first one, lost ones, those of others.

use super::*;

fn status(serving: &Serving, key: &str) -> u16 {
    serving.get("/v2/models/stats", Some(key)).status().as_u16()
}

#[test]
fn the_first_start_makes_an_operators_key_and_shows_it_once() {
    let site = Site::empty();
    let mut serving = site.serve("");
    let key = serving.operator_key.clone().unwrap();
    assert!(key.starts_with("fbx_"), "{key}");
    assert_eq!(status(&serving, &key), 200);
    assert_eq!(status(&serving, &key.replace("fbx_", "fbx_a")), 401);
    assert_eq!(serving.get("/v2/models/stats", None).status(), 401);
    assert_eq!(serving.get("/v2/health/ready", None).status(), 200);
    let stderr = serving.stop();
    assert!(stderr.contains(&serving.url) && stderr.contains("shown this once"), "{stderr}");
    assert!(!stderr.contains(&key), "keys are for stdout alone: {stderr}");
    let again = site.serve("");
    assert_eq!(again.operator_key, None);
    assert_eq!(status(&again, &key), 200);
}

#[test]
fn an_operator_who_lost_the_key_makes_another_while_the_server_is_stopped() {
    let site = Site::empty();
    let mut serving = site.serve("");
    let lost = serving.operator_key.clone().unwrap();
    for command in [
        "access list",
        "access create --account operator --scope operator",
        "access revoke aaaaaaaaaaaaaaaa",
    ] {
        let (stdout, stderr) = check(&mut site.run(command), 6);
        assert!(stderr.contains("its API") && stderr.lines().count() == 1, "{stderr}");
        assert_eq!(stdout, "");
    }
    serving.stop();
    let made = site.key("operator", "operator", "--name second");
    let key = made["key"].as_str().unwrap();
    let listed = site.json("access list");
    assert_eq!(listed[1]["id"], made["id"]);
    assert!(
        !listed.to_string().contains(key) && !listed[1].as_object().unwrap().contains_key("key")
    );
    let first = listed[0]["id"].as_str().unwrap();
    assert!(lost.contains(first));
    assert!(site.json(&format!("access revoke {first}"))["revoked_unix_ms"].is_u64());
    let (csv, _) = check(&mut site.run("access list --csv"), 0);
    assert_eq!(csv.lines().count(), 3);
    assert_eq!(
        csv.lines().next().unwrap().split(',').count(),
        listed[0].as_object().unwrap().len()
    );
    let serving = site.serve("");
    assert_eq!(serving.operator_key, None, "there are keys");
    assert_eq!((status(&serving, &lost), status(&serving, key)), (401, 200));
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let site = Site::empty();
    site.ok("account create alice --kind caller");
    for (arguments, code, expected) in [
        ("create --account bob --scope caller", 3, "no account 'bob'"),
        ("create --account alice --scope operator", 3, "scope operator is not for account 'alice'"),
        ("create --account alice --scope caller --space a", 3, "for the scope publisher alone"),
        ("create --account alice", 2, "--scope"),
        ("create --account alice --scope root", 2, "invalid value 'root'"),
        ("create --account alice --scope caller --spend-limit -1", 2, ""),
        ("create --account alice --scope caller --expires soon", 2, "'soon', expected a time"),
        ("revoke aaaaaaaaaaaaaaaa", 3, "no access key 'aaaaaaaaaaaaaaaa'"),
        ("revoke fbx_a", 2, "access key id 'fbx_a'"),
    ] {
        let (stdout, stderr) = check(&mut site.run(&format!("access {arguments}")), code);
        assert!(stderr.contains(expected), "{arguments}: {stderr}");
        assert_eq!(stdout, "", "{arguments}");
    }
    assert_eq!(site.json("access list"), serde_json::json!([]));
}

#[test]
fn a_key_of_yesterday_is_no_key() {
    let site = Site::new();
    site.key("alice", "caller", "--expires 2020-01-01");
    assert!(site.ok("access list").contains("expired 2020-01-01"));
    let serving = site.serve("");
    let (_, stderr) = check(&mut site.infer(&serving, "--random 1"), 3);
    assert_eq!(stderr, "error: the access key is not valid\n");
}

#[test]
fn publishers_keys_are_files_that_only_their_owner_reads() {
    let site = Site::empty();
    let made = site.json("publisher-key new -o {}/acme.pem");
    let mode = fs::metadata(site.path("acme.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pem = read(&site.path("acme.pem"));
    assert!(made["public_key"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!(site.json("publisher-key show {}/acme.pem"), made);
    let (stdout, _) = check(&mut site.run("publisher-key show {}/acme.pem"), 0);
    assert!(stdout.contains(made["id"].as_str().unwrap()));
    assert!(!stdout.contains(pem.lines().nth(1).unwrap()), "the private half stays where it is");
    // A second one does not take its place.
    let (_, stderr) = check(&mut site.run("publisher-key new -o {}/acme.pem"), 6);
    assert!(stderr.contains("File exists"), "{stderr}");
    assert_eq!(read(&site.path("acme.pem")), pem);
    fs::write(site.path("none.pem"), "x").unwrap();
    check(&mut site.run("publisher-key show {}/none.pem"), 3);
}
