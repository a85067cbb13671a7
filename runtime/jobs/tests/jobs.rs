//! Jobs through the whole path: paid once, with a receipt, whatever their end.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_abi::Dim;
use fuelbox_jobs::{
    Config, DataFolder, Full, Host, JobError, JobFilter, JobRequest, Keep, LimitsWanted, Priority,
    PublishError, QueueLimits, State, UsageBy,
};
use fuelbox_ledger::Rejected;
use fuelbox_test_support::guest::{self, Guest};
use std::{sync::Arc, time::Duration};
use support::{account, available, host, host_with, micros, package, request, set_up, x};

/// The least that a job costs under the default schedule, in micro-credits.
const MINIMUM: u64 = 10;

/// The limits' price of the tests' packages: 10 M fuel at 100 per million, and 64 MiB for it.
const HOLD: u64 = 10 * 100 + 10 * 25;

const LONG: Duration = Duration::from_secs(60);

/// Instructions that burn about six times as much fuel as there are rounds.
fn burn(rounds: u32) -> String {
    format!(
        "(local.set 2 (i32.const {rounds}))
         (loop $again
           (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
           (br_if $again (local.get 2)))"
    )
}

#[test]
fn a_job_that_completes_is_paid_shared_and_signed_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let file = package(folder.path(), "tiny", "1", &Guest::running(&burn(50_000)));
    let publication = set_up(&host, 1_000_000, &file);
    let done = host.run(request(&publication, 1.0)).unwrap();
    assert_eq!(done.job.state, State::Succeeded);
    let outputs = done.outputs.as_ref().unwrap();
    assert_eq!(outputs[0].bytes, 42.0f32.to_le_bytes());
    let end = done.job.end.clone().unwrap();
    assert!(end.fuel > 200_000, "{end:?}");
    let price = host.prices().run(end.fuel, end.memory_bytes_peak).unwrap();
    assert_eq!(end.credits, price);
    assert!(price.micros() > MINIMUM);
    assert_eq!(available(&host, "alice"), 1_000_000 - i128::from(price.micros()));
    let earned = host.accounts().show(&account("pub")).unwrap();
    let share = u128::from(price.micros()) * 7 / 10;
    let spent = u128::from(publication.credits.micros());
    assert_eq!(earned.balance(), i128::try_from(1_000_000_000 - spent + share).unwrap());
    let verified = done.receipt.verify(&host.key_ring()).unwrap();
    assert_eq!(verified.receipt.job, done.job.id.to_string());
    assert_eq!(verified.receipt.price.credits_micro, price.micros());
    assert_eq!(verified.receipt.usage.fuel, end.fuel);
    assert_eq!(verified.receipt.verdict.name, "completed");
    let again = host.result(&done.job.id).unwrap().unwrap();
    assert_eq!(again.job, done.job);
    assert_eq!(again.outputs, done.outputs);
    assert_eq!(again.receipt, done.receipt);
    drop(host);
    assert_eq!(support::check_folder(folder.path()).receipts, 1);
}

