//! A store or a disk that fails at any write: a host's fault, nothing billed, nothing held for good,
//! and a process that goes on.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_abi::Dim;
use fuelbox_digest::Digest;
use fuelbox_jobs::{
    BlobFolder, Blobs, Config, DataFolder, Host, HostFault, JobError, JobId, JobRequest,
    Publication, PublishError, State,
};
use fuelbox_ledger::faults::{Failure, Fault, Faults};
use fuelbox_test_support::{
    guest::{self, Guest},
    host::fp32,
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::{account, available, check_books, micros, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);
const MINIMUM: i128 = 10;

#[test]
fn a_store_that_fails_at_any_write_bills_nothing_and_holds_nothing() {
    for (failure, lasting) in
        [(Failure::Io, false), (Failure::Io, true), (Failure::Torn, false), (Failure::Full, true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::register().unwrap();
        let config = Config { workers: Some(1), vfs: Some(faults.name()), ..Config::default() };
        let host = support::host_with(folder.path(), config);
        let publication =
            set_up(&host, 1 << 40, &package(folder.path(), "t", "1", &Guest::default()));
        let mut hit = 0;
        for nth in 1.. {
            let before = available(&host, "alice");
            faults.set(Fault { nth, failure, only: None, lasting });
            let (mut settled, queued) = scenario(&host, &publication, &faults, nth);
            let failed = faults.failed();
            faults.heal();
            if let Some(id) = queued {
                match host.wait(&id, LONG).unwrap().state {
                    State::Succeeded => settled += 1,
                    State::Faulted => {}
                    other => panic!("{other:?}"),
                }
            }
            let held = host.accounts().show(&account("alice")).unwrap().debits_pending;
            assert_eq!(held, micros(0), "{failure:?}, lasting {lasting}, {nth}");
            let paid = before - available(&host, "alice");
            assert_eq!(paid, settled * MINIMUM, "{failure:?}, lasting {lasting}, {nth}");
            // The process works on.
            assert_eq!(host.run(request(&publication, 0.5)).unwrap().job.state, State::Succeeded);
            if failed == 0 {
                break;
            }
            hit += 1;
        }
        assert!(hit > 10, "{hit} operations failed");
        let data = DataFolder::new(folder.path().join("data"));
        check_books(&data.reader().unwrap());
        drop(host);
        // And so it lies on the disk.
        assert_eq!(support::check_folder(folder.path()).open, 0);
    }
}

/// A job whose caller waits, and one whose caller does not. Gives how many of the former were settled,
/// and the name of the latter, if it was taken in.
fn scenario(
    host: &Host,
    publication: &Publication,
    faults: &Faults,
    value: u64,
) -> (i128, Option<JobId>) {
    let store_failed = |error: JobError| match error {
        JobError::Fault(HostFault::Store(_)) => {}
        other => panic!("{other}"),
    };
    let settled = match host.run(request(publication, value as f32)) {
        Ok(done) => {
            assert_eq!(done.job.state, State::Succeeded);
            1
        }
        Err(error) => {
            store_failed(error);
            0
        }
    };
    let job = host.submit(request(publication, value as f32)).map_err(store_failed).ok();
    if let Some(job) = &job {
        // Until it has ended, or has met the fault.
        let until = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < until, "{job:?} never ended");
            let state = host.wait(&job.id, Duration::from_millis(5)).map(|job| job.state);
            let met = host.queued() == 0 && faults.failed() > 0;
            if met || state.is_ok_and(State::is_final) {
                break;
            }
        }
    }
    (settled, job.map(|job| job.id))
}

/// Blobs on a disk that is full now and then.
struct Full {
    blobs: BlobFolder,
    is_full: AtomicBool,
}

impl Blobs for Full {
    fn put(&self, digest: &Digest, content: &[u8], durable: bool) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blobs.put(digest, content, durable)
    }

    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        self.blobs.get(digest)
    }

    fn remove(&self, digest: &Digest, unused_for: Duration) -> io::Result<()> {
        self.blobs.remove(digest, unused_for)
    }
}

#[test]
fn a_disk_without_room_for_inputs_bills_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::new(folder.path().join("data"));
    let blobs = Arc::new(Full {
        blobs: BlobFolder::open(folder.path().join("blobs")).unwrap(),
        is_full: AtomicBool::new(false),
    });
    let config = Config { workers: Some(1), ..Config::default() };
    let engine = support::engine(folder.path());
    let host = Host::open_with(&data, engine, config, blobs.clone()).unwrap();
    let shaped = Guest { signature: guest::signature(&[Dim::Symbol("n")]), ..Guest::default() };
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "s", "1", &shaped));
    let input = fp32("x", &[20_000], &vec![1.0; 20_000]);
    let large = JobRequest::new(account("alice"), publication.digest, vec![input]);
    blobs.is_full.store(true, Ordering::SeqCst);
    for refused in [host.run(large.clone()).err(), host.submit(large.clone()).err()] {
        let refused = refused.expect("refused");
        assert!(matches!(refused, JobError::Fault(HostFault::Blobs(_))), "{refused}");
    }
    assert_eq!(available(&host, "alice"), 1 << 40);
    blobs.is_full.store(false, Ordering::SeqCst);
    let done = host.run(large.clone()).unwrap();
    assert!(done.job.end.unwrap().load_fuel.is_some(), "nobody had paid for the load yet");
    // A queued job whose input is gone when its turn comes: given back.
    let job = host.submit(large).unwrap();
    assert_eq!(host.wait(&job.id, LONG).unwrap().state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_queued_job_whose_input_is_lost_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = support::host_with(folder.path(), idle);
    let shaped = Guest { signature: guest::signature(&[Dim::Symbol("n")]), ..Guest::default() };
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "s", "1", &shaped));
    let input = fp32("x", &[20_000], &vec![1.0; 20_000]);
    let job = host.submit(JobRequest::new(account("alice"), publication.digest, vec![input]));
    let job = job.unwrap();
    drop(host);
    let hex = job.input.hex();
    std::fs::remove_file(folder.path().join("data/blobs").join(&hex[..2]).join(&hex)).unwrap();
    let host = support::host(folder.path());
    let job = host.wait(&job.id, LONG).unwrap();
    assert_eq!(job.state, State::Faulted);
    assert_eq!(job.detail, Some(format!("content {} is not kept any more", job.input)));
    assert_eq!(available(&host, "alice"), 1 << 40);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn publishing_on_a_store_that_fails_bills_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::register().unwrap();
    let config = Config { workers: Some(0), vfs: Some(faults.name()), ..Config::default() };
    let host = support::host_with(folder.path(), config);
    set_up(&host, 0, &package(folder.path(), "t", "1", &Guest::default()));
    let before = available(&host, "pub");
    let loaded = Guest { load: "(drop (i32.const 1))".into(), ..Guest::default() };
    let file = package(folder.path(), "t", "2", &loaded);
    for nth in 1.. {
        faults.set(Fault { nth, failure: Failure::Full, only: None, lasting: true });
        let published = host.publish(&account("pub"), &file, Some(1_000_000));
        let failed = faults.failed();
        faults.heal();
        match published {
            Err(error) => {
                assert!(matches!(error, PublishError::Fault(HostFault::Store(_))), "{error}");
                assert_eq!(available(&host, "pub"), before);
                let found = host.read(|records| records.package("t", "2")).unwrap().unwrap();
                assert!(found.is_none());
            }
            Ok(done) => {
                assert_eq!(failed, 0);
                assert!(!done.repeated);
                break;
            }
        }
    }
    drop(host);
    support::check_folder(folder.path());
}
