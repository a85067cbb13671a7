//! What is refused: one sentence, an exit code, and nothing changed.

use super::{super::cli::check, *};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use fuelbox_engine::Options;
use fuelbox_jobs::{Config, DataFolder, Host};
use fuelbox_test_support::host;

#[test]
fn what_is_refused_has_a_sentence_and_a_code_and_changes_nothing() {
    let shop = Shop::new();
    let job = shop.submit("job.json", "--random 1 --key order-1");
    let job = job["job"].as_str().unwrap();
    shop.ok("account create poor --kind caller");
    shop.ok("account top-up poor 0.000003 --id little");
    shop.ok("account create rich --kind caller");
    shop.ok("account top-up rich 9223372036800 --id much");
    shop.pack("tiny", "1.0.0", &Guest::running("(nop)"));
    fs::write(shop.path("cut.json"), &fs::read(shop.path("job.json")).unwrap()[..100]).unwrap();
    fs::write(shop.path("none.pem"), "").unwrap();
    fs::write(shop.path("later.json"), r#"{"format":"fuelbox-prices/2"}"#).unwrap();
    let hold = shop.json("quote tiny")["hold_micro"].as_u64().unwrap();
    let credits = |micros: u64| format!("0.{micros:06}").trim_end_matches('0').to_owned();
    let (needed, short) = (credits(hold), credits(hold - 3));
    let poor =
        format!("not enough in 'poor': available 0.000003, needed {needed}, short of {short}\n");
    let before = (shop.json("account list"), shop.json("jobs list"));
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (arguments, code, expected) in [
        ("account show bob", 3, "no account 'bob'"),
        ("account statement bob", 3, "no account 'bob'"),
        ("account top-up bob 1", 3, "no account 'bob'"),
        (
            "account create alice --kind publisher",
            3,
            "account 'alice' exists: kind caller, asked for publisher",
        ),
        ("account create Alice --kind caller", 2, "account id 'Alice', expected 1 to 64 of"),
        ("account create a --kind operator", 2, "invalid value 'operator'"),
        ("account top-up alice -1", 2, "amount '-1', expected digits"),
        ("account top-up alice 1.0000001", 2, "amount '1.0000001', expected digits"),
        ("account top-up alice 9223372036854.775808", 2, "over the largest, 9223372036854.775807"),
        (
            "account top-up rich 9223372036829 --id more",
            3,
            "transfer 'more' of 9223372036829: a total of",
        ),
        ("account top-up alice 0 --id zero", 3, "transfer 'zero' of 0, expected more"),
        (
            "account top-up alice 24 --id start-alice",
            3,
            "transfer id 'start-alice' is taken: amount 24, stored 25",
        ),
        ("account top-up acme 25 --id start-alice", 3, "transfer id 'start-alice' is taken: "),
        ("account pay-out alice 25 --id start-alice", 3, "transfer id 'start-alice' is taken: "),
        ("account top-up alice 1 --id a/b", 2, "transfer id 'a/b', expected"),
        (
            "account pay-out poor 1",
            7,
            "not enough in 'poor': available 0.000003, needed 1, short of 0.999997",
        ),
        ("account refund alice 100", 7, "not enough in 'revenue': available "),
        ("publish {}/job.json --account acme", 3, "not a package file"),
        ("publish {}/tiny-1.0.0.fbx --account alice", 3, "account 'alice' is of kind caller"),
        ("publish {}/tiny-1.0.0.fbx --account bob", 3, "no account 'bob'"),
        (
            "publish {}/tiny-1.0.0.fbx --account acme",
            3,
            "package 'tiny' version '1.0.0' is published already, as",
        ),
        ("submit tiny --account bob --random 1", 3, "no account 'bob'"),
        ("submit tiny --account poor --random 1", 7, &poor),
        ("submit tiny --account poor --random 1 --detach", 7, &poor),
        ("submit tiny:9 --account alice --random 1", 3, "no package 'tiny:9' is published here"),
        ("submit tiny --account alice", 3, "input 'x': missing, the model takes 'x'"),
        (
            "submit tiny --account alice --random 2 --key order-1",
            3,
            "key 'order-1' was used for another request: job",
        ),
        (
            "submit tiny --account alice --random 1 --fuel-limit 2T",
            5,
            "fuel limit over the host's: found 2000000000000",
        ),
        ("submit tiny --account alice --random 1 --priority 10", 2, "10 is not in 0..=9"),
        ("jobs show 7", 2, "job '7', expected a UUID"),
        (&format!("jobs show {nobody}"), 3, "no job '01890a5d"),
        (&format!("jobs wait {nobody}"), 3, "no job '01890a5d"),
        (&format!("jobs cancel {job}"), 3, "has ended: succeeded"),
        (&format!("receipt show {nobody}"), 3, "no receipt of job 01890a5d"),
        (&format!("log prove {nobody}"), 3, "no receipt of job 01890a5d"),
        ("receipt show {}/nothing.json", 3, "nothing.json: No such file"),
        ("receipt verify {}/cut.json", 3, "cut.json: envelope: "),
        ("receipt verify {}/job.json --keys {}/none.pem", 3, "none.pem: public keys: found none"),
        ("receipt verify {}/job.json --data {}/nowhere", 2, "no keys to check with"),
        ("replay {}/cut.json", 3, "cut.json: envelope: "),
        ("log check --checkpoint {}/job.json", 3, "job.json: checkpoint: not a signed note"),
        ("log check --folder {}/nothing", 3, "log: checkpoint is missing"),
        ("log check --proof {}/job.json", 3, "job.json: proof: "),
        ("quote nothing", 3, "no package 'nothing' is published here"),
        (
            "quote tiny --prices {}/later.json",
            3,
            "format 'fuelbox-prices/2', allowed is 'fuelbox-prices/1'",
        ),
        ("audit --sample 101%", 2, "expected a share like 5%"),
        ("usage --by account --since soon", 2, "expected a time like 24h or 7d"),
        ("account list --data {}/nowhere", 3, "no data folder at"),
        ("submit tiny --account alice --random 1 --data {}/nowhere", 3, "no data folder at"),
    ] {
        let (stdout, stderr) = check(&mut shop.run(arguments), code);
        assert!(stderr.contains(expected), "{arguments}\n{stderr}\ndoes not contain\n{expected}");
        assert!(stdout.is_empty(), "{arguments}\n{stdout}");
        // clap says how to get help, too.
        assert!(code == 2 || stderr.lines().count() == 1, "{arguments}\n{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    assert_eq!(before, (shop.json("account list"), shop.json("jobs list")));
}

#[test]
fn receipts_of_strangers_and_of_later_versions_are_refused() {
    let shop = Shop::new();
    shop.submit("job.json", "--random 1");
    let stranger = Shop::new();
    stranger.submit("job.json", "--random 1");
    fs::copy(stranger.path("job.json"), shop.path("stranger.json")).unwrap();
    // A later version of this program would sign this.
    let signing = SigningKey::from_pkcs8_pem(&shop.key_pem()).unwrap();
    let statement = String::from_utf8(shop.receipt("job.json").statement_bytes()).unwrap();
    let sign = |from: &str, to: &str, file: &str| {
        let payload = statement.replace(from, to);
        assert_ne!(payload, statement);
        let kind = "application/vnd.in-toto+json";
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let old = Envelope::parse(&fs::read(shop.path("job.json")).unwrap()).unwrap();
        let signature = signing.sign(message.as_bytes()).to_bytes();
        let envelope = Envelope::from_parts(payload.into_bytes(), old.key_id(), signature);
        fs::write(shop.path(file), envelope.to_bytes()).unwrap();
    };
    sign("fuelbox-receipt/1", "fuelbox-receipt/2", "format.json");
    sign("/receipt/v1", "/receipt/v2", "type.json");
    let honest = String::from_utf8(fs::read(shop.path("job.json")).unwrap()).unwrap();
    let payload: Value = serde_json::from_str(&honest).unwrap();
    let old = payload["payload"].as_str().unwrap();
    let changed = BASE64_STANDARD.encode(statement.replace("\"alice\"", "\"bobby\""));
    fs::write(shop.path("changed.json"), honest.replace(old, &changed)).unwrap();
    for (file, code, expected) in [
        ("stranger.json", 8, "which is not among the 1 known keys"),
        ("changed.json", 8, "does not fit the payload"),
        ("format.json", 3, "receipt: format 'fuelbox-receipt/2', allowed is 'fuelbox-receipt/1'"),
        ("type.json", 3, "receipt: predicate type 'https://fuelbox.dev/receipt/v2', allowed is"),
    ] {
        for command in ["receipt verify", "replay"] {
            let (stdout, stderr) = check(&mut shop.run(&format!("{command} {{}}/{file}")), code);
            assert!(stdout.is_empty() && stderr.contains(expected), "{command} {file}\n{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
}

#[test]
fn prices_change_with_their_version_alone() {
    let shop = Shop::new();
    let path = shop.data().join("prices.json");
    let prices = fs::read_to_string(&path).unwrap();
    fs::write(&path, prices.replace(": 10,", ": 20,")).unwrap();
    let (_, stderr) = check(&mut shop.run("submit tiny --account alice --random 1"), 3);
    assert!(stderr.contains("a change of prices is a new version"), "{stderr}");
    fs::write(&path, prices.replace(": 10,", ": 20,").replace("\"version\": 2", "\"version\": 3"))
        .unwrap();
    let job = shop.submit("job.json", "--random 1");
    assert_eq!((&job["credits_micro"], &job["bill"]["price_version"]), (&20.into(), &3.into()));
    assert_eq!(shop.json("replay {}/job.json")["priced"], true);
}

#[test]
fn one_process_works_on_a_data_folder_and_others_look() {
    let shop = Shop::new();
    let job = shop.json("submit tiny --account alice --random 1 --detach");
    let job = job["job"].as_str().unwrap();
    let engine = host::Host::shared(Options::default()).engine;
    let folder = DataFolder::new(shop.data());
    let config = |workers| Config { workers: Some(workers), ..Config::default() };
    let idle = Host::open(&folder, engine.clone(), config(0)).unwrap();
    for busy in [
        "account top-up alice 1".to_owned(),
        "account create bob --kind caller".into(),
        "submit tiny --account alice --random 2".into(),
        "keys rotate".into(),
        "log checkpoint".into(),
        format!("jobs cancel {job}"),
    ] {
        let (stdout, stderr) = check(&mut shop.run(&busy), 6);
        assert!(stdout.is_empty() && stderr.contains("is open for writing elsewhere"), "{stderr}");
    }
    for look in
        ["account list", "jobs list", "prices", "keys list", "log check", "audit --sample 1%"]
    {
        shop.json(look);
    }
    // A job that nobody works on does not end in no time.
    let (_, stderr) = check(&mut shop.run(&format!("jobs wait {job} --timeout 1ms")), 5);
    assert!(stderr.contains("1 of 1 jobs have not ended yet"), "{stderr}");
    drop(idle);
    // Whoever waits sees what another process did.
    let working = Host::open(&folder, engine, config(1)).unwrap();
    let waited = shop.json(&format!("jobs wait {job}"));
    assert_eq!(waited[0]["state"], "succeeded");
    drop(working);
}

#[test]
fn a_published_package_that_is_gone_is_the_hosts_fault() {
    let shop = Shop::new();
    let submit = "submit tiny --account alice --random 1";
    let job = shop.submit("job.json", "--random 1");
    let digest = job["package"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let file = shop.data().join(format!("packages/{digest}.fbx"));
    let bytes = fs::read(&file).unwrap();
    let balance = shop.balance("alice");
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    check(&mut shop.run(submit), 6);
    fs::remove_file(&file).unwrap();
    let (_, stderr) = check(&mut shop.run(submit), 6);
    assert!(stderr.contains(&digest), "{stderr}");
    // Who audits hears that it was not looked at.
    assert_eq!(
        shop.json("audit --sample 100%")["skipped"][0]["why"],
        "its package is no longer there"
    );
    assert_eq!(shop.balance("alice"), balance);
}

#[test]
fn an_answer_that_was_paid_is_printed_whatever_becomes_of_its_files() {
    let shop = Shop::new();
    let submit = "submit tiny --account alice --random 1 --json";
    for file in ["--receipt {}/nowhere/r.json", "--output {}/nowhere/y.npz"] {
        let (stdout, stderr) = check(&mut shop.run(&format!("{submit} {file}")), 6);
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(answer["verdict"], "completed");
        assert!(stderr.contains("nowhere"), "{stderr}");
    }
}

#[test]
fn a_data_folder_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::new();
    fs::set_permissions(shop.data(), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, stderr) = check(&mut shop.run("submit tiny --account alice --random 1"), 6);
    assert!(stderr.contains("mode 755 lets others in, allowed is 700"), "{stderr}");
}