#[test]
fn failures_are_billed_and_signed_for_and_earn_nothing() {
    for (name, guest, verdict, kind, fuel_is_limit) in [
        ("trap", Guest::running("(unreachable)"), "trap", Some("unreachable"), false),
        (
            "bounds",
            Guest::running("(drop (i32.load (i32.const -1)))"),
            "trap",
            Some("memory_out_of_bounds"),
            true,
        ),
        ("endless", Guest::running("(loop $l (br $l))"), "out_of_fuel", None, true),
        (
            "nonsense",
            Guest { reply: "(i64.const 7)".into(), ..Guest::default() },
            "bad_output",
            None,
            false,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let publication = set_up(&host, 1_000_000, &package(folder.path(), name, "1", &guest));
        let earned = available(&host, "pub");
        let mut wanted = request(&publication, 1.0);
        wanted.limits.fuel = Some(1_000_000);
        let done = host.run(wanted).unwrap();
        assert_eq!(done.job.state, State::Failed, "{name}");
        assert!(done.outputs.is_none());
        let receipt = done.receipt.verify(&host.key_ring()).unwrap().receipt;
        assert_eq!(
            (receipt.verdict.name.as_str(), receipt.verdict.kind.as_deref()),
            (verdict, kind)
        );
        let end = done.job.end.unwrap();
        assert_eq!(end.fuel == 1_000_000, fuel_is_limit, "{name}: {}", end.fuel);
        assert_eq!(available(&host, "alice"), 1_000_000 - i128::from(end.credits.micros()));
        assert_eq!(available(&host, "pub"), earned, "{name}");
        assert!(end.credits.micros() >= MINIMUM);
        drop(host);
        support::check_folder(folder.path());
    }
}

#[test]
fn submitted_jobs_run_later_and_wait_survives_everything() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = host_with(folder.path(), idle.clone());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let ids: Vec<_> = (0..5)
        .map(|value| host.submit(request(&publication, value as f32)).unwrap())
        .map(|job| {
            assert_eq!(job.state, State::Queued);
            job.id
        })
        .collect();
    assert_eq!(available(&host, "alice"), 1_000_000 - 5 * i128::from(HOLD));
    assert_eq!(host.queued(), 5);
    host.cancel(&ids[4]).unwrap();
    assert_eq!(host.job(&ids[4]).unwrap().state, State::Cancelled);
    assert_eq!(available(&host, "alice"), 1_000_000 - 4 * i128::from(HOLD));
    let error = host.cancel(&ids[4]).unwrap_err().to_string();
    assert_eq!(error, format!("job {} has ended: cancelled", ids[4]));
    drop(host);
    // Another process comes, with a worker.
    let host = support::host(folder.path());
    for id in &ids[..4] {
        let job = host.wait(id, LONG).unwrap();
        assert_eq!(job.state, State::Succeeded);
        assert!(host.result(id).unwrap().unwrap().outputs.is_some());
    }
    assert_eq!(available(&host, "alice"), 1_000_000 - 4 * i128::from(MINIMUM));
    let jobs = host.read(|records| records.jobs(&JobFilter::default(), 3)).unwrap().unwrap();
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[4], ids[3], ids[2]]);
    let usage = host.read(|records| records.usage(UsageBy::Account, 0)).unwrap().unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].jobs, usage[0].succeeded, usage[0].failed), (5, 4, 0));
    assert_eq!(usage[0].credits, micros(4 * MINIMUM));
    let by_package = host.read(|records| records.usage(UsageBy::Package, 0)).unwrap().unwrap();
    assert_eq!(by_package[0].name, "t:1");
    assert_eq!(by_package[0].fuel, usage[0].fuel);
    drop(host);
    assert_eq!(support::check_folder(folder.path()).receipts, 4);
}

#[test]
fn a_request_is_refused_in_one_sentence_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, HOLD - 1, &package(folder.path(), "t", "1", &Guest::default()));
    let check = |change: &dyn Fn(&mut JobRequest), expected: &str| {
        let mut wanted = request(&publication, 1.0);
        change(&mut wanted);
        assert_eq!(host.run(wanted.clone()).unwrap_err().to_string(), expected);
        assert_eq!(host.submit(wanted).unwrap_err().to_string(), expected);
    };
    check(&|_| (), "not enough in 'alice': available 0.001249, needed 0.00125, short of 0.000001");
    check(&|wanted| wanted.account = account("bob"), "no account 'bob'");
    check(
        &|wanted| wanted.package = fuelbox_digest::Digest::of(b""),
        "no package 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' is \
         published here",
    );
    check(
        &|wanted| wanted.inputs[0].name = "z".into(),
        "input 'z': no such input, the model takes 'x'",
    );
    check(
        &|wanted| wanted.limits.fuel = Some(u64::MAX),
        "fuel limit over the host's: found 18446744073709551615, allowed 1000000000000",
    );
    check(
        &|wanted| wanted.limits.memory_bytes = Some((4 << 30) + 1),
        "memory limit over the host's: found 4294967297, allowed 4294967296",
    );
    check(
        &|wanted| wanted.key = Some("ä".into()),
        "key 'ä': allowed are 1 to 255 printable ASCII characters",
    );
    let parameter = || fuelbox_engine::OwnedParameter {
        name: "p".into(),
        value: fuelbox_engine::OwnedValue::Bool(true),
    };
    check(
        &|wanted| wanted.parameters = vec![parameter(), parameter()],
        "parameter 'p': given twice",
    );
    assert_eq!(available(&host, "alice"), i128::from(HOLD - 1));
    // What the limits cost is what counts.
    let mut cheaper = request(&publication, 1.0);
    cheaper.limits = LimitsWanted { fuel: Some(1_000), ..LimitsWanted::default() };
    assert_eq!(host.run(cheaper).unwrap().job.state, State::Succeeded);
    drop(host);
    assert_eq!(support::check_folder(folder.path()).receipts, 1);
}

