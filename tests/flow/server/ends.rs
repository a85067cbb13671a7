//! Servers end: when they are told to, at once, and by force. What was not answered is not paid.

use super::*;

/// A server with a job of `alice` that does not end by itself.
fn busy(site: &Site, more: &str) -> (Serving, Child) {
    site.write_input("long.json", -1.0);
    let serving = site.serve(more);
    let wanted = "--input {}/long.json --fuel-limit 1T --idempotency-key long --retries 0";
    let mut infer = site.infer(&serving, wanted);
    let infer = infer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    serving.wait_for_an_endless_job();
    (serving, infer)
}

/// The exit code of a client, and what it said.
fn end(client: Child) -> (Option<i32>, String) {
    let output = client.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Ten credits a second are not enough for a job without an end: so much is held, and given back.
fn rich() -> Site {
    let site = Site::with(&Guest::running(ENDLESS));
    site.ok("account top-up alice 1000000");
    site
}

#[test]
fn a_server_that_is_told_to_stop_breaks_jobs_off_after_the_grace_and_they_cost_nothing() {
    let site = rich();
    let before = site.balance("alice");
    let (mut serving, infer) = busy(&site, "--grace 100ms");
    serving.stop();
    let (code, stderr) = end(infer);
    assert!(matches!(code, Some(5 | 6)), "{code:?} {stderr}");
    assert_eq!(site.balance("alice"), before);
    assert_eq!(site.json("account show alice")["held_micro"], 0);
    assert_eq!(site.json("jobs list --state succeeded"), serde_json::json!([]));
    site.ok("log check");
}

#[test]
fn a_job_that_ends_within_the_grace_is_answered_and_paid() {
    // Some hundred million steps: it ends, and not before the server hears that it is to stop.
    let site = Site::with(&Guest::running(
        "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0)) (then
           (local.set 2 (i32.const 2000000000))
           (loop (local.set 2 (i32.sub (local.get 2) (i32.const 1))) (br_if 0 (local.get 2)))))",
    ));
    site.ok("account top-up alice 1000000");
    let before = site.balance("alice");
    site.write_input("long.json", -1.0);
    let mut serving = site.serve("--grace 10m");
    let wanted = "--input {}/long.json --fuel-limit 1T --retries 0 --json";
    let infer = site.infer(&serving, wanted).stdout(Stdio::piped()).spawn().unwrap();
    serving.wait_for_work(50);
    serving.stop();
    let output = infer.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(site.balance("alice"), before - answer["credits_micro"].as_i64().unwrap());
}

#[test]
fn a_second_interrupt_stops_a_server_at_once() {
    let site = rich();
    let before = site.balance("alice");
    let (mut serving, infer) = busy(&site, "--grace 1h");
    serving.signal("INT");
    // From here on it says no: the first signal was heard.
    while serving.get("/v2/health/ready", None).status() == 200 {}
    serving.signal("INT");
    let (code, stderr) = serving.wait();
    assert_eq!(code, Some(130), "{stderr}");
    assert_eq!(end(infer).0, Some(6));
    assert_eq!(site.balance("alice"), before);
}

#[test]
fn a_server_that_was_killed_starts_again_and_nothing_was_paid_that_was_not_answered() {
    let site = rich();
    let answered = {
        let serving = site.serve("");
        json(&mut site.infer(&serving, "--random 1 --idempotency-key done --json"), 0)
    };
    let before = site.balance("alice");
    assert_eq!(before, 1_000_025_000_000 - answered["credits_micro"].as_i64().unwrap());
    let (mut serving, infer) = busy(&site, "");
    serving.signal("KILL");
    assert_eq!(serving.wait().0, None);
    assert_eq!(end(infer).0, Some(6));
    let mut serving = site.serve("");
    // What was answered before is still there; what was not runs anew.
    let again = json(&mut site.infer(&serving, "--random 1 --idempotency-key done --json"), 0);
    assert_eq!((&again["job"], &again["repeated"]), (&answered["job"], &true.into()));
    let wanted = "--input {}/long.json --fuel-limit 1M --idempotency-key long --json";
    let long = json(&mut site.infer(&serving, wanted), 5);
    assert_eq!((&long["verdict"], &long["repeated"]), (&"out_of_fuel".into(), &false.into()));
    serving.stop();
    assert_eq!(site.balance("alice"), before - long["credits_micro"].as_i64().unwrap());
    assert_eq!(site.json("account show alice")["held_micro"], 0);
    site.ok("log check");
}
