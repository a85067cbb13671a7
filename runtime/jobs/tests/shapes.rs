//! Input shapes that are new: whoever brings them pays for the load.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{
    Config, DataFolder, Finished, Full, Host, JobError, Priority, Publication, QueueLimits, State,
};
use fuelbox_ledger::AccountKind;
use fuelbox_test_support::guest::{Guest, SIGNATURE_AT};
use std::{
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use support::{
    Block, account, available, burn, endless_for, host, host_with, micros, package, set_up, shaped,
    sized,
};

const LONG: Duration = Duration::from_secs(60);

const MONEY: u64 = 1 << 40;

/// Shapes that a package is known for at most.
const SHAPES: usize = 32;

/// What a job paid for a load, in fuel.
fn load_of(done: &Finished) -> Option<u64> {
    done.job.end.as_ref().unwrap().load_fuel
}

/// What becomes of a job.
type Answer = Receiver<Result<Finished, JobError>>;

/// Starts a job with the lowest or highest priority, and gives its answer.
fn start(host: &Host, publication: &Publication, size: usize, first: bool) -> Answer {
    let (sender, answer) = channel();
    let mut wanted = sized(publication, size);
    wanted.priority = if first { Priority::MAX } else { Priority::new(0).unwrap() };
    host.start_with(wanted, move |result| drop(sender.send(result))).unwrap();
    answer
}

fn new_host(folder: &Path) -> (Host, Publication) {
    let host = host(folder);
    let publication = set_up(&host, MONEY, &package(folder, "s", "1", &shaped()));
    (host, publication)
}

#[test]
fn who_brings_new_shapes_pays_for_their_load_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let first = host.run(sized(&publication, 3)).unwrap();
    let load_fuel = first.job.end.as_ref().unwrap().load_fuel.expect("a load");
    assert!(load_fuel > 400_000, "{load_fuel}");
    let receipt = first.receipt.verify(&host.key_ring()).unwrap().receipt;
    let load = receipt.load.expect("a load");
    assert_eq!(load.fuel, load_fuel);
    assert_eq!(load.credits_micro, host.prices().load(load_fuel).unwrap().micros());
    let paid = receipt.price.credits_micro + load.credits_micro;
    assert_eq!(first.job.end.unwrap().credits.micros(), paid);
    let second = host.run(sized(&publication, 3)).unwrap();
    assert_eq!(second.job.end.unwrap().load_fuel, None);
    assert_eq!(
        host.run(sized(&publication, 4)).unwrap().job.end.unwrap().load_fuel,
        Some(load_fuel)
    );
    drop(host);
    // Known after a restart, and on a cache that somebody emptied: then the load is the host's.
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    let host = support::host(folder.path());
    assert_eq!(host.run(sized(&publication, 3)).unwrap().job.end.unwrap().load_fuel, None);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn shapes_that_made_room_are_paid_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 1_000_000_000, &package(folder.path(), "s", "1", &shaped()));
    let loads = |size: usize| {
        host.run(sized(&publication, size)).unwrap().job.end.unwrap().load_fuel.is_some()
    };
    for size in 1..=32 {
        assert!(loads(size), "{size}");
    }
    assert!(!loads(1));
    assert!(loads(33)); // 2 makes room, as it does among the engine's images
    assert!(!loads(1));
    assert!(loads(2));
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_load_over_its_limit_is_billed_and_leaves_no_shape() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let mut wanted = sized(&publication, 3);
    wanted.limits.load_fuel = Some(1_000);
    for _ in 0..2 {
        let done = host.run(wanted.clone()).unwrap();
        assert_eq!(done.job.end.as_ref().unwrap().verdict, "out_of_fuel");
        assert_eq!(done.job.end.as_ref().unwrap().fuel, 0);
        assert_eq!(done.job.end.unwrap().load_fuel, Some(1_000));
    }
    // Somebody pays for it; then the image is there, and costs nobody anything.
    assert!(host.run(sized(&publication, 3)).unwrap().job.end.unwrap().load_fuel.is_some());
    assert_eq!(host.run(wanted).unwrap().job.state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}

