//! Inputs and outputs: kept for their time, within bounds, and as long as a job needs them.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_digest::Digest;
use fuelbox_jobs::{BlobFolder, Blobs, Config, DataFolder, Host, Keep, State};
use std::{
    io,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
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

/// Files of blobs, and their bytes.
fn files(data: &std::path::Path) -> (usize, u64) {
    let (mut count, mut bytes) = (0, 0);
    for folder in std::fs::read_dir(data.join("blobs")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            count += 1;
            // One that goes under our hands has none.
            bytes += file.unwrap().metadata().map_or(0, |metadata| metadata.len());
        }
    }
    (count, bytes)
}

#[test]
fn files_go_with_the_last_row_that_names_them_however_young_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let keep = |bytes_max| {
        let keep = Keep { bytes_max, ..Keep::default() };
        host_with(folder.path(), Config { workers: Some(2), keep, ..Config::default() })
    };
    let host = keep(u64::MAX);
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "s", "1", &shaped()));
    let (jobs, bytes) = (40, 80_000); // of an input; outputs are small
    let ids = (0..jobs).map(|job| host.run(sized(&publication, 20_000 + job)).unwrap().job);
    assert_eq!(ids.collect::<Vec<_>>().len(), jobs);
    assert_eq!(files(&data).0, jobs);
    drop(host);
    // Room for six of them, while two threads go on storing what is being removed.
    let bytes_max = 6 * bytes;
    let host = keep(bytes_max);
    std::thread::scope(|scope| {
        let (host, publication) = (&host, &publication);
        let again = |first: usize| {
            for job in (0..jobs).cycle().skip(first).take(3 * jobs) {
                let run = host.run(sized(publication, 20_000 + job)).unwrap();
                assert_eq!(run.job.state, State::Succeeded);
            }
        };
        scope.spawn(move || again(0));
        scope.spawn(move || again(jobs / 2));
    });
    let one_more = bytes_max / 16 + bytes;
    let until = Instant::now() + LONG;
    while files(&data).1 > bytes_max + one_more {
        assert!(Instant::now() < until, "{:?} of {bytes_max}", files(&data));
        std::thread::yield_now();
    }
    drop(host);
    let reader = DataFolder::new(&data).reader().unwrap();
    let sql = "SELECT lower(hex(digest)) FROM blob WHERE content IS NULL";
    let mut select = reader.connection().prepare(sql).unwrap();
    let named = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let named = named.map(Result::unwrap).collect::<Vec<_>>();
    assert!((1..jobs).contains(&named.len()), "{named:?}");
    for hex in named {
        assert!(data.join("blobs").join(&hex[..2]).join(&hex).exists(), "{hex} has a row");
    }
}

/// Holds a job between its file and its row, when it is told to, and sees what is removed then.
struct Halting {
    blobs: BlobFolder,
    halt: AtomicBool,
    /// Where the job and the test meet, twice.
    meeting: Barrier,
    removed: Mutex<Vec<Digest>>,
}

impl Blobs for Halting {
    fn put(&self, digest: &Digest, content: &[u8], durable: bool) -> io::Result<()> {
        self.blobs.put(digest, content, durable)?;
        if self.halt.load(Ordering::SeqCst) {
            self.meeting.wait();
            self.meeting.wait();
        }
        Ok(())
    }

    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        self.blobs.get(digest)
    }

    fn remove(&self, digest: &Digest, unused_for: Duration) -> io::Result<()> {
        self.removed.lock().unwrap().push(*digest);
        self.blobs.remove(digest, unused_for)
    }
}

#[test]
fn a_file_stays_while_its_row_is_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::new(folder.path().join("data"));
    let blobs = Arc::new(Halting {
        blobs: BlobFolder::open(folder.path().join("blobs")).unwrap(),
        halt: AtomicBool::new(false),
        meeting: Barrier::new(2),
        removed: Mutex::default(),
    });
    let keep = Keep { time: Duration::ZERO, ..Keep::default() };
    let config = Config { workers: Some(1), keep, ..Config::default() };
    let host = Host::open_with(&data, support::engine(folder.path()), config, blobs.clone());
    let host = host.unwrap();
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "s", "1", &shaped()));
    let input = host.run(sized(&publication, 20_000)).unwrap().job.input;
    let rows = || {
        let reader = data.reader().unwrap();
        let sql = "SELECT count(*) FROM blob WHERE digest = ?1";
        let count =
            reader.connection().query_row(sql, [input.as_bytes()], |row| row.get::<_, i64>(0));
        count.unwrap()
    };
    let wait_for = |what: &dyn Fn() -> bool| {
        let until = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < until, "{} rows, {:?}", rows(), blobs.removed.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let is_removed = || blobs.removed.lock().unwrap().contains(&input);
    // The row goes, and the file with it, in the janitor's next round.
    wait_for(&is_removed);
    assert_eq!(rows(), 0);
    // A row that goes while another job has stored the file, and not committed yet.
    host.run(sized(&publication, 20_000)).unwrap();
    blobs.halt.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| host.run(sized(&publication, 20_000)).unwrap());
        blobs.meeting.wait();
        blobs.halt.store(false, Ordering::SeqCst);
        blobs.removed.lock().unwrap().clear();
        wait_for(&|| rows() == 0);
        // The file would go right after the row.
        std::thread::sleep(Duration::from_millis(200));
        let removed = is_removed();
        blobs.meeting.wait();
        assert!(!removed, "removed under the job's hands");
    });
    // Nobody needs it once that job's row has gone.
    wait_for(&is_removed);
}
