//! Publishing and prices: checked, paid for once; a name has one owner, a version one price.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_engine::{Archive, LimitsAsked, write_archive};
use fuelbox_jobs::{Config, DataFolder, Host, PublishError};
use fuelbox_ledger::Rejected;
use fuelbox_test_support::guest::Guest;
use std::time::Duration;
use support::{account, available, burn, host, host_with, micros, package, request, set_up, x};

/// The least that a job costs under the default schedule, in micro-credits.
const MINIMUM: u64 = 10;

const LONG: Duration = Duration::from_secs(60);

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
    assert_eq!(error.to_string(), "the model takes 180394 fuel to load, the limit is 50000");
    assert_eq!(available(&host, "pub"), left - 2);
    assert!(host.publish(&account("pub"), b"nonsense", None).is_err());
    let packages = host.read(|records| records.packages()).unwrap().unwrap();
    assert_eq!(packages.len(), 1);
    drop(host);
    support::check_folder(folder.path());
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
    let dear = fuelbox_jobs::Schedule { version: 3, ..dear };
    std::fs::write(&path, dear.to_file()).unwrap();
    let host = support::host(folder.path());
    let job = host.wait(&queued.id, LONG).unwrap();
    assert_eq!(job.end.unwrap().credits, micros(MINIMUM));
    let receipt = host.result(&queued.id).unwrap().unwrap().receipt;
    let receipt = receipt.verify(&host.key_ring()).unwrap().receipt;
    assert_eq!((receipt.price.version, receipt.price.schedule), (2, old.digest()));
    let new = host.run(request(&publication, 1.0)).unwrap();
    assert_eq!(new.job.end.unwrap().credits, micros(5_000));
    let known = host.read(|records| records.schedule(&old.digest())).unwrap().unwrap();
    assert_eq!(known, Some(old.to_bytes()));
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
fn golden_cases_run_within_the_limits_that_their_package_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let guest = Guest {
        run: "(drop (memory.grow (i32.const 2)))".to_owned() + &burn(10_000),
        ..Guest::default()
    };
    let engine = support::engine(folder.path());
    let file = support::package_of(&engine, "g", "1", guest.wasm(), &[x(1.0)]);
    let archive = Archive::read(&file[..]).unwrap();
    let used = archive.manifest().golden[0].clone();
    assert_eq!(used.memory_bytes_peak, 5 << 16);
    let asking = |version: &str, fuel, memory_bytes| {
        let mut manifest = archive.manifest().clone();
        manifest.version = version.into();
        manifest.limits = LimitsAsked { fuel, memory_bytes };
        let parts = [manifest.guest, manifest.golden[0].input];
        let parts = parts.map(|part| archive.part(&part).to_vec());
        let mut file = Vec::new();
        write_archive(&manifest, &[&parts[0], &parts[1]], &mut file).unwrap();
        file
    };
    // What it used is enough.
    set_up(&host, 0, &asking("1", used.fuel, used.memory_bytes_peak));
    let before = available(&host, "pub");
    for (version, fuel, memory_bytes, expected) in [
        ("2", used.fuel - 1_000, used.memory_bytes_peak, "golden case 'case-0': "),
        ("3", used.fuel, used.memory_bytes_peak - 1, "golden case 'case-0': "),
        ("4", used.fuel, 1 << 16, "memory over limit: the loaded model takes 196608 bytes"),
    ] {
        let file = asking(version, fuel, memory_bytes);
        let error = host.publish(&account("pub"), &file, Some(1_000_000_000)).unwrap_err();
        assert!(error.to_string().contains(expected), "{version}: {error}");
    }
    assert!(available(&host, "pub") < before, "what was burned is paid");
    let packages = host.read(|records| records.packages()).unwrap().unwrap();
    assert_eq!(packages.len(), 1);
}
