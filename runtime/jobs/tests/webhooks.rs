//! Webhooks: due when their job has ended, tried again with growing pauses, told once.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Config, JobError, JobId, JobRequest, State, Webhook, WebhookState};
use fuelbox_test_support::guest::Guest;
use std::time::Duration;
use support::{host_with, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);

/// Later than any time of these tests.
const LATE: u64 = 1 << 50;

fn jobs_of(webhooks: &[Webhook]) -> Vec<JobId> {
    webhooks.iter().map(|webhook| webhook.job).collect()
}

#[test]
fn a_webhook_is_due_when_its_job_has_ended_however_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = host_with(folder.path(), idle);
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let told = |url: &str| JobRequest { webhook: Some(url.into()), ..request(&publication, 1.0) };
    let url = "https://example.org/hook";
    let jobs = [told(url), told(url), request(&publication, 1.0)];
    let jobs = jobs.map(|wanted| host.submit(wanted).unwrap().id);
    assert_eq!(host.webhooks().due(LATE, 10).unwrap(), []);
    let waiting = host.webhooks().of(&jobs[0]).unwrap().unwrap();
    assert_eq!((waiting.url.as_str(), waiting.attempts), (url, 0));
    assert_eq!(host.webhooks().of(&jobs[2]).unwrap(), None);
    host.cancel(&jobs[1]).unwrap();
    assert_eq!(jobs_of(&host.webhooks().due(LATE, 10).unwrap()), [jobs[1]]);
    drop(host);
    // A process that dies forgets none.
    let host = support::host(folder.path());
    for id in &jobs {
        host.wait(id, LONG).unwrap();
    }
    assert_eq!(host.job(&jobs[0]).unwrap().state, State::Succeeded);
    let due = jobs_of(&host.webhooks().due(LATE, 10).unwrap());
    assert_eq!(due.len(), 2);
    assert!(due.contains(&jobs[0]) && due.contains(&jobs[1]));
    assert_eq!(host.webhooks().due(LATE, 1).unwrap().len(), 1);
    // Told once.
    host.webhooks().delivered(&jobs[0], 204).unwrap();
    let delivered = host.webhooks().of(&jobs[0]).unwrap().unwrap();
    assert_eq!((delivered.state, delivered.status), (WebhookState::Delivered, Some(204)));
    assert_eq!(delivered.attempts, 1);
    assert_eq!(jobs_of(&host.webhooks().due(LATE, 10).unwrap()), [jobs[1]]);
    assert_eq!(host.webhooks().failed(&jobs[0], LATE, "late").unwrap(), Some(delivered));
    // A job whose caller waited may have one, too.
    let done = host.run(told(url)).unwrap();
    assert!(jobs_of(&host.webhooks().due(LATE, 10).unwrap()).contains(&done.job.id));
    // Word for another place is another request.
    let keyed = |url: Option<&str>| JobRequest {
        key: Some("k".into()),
        webhook: url.map(str::to_owned),
        ..request(&publication, 1.0)
    };
    host.run(keyed(Some(url))).unwrap();
    assert!(host.run(keyed(Some(url))).unwrap().repeated);
    for other in [None, Some("https://example.org/other")] {
        assert!(matches!(host.run(keyed(other)), Err(JobError::KeyReused { .. })));
    }
    let error = host.run(told(&"u".repeat(2_049))).unwrap_err().to_string();
    assert_eq!(error, "webhook url's length limit over the host's: found 2049, allowed 2048");
    host.run(told(&"u".repeat(2_048))).unwrap();
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_receiver_that_fails_is_tried_fifteen_times_in_a_day_and_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let webhook = Some("https://example.org".to_owned());
    let id = host.run(JobRequest { webhook, ..request(&publication, 1.0) }).unwrap().job.id;
    let webhooks = host.webhooks();
    let first = webhooks.due(LATE, 10).unwrap()[0].next_unix_ms;
    assert_eq!(webhooks.due(first - 1, 10).unwrap(), []);
    let mut now = first;
    for attempt in 1..15 {
        assert_eq!(jobs_of(&webhooks.due(now, 10).unwrap()), [id]);
        let failed = webhooks.failed(&id, now, "status 500\n").unwrap().unwrap();
        assert_eq!((failed.attempts, failed.state), (attempt, WebhookState::Waiting));
        assert_eq!(failed.error.as_deref(), Some("status 500\\n"));
        assert_eq!(webhooks.of(&id).unwrap(), Some(failed.clone()));
        let pause = failed.next_unix_ms - now;
        assert_eq!(pause, (10_000 << (attempt - 1)).min(6 * 3_600_000));
        assert_eq!(webhooks.due(failed.next_unix_ms - 1, 10).unwrap(), []);
        now = failed.next_unix_ms;
    }
    assert_eq!((now - first) / 60_000, 23 * 60 + 22);
    let last = webhooks.failed(&id, now, &"x".repeat(1_000)).unwrap().unwrap();
    assert_eq!((last.attempts, last.state), (15, WebhookState::GivenUp));
    assert_eq!(last.error.map(|error| error.len()), Some(200));
    assert_eq!(webhooks.due(LATE, 10).unwrap(), []);
    webhooks.delivered(&id, 200).unwrap();
    assert_eq!(webhooks.of(&id).unwrap().unwrap().state, WebhookState::GivenUp);
    let unknown = id.to_string().replace(['1', '2', '3'], "0").parse().unwrap();
    assert_eq!(webhooks.failed(&unknown, now, "").unwrap(), None);
}