#[test]
fn a_key_makes_one_job_of_many_requests() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let keyed = |value: f32, key: &str| {
        let mut wanted = request(&publication, value);
        wanted.key = Some(key.into());
        wanted
    };
    let first = host.run(keyed(1.0, "a")).unwrap();
    let second = host.run(keyed(1.0, "a")).unwrap();
    assert!(!first.repeated);
    assert!(second.repeated);
    assert_eq!((&second.job, &second.outputs), (&first.job, &first.outputs));
    assert_eq!(second.receipt, first.receipt);
    assert_eq!(host.submit(keyed(1.0, "a")).unwrap(), first.job);
    let id = first.job.id;
    let reused = format!("key 'a' was used for another request: job {id}");
    assert_eq!(host.run(keyed(2.0, "a")).unwrap_err().to_string(), reused);
    assert_eq!(host.submit(keyed(2.0, "a")).unwrap_err().to_string(), reused);
    let mut other_seed = keyed(1.0, "a");
    other_seed.seed = 1;
    assert_eq!(host.run(other_seed).unwrap_err().to_string(), reused);
    let queued = host.submit(keyed(3.0, "b")).unwrap();
    assert_eq!(host.submit(keyed(3.0, "b")).unwrap().id, queued.id);
    assert_eq!(host.wait(&queued.id, LONG).unwrap().state, State::Succeeded);
    assert_eq!(available(&host, "alice"), 1_000_000 - 2 * i128::from(MINIMUM));
    // Many at once: one job, one bill, and everyone else hears of it or that it is under way.
    let host = Arc::new(host);
    let runs: Vec<_> = (0..16)
        .map(|_| {
            let (host, wanted) = (host.clone(), keyed(4.0, "c"));
            std::thread::spawn(move || host.run(wanted))
        })
        .collect();
    let mut names = std::collections::BTreeSet::new();
    for run in runs {
        match run.join().unwrap() {
            Ok(done) => {
                names.insert(done.job.id);
            }
            Err(error) => assert_eq!(error.to_string(), "key 'c': its job is not done yet"),
        }
    }
    assert_eq!(names.len(), 1);
    assert_eq!(available(&host, "alice"), 1_000_000 - 3 * i128::from(MINIMUM));
    drop(host);
    assert_eq!(support::check_folder(folder.path()).receipts, 3);
}

/// A guest whose `x` has a named dimension, and whose load takes a while.
fn shaped() -> Guest {
    Guest {
        signature: guest::signature(&[Dim::Symbol("n")]),
        load: burn(100_000),
        ..Guest::default()
    }
}

fn sized(publication: &fuelbox_jobs::Publication, size: usize) -> JobRequest {
    let input = fuelbox_test_support::host::fp32("x", &[size as u64], &vec![1.0; size]);
    JobRequest::new(account("alice"), publication.digest, vec![input])
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

#[test]
fn a_memory_limit_below_the_model_has_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let mut wanted = request(&publication, 1.0);
    wanted.limits.memory_bytes = Some(65_536);
    let done = host.run(wanted).unwrap();
    assert_eq!(done.job.state, State::Failed);
    assert_eq!(
        done.job.detail.as_deref(),
        Some("memory over limit: the loaded model takes 196608 bytes, the limit is 65536")
    );
    assert_eq!(done.job.end.unwrap().credits, micros(MINIMUM));
}