/// While one job loads, others with its shapes come; its load fails. None of them gets a load that it does
/// not pay for, nor one beyond its own limit.
#[test]
fn shapes_are_new_until_their_load_is_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let file = package(folder.path(), "s", "1", &endless_for(9));
    let publication = set_up(&host, MONEY, &file);
    host.open_model(&publication.digest).unwrap();
    let mut wanted = sized(&publication, 9);
    wanted.limits.load_fuel = Some(100_000_000_000);
    let first = host.start(wanted.clone()).unwrap();
    while host.running() == 0 {
        std::thread::yield_now();
    }
    wanted.limits.fuel = Some(1);
    wanted.limits.load_fuel = Some(1_000_000);
    let others: Vec<_> = (0..50).map(|_| host.start(wanted.clone()).unwrap()).collect();
    first.canceller().cancel();
    let done = first.wait().unwrap();
    assert_eq!(done.job.state, State::Cancelled);
    assert!(load_of(&done).is_some());
    for other in others {
        let done = other.wait().unwrap();
        assert_eq!(done.job.end.as_ref().unwrap().verdict, "out_of_fuel");
        assert_eq!(load_of(&done), Some(1_000_000));
    }
    drop(host);
    support::check_folder(folder.path());
}

/// Two at once: each pays for what it loads, and one of them at least does.
#[test]
fn who_brings_the_same_shapes_at_once_pays_for_what_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_with(folder.path(), Config { workers: Some(2), ..Config::default() });
    let publication = set_up(&host, MONEY, &package(folder.path(), "s", "1", &shaped()));
    let mut fuel = None;
    for size in 1..=20 {
        let both = [start(&host, &publication, size, true), start(&host, &publication, size, true)];
        let loads = both.map(|answer| load_of(&answer.recv().unwrap().unwrap()));
        let paid: Vec<_> = loads.into_iter().flatten().collect();
        assert!(!paid.is_empty(), "a load for nothing");
        let fuel = *fuel.get_or_insert(paid[0]);
        assert!(paid.iter().all(|paid| *paid == fuel), "{paid:?}");
        assert_eq!(load_of(&host.run(sized(&publication, size)).unwrap()), None);
    }
    drop(host);
    support::check_folder(folder.path());
}

