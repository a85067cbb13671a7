//! A host that stops: nobody pays for what it breaks off, and nothing that was promised is lost.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Full, JobError, State};
use fuelbox_test_support::guest::Guest;
use std::{sync::mpsc::sync_channel, time::Duration};
use support::{available, burn, host, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);

const MONEY: u64 = 1 << 40;

#[test]
fn jobs_that_run_may_end_and_later_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let file = package(folder.path(), "t", "1", &Guest::running(&burn(1_000_000)));
    let publication = set_up(&host, MONEY, &file);
    let (sender, answers) = sync_channel(1);
    let answer = move |result| drop(sender.try_send(result));
    host.start_with(request(&publication, 1.0), answer).unwrap();
    assert!(host.is_open());
    host.stop(LONG);
    assert!(!host.is_open());
    // It ran to its end, or was still waiting for its worker.
    match answers.recv().unwrap() {
        Ok(done) => assert_eq!(done.job.state, State::Succeeded),
        Err(error) => assert!(matches!(error, JobError::Busy(Full::Closed)), "{error}"),
    }
    for refused in [
        host.run(request(&publication, 1.0)).map(|_| ()),
        host.submit(request(&publication, 1.0)).map(|_| ()),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, JobError::Busy(Full::Closed)), "{error}");
    }
    drop(host);
    assert_eq!(support::check_folder(folder.path()).open, 0);
}

#[test]
fn a_job_that_the_host_breaks_off_costs_nothing_and_runs_again_when_it_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let first = host(folder.path());
    // Longer than anybody waits, and yet it ends.
    let slow = Guest::running(&burn(300_000_000));
    let publication = set_up(&first, MONEY, &package(folder.path(), "e", "1", &slow));
    let mut wanted = request(&publication, 1.0);
    wanted.limits.fuel = Some(900_000_000_000);
    // Many restarts are no attempts that failed.
    let job = first.submit(wanted.clone()).unwrap();
    let mut open = Some(first);
    for _ in 0..5 {
        let host = open.take().unwrap_or_else(|| host(folder.path()));
        while host.job(&job.id).unwrap().state == State::Queued {
            std::thread::yield_now();
        }
        host.stop(Duration::ZERO);
        assert_eq!(host.running(), 0);
        drop(host);
        assert_eq!(support::check_folder(folder.path()).open, 1);
    }
    let last = host(folder.path());
    let ended = last.wait(&job.id, LONG * 5).unwrap();
    assert_eq!(ended.state, State::Succeeded, "{ended:?}");
    // One whose caller waits is told, and keeps his money.
    let before = available(&last, "alice");
    wanted.inputs = support::x(2.0);
    let (sender, answers) = sync_channel(1);
    last.start_with(wanted, move |result| drop(sender.try_send(result))).unwrap();
    while last.running() == 0 {
        std::thread::yield_now();
    }
    last.stop(Duration::ZERO);
    let error = answers.recv().unwrap().unwrap_err();
    assert!(matches!(error, JobError::Busy(Full::Closed)), "{error}");
    assert_eq!(available(&last, "alice"), before);
    drop(last);
    assert_eq!(support::check_folder(folder.path()).open, 0);
}

#[test]
fn whoever_listens_hears_of_the_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication =
        set_up(&host, MONEY, &package(folder.path(), "t", "1", &Guest::running(&burn(100_000))));
    let job = host.submit(request(&publication, 1.0)).unwrap();
    let (sender, heard) = sync_channel(2);
    let ear = host.listen(&job.id, move || sender.send(()).unwrap());
    if !host.job(&job.id).unwrap().state.is_final() {
        heard.recv().unwrap();
    }
    assert_eq!(host.job(&job.id).unwrap().state, State::Succeeded);
    drop(ear);
}
