//! The janitor: jobs whose time is over while they wait, and files that nobody names.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_digest::Digest;
use fuelbox_jobs::{Config, JobError, State};
use fuelbox_test_support::guest::Guest;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};
use support::{available, host_with, package, request, set_up, shaped, sized};

const LONG: Duration = Duration::from_secs(60);

fn idle() -> Config {
    Config { workers: Some(0), ..Config::default() }
}

#[test]
fn a_job_whose_deadline_passes_while_it_waits_ends_without_a_worker_and_without_a_bill() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_with(folder.path(), idle());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let mut wanted = request(&publication, 1.0);
    let patient = host.submit(wanted.clone()).unwrap();
    wanted.deadline = Some(Duration::from_millis(1));
    let hasty = host.submit(wanted.clone()).unwrap();
    let ended = host.wait(&hasty.id, LONG).unwrap();
    assert_eq!(ended.state, State::Cancelled);
    assert_eq!(ended.detail.as_deref(), Some("the job was cancelled before it began"));
    assert!(ended.end.is_none());
    // Also one whose caller waits.
    let error = host.run(wanted).unwrap_err();
    assert!(matches!(error, JobError::CancelledEarly), "{error}");
    assert_eq!(host.job(&patient.id).unwrap().state, State::Queued);
    assert_eq!(host.queued(), 1);
    host.cancel(&patient.id).unwrap();
    assert_eq!(available(&host, "alice"), 1_000_000);
    drop(host);
    assert_eq!(support::check_folder(folder.path()).open, 0);
}

/// Writes a file that was last stored so long ago.
fn file(path: &Path, content: &[u8], age: Duration) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    make_old(path, age);
    path.to_owned()
}

fn make_old(path: &Path, age: Duration) {
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn files_that_no_row_names_go_after_a_day_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let done = host.run(sized(&publication, 20_000)).unwrap().job;
    drop(host);
    let host = host_with(folder.path(), idle());
    let queued = host.submit(sized(&publication, 30_000)).unwrap();
    drop(host);
    let data = folder.path().join("data");
    let blob = |digest: &Digest| {
        let hex = digest.hex();
        data.join("blobs").join(&hex[..2]).join(&hex)
    };
    let package_file =
        |digest: &Digest| data.join("packages").join(format!("{}.fbx", digest.hex()));
    // All that is named is old, and the row of what waits is lost but for the job's own.
    let named = [blob(&done.input), blob(&queued.input), package_file(&publication.digest)];
    for path in &named {
        make_old(path, 30 * DAY);
    }
    let connection = fuelbox_ledger::rusqlite::Connection::open(data.join("fuelbox.db")).unwrap();
    let sql = "DELETE FROM blob WHERE digest = ?1";
    assert_eq!(connection.execute(sql, [queued.input.as_bytes()]).unwrap(), 1);
    drop(connection);
    let orphan = |name: &str| Digest::of(name.as_bytes());
    let old = DAY + Duration::from_secs(60);
    let gone = [
        file(&blob(&orphan("old")), b"old", old),
        file(&package_file(&orphan("package")), b"old", old),
        file(&data.join("packages/.unfinished-abc"), b"old", old),
    ];
    let young = DAY - Duration::from_secs(3_600);
    let stay = [
        file(&blob(&orphan("young")), b"young", young),
        file(&package_file(&orphan("young")), b"young", young),
        file(&data.join("packages/.unfinished-young"), b"young", young),
        // Not of our making.
        file(&data.join("packages/notes.txt"), b"old", old),
        file(&data.join("blobs/00/notes"), b"old", old),
        file(&data.join("blobs/ff").join(orphan("wrong place").hex()), b"old", old),
    ];
    let host = host_with(folder.path(), idle());
    let until = Instant::now() + LONG;
    while gone.iter().any(|path| path.exists()) {
        assert!(Instant::now() < until, "{gone:?}");
        std::thread::yield_now();
    }
    drop(host);
    for path in named.iter().chain(&stay) {
        assert!(path.exists(), "{path:?}");
    }
    let host = support::host(folder.path());
    assert!(host.blob(&done.input).unwrap().is_some());
    assert_eq!(host.run(sized(&publication, 20_000)).unwrap().job.state, State::Succeeded);
}
