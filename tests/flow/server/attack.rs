//! The attack suite on a server that is there, as somebody who has a key of it.

use super::*;

#[test]
fn a_server_with_other_customers_holds_and_its_attacker_pays() {
    let site = Site::new();
    site.key("acme", "publisher", "--scope caller");
    let mut serving = site.serve("");
    let attack = |more: &str| {
        let server = format!("--url {} --key-file {{}}/acme.key", serving.url);
        site.run(&format!("attack --quiet {server} {more}"))
    };
    let report = json(&mut attack("--only free_ride --only lie --json"), 0);
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.len() > 50 && cases.iter().all(|case| case["held"] == true), "{report}");
    let sum = |name: &str| cases.iter().map(|case| case[name].as_u64().unwrap()).sum::<u64>();
    assert!(sum("fuel") > 100_000_000, "{report}");
    // Others saw nothing of it.
    check(&mut site.infer(&serving, "--random 1"), 0);
    // Two suites do not get into each other's way, and the next key is another.
    json(&mut attack("--only deadline --json"), 0);
    serving.stop();

    // What the suite says that was paid is what the books say, but for the last honest jobs.
    let paid = u64::try_from(25_000_000 - site.balance("acme")).unwrap();
    assert!(paid >= sum("credits_micro") && sum("credits_micro") > 0, "{paid}");
    let audit = site.json("audit --sample 5%");
    assert_eq!(audit["same"], audit["replayed"], "{audit}");
}
