//! Jobs by `fuelbox infer`: what it prints, what it costs, and how it ends.

use super::*;
use fuelbox_test_support::another_secret;

#[test]
fn an_answer_is_what_a_run_gives_with_its_bill() {
    let site = Site::new();
    let before = site.balance("alice");
    let mut serving = site.serve("");
    let answer = json(&mut site.infer(&serving, "--random 1 --json --output {}/out.npz"), 0);
    let run = site.json("run {}/tiny-1.0.0.fbx --random 1");
    for field in ["verdict", "outputs", "output_digest"] {
        assert_eq!(answer[field], run[field], "{field}");
    }
    assert_eq!(answer["fuel"]["run"], run["fuel"]["run"]);
    assert_eq!((&answer["model"], &answer["version"]), (&"tiny".into(), &"1.0.0".into()));
    assert_eq!(answer["repeated"], false);
    assert!(answer.get("parameters").is_none(), "the bill is no setting of the model: {answer}");
    assert!(site.path("out.npz").is_file());
    let (table, stderr) = check(&mut site.infer(&serving, "--random 1"), 0);
    for expected in
        ["y  FP32 [1]\n  42.0\n", "verdict  completed\n", "credits\n", "receipt  sha256:"]
    {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    assert_eq!(stderr, "");
    let job = answer["job"].as_str().unwrap();
    serving.stop();
    assert_eq!(site.json(&format!("jobs show {job}"))["receipt"], answer["receipt"]);
    let paid = answer["credits_micro"].as_i64().unwrap();
    assert!(paid > 0);
    assert_eq!(site.balance("alice"), before - 2 * paid);
}

#[test]
fn one_name_is_one_job_and_is_paid_once() {
    let site = Site::new();
    let mut serving = site.serve("");
    let first = json(&mut site.infer(&serving, "--random 1 --idempotency-key k --json"), 0);
    let second = json(&mut site.infer(&serving, "--random 1 --idempotency-key k --json"), 0);
    assert_eq!((&first["job"], &second["repeated"]), (&second["job"], &true.into()));
    assert_eq!(first["outputs"], second["outputs"]);
    let (table, _) = check(&mut site.infer(&serving, "--random 1 --idempotency-key k"), 0);
    assert!(table.contains("nothing was billed this time"), "{table}");
    let (_, stderr) = check(&mut site.infer(&serving, "--random 2 --idempotency-key k"), 3);
    assert!(stderr.contains("used for another request"), "{stderr}");
    // Without a name each one is another request.
    let third = json(&mut site.infer(&serving, "--random 1 --json"), 0);
    assert_ne!(third["job"], first["job"]);
    serving.stop();
    let paid = first["credits_micro"].as_i64().unwrap();
    assert_eq!(site.balance("alice"), 25_000_000 - 2 * paid);
}

#[test]
fn digits_are_seven_here_and_there() {
    let site = Site::new();
    site.ok("pack examples/digits/digits.onnx -o {}/digits.fbx --name digits --version 1.0.0");
    site.ok("publish {}/digits.fbx --account acme");
    let serving = site.serve("");
    let run = site.json("run examples/digits/digits.onnx --input examples/digits/seven.npy");
    let (url, labels) = (&serving.url, "--labels examples/digits/digits.labels.txt");
    let infer = format!("infer digits:1.0.0 --url {url}/ --input examples/digits/seven.npy");
    let mut command = site.run(&format!("{infer} --json"));
    command.env("FUELBOX_KEY", read(&site.path("alice.key")));
    let answer = json(&mut command, 0);
    assert_eq!(answer["output_digest"], run["output_digest"]);
    let (table, _) =
        check(&mut site.run(&format!("{infer} {labels} --key-file {{}}/alice.key")), 0);
    assert!(table.contains("  seven  "), "{table}");
}

#[test]
fn failures_of_a_guest_have_its_exit_code_and_a_bill() {
    let site = Site::with(&Guest::running(
        "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0)) (then unreachable))",
    ));
    site.write_input("bad.json", -1.0);
    let serving = site.serve("");
    let answer = json(&mut site.infer(&serving, "--input {}/bad.json --json"), 4);
    assert_eq!((&answer["verdict"], &answer["outputs"]), (&"trap".into(), &serde_json::json!([])));
    assert!(answer["credits_micro"].as_i64().unwrap() > 0 && answer["job"].is_string(), "{answer}");
    let (table, stderr) = check(&mut site.infer(&serving, "--random 1 --fuel-limit 1"), 5);
    assert!(table.contains("verdict  out_of_fuel\nfuel     1 to run\n"), "{table}");
    assert!(stderr.starts_with("error: the model failed: "), "{stderr}");
}

#[test]
fn a_deadline_is_a_limit() {
    let site = Site::with(&Guest::running(ENDLESS));
    site.write_input("long.json", -1.0);
    let serving = site.serve("");
    let more = "--input {}/long.json --deadline 50ms --fuel-limit 100G --retries 0";
    let (_, stderr) = check(&mut site.infer(&serving, more), 5);
    assert!(stderr.contains("deadline"), "{stderr}");
}

#[test]
fn what_is_refused_has_the_code_that_it_has_without_a_server() {
    let site = Site::new();
    site.ok("account create poor --kind caller");
    site.key("poor", "caller", "");
    let revoked = site.key("alice", "caller", "");
    fs::rename(site.path("alice.key"), site.path("revoked.key")).unwrap();
    site.ok(&format!("access revoke {}", revoked["id"].as_str().unwrap()));
    let made = site.key("alice", "caller", "");
    let key = made["key"].as_str().unwrap();
    site.write_key("wrong.key", &another_secret(key));
    site.write_key("none.key", "a secret of another kind");
    fs::write(site.path("bad.json"), "{").unwrap();
    let serving = site.serve("");
    let alice = "--key-file {}/alice.key";
    for (arguments, code, expected) in [
        ("infer tiny --random 1", 3, "no key"),
        ("infer tiny --random 1 --key-file {}/wrong.key", 3, "the access key is not valid"),
        ("infer tiny --random 1 --key-file {}/revoked.key", 3, "the access key is not valid"),
        ("infer tiny --random 1 --key-file {}/none.key", 3, "none.key: no access key"),
        ("infer tiny --random 1 --key-file {}/nowhere.key", 3, "No such file"),
        ("infer tiny --random 1 --key-file {}/poor.key", 7, "not enough in 'poor'"),
        (&format!("infer tinny --random 1 {alice}"), 3, "tinny"),
        (&format!("infer tiny:9 --random 1 {alice}"), 3, "tiny"),
        (&format!("infer tiny {alice}"), 3, "'x'"),
        (&format!("infer tiny --input {{}}/bad.json {alice}"), 3, "bad.json"),
        (&format!("infer tiny --input {{}}/nowhere.npy {alice}"), 3, "No such file"),
        (&format!("infer tiny --random 1 --param fuelbox_seed=1 {alice}"), 2, "fuelbox_seed"),
        (&format!("infer tiny: --random 1 {alice}"), 2, "NAME or NAME:VERSION"),
        (&format!("infer tiny --random 1 --ca {{}}/bad.json {alice}"), 3, "certificate"),
        (&format!("infer tiny --random 1 --verify {{}}/bad.json {alice}"), 3, "bad.json"),
    ] {
        let (verb, rest) = arguments.split_once(' ').unwrap();
        let mut command = site.run(&format!("{verb} {rest} --url {}", serving.url));
        let (stdout, stderr) = check(&mut command, code);
        assert!(stderr.contains(expected), "{arguments}: {stderr}");
        let secret = &key["fbx_0123456789abcdef_".len()..];
        assert!(!stderr.contains(&secret[..20]) && !stderr.contains("another kind"), "{stderr}");
        assert_eq!(stdout, "", "{arguments}");
    }
}

#[test]
fn keys_do_not_travel_in_the_clear_and_are_no_arguments() {
    let site = Site::empty();
    site.write_key("a.key", "fbx_abcdefghij234567_secretsecret");
    let infer = "infer tiny --random 1 --retries 0";
    for url in ["http://fuelbox.invalid", "http://192.0.2.1:8000"] {
        let (_, stderr) =
            check(&mut site.run(&format!("{infer} --url {url} --key-file {{}}/a.key")), 2);
        assert_eq!(
            stderr,
            format!("error: {url}: the key would travel in the clear; use https, or --insecure\n")
        );
    }
    // Where to, is known; that nobody is there, too.
    let anyway = format!("{infer} --url http://fuelbox.invalid --key-file {{}}/a.key --insecure");
    check(&mut site.run(&anyway), 6);
    for url in ["http://user:word@127.0.0.1", "ftp://127.0.0.1", "127.0.0.1:8000"] {
        let (_, stderr) = check(&mut site.run(&format!("{infer} --url {url}")), 2);
        assert!(!stderr.contains("word'") || !url.contains("word"), "{stderr}");
    }
    check(&mut site.run(&format!("{infer} --key fbx_a")), 2);
}

#[test]
fn other_clients_get_the_same_answer() {
    let site = Site::new();
    let serving = site.serve("");
    let key = read(&site.path("alice.key"));
    let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1.5]}]}"#;
    let post = |key: Option<&str>| {
        let request = client().post(format!("{}/v2/models/tiny/infer", serving.url)).body(body);
        match key {
            Some(key) => request.bearer_auth(key.trim()).send().unwrap(),
            None => request.send().unwrap(),
        }
    };
    let response = post(Some(&key));
    assert_eq!(response.status(), 200);
    let job = response.headers()["fuelbox-job"].to_str().unwrap().to_owned();
    let answer: Value = response.json().unwrap();
    assert_eq!(answer["outputs"][0]["data"][0], 42.0);
    assert_eq!(answer["parameters"]["fuelbox_job"], job);
    let response = post(None);
    assert_eq!(
        (response.status().as_u16(), &response.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
}
