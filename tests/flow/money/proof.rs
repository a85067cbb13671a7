//! What holds a dishonest host: signatures, replays, the log.

use super::{super::cli::check, *};
use fuelbox_engine::Digest;
use fuelbox_ledger::rusqlite::Connection;
use fuelbox_receipt::{Asset, Load, log::Checkpoint};

/// A change to a receipt, and the field that it is to be found by.
type Change = (&'static str, fn(&mut Receipt));

fn other() -> Digest {
    Digest::of(b"something else")
}

/// Replays a receipt as an auditor does who has files alone. Gives the exit code and the answer.
fn alone(shop: &Shop, file: &str) -> (i32, Value, String) {
    let given =
        "--keys {}/host.pem --package {}/tiny-1.0.0.fbx --random 1 --prices {}/data/prices.json";
    let mut command = shop.run(&format!("replay {{}}/{file} {given} --data {{}}/nowhere --json"));
    let output = command.output().unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), answer, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn replay_names_the_field_that_a_dishonest_host_changed() {
    let shop = Shop::new();
    shop.submit("job.json", "--random 1");
    shop.ok("keys export -o {}/host.pem");
    let honest = shop.receipt("job.json");
    let (code, answer, _) = alone(&shop, "job.json");
    assert_eq!((code, &answer["same"], &answer["priced"]), (0, &true.into(), &true.into()));
    let by_replay: [Change; 18] = [
        ("output", |receipt| receipt.output = other()),
        ("package", |receipt| receipt.package = other()),
        ("guest", |receipt| receipt.guest = other()),
        ("image", |receipt| receipt.image = other()),
        ("assets[0].name", |receipt| {
            receipt.assets.push(Asset { name: "extra".into(), digest: other() });
        }),
        ("assets[0].digest", |receipt| {
            receipt.assets.push(Asset { name: "extra".into(), digest: other() });
        }),
        ("input", |receipt| receipt.input = other()),
        ("parameters", |receipt| receipt.parameters = other()),
        ("usage.fuel", |receipt| receipt.usage.fuel += 1),
        ("usage.memory_bytes_peak", |receipt| receipt.usage.memory_bytes_peak -= 1),
        ("verdict.name", |receipt| receipt.verdict.name = "bad_output".into()),
        ("verdict.kind", |receipt| receipt.verdict.kind = Some("unreachable".into())),
        ("replayable", |receipt| receipt.replayable = false),
        ("load.fuel", |receipt| receipt.load = Some(Load { fuel: u64::MAX, credits_micro: 1 })),
        ("load.credits_micro", |receipt| {
            receipt.load = Some(Load { fuel: 1, credits_micro: u64::MAX });
        }),
        ("price.credits_micro", |receipt| receipt.price.credits_micro += 1),
        ("price.publisher_micro", |receipt| receipt.price.publisher_micro -= 1),
        ("price.version", |receipt| receipt.price.version += 1),
    ];
    for (field, change) in by_replay {
        let mut receipt = honest.clone();
        change(&mut receipt);
        shop.forge(&receipt, "forged.json");
        let (code, answer, stderr) = alone(&shop, "forged.json");
        assert_eq!(code, 8, "{field}: {answer} {stderr}");
        let found = fields(&answer["differences"]);
        assert!(found.contains(&field), "{field} is not in {found:?}");
        assert!(stderr.contains("error: the receipt differs from its replay: "), "{stderr}");
        assert!(stderr.contains(field), "{stderr}");
    }
    // A load that was there, and that no job of this model pays for.
    let quote = shop.json("quote tiny");
    let number = |field: &str| quote[field].as_u64().unwrap();
    let mut receipt = honest.clone();
    receipt.load = Some(Load { fuel: number("load_fuel"), credits_micro: number("load_micro") });
    shop.forge(&receipt, "forged.json");
    let (code, answer, _) = alone(&shop, "forged.json");
    assert_eq!(
        (code, fields(&answer["differences"])),
        (8, vec!["load.fuel", "load.credits_micro"])
    );
    // What a replay takes as it is, is in the log.
    let by_log: [Change; 10] = [
        ("seed", |receipt| receipt.seed += 1),
        ("limits.fuel", |receipt| receipt.limits.fuel += 1),
        ("limits.memory_bytes", |receipt| receipt.limits.memory_bytes += 1),
        ("limits.input_bytes", |receipt| receipt.limits.input_bytes += 1),
        ("limits.output_bytes", |receipt| receipt.limits.output_bytes += 1),
        ("limits.log_bytes", |receipt| receipt.limits.log_bytes += 1),
        ("payer", |receipt| receipt.payer = "bob".into()),
        ("publisher", |receipt| receipt.publisher = "bob".into()),
        ("finished_unix_ms", |receipt| receipt.finished_unix_ms += 1),
        ("price.schedule", |receipt| receipt.price.schedule = other()),
    ];
    for (field, change) in by_log {
        let mut receipt = honest.clone();
        change(&mut receipt);
        shop.forge(&receipt, "forged.json");
        let (stdout, stderr) = check(&mut shop.run("replay {}/forged.json --json"), 8);
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(fields(&answer["log_differences"]), [field]);
        assert!(stderr.ends_with(&format!("is not the one in the log: {field}\n")), "{stderr}");
    }
    let mut receipt = honest;
    receipt.profile = other();
    shop.forge(&receipt, "forged.json");
    let (code, _, stderr) = alone(&shop, "forged.json");
    assert_eq!(code, 3, "another profile is another program's to replay");
    assert!(stderr.contains("ran under engine profile sha256:"), "{stderr}");
}

#[test]
fn replay_in_another_process_with_an_empty_cache_is_the_same() {
    let shop = Shop::new();
    let job = shop.submit("job.json", "--random 1 --seed 7");
    for receipt in ["{}/job.json", job["job"].as_str().unwrap()] {
        let mut replay = shop.run(&format!("replay {receipt} --json"));
        let answer = json(replay.env("FUELBOX_CACHE", shop.path("empty")), 0);
        assert_eq!((&answer["same"], &answer["ran"]), (&true.into(), &true.into()));
        assert_eq!(answer["log_differences"], serde_json::json!([]));
    }
}

#[test]
fn another_input_package_or_output_is_named() {
    let shop = Shop::new();
    shop.submit("job.json", "--random 1 --output {}/y.npz");
    let same =
        "receipt verify {}/job.json --random 1 --output {}/y.npz --package {}/tiny-1.0.0.fbx";
    let verified = shop.json(same);
    assert_eq!(verified["checked"], serde_json::json!(["package", "input", "output"]));
    // A guest that gives another number, under another version.
    let guest = Guest { outputs: fuelbox_test_support::guest::outputs(43.0), ..Guest::default() };
    shop.pack("tiny", "2.0.0", &guest);
    shop.ok("run {}/tiny-2.0.0.fbx --random 1 --output {}/z.npz");
    for (command, expected) in [
        ("receipt verify {}/job.json --random 2", vec!["input"]),
        ("receipt verify {}/job.json --param top=3", vec!["parameters"]),
        ("receipt verify {}/job.json --output {}/z.npz", vec!["output"]),
        ("receipt verify {}/job.json --package {}/tiny-2.0.0.fbx", vec!["package", "guest"]),
        ("replay {}/job.json --random 2", vec!["input"]),
        ("replay {}/job.json --random 1 --param top=3", vec!["parameters"]),
        ("replay {}/job.json --package {}/tiny-2.0.0.fbx", vec!["package", "guest"]),
    ] {
        let (stdout, stderr) = check(&mut shop.run(&format!("{command} --json")), 8);
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(fields(&answer["differences"]), expected, "{command}");
        assert!(stderr.ends_with(&format!(": {}\n", expected.join(", "))), "{stderr}");
        let (table, _) = check(&mut shop.run(command), 8);
        assert!(table.contains("DIFFERS") && table.contains("\nreceipt  sha256:"), "{table}");
    }
}

#[test]
fn proofs_hold_for_what_they_are_of_and_nothing_else() {
    let shop = Shop::new();
    let first = shop.submit("first.json", "--random 1");
    shop.submit("second.json", "--random 2");
    shop.ok("log checkpoint -o {}/two.checkpoint");
    shop.ok(&format!("log prove {} -o {{}}/first.proof", first["job"].as_str().unwrap()));
    shop.ok("keys export -o {}/host.pem");
    shop.ok("log export {}/www");
    shop.ok("log export {}/two");
    // Later receipts, by another key.
    shop.ok("keys rotate");
    shop.submit("third.json", "--random 3");
    shop.ok("log prove --from {}/two.checkpoint -o {}/on.proof");
    shop.ok("log checkpoint -o {}/three.checkpoint");
    shop.ok("keys export -o {}/both.pem");
    let away = "--keys {}/host.pem --data {}/nowhere";
    let proven = shop.json(&format!(
        "receipt verify {{}}/first.json --proof {{}}/first.proof --checkpoint {{}}/two.checkpoint {away}"
    ));
    assert_eq!((&proven["log"]["index"], &proven["log"]["size"]), (&0.into(), &2.into()));
    for good in [
        "log check",
        "log check --checkpoint {}/two.checkpoint",
        "log check --folder {}/www --checkpoint {}/two.checkpoint",
        "log check --proof {}/first.proof --receipt {}/first.json",
        "log check --proof {}/first.proof --receipt {}/first.json --checkpoint {}/two.checkpoint",
        "log check --proof {}/on.proof --checkpoint {}/two.checkpoint",
        "log check --proof {}/on.proof --checkpoint {}/two.checkpoint --keys {}/both.pem --data {}/no",
        "log export {}/www",
        "log check --folder {}/www --checkpoint {}/two.checkpoint",
        "receipt verify {}/first.json",
        "receipt verify {}/third.json",
    ] {
        shop.json(good);
    }
    // What a host shows to one and not to another.
    let origin = shop.json("keys list")["origin"].as_str().unwrap().to_owned();
    let fork = Checkpoint { origin, size: 1, root: other() };
    let fork = fork.sign(&HostKey::from_pem(&shop.key_pem()).unwrap()).unwrap();
    fs::write(shop.path("fork.checkpoint"), fork).unwrap();
    // The next job's receipt, and one about no job of this log.
    let mut forged = shop.receipt("first.json");
    forged.job = forged.job.replace('7', "8");
    shop.forge(&forged, "forged.json");
    for bad in [
        "receipt verify {}/second.json --proof {}/first.proof",
        "receipt verify {}/forged.json --proof {}/first.proof",
        "log check --proof {}/first.proof --receipt {}/second.json",
        "receipt verify {}/first.json --proof {}/first.proof --checkpoint {}/three.checkpoint",
        "log check --proof {}/first.proof --receipt {}/first.json --checkpoint {}/three.checkpoint",
        "log check --proof {}/on.proof --checkpoint {}/three.checkpoint",
        "log check --folder {}/two --checkpoint {}/three.checkpoint",
        "log check --folder {}/two --checkpoint {}/fork.checkpoint",
        "log check --checkpoint {}/fork.checkpoint",
        "log check --proof {}/on.proof --checkpoint {}/fork.checkpoint",
        "log prove --from {}/fork.checkpoint",
        "receipt verify {}/third.json --keys {}/host.pem",
        "log check --proof {}/on.proof --checkpoint {}/two.checkpoint --keys {}/host.pem",
    ] {
        let (stdout, stderr) = check(&mut shop.run(bad), 8);
        assert!(stdout.is_empty() && stderr.lines().count() == 1, "{bad}\n{stdout}{stderr}");
    }
    // A folder that lost a file, and one with a file of another log.
    let tile = shop.path("two/tile/0/000.p/2");
    let hashes = fs::read(&tile).unwrap();
    for (bytes, expected) in [
        (hashes[..32].to_vec(), "log is damaged: tile/0/000.p/2 has 32 bytes, needed are 64"),
        (vec![0; 64], "log is forged: hash 0 of tile/0/000.p/2"),
    ] {
        fs::write(&tile, bytes).unwrap();
        let (_, stderr) = check(&mut shop.run("log check --folder {}/two"), 8);
        assert!(stderr.contains(expected), "{stderr}");
    }
    fs::remove_file(tile).unwrap();
    let (_, stderr) = check(&mut shop.run("log check --folder {}/two"), 8);
    assert!(stderr.contains("log is truncated: tile/0/000.p/2 is missing"), "{stderr}");
}

#[test]
fn audits_count_what_they_did_not_see_apart() {
    let shop = Shop::new();
    let job = shop.submit("one.json", "--random 1");
    shop.submit("two.json", "--random 2");
    let audit = shop.json("audit --sample 100% --word mine");
    assert_eq!(
        (&audit["drawn"], &audit["replayed"], &audit["same"]),
        (&2.into(), &2.into(), &2.into())
    );
    assert_eq!(audit, shop.json("audit --sample 100% --word mine"), "the same sample again");
    assert_ne!(audit["seed"], shop.json("audit --sample 100%")["seed"]);
    assert_eq!(shop.json("audit --sample 0%")["drawn"], 0);
    assert_eq!(shop.json("audit --sample 100% --since 2999-01-01")["drawn"], 0);
    // An input that is gone is not counted as good.
    let input = shop.receipt("one.json").input;
    let database = || Connection::open(shop.data().join("fuelbox.db")).unwrap();
    database().execute("DELETE FROM blob WHERE digest = ?1", [input.as_bytes()]).unwrap();
    let audit = shop.json("audit --sample 100%");
    assert_eq!((&audit["drawn"], &audit["same"]), (&2.into(), &1.into()));
    assert_eq!(audit["skipped"][0]["job"], job["job"]);
    assert_eq!(audit["skipped"][0]["why"], "its input is no longer kept");
    // A package that is another one now.
    let digest = shop.receipt("two.json").package;
    let file = shop.data().join(format!("packages/{}.fbx", digest.hex()));
    shop.pack("tiny", "3.0.0", &Guest::running("(nop)"));
    fs::copy(shop.path("tiny-3.0.0.fbx"), file).unwrap();
    let (stdout, stderr) = check(&mut shop.run("audit --sample 100% --json"), 8);
    let audit: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(fields(&audit["different"][0]["differences"]), ["package", "guest"]);
    assert_eq!(stderr, "error: 1 of 2 receipts do not hold\n");
    let (stdout, _) = check(&mut shop.run("replay {}/two.json --json"), 8);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (fields(&answer["differences"]), &answer["ran"]),
        (vec!["package", "guest"], &false.into())
    );
    // What is in the cache is the right package's. What has to be made is not made of another.
    check(&mut shop.run("submit tiny --account alice --random 1"), 0);
    let mut submit = shop.run("submit tiny --account alice --random 1");
    let (_, stderr) = check(submit.env("FUELBOX_CACHE", shop.path("empty")), 6);
    assert!(stderr.contains("its file has the package sha256:"), "{stderr}");
}

