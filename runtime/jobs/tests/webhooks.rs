//! Webhooks: due when their job has ended, tried again with growing pauses, told once.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Config, Host, JobError, JobId, JobRequest, State, Webhook, WebhookState};
use fuelbox_test_support::guest::Guest;
use std::time::Duration;
use support::{account, host_with, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);

/// Later than any time of these tests.
const LATE: u64 = 1 << 50;

/// What is due of all accounts.
fn due(host: &Host, now_unix_ms: u64) -> Vec<Webhook> {
    let webhooks = host.webhooks();
    let accounts = webhooks.accounts_due(now_unix_ms).unwrap();
    accounts.iter().flat_map(|name| webhooks.due(name, now_unix_ms, 10).unwrap()).collect()
}

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
    assert_eq!(due(&host, LATE), []);
    let waiting = host.webhooks().of(&jobs[0]).unwrap().unwrap();
    assert_eq!((waiting.url.as_str(), waiting.attempts), (url, 0));
    assert_eq!(host.webhooks().of(&jobs[2]).unwrap(), None);
    host.cancel(&jobs[1]).unwrap();
    assert_eq!(jobs_of(&due(&host, LATE)), [jobs[1]]);
    drop(host);
    // A process that dies forgets none.
    let host = support::host(folder.path());
    for id in &jobs {
        host.wait(id, LONG).unwrap();
    }
    assert_eq!(host.job(&jobs[0]).unwrap().state, State::Succeeded);
    let both = jobs_of(&due(&host, LATE));
    assert_eq!(both.len(), 2);
    assert!(both.contains(&jobs[0]) && both.contains(&jobs[1]));
    assert_eq!(host.webhooks().due(&account("alice"), LATE, 1).unwrap().len(), 1);
    // Told once.
    host.webhooks().delivered(&jobs[0], 204).unwrap();
    let delivered = host.webhooks().of(&jobs[0]).unwrap().unwrap();
    assert_eq!((delivered.state, delivered.status), (WebhookState::Delivered, Some(204)));
    assert_eq!(delivered.attempts, 1);
    assert_eq!(jobs_of(&due(&host, LATE)), [jobs[1]]);
    assert_eq!(host.webhooks().failed(&jobs[0], LATE, "late").unwrap(), Some(delivered));
    // A job whose caller waited may have one, too.
    let done = host.run(told(url)).unwrap();
    assert!(jobs_of(&due(&host, LATE)).contains(&done.job.id));
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
    let first = due(&host, LATE)[0].next_unix_ms;
    assert_eq!(due(&host, first - 1), []);
    let mut now = first;
    for attempt in 1..15 {
        assert_eq!(jobs_of(&due(&host, now)), [id]);
        let failed = webhooks.failed(&id, now, "status 500\n").unwrap().unwrap();
        assert_eq!((failed.attempts, failed.state), (attempt, WebhookState::Waiting));
        assert_eq!(failed.error.as_deref(), Some("status 500\\n"));
        assert_eq!(webhooks.of(&id).unwrap(), Some(failed.clone()));
        let pause = failed.next_unix_ms - now;
        assert_eq!(pause, (10_000 << (attempt - 1)).min(6 * 3_600_000));
        assert_eq!(due(&host, failed.next_unix_ms - 1), []);
        now = failed.next_unix_ms;
    }
    assert_eq!((now - first) / 60_000, 23 * 60 + 22);
    let last = webhooks.failed(&id, now, &"x".repeat(1_000)).unwrap().unwrap();
    assert_eq!((last.attempts, last.state), (15, WebhookState::GivenUp));
    assert_eq!(last.error.map(|error| error.len()), Some(200));
    assert_eq!(due(&host, LATE), []);
    webhooks.delivered(&id, 200).unwrap();
    assert_eq!(webhooks.of(&id).unwrap().unwrap().state, WebhookState::GivenUp);
    let unknown = id.to_string().replace(['1', '2', '3'], "0").parse().unwrap();
    assert_eq!(webhooks.failed(&unknown, now, "").unwrap(), None);
}

#[test]
fn each_account_has_its_own_webhooks_and_many_fail_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let run = |name: &str, webhook: Option<&str>| {
        let webhook = webhook.map(str::to_owned);
        let wanted = JobRequest { webhook, ..request(&publication, 1.0) };
        host.run(JobRequest { account: account(name), ..wanted }).unwrap().job.id
    };
    let url = Some("https://example.org/hook");
    let of_pub = run("pub", url);
    let of_alice = [(); 5].map(|()| run("alice", url));
    run("alice", None);
    let webhooks = host.webhooks();
    assert_eq!(webhooks.accounts_due(LATE).unwrap(), [account("alice"), account("pub")]);
    assert_eq!(webhooks.accounts_due(1).unwrap(), []);
    let found = webhooks.due(&account("alice"), LATE, 3).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.is_sorted_by_key(|webhook| webhook.next_unix_ms));
    assert!(found.iter().all(|webhook| of_alice.contains(&webhook.job)));
    assert!(found.iter().all(|webhook| webhook.account == account("alice")));
    assert_eq!(jobs_of(&webhooks.due(&account("pub"), LATE, 3).unwrap()), [of_pub]);
    assert_eq!(webhooks.due(&account("nobody"), LATE, 3).unwrap(), []);
    webhooks.delivered(&of_alice[4], 204).unwrap();
    webhooks.all_failed(of_alice.to_vec(), LATE, "silent").unwrap();
    assert_eq!(webhooks.accounts_due(LATE).unwrap(), [account("pub")]);
    let found = webhooks.due(&account("alice"), LATE + 10_000, 10).unwrap();
    assert_eq!(jobs_of(&found).len(), 4);
    assert!(found.iter().all(|webhook| webhook.error.as_deref() == Some("silent")));
    assert!(found.iter().all(|webhook| webhook.attempts == 1));
}