#[test]
fn deadlines_and_cancellations_stop_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let endless = Guest::running("(loop $l (br $l))");
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "e", "1", &endless));
    let mut wanted = request(&publication, 1.0);
    wanted.limits.fuel = Some(500_000_000_000);
    // Too late before it begins: no bill.
    wanted.deadline = Some(Duration::ZERO);
    let error = host.run(wanted.clone()).unwrap_err();
    assert!(matches!(error, JobError::CancelledEarly), "{error}");
    assert_eq!(available(&host, "alice"), 100_000_000);
    // While it runs: what it burned.
    wanted.deadline = Some(Duration::from_millis(50));
    let done = host.run(wanted.clone()).unwrap();
    assert_eq!(done.job.state, State::Cancelled);
    let receipt = done.receipt.verify(&host.key_ring()).unwrap().receipt;
    assert!(!receipt.replayable);
    assert!(receipt.usage.fuel < 500_000_000_000);
    assert_eq!(
        available(&host, "alice"),
        100_000_000 - i128::from(done.job.end.unwrap().credits.micros())
    );
    // By its owner.
    wanted.deadline = None;
    let waiting = host.start(wanted.clone()).unwrap();
    let canceller = waiting.canceller();
    let stop = std::thread::spawn(move || canceller.cancel());
    match waiting.wait() {
        Ok(done) => assert_eq!(done.job.state, State::Cancelled),
        Err(error) => assert!(matches!(error, JobError::CancelledEarly), "{error}"),
    }
    stop.join().unwrap();
    let queued = host.submit(wanted).unwrap();
    while host.job(&queued.id).unwrap().state == State::Queued {
        std::thread::yield_now();
    }
    host.cancel(&queued.id).unwrap();
    assert_eq!(host.wait(&queued.id, LONG).unwrap().state, State::Cancelled);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn the_queue_is_bounded_and_nothing_is_held_for_those_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let queue = QueueLimits { jobs: 2, bytes: 1_000 };
    let host = host_with(folder.path(), Config { workers: Some(0), queue, ..Config::default() });
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let low = |host: &Host, priority: u8| {
        let mut wanted = request(&publication, 1.0);
        wanted.priority = Priority::new(priority).unwrap();
        host.submit(wanted)
    };
    low(&host, 0).unwrap();
    low(&host, 9).unwrap();
    let refused = low(&host, 9).unwrap_err();
    let full = Full::Jobs { jobs: 2, allowed: 2 };
    assert!(matches!(&refused, JobError::Busy(found) if *found == full), "{refused}");
    let refused = host.run(request(&publication, 1.0)).unwrap_err();
    assert!(matches!(&refused, JobError::Busy(found) if *found == full), "{refused}");
    assert_eq!(available(&host, "alice"), 1_000_000 - 2 * i128::from(HOLD));
    drop(host);
    assert_eq!(support::check_folder(folder.path()).open, 2);
}