#[test]
fn logs_that_were_cut_or_changed_are_found_out() {
    let forge = |change: &str, expected: &str| {
        let shop = Shop::new();
        for seed in 1..=3 {
            shop.submit("job.json", &format!("--random {seed}"));
        }
        shop.ok("log checkpoint -o {}/three.checkpoint");
        let database = Connection::open(shop.data().join("fuelbox.db")).unwrap();
        database.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        database.execute_batch(change).unwrap();
        drop(database);
        let (stdout, stderr) =
            check(&mut shop.run("log check --checkpoint {}/three.checkpoint"), 8);
        assert!(stdout.is_empty() && stderr.contains(expected), "{change}\n{stdout}{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    };
    for (change, expected) in [
        ("DELETE FROM receipt WHERE idx = 2", "log is truncated: it has 2 entries, the checkpoint has 3"),
        ("DELETE FROM receipt WHERE idx = 1", "log is truncated: receipt 1 of 3 is missing"),
        (
            "UPDATE receipt SET payload = cast(replace(cast(payload AS TEXT), 'alice', 'bobby') AS BLOB)
             WHERE idx = 1",
            "log is forged: receipt 1: envelope: the signature of key",
        ),
        ("INSERT OR REPLACE INTO tile VALUES (0, 0, zeroblob(96))", "log is forged: tile tile/0/000.p/3 is not that of"),
        (
            "UPDATE receipt SET digest = zeroblob(32) WHERE idx = 0",
            "log is forged: entries of bundle 0 are not the receipts'",
        ),
        (
            "DELETE FROM receipt WHERE idx = 2;
             INSERT INTO receipt SELECT 2, zeroblob(16), digest, key_id, signature, payload FROM receipt
             WHERE idx = 1",
            "log is forged: receipt 2 is of job ",
        ),
    ] {
        forge(change, expected);
    }
}
