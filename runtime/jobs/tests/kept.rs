//! Inputs and outputs: kept for their time, within bounds, and as long as a job needs them.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{Config, Keep, State};
use std::time::Duration;
use support::{host_with, package, set_up, shaped, sized};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn large_inputs_and_outputs_are_kept_for_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |time| {
        let keep = Keep { time, ..Keep::default() };
        Config { workers: Some(1), keep, ..Config::default() }
    };
    let host = host_with(folder.path(), keep(Duration::from_secs(3_600)));
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let large = sized(&publication, 20_000);
    let done = host.run(large.clone()).unwrap();
    let queued = host.submit(large.clone()).unwrap();
    assert_eq!(host.wait(&queued.id, LONG).unwrap().state, State::Succeeded);
    let stored = host.blob(&done.job.input).unwrap().expect("kept");
    let inputs = fuelbox_engine::decode_tensors(fuelbox_engine::Place::Inputs, &stored).unwrap();
    assert_eq!(inputs, large.inputs);
    let file = folder.path().join("data/blobs");
    let hex = done.job.input.hex();
    let file = file.join(&hex[..2]).join(&hex);
    assert!(file.exists());
    drop(host);
    // One that is damaged is an error, not another input.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let host = host_with(folder.path(), keep(Duration::ZERO));
    let error = host.blob(&done.job.input).unwrap_err().to_string();
    assert!(error.contains("has content of digest"), "{error}");
    // What has no time is swept; the job and its receipt stay.
    let short = host.run(sized(&publication, 7)).unwrap();
    while host.blob(&short.job.input).unwrap().is_some() {
        std::thread::yield_now();
    }
    let again = host.result(&short.job.id).unwrap().unwrap();
    assert_eq!(again.receipt, short.receipt);
    assert_eq!(again.outputs, short.outputs, "an equal output was stored for an hour");
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn what_is_kept_is_bounded_and_large_content_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { large_of_waiting: false, ..Keep::default() };
    let host = host_with(folder.path(), Config { workers: Some(1), keep, ..Config::default() });
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let waited = host.run(sized(&publication, 20_000)).unwrap();
    assert!(host.blob(&waited.job.input).unwrap().is_none());
    assert!(waited.outputs.is_some());
    let queued = host.submit(sized(&publication, 20_000)).unwrap();
    assert_eq!(host.wait(&queued.id, LONG).unwrap().state, State::Succeeded);
    assert!(host.blob(&queued.input).unwrap().is_some());
    let small = host.run(sized(&publication, 5)).unwrap();
    assert!(host.blob(&small.job.input).unwrap().is_some());
    drop(host);
    // Less room than there is content: the oldest goes, the youngest stays.
    let keep = Keep { bytes_max: 1_000, ..Keep::default() };
    let host = host_with(folder.path(), Config { workers: Some(1), keep, ..Config::default() });
    while host.blob(&queued.input).unwrap().is_some() {
        std::thread::yield_now();
    }
    assert!(host.blob(&small.job.input).unwrap().is_some());
}

#[test]
fn inputs_of_jobs_that_wait_stay_whatever_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let config = |workers, keep| Config { workers: Some(workers), keep, ..Config::default() };
    let host = host_with(folder.path(), config(1, Keep::default()));
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "s", "1", &shaped()));
    let done = host.run(sized(&publication, 2)).unwrap().job;
    drop(host);
    let host = host_with(folder.path(), config(0, Keep::default()));
    let small = host.submit(sized(&publication, 3)).unwrap();
    let large = host.submit(sized(&publication, 20_000)).unwrap();
    drop(host);
    // No room for anything: what the finished job left goes, what the others need does not.
    let host = host_with(folder.path(), config(0, Keep { bytes_max: 0, ..Keep::default() }));
    while host.blob(&done.input).unwrap().is_some() {
        std::thread::yield_now();
    }
    drop(host);
    let host = host_with(folder.path(), config(1, Keep::default()));
    for id in [small.id, large.id] {
        assert_eq!(host.wait(&id, LONG).unwrap().state, State::Succeeded);
    }
}
