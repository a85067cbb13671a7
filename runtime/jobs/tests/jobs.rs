//! Jobs through the whole path: paid once, with a receipt, whatever their end.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{
    Config, DataFolder, Full, Host, JobError, JobFilter, JobRequest, LimitsWanted, Priority,
    QueueLimits, State, UsageBy,
};
use fuelbox_ledger::Rejected;
use fuelbox_test_support::guest::Guest;
use std::{sync::Arc, time::Duration};
use support::{account, available, burn, host, host_with, micros, package, request, set_up};

/// The least that a job costs under the default schedule, in micro-credits.
const MINIMUM: u64 = 10;

/// The limits' price of the tests' packages: 10 M fuel at 100 per million, and 64 MiB for it.
const HOLD: u64 = 10 * 100 + 10 * 5;

const LONG: Duration = Duration::from_secs(60);

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
    check(&|_| (), "not enough in 'alice': available 0.001049, needed 0.00105, short of 0.000001");
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
    let queue = QueueLimits { jobs: 2, bytes: 1_000, ..QueueLimits::default() };
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
