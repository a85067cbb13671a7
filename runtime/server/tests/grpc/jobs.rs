//! Calls as jobs: money, deadlines, keys, clients that go away.

use super::*;

#[test]
fn a_model_that_fails_is_a_status_with_a_bill() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(unreachable)"));
    let client = Client::new(&served);
    let status = client.infer(with_key(good(), &served.alice)).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(text(status.metadata(), "fuelbox-code"), "model_failed");
    assert_eq!(text(status.metadata(), "fuelbox-verdict"), "trap");
    assert!(status.message().starts_with("the model failed: "), "{}", status.message());
    let paid = i128::from(RICH_MICROS) - served.available("alice");
    assert!(paid > 0);
    let job = text(status.metadata(), "fuelbox-job").parse().unwrap();
    let end = served.host.job(&job).unwrap().end.unwrap();
    assert_eq!(i128::from(end.credits.micros()), paid);
    assert_eq!(text(status.metadata(), "fuelbox-credits"), end.credits.to_string());
}

#[test]
fn who_cannot_pay_hears_what_is_missing() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    served.host.accounts().create(&account("poor"), fuelbox_ledger::AccountKind::Caller).unwrap();
    let key = support::key(&served.host, "poor", &[Scope::Caller]);
    let client = Client::new(&served);
    let (status, code, sentence) = refusal(client.infer(with_key(good(), &key)));
    assert_eq!((status, code.as_str()), (Code::ResourceExhausted, "payment_required"));
    assert!(sentence.starts_with("not enough in 'poor': available 0, needed 0.00"), "{sentence}");
}

#[test]
fn the_deadline_of_a_call_is_that_of_its_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let micros = ParameterChoice::Int64Param(50_000);
    let by_parameter = with_key(with_parameter(endless(), "timeout", micros), &served.alice);
    let header = with_text(with_key(endless(), &served.alice), "fuelbox-deadline-ms", "50");
    for request in [by_parameter, header] {
        let status = client.infer(request).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(text(status.metadata(), "fuelbox-code"), "deadline");
        assert_eq!(text(status.metadata(), "fuelbox-verdict"), "cancelled");
    }
    // Clients go away at the end of their own time; this one says it, and stays.
    let later = ParameterChoice::Int64Param(80_000_000);
    let both = with_parameter(endless(), "fuelbox_deadline_ms", later);
    let send = |request: &ModelInferRequest, timeout: &str| {
        let body = reqwest::Body::from(framed(request));
        send_for(&client, &served, INFER, body, timeout)
    };
    let deadline = ((Code::DeadlineExceeded as i32).to_string(), "deadline".to_owned());
    for (request, timeout) in [(endless(), "50m"), (both, "50000u"), (endless(), "0n")] {
        assert_eq!(send(&request, timeout), deadline, "{timeout}");
    }
    let bad = ((Code::InvalidArgument as i32).to_string(), "bad_input".to_owned());
    assert_eq!(send(&endless(), "1s"), bad);
}

#[test]
fn one_idempotency_key_is_one_job() {
    let served = serve();
    served.publish("tiny", "1", &Guest::default());
    let client = Client::new(&served);
    let post = |request| {
        client.infer(with_text(with_key(request, &served.alice), "idempotency-key", "one"))
    };
    let first = post(good()).unwrap();
    assert_eq!(text(first.metadata(), "idempotent-replayed"), "");
    let left = served.available("alice");
    let again = post(good()).unwrap();
    assert_eq!(text(again.metadata(), "idempotent-replayed"), "true");
    assert_eq!(again.into_inner(), first.into_inner());
    assert_eq!(served.available("alice"), left);
    let other = raw(vec![tensor("x", "FP32", &[1])], &[&2.5f32.to_le_bytes()]);
    let (status, code, _) = refusal(post(other));
    assert_eq!((status, code.as_str()), (Code::AlreadyExists, "key_reused"));
    let key = ParameterChoice::StringParam("one".into());
    let by_parameter = with_parameter(good(), "fuelbox_idempotency_key", key);
    let again = client.infer(with_key(by_parameter, &served.alice)).unwrap();
    assert_eq!(text(again.metadata(), "idempotent-replayed"), "true");
}

#[test]
fn a_key_in_flight_is_told_to_come_again() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running(&burn(200_000_000)));
    let client = Client::new(&served);
    let post = || with_text(with_key(endless(), &served.alice), "idempotency-key", "k");
    let first = client.start(post());
    wait_until(|| served.host.running() == 1);
    let status = client.infer(post()).unwrap_err();
    assert_eq!(text(status.metadata(), "retry-after"), "1");
    let (status, code, _) = refusal::<()>(Err(status));
    assert_eq!((status, code.as_str()), (Code::Aborted, "in_flight"));
    client.runtime.block_on(first).unwrap().unwrap();
}

#[test]
fn a_job_stops_when_its_client_goes_away() {
    let served = serve();
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let call = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    call.abort();
    assert_cancelled(&served, 1);
}

#[test]
fn full_queues_and_quick_keys_say_when_to_come_again() {
    let queue = QueueLimits { jobs: 2, account_jobs: 1, ..QueueLimits::default() };
    let mut config = config();
    (config.limits.key_rate, config.limits.key_burst) = (1, 3);
    let host = HostConfig { workers: Some(1), queue, ..HostConfig::default() };
    let served = serve_with(config, host);
    served.publish("tiny", "1", &Guest::running("(loop $l (br $l))"));
    let client = Client::new(&served);
    let running = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.running() == 1);
    let waiting = client.start(with_key(endless(), &served.alice));
    wait_until(|| served.host.queued() == 1);
    let of_account = "the account's share of the queue is full: 1 of its jobs wait, allowed are 1";
    let of_key = "too many requests of this key: allowed are 1 a second, 3 at once";
    let mut sentences = Vec::new();
    // On a busy machine the key has earned another request or two by now.
    while sentences.last().is_none_or(|sentence| sentence != of_key) {
        let status = client.infer(with_key(endless(), &served.alice)).unwrap_err();
        assert_eq!(text(status.metadata(), "retry-after"), "1");
        let (status, code, sentence) = refusal::<()>(Err(status));
        assert_eq!((status, code.as_str()), (Code::ResourceExhausted, "rate_limited"));
        sentences.push(sentence);
    }
    sentences.pop();
    assert!(!sentences.is_empty() && sentences.iter().all(|sentence| sentence == of_account));
    running.abort();
    waiting.abort();
    wait_until(|| served.host.running() + served.host.queued() == 0);
}