/// A job comes with shapes that are paid for, and waits while others bring so many new ones that its own
/// are forgotten: nothing is held for their load, so there is none.
#[test]
fn jobs_whose_shapes_were_forgotten_end_without_a_load() {
    let folder = tempfile::tempdir().unwrap();
    let (host, publication) = new_host(folder.path());
    for size in 1..=2 {
        host.run(sized(&publication, size)).unwrap();
    }
    let block = Block::new(folder.path(), &host);
    let forgotten = start(&host, &publication, 1, false);
    // Two more than are known: the cache on disk keeps one more than the engine.
    let others: Vec<_> =
        (3..=SHAPES + 4).map(|size| start(&host, &publication, size, true)).collect();
    drop(block);
    for other in others {
        assert!(load_of(&other.recv().unwrap().unwrap()).is_some());
    }
    let before = available(&host, "alice");
    let error = forgotten.recv().unwrap().unwrap_err();
    assert!(matches!(error, JobError::Forgotten), "{error}");
    assert!(available(&host, "alice") >= before, "something was billed");
    assert!(load_of(&host.run(sized(&publication, 1)).unwrap()).is_some());
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_load_that_fails_gives_back_what_made_room() {
    let folder = tempfile::tempdir().unwrap();
    let (host, publication) = new_host(folder.path());
    for size in 1..=SHAPES {
        host.run(sized(&publication, size)).unwrap();
    }
    let mut failing = sized(&publication, 100);
    failing.limits.load_fuel = Some(1_000);
    for _ in 0..3 {
        assert_eq!(load_of(&host.run(failing.clone()).unwrap()), Some(1_000));
    }
    for size in 1..=SHAPES {
        assert_eq!(load_of(&host.run(sized(&publication, size)).unwrap()), None, "{size}");
    }
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn submitted_jobs_hold_the_price_of_a_load_and_get_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let (host, publication) = new_host(folder.path());
    let fuel = load_of(&host.run(sized(&publication, 1)).unwrap());
    let block = Block::new(folder.path(), &host);
    let mut wanted = sized(&publication, 1);
    wanted.limits.load_fuel = Some(1_000_000_000);
    let load = i128::from(host.prices().load(1_000_000_000).unwrap().micros());
    let before = available(&host, "alice");
    wanted.priority = Priority::MAX;
    let known = host.submit(wanted.clone()).unwrap();
    assert!(before - available(&host, "alice") > load, "no load is held");
    let others: Vec<_> =
        (3..=SHAPES + 4).map(|size| start(&host, &publication, size, true)).collect();
    // When its turn comes, others have been there.
    wanted.priority = Priority::new(0).unwrap();
    let forgotten = host.submit(wanted).unwrap();
    drop(block);
    for (id, paid) in [(known.id, None), (forgotten.id, fuel)] {
        let job = host.wait(&id, LONG).unwrap();
        assert_eq!(job.state, State::Succeeded, "{:?}", job.detail);
        assert_eq!(job.end.unwrap().load_fuel, paid);
    }
    others.iter().for_each(|other| assert!(other.recv().unwrap().is_ok()));
    drop(host);
    assert_eq!(support::check_folder(folder.path()).open, 0);
}

/// A job of an older version waits in the store, and holds nothing for a load.
#[test]
fn a_job_that_holds_nothing_for_its_load_is_void_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (host, publication) = new_host(folder.path());
    drop(host);
    let host = host_with(folder.path(), Config { workers: Some(0), ..Config::default() });
    let before = available(&host, "alice");
    let job = host.submit(sized(&publication, 1)).unwrap();
    drop(host);
    let data = folder.path().join("data");
    let connection = fuelbox_ledger::rusqlite::Connection::open(data.join("fuelbox.db")).unwrap();
    assert_eq!(connection.execute("UPDATE job SET load_limit = -1", []).unwrap(), 1);
    drop(connection);
    let host = support::host(folder.path());
    let job = host.wait(&job.id, LONG).unwrap();
    assert_eq!(job.state, State::Faulted);
    assert_eq!(job.detail, Some(JobError::Forgotten.to_string()));
    assert_eq!(available(&host, "alice"), before);
    drop(host);
    assert_eq!(support::check_folder(folder.path()).open, 0);
}

/// `alice` brings new shapes with each job, `bob` has jobs that burn next to nothing: a load counts as
/// much as a run of its fuel.
#[test]
fn loads_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let guest = fuelbox_test_support::guest::Guest { load: burn(1_000_000), ..shaped() };
    let publication = set_up(&host, MONEY, &package(folder.path(), "s", "1", &guest));
    let bob = account("bob");
    host.accounts().create(&bob, AccountKind::Caller).unwrap();
    host.accounts().top_up(&bob, micros(MONEY), "gift:bob".parse().unwrap()).unwrap();
    host.run(sized(&publication, 1)).unwrap();
    drop(host);
    // Nobody was given anything so far.
    let host = support::host(folder.path());
    let block = Block::new(folder.path(), &host);
    let (sender, ended) = channel();
    let push = |account: &fuelbox_ledger::AccountId, size: usize| {
        let mut wanted = sized(&publication, size);
        wanted.account = account.clone();
        let (sender, name) = (sender.clone(), account.to_string());
        let answer = move |result: Result<Finished, _>| {
            drop(sender.send((name, load_of(&result.unwrap()).is_some())));
        };
        host.start_with(wanted, answer).unwrap();
    };
    for size in 2..=4 {
        push(&account("alice"), size);
    }
    for _ in 0..5 {
        push(&bob, 1);
    }
    drop(block);
    let order: Vec<_> = ended.iter().take(8).collect();
    let names: String = order.iter().map(|(name, _)| &name[..1]).collect();
    assert_eq!(names, "abbbbbaa");
    assert!(order.iter().all(|(name, loaded)| *loaded == (name == "alice")), "{order:?}");
}

