//! What people do, from an account to an audit.

use super::{super::cli::check, *};
use fuelbox_abi::Dim;
use fuelbox_test_support::guest::signature;

fn micros(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[test]
fn credits_go_where_the_receipts_say() {
    let shop = Shop::new();
    assert_eq!(shop.balance("alice"), 25_000_000);
    // Sent twice under one name, it happens once.
    let again = shop.json("account top-up alice 25 --id start-alice");
    assert_eq!((&again["repeated"], micros(&again["balance_micro"])), (&true.into(), 25_000_000));
    let published = shop.json("publish {}/tiny-1.0.0.fbx --account acme");
    assert_eq!((&published["repeated"], &published["credits_micro"]), (&true.into(), &0.into()));
    let acme = shop.balance("acme");
    let job = shop.submit("job.json", "--random 1");
    assert_eq!(job["verdict"], "completed");
    assert_eq!(job["outputs"][0]["data"][0], 42.0);
    let (paid, share) = (micros(&job["credits_micro"]), micros(&job["bill"]["publisher_micro"]));
    assert!(paid > 0 && share > 0, "{job}");
    assert_eq!(shop.balance("alice"), 25_000_000 - paid);
    assert_eq!(shop.balance("acme"), acme + share);
    // The receipt's file says the same, and is the job's.
    let receipt = shop.receipt("job.json");
    assert_eq!(receipt.price.credits_micro.cast_signed(), paid);
    assert_eq!(job["job"], receipt.job.as_str());
    // The same request under the same name is the same job, and is paid once.
    let first = shop.submit("a.json", "--random 2 --key order-1");
    let second = shop.submit("b.json", "--random 2 --key order-1");
    assert_eq!((&first["job"], &second["repeated"]), (&second["job"], &true.into()));
    assert_eq!(fs::read(shop.path("a.json")).unwrap(), fs::read(shop.path("b.json")).unwrap());
    // Out and back.
    shop.ok("account pay-out acme 1.5 --id out-1");
    shop.ok("account refund alice 0.000001 --id back-1");
    let accounts = shop.json("account list");
    let sum: i64 = accounts.as_array().unwrap().iter().map(|a| micros(&a["balance_micro"])).sum();
    assert_eq!(sum, 0, "what is given out is what there is: {accounts}");
    let usage = shop.json("usage --by account");
    assert_eq!((&usage[0]["name"], &usage[0]["jobs"]), (&"alice".into(), &2.into()));
    assert_eq!(usage[0]["credits_micro"], 2 * paid);
    assert_eq!(shop.json("usage --by package --since 1h")[0]["name"], "tiny:1.0.0");
    assert_eq!(shop.json("usage --by package --since 2999-01-01"), serde_json::json!([]));
}

#[test]
fn statements_have_a_balance_behind_each_line_and_pages() {
    let shop = Shop::new();
    shop.submit("job.json", "--random 1");
    let all = shop.json("account statement alice");
    let all = all.as_array().unwrap();
    assert_eq!(micros(&all[0]["balance_micro"]), shop.balance("alice"));
    for pair in all.windows(2) {
        let (later, earlier) = (&pair[0], &pair[1]);
        let before = micros(&later["balance_micro"]) - micros(&later["change_micro"]);
        assert_eq!(micros(&earlier["balance_micro"]), before, "{later}");
    }
    let seq = all[0]["seq"].to_string();
    let page = shop.json(&format!("account statement alice --before {seq} --limit 1"));
    assert_eq!(page, serde_json::json!([all[1]]));
    let (csv, _) = check(&mut shop.run("account statement alice --csv"), 0);
    let mut lines = csv.lines();
    let heads = "seq,time_unix_ms,purpose,action,other,change_micro,amount_micro,balance_micro,held_micro,id";
    assert_eq!(lines.next(), Some(heads));
    assert_eq!(lines.count(), all.len());
    for (list, heads) in [
        ("account list", "account,kind,"),
        ("jobs list", "job,account,package,"),
        ("usage --by account --since 2999-01-01", "name,jobs,succeeded,"),
    ] {
        let (csv, _) = check(&mut shop.run(&format!("{list} --csv")), 0);
        assert!(csv.starts_with(heads), "{csv}");
        let fields = csv.lines().next().unwrap().split(',').count();
        let rows = shop.json(list);
        for row in rows.as_array().unwrap() {
            assert_eq!(row.as_object().unwrap().len(), fields, "{list}: {row}");
        }
    }
}

#[test]
fn jobs_wait_until_somebody_works() {
    let shop = Shop::new();
    let detach = |more: &str| {
        let job = shop.json(&format!("submit tiny --account alice --detach {more}"));
        assert_eq!(job["state"], "queued");
        job["job"].as_str().unwrap().to_owned()
    };
    let (first, second, third) =
        (detach("--random 1"), detach("--random 2 --priority 9"), detach("--random 3"));
    assert_eq!(shop.balance("alice"), 25_000_000);
    let held = shop.json("account show alice")["held_micro"].clone();
    assert!(micros(&held) > 0);
    assert_eq!(shop.json("jobs list --state queued --limit 2").as_array().unwrap().len(), 2);
    let cancelled = shop.json(&format!("jobs cancel {third}"));
    assert_eq!((&cancelled["state"], &cancelled["receipt"]), (&"cancelled".into(), &Value::Null));
    let waited = shop.json(&format!("jobs wait {first}"));
    assert_eq!((&waited[0]["state"], &waited[0]["job"]), (&"succeeded".into(), &first.into()));
    // The exit code is that of the one that did not succeed.
    check(&mut shop.run(&format!("jobs wait {second} {third}")), 5);
    let answer = shop.json(&format!("jobs result {second} --receipt {{}}/r.json"));
    assert_eq!(answer["outputs"][0]["data"][0], 42.0);
    shop.ok("receipt verify {}/r.json");
    // Whoever asks again by the same key gets the job that waits, and waits for it.
    let keyed = detach("--random 5 --key order-5");
    assert_eq!(detach("--random 5 --key order-5"), keyed);
    let answer = shop.submit("keyed.json", "--random 5 --key order-5");
    assert_eq!((&answer["job"], &answer["repeated"]), (&keyed.into(), &true.into()));
    detach("--random 4");
    let worked = shop.json("jobs work");
    assert_eq!(shop.json("jobs list --state queued"), serde_json::json!([]), "{worked}");
    assert_eq!(shop.json("account show alice")["held_micro"], 0);
}

#[test]
fn failures_of_a_guest_are_billed_and_have_its_exit_code() {
    let shop = Shop::selling(&Guest::running(
        "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0)) (then unreachable))",
    ));
    write_input(&shop.path("bad.json"), &[-1.0]);
    let submit = "submit tiny --account alice --input {}/bad.json --receipt {}/trap.json --json";
    let answer = json(&mut shop.run(submit), 4);
    assert_eq!((&answer["verdict"], &answer["state"]), (&"trap".into(), &"failed".into()));
    assert!(micros(&answer["credits_micro"]) > 0);
    assert_eq!(answer["bill"]["publisher_micro"], 0, "who fails earns nothing");
    shop.ok("replay {}/trap.json");
    let (_, stderr) =
        check(&mut shop.run("submit tiny --account alice --random 1 --fuel-limit 1"), 5);
    assert!(stderr.starts_with("error: out_of_fuel"), "{stderr}");
    assert_eq!(shop.json("usage --by account")[0]["failed"], 2);
}

#[test]
fn new_input_shapes_are_loaded_at_their_job_s_cost_once() {
    let guest = Guest { signature: signature(&[Dim::Symbol("n")]), ..Guest::default() };
    let shop = Shop::selling(&guest);
    write_input(&shop.path("two.json"), &[1.0, 2.0]);
    let quote = shop.json("quote tiny --input {}/two.json");
    assert!(micros(&quote["hold_load_micro"]) > 0 && quote["published"] == Value::Null, "{quote}");
    let first = shop.submit("first.json", "--input {}/two.json");
    let second = shop.submit("second.json", "--input {}/two.json");
    assert!(micros(&first["bill"]["load_micro"]) > 0, "{first}");
    assert_eq!(first["fuel"]["load"], quote["load_fuel"]);
    assert_eq!(
        (&second["fuel"]["load"], &second["bill"]["load_micro"]),
        (&Value::Null, &Value::Null)
    );
    for file in ["first.json", "second.json"] {
        shop.ok(&format!("replay {{}}/{file}"));
    }
}

#[test]
fn a_quote_is_what_the_job_costs() {
    let shop = Shop::new();
    let quote = shop.json("quote tiny --random 1");
    let job = shop.submit("job.json", "--random 1");
    assert_eq!(quote["fuel"], job["fuel"]["run"]);
    assert_eq!(quote["credits_micro"], job["credits_micro"]);
    // Exactly what is to be held is enough, and one micro-credit less is not.
    let hold = micros(&quote["hold_micro"]);
    shop.ok("account create poor --kind caller");
    let amount = |micros: i64| format!("0.{micros:06}");
    shop.ok(&format!("account top-up poor {}", amount(hold - 1)));
    check(&mut shop.run("submit tiny --account poor --random 1"), 7);
    shop.ok("account top-up poor 0.000001");
    shop.ok("submit tiny --account poor --random 1");
    // A file needs no data folder, and another schedule has other prices.
    let prices = shop.json("prices");
    let dear = fs::read_to_string(shop.data().join("prices.json")).unwrap();
    let dear = dear.replace("\"version\": 1", "\"version\": 2").replace(": 10,", ": 1000,");
    fs::write(shop.path("dear.json"), dear).unwrap();
    assert_eq!(prices["minimum_micro"], 10);
    let file = "quote {}/tiny-1.0.0.fbx --samples 3 --data {}/nowhere --prices {}/dear.json";
    let quote = shop.json(file);
    assert_eq!((&quote["credits_micro"], &quote["price_version"]), (&1000.into(), &2.into()));
    assert_eq!((&quote["samples"]["count"], &quote["samples"]["distinct"]), (&3.into(), &1.into()));
    let (table, _) = check(&mut shop.run("quote tiny --samples 2"), 0);
    assert!(table.contains("fuel does not depend on the data"), "{table}");
    let looping = Guest::running(
        "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0.5)) (then (nop) (nop)
           (local.set 2 (i32.const 1))))",
    );
    shop.pack("loop", "1.0.0", &looping);
    let (table, _) = check(&mut shop.run("quote {}/loop-1.0.0.fbx --samples 20"), 0);
    assert!(table.contains("fuel depends on the data: 2 values"), "{table}");
}