#[test]
fn exactly_those_jobs_run_that_there_is_money_for() {
    const CALLERS: usize = 64;
    const PAID: u64 = 23;
    for round in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let host = host_with(folder.path(), Config { workers: Some(2), ..Config::default() });
        // A guest that burns all that it may: each job costs what was held for it.
        let guest = Guest::running("(loop $l (br $l))");
        let publication = set_up(&host, 0, &package(folder.path(), "e", "1", &guest));
        let mut wanted = request(&publication, 1.0);
        wanted.limits = LimitsWanted {
            fuel: Some(100_000),
            memory_bytes: Some(3 << 16),
            ..LimitsWanted::default()
        };
        let price = host.prices().run(100_000, 3 << 16).unwrap().micros();
        let gift = "gift:late".parse().unwrap();
        // Not quite enough for one more.
        let amount = micros(PAID * price + price - 1);
        host.accounts().top_up(&account("alice"), amount, gift).unwrap();
        let host = Arc::new(host);
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (host, wanted) = (host.clone(), wanted.clone());
                std::thread::spawn(move || {
                    // Half of them wait for their jobs, half leave them here.
                    let done = if number % 2 == 0 {
                        host.run(wanted).map(|done| done.job)
                    } else {
                        host.submit(wanted).and_then(|job| host.wait(&job.id, LONG))
                    };
                    match done {
                        Ok(job) => {
                            assert_eq!(job.state, State::Failed);
                            true
                        }
                        Err(JobError::Rejected(Rejected::InsufficientFunds { .. })) => false,
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        let done = callers.into_iter().filter(|_| true).map(|caller| caller.join().unwrap());
        assert_eq!(done.filter(|done| *done).count() as u64, PAID, "round {round}");
        assert_eq!(available(&host, "alice"), i128::from(price - 1));
        drop(host);
        assert_eq!(support::check_folder(folder.path()).receipts, PAID);
    }
}

#[test]
fn publishing_is_paid_once_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let golden = |guest: &Guest, version: &str| {
        support::package_of(&support::engine(folder.path()), "g", version, guest.wasm(), &[x(1.0)])
    };
    let guest = Guest { load: burn(10_000), ..Guest::default() };
    let file = golden(&guest, "1");
    let first = set_up(&host, 0, &file);
    assert!(first.credits.micros() > MINIMUM && !first.repeated);
    let left = available(&host, "pub");
    assert_eq!(left, 1_000_000_000 - i128::from(first.credits.micros()));
    let again = host.publish(&account("pub"), &file, None).unwrap();
    assert!(again.repeated && again.digest == first.digest);
    assert_eq!(available(&host, "pub"), left);
    let quotes = host.read(|records| records.quotes(&first.digest)).unwrap().unwrap();
    assert_eq!(quotes.len(), 1);
    // Another package under the same name and version.
    let other = golden(&Guest { load: burn(10_001), ..Guest::default() }, "1");
    let error = host.publish(&account("pub"), &other, Some(1_000_000_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "package 'g' version '1' is published already, as {}; a change is a new version",
            first.digest
        )
    );
    let error = host.publish(&account("alice"), &other, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "account 'alice' is of kind caller, publishers have the kind publisher"
    );
    assert!(matches!(
        host.publish(&account("nobody"), &other, None),
        Err(PublishError::Rejected(Rejected::UnknownAccount { .. }))
    ));
    assert_eq!(available(&host, "pub"), left);
    // A name belongs to who was first: others publish neither this package nor another version.
    host.accounts().create(&account("rival"), fuelbox_ledger::AccountKind::Publisher).unwrap();
    let second = golden(&guest, "2");
    for file in [&file, &second] {
        let error = host.publish(&account("rival"), file, None).unwrap_err();
        assert_eq!(error.to_string(), "package name 'g' belongs to another publisher");
    }
    // A load that takes more than it may: refused, and paid for.
    let third = golden(&Guest { load: burn(20_000), ..Guest::default() }, "3");
    let error = host.publish(&account("pub"), &third, Some(50_000)).unwrap_err();
    assert_eq!(error.to_string(), "the model takes 120008 fuel to load, the limit is 50000");
    assert_eq!(available(&host, "pub"), left - 5);
    assert!(host.publish(&account("pub"), b"nonsense", None).is_err());
    let packages = host.read(|records| records.packages()).unwrap().unwrap();
    assert_eq!(packages.len(), 1);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn one_host_at_a_time_and_readers_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let data = DataFolder::new(folder.path().join("data"));
    let second = Host::open(&data, support::engine(folder.path()), Config::default());
    let error = second.err().expect("refused").to_string();
    assert!(error.contains("is open for writing elsewhere"), "{error}");
    assert!(data.reader().unwrap().account(&account("operator")).unwrap().is_some());
    drop(host);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = Host::open(&data, support::engine(folder.path()), Config::default());
    let error = open.err().expect("refused").to_string();
    assert!(error.ends_with("mode 755 lets others in, allowed is 700"), "{error}");
}

#[test]
fn prices_change_by_version_only_and_queued_jobs_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = host_with(folder.path(), idle);
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let old = host.prices().clone();
    let queued = host.submit(request(&publication, 1.0)).unwrap();
    drop(host);
    let path = folder.path().join("data/prices.json");
    let dear = fuelbox_jobs::Schedule { minimum_micro: 5_000, ..old.clone() };
    std::fs::write(&path, dear.to_file()).unwrap();
    let data = DataFolder::new(folder.path().join("data"));
    let refused = Host::open(&data, support::engine(folder.path()), Config::default());
    let error = refused.err().expect("refused").to_string();
    assert!(error.contains("a change of prices is a new version"), "{error}");
    let dear = fuelbox_jobs::Schedule { version: 2, ..dear };
    std::fs::write(&path, dear.to_file()).unwrap();
    let host = support::host(folder.path());
    let job = host.wait(&queued.id, LONG).unwrap();
    assert_eq!(job.end.unwrap().credits, micros(MINIMUM));
    let receipt = host.result(&queued.id).unwrap().unwrap().receipt;
    let receipt = receipt.verify(&host.key_ring()).unwrap().receipt;
    assert_eq!((receipt.price.version, receipt.price.schedule), (1, old.digest()));
    let new = host.run(request(&publication, 1.0)).unwrap();
    assert_eq!(new.job.end.unwrap().credits, micros(5_000));
    let known = host.read(|records| records.schedule(&old.digest())).unwrap().unwrap();
    assert_eq!(known, Some(old.to_bytes()));
}

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
fn many_that_publish_one_package_at_once_pay_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    set_up(&host, 0, &package(folder.path(), "first", "1", &Guest::default()));
    let before = available(&host, "pub");
    let guest = |rounds| Guest { load: burn(rounds), ..Guest::default() };
    let same = package(folder.path(), "p", "1", &guest(20_000));
    let published: Vec<_> = std::thread::scope(|scope| {
        let publish = || host.publish(&account("pub"), &same, Some(1_000_000)).unwrap();
        let publishing: Vec<_> = (0..6).map(|_| scope.spawn(publish)).collect();
        publishing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = published.iter().filter(|published| !published.repeated);
    let paid: Vec<_> = first.map(|published| published.credits.micros()).collect();
    assert_eq!(paid.len(), 1, "{published:?}");
    assert_eq!(available(&host, "pub"), before - i128::from(paid[0]));
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn of_two_packages_of_one_version_one_is_published_and_both_are_paid() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    set_up(&host, 0, &package(folder.path(), "first", "1", &Guest::default()));
    let guest = |rounds| Guest { load: burn(rounds), ..Guest::default() };
    let files = [20_000, 20_001].map(|rounds| package(folder.path(), "p", "1", &guest(rounds)));
    let before = available(&host, "pub");
    let published = std::thread::scope(|scope| {
        let publish = |file| {
            let host = &host;
            move || host.publish(&account("pub"), file, Some(1_000_000))
        };
        files.each_ref().map(|file| scope.spawn(publish(file))).map(|thread| thread.join().unwrap())
    });
    let paid = before - available(&host, "pub");
    let [won, lost] = match published {
        [Ok(won), Err(lost)] | [Err(lost), Ok(won)] => [Ok(won), Err(lost)],
        other => panic!("{other:?}"),
    };
    assert!(matches!(lost, Err(PublishError::Taken { .. })), "{lost:?}");
    let price = i128::from(won.unwrap().credits.micros());
    // The one that came late enough to see the other's name was refused before it burned anything.
    assert!(paid == price || paid == 2 * price, "{paid}, {price}");
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_job_that_is_cancelled_ends_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let endless = Guest::running("(loop $l (br $l))");
    let publication = set_up(&host, 1 << 50, &package(folder.path(), "e", "1", &endless));
    for _ in 0..50 {
        let mut wanted = request(&publication, 1.0);
        wanted.limits.fuel = Some(900_000_000_000);
        let job = host.submit(wanted).unwrap();
        host.cancel(&job.id).unwrap();
        assert_eq!(host.wait(&job.id, LONG).unwrap().state, State::Cancelled);
    }
    drop(host);
    support::check_folder(folder.path());
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

/// A change of a table is a new migration, never another text of this one.
#[test]
fn tables_are_those_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    drop(host(folder.path()));
    let reader = DataFolder::new(folder.path().join("data")).reader().unwrap();
    let sql = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN
        ('schedule', 'package', 'quote', 'shape', 'job', 'receipt', 'tile', 'blob') ORDER BY name";
    let mut select = reader.connection().prepare(sql).unwrap();
    let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let found = rows.map(|row| row.unwrap() + ";\n").collect::<String>();
    assert_eq!(found, include_str!("tables-1.sql"));
}