/// Loads for new shapes count among the fuel that callers wait for, as much as the last one took.
#[test]
fn callers_wait_for_loads_too_and_small_ones_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let queue = QueueLimits { prompt_fuel: 500_000_000, ..QueueLimits::default() };
    let host = host_with(folder.path(), Config { workers: Some(1), queue, ..Config::default() });
    let large = fuelbox_test_support::guest::Guest { load: burn(20_000_000), ..shaped() };
    let large = set_up(&host, MONEY, &package(folder.path(), "l", "1", &large));
    let small = package(folder.path(), "s", "1", &shaped());
    let small = host.publish(&account("pub"), &small, None).unwrap();
    let load = load_of(&host.run(sized(&large, 1)).unwrap()).unwrap();
    let block = Block::new(folder.path(), &host);
    // Nobody has loaded the small one for any shapes: publishing says what that takes.
    let mut answers: Vec<_> = (1..=20).map(|size| start(&host, &small, size, true)).collect();
    let mut taken = 0;
    for size in 2..=20 {
        let (sender, answer) = channel();
        match host.start_with(sized(&large, size), move |result| drop(sender.send(result))) {
            Ok(_) => answers.push(answer),
            Err(JobError::Busy(Full::Work { .. })) => break,
            Err(error) => panic!("{error}"),
        }
        taken += 1;
    }
    assert!((1..=500_000_000 / load).contains(&taken), "{taken} of {load}");
    drop(block);
    answers.iter().for_each(|answer| assert!(answer.recv().unwrap().is_ok()));
    drop(host);
    support::check_folder(folder.path());
}

/// What is in the cache needs no package: its file is read when something has to be made.
#[test]
fn an_open_model_needs_its_file_for_new_shapes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (host, publication) = new_host(folder.path());
    // More images than the cache keeps: what the model is opened with stays.
    for size in (3..=SHAPES + 4).chain([1]) {
        host.run(sized(&publication, size)).unwrap();
    }
    let file = DataFolder::new(folder.path().join("data")).package(&publication.digest);
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    // In memory, and opened again.
    for _ in 0..2 {
        assert_eq!(load_of(&host.run(sized(&publication, 1)).unwrap()), None);
        host.close_model(&publication.digest);
    }
    let before = available(&host, "alice");
    let error = host.run(sized(&publication, 2)).unwrap_err();
    assert!(matches!(error, JobError::Fault(_)), "{error}");
    let lost = format!("package {}: ", publication.digest);
    assert!(error.to_string().starts_with(&lost), "{error}");
    assert_eq!(available(&host, "alice"), before);
    // Another package in its place is no better.
    let other = package(folder.path(), "s", "2", &shaped());
    std::fs::write(&file, other).unwrap();
    let error = host.run(sized(&publication, 2)).unwrap_err();
    assert!(error.to_string().contains("its file has the package"), "{error}");
    // A load that may burn nothing reads nothing.
    let mut without = sized(&publication, 2);
    without.limits.load_fuel = Some(0);
    let done = host.run(without).unwrap();
    assert_eq!(done.job.end.as_ref().unwrap().verdict, "out_of_fuel");
    assert_eq!(load_of(&done), Some(0));
    std::fs::write(&file, kept).unwrap();
    assert!(load_of(&host.run(sized(&publication, 2)).unwrap()).is_some());
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_load_that_says_another_signature_fails_and_is_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    // When the message has shapes, the first byte of its input's name is another one.
    let at = shaped().signature.iter().position(|byte| *byte == b'x').unwrap();
    let load = format!(
        "(if (i32.load8_u offset=12 (local.get 0))
           (then (i32.store8 (i32.const {}) (i32.const 122))))
         {}",
        SIGNATURE_AT as usize + at,
        burn(100_000)
    );
    let file = package(folder.path(), "s", "1", &Guest { load, ..shaped() });
    let publication = set_up(&host, MONEY, &file);
    for _ in 0..2 {
        let done = host.run(sized(&publication, 3)).unwrap();
        assert_eq!(done.job.end.as_ref().unwrap().verdict, "bad_output");
        assert!(load_of(&done).unwrap() > 400_000);
    }
    drop(host);
    support::check_folder(folder.path());
}