#[test]
fn digits_are_paid_verified_replayed_and_audited() {
    let shop = Shop { folder: tempfile::tempdir().unwrap() };
    shop.ok("account create alice --kind caller");
    shop.ok("account create acme --kind publisher");
    shop.ok("account top-up alice 25");
    shop.ok("account top-up acme 25");
    shop.ok("pack examples/digits/digits.onnx -o {}/digits.fbx --name digits --version 1.0.0 \
         --labels examples/digits/digits.labels.txt --golden examples/digits/seven.npy");
    let (published, _) = check(&mut shop.run("publish {}/digits.fbx --account acme"), 0);
    assert!(
        published.contains("digits:1.0.0") && published.contains("paid by acme"),
        "{published}"
    );
    let submit = "submit digits --account alice --input examples/digits/seven.npy";
    let table = shop.ok(&format!("{submit} --receipt {{}}/seven.json --output {{}}/seven.npz"));
    for expected in
        ["seven", "0.98", "completed", "fuel", "bill", "paid by alice", "receipt  sha256:"]
    {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
    // The quote of the golden case is that of the job; a batch is a new shape, and is loaded.
    let quote = shop.json("quote digits --input examples/digits/seven.npy");
    assert_eq!(quote["published"]["fuel"], quote["fuel"]);
    let batch = "submit digits:1.0.0 --account alice --input examples/digits/batch.npy";
    let batch = shop.json(&format!("{batch} --receipt {{}}/batch.json"));
    assert!(batch["fuel"]["load"].as_u64().unwrap() > 0, "{batch}");
    let everything =
        "--package {}/digits.fbx --input examples/digits/seven.npy --output {}/seven.npz";
    let verified = shop.json(&format!("receipt verify {{}}/seven.json {everything}"));
    assert_eq!(verified["checked"], serde_json::json!(["package", "input", "output"]));
    for file in ["seven.json", "batch.json"] {
        let replayed = shop.json(&format!("replay {{}}/{file}"));
        assert_eq!((&replayed["same"], &replayed["priced"]), (&true.into(), &true.into()));
    }
    let audit = shop.json("audit --sample 100%");
    assert_eq!((&audit["drawn"], &audit["same"]), (&2.into(), &2.into()), "{audit}");
}
