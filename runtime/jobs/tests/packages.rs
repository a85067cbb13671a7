//! Packages: who may publish under a name, who sees and runs them, how they end; and what publishers
//! and callers are told of their jobs.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{
    AccessKeyId, Config, Host, JobError, NewAccessKey, PackageChange, PackageCursor, PackageError,
    PackageFilter, Publication, PublishError, PublishRequest, Scope, State, UsageBy, UsageFilter,
    Viewer, Visibility,
};
use fuelbox_ledger::AccountKind;
use fuelbox_receipt::{HostKey, PackageSignature};
use fuelbox_test_support::guest::Guest;
use std::{path::Path, time::Duration};
use support::{account, available, burn, host, host_with, micros, package, request, set_up};

const LONG: Duration = Duration::from_secs(60);

/// A host with publishers `pub` and `rival`, and callers `alice` and `bob`, all of them rich.
fn full(folder: &Path) -> (Host, Publication) {
    let host = host(folder);
    let publication = set_up(&host, 1 << 40, &package(folder, "plain", "1", &Guest::default()));
    for (name, kind) in [("rival", AccountKind::Publisher), ("bob", AccountKind::Caller)] {
        host.accounts().create(&account(name), kind).unwrap();
        let id = format!("gift:{name}").parse().unwrap();
        host.accounts().top_up(&account(name), micros(1 << 40), id).unwrap();
    }
    (host, publication)
}

fn viewer(name: &str) -> Viewer {
    Viewer::Account(account(name))
}

fn key(number: u8) -> HostKey {
    HostKey::from_secret(&[number; 32])
}

fn signed(file: &[u8], key: &HostKey) -> PackageSignature {
    let archive = fuelbox_engine::Archive::read(file).unwrap();
    let manifest = archive.manifest();
    PackageSignature::sign(key, &manifest.digest(), &manifest.name, &manifest.version)
}

fn publish(
    host: &Host,
    name: &str,
    file: &[u8],
    signature: Option<PackageSignature>,
) -> Result<Publication, PublishError> {
    host.publish_signed(&PublishRequest {
        signature,
        load_fuel: Some(1_000_000),
        ..PublishRequest::new(account(name), file)
    })
}

#[test]
fn a_name_in_a_name_space_is_signed_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let publishers = host.publishers();
    let file = package(folder.path(), "acme.digits", "1", &Guest::default());
    let refused =
        |name: &str, signature| publish(&host, name, &file, signature).unwrap_err().to_string();
    let foreign =
        "package name 'acme.digits' is in name space 'acme', which is not the publisher's";
    // Nobody's, and somebody else's.
    assert_eq!(refused("pub", Some(signed(&file, &key(1)))), foreign);
    let space = publishers.claim_space("acme", &account("pub")).unwrap();
    assert_eq!(publishers.claim_space("acme", &account("pub")).unwrap(), space);
    assert_eq!(publishers.spaces().unwrap(), [space]);
    assert_eq!(
        publishers.claim_space("acme", &account("rival")).unwrap_err().to_string(),
        "name space 'acme' belongs to another account"
    );
    publishers.register_key(&account("rival"), &key(9).public_pem()).unwrap();
    assert_eq!(refused("rival", Some(signed(&file, &key(9)))), foreign);
    // The owner's, but without a key of his that signed this.
    assert_eq!(
        refused("pub", None),
        "package name 'acme.digits' needs a signature by a key of its publisher"
    );
    let unknown =
        format!("package signature: key {} is not among the publisher's keys", key(1).id());
    assert_eq!(refused("pub", Some(signed(&file, &key(1)))), unknown);
    let registered = publishers.register_key(&account("pub"), &key(1).public_pem()).unwrap();
    assert_eq!(registered.id, key(1).id());
    assert_eq!(registered.to_pem().unwrap(), key(1).public_pem());
    let other = package(folder.path(), "acme.digits", "2", &Guest::default());
    assert_eq!(
        refused("pub", Some(signed(&other, &key(1)))),
        "package signature: it is of version 2, the package has 1"
    );
    let theirs =
        format!("package signature: key {} is not among the publisher's keys", key(9).id());
    assert_eq!(refused("pub", Some(signed(&file, &key(9)))), theirs);
    // Nothing was paid for so far. Signed as it should be.
    let before = available(&host, "pub");
    let signature = signed(&file, &key(1));
    let published = publish(&host, "pub", &file, Some(signature.clone())).unwrap();
    assert_eq!(available(&host, "pub"), before - i128::from(published.credits.micros()));
    let find = |text: &str| host.read(|records| records.find_package(text)).unwrap().unwrap();
    assert_eq!(find("acme.digits:1").unwrap().signature, Some(signature));
    assert_eq!(find("plain:1").unwrap().signature, None);
    // A key that was taken back publishes nothing more, and cannot come again.
    publishers.revoke_key(&account("pub"), &key(1).id()).unwrap();
    let refused = publish(&host, "pub", &other, Some(signed(&other, &key(1)))).unwrap_err();
    assert_eq!(refused.to_string(), unknown);
    assert_eq!(
        publishers.register_key(&account("pub"), &key(1).public_pem()).unwrap_err().to_string(),
        format!("publisher key {} was revoked", key(1).id())
    );
    assert_eq!(host.run(request(&published, 1.0)).unwrap().job.state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn plain_names_need_a_signature_only_where_the_host_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let file = package(folder.path(), "p", "1", &Guest::default());
    let required = |signature| {
        host.publish_signed(&PublishRequest {
            signature,
            signature_required: true,
            ..PublishRequest::new(account("pub"), &file)
        })
    };
    let error = required(None).unwrap_err().to_string();
    assert_eq!(error, "package name 'p' needs a signature by a key of its publisher");
    assert!(matches!(
        required(Some(signed(&file, &key(1)))),
        Err(PublishError::PublisherKey { .. })
    ));
    let raw = key(1).ring().raw().next().unwrap().1;
    host.publishers().register_raw_key(&account("pub"), &raw).unwrap();
    required(Some(signed(&file, &key(1)))).unwrap();
    // Without being asked: unsigned is fine, signed wrongly is not.
    let file = package(folder.path(), "p", "2", &Guest::default());
    let wrong = publish(&host, "pub", &file, Some(signed(&file, &key(2))));
    assert!(matches!(wrong, Err(PublishError::PublisherKey { .. })), "{wrong:?}");
    publish(&host, "pub", &file, None).unwrap();
    // Signed or not, the name is its first publisher's.
    host.publishers()
        .register_raw_key(&account("rival"), &key(3).ring().raw().next().unwrap().1)
        .unwrap();
    let file = package(folder.path(), "p", "3", &Guest::default());
    let error = publish(&host, "rival", &file, Some(signed(&file, &key(3)))).unwrap_err();
    assert!(matches!(error, PublishError::NameOwned { .. }), "{error}");
}

#[test]
fn keys_and_name_spaces_have_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let publishers = host.publishers();
    let pem = key(1).public_pem();
    let first = publishers.register_key(&account("pub"), &pem).unwrap();
    assert_eq!(publishers.register_key(&account("pub"), &pem).unwrap(), first);
    let id = key(1).id();
    for (refused, expected) in [
        (
            publishers.register_key(&account("rival"), &pem),
            format!("publisher key {id} belongs to another account"),
        ),
        (
            publishers.register_key(&account("alice"), &key(2).public_pem()),
            "account 'alice' is of kind caller, publishers have the kind publisher".into(),
        ),
        (
            publishers.register_key(&account("nobody"), &key(2).public_pem()),
            "no account 'nobody'".into(),
        ),
        (
            publishers.register_key(&account("pub"), &format!("{pem}{}", key(2).public_pem())),
            "public keys: found 2, needed is 1".into(),
        ),
        (publishers.revoke_key(&account("rival"), &id), format!("no publisher key '{id}'")),
    ] {
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
    publishers.register_key(&account("rival"), &key(3).public_pem()).unwrap();
    assert_eq!(publishers.keys(Some(&account("pub"))).unwrap(), [first]);
    assert_eq!(publishers.keys(None).unwrap().len(), 2);
    let longest = "a".repeat(64);
    publishers.claim_space(&longest, &account("pub")).unwrap();
    for bad in ["", "A", "a.b", "-a", "ä", &"a".repeat(65)] {
        let error = publishers.claim_space(bad, &account("pub")).unwrap_err().to_string();
        assert!(error.starts_with("name space '"), "{error}");
    }
    let error = publishers.claim_space("x", &account("alice")).unwrap_err().to_string();
    assert!(error.starts_with("account 'alice' is of kind caller"), "{error}");
}

#[test]
fn an_access_key_of_name_spaces_publishes_there_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let spaces = Some(vec!["acme".to_owned()]);
    let new = NewAccessKey { spaces, ..NewAccessKey::new(account("pub"), Scope::Publisher) };
    let access: AccessKeyId = host.access().create(new).unwrap().0.id;
    for space in ["acme", "other"] {
        host.publishers().claim_space(space, &account("pub")).unwrap();
    }
    host.publishers().register_key(&account("pub"), &key(1).public_pem()).unwrap();
    let with = |name: &str, account_name: &str| {
        let file = package(folder.path(), name, "1", &Guest::default());
        host.publish_signed(&PublishRequest {
            signature: Some(signed(&file, &key(1))),
            access_key: Some(access),
            ..PublishRequest::new(account(account_name), &file)
        })
    };
    for name in ["other.a", "p", "acme"] {
        assert_eq!(
            with(name, "pub").unwrap_err().to_string(),
            format!(
                "access key {access} may not publish '{name}': it is for its name spaces alone"
            )
        );
    }
    with("acme.a", "pub").unwrap();
    let error = with("acme.b", "rival").unwrap_err();
    assert_eq!(error.to_string(), format!("access key {access} is not of account 'rival'"));
}

#[test]
fn a_private_package_is_not_there_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let (host, plain) = full(folder.path());
    let file = package(folder.path(), "secret", "1", &Guest::default());
    let secret = host
        .publish_signed(&PublishRequest {
            visibility: Visibility::Private,
            ..PublishRequest::new(account("pub"), &file)
        })
        .unwrap();
    let run = |name: &str| {
        let mut wanted = request(&secret, 1.0);
        wanted.account = account(name);
        host.run(wanted).map(|done| done.job.state).map_err(|error| error.to_string())
    };
    let missing = format!("no package '{}' is published here", secret.digest);
    assert_eq!(run("alice"), Err(missing.clone()));
    // To the letter what is said of one that never was.
    let mut never = request(&plain, 1.0);
    never.package = fuelbox_digest::Digest::of(b"never");
    let error = host.submit(never.clone()).unwrap_err().to_string();
    assert_eq!(error.replace(&never.package.to_string(), &secret.digest.to_string()), missing);
    assert_eq!(run("pub"), Ok(State::Succeeded));
    assert_eq!(run("operator"), Ok(State::Succeeded), "who sees everything runs it, on the house");
    let sees = |viewer: &Viewer| {
        let found = host.read(|records| {
            let digest = secret.digest.to_string();
            let by_text = ["secret", "secret:1", &digest]
                .map(|text| records.find_package_for(viewer, text).unwrap().is_some());
            let filter = PackageFilter::default();
            let page = records.packages_for(viewer, &filter, 10).unwrap();
            let listed = page.iter().any(|package| package.digest == secret.digest);
            let versions = records.versions(viewer, "secret").unwrap().len() == 1;
            assert!(page.iter().any(|package| package.digest == plain.digest));
            [by_text[0], by_text[1], by_text[2], listed, versions]
        });
        let found = found.unwrap();
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0]
    };
    let seen = |expected: [bool; 5]| {
        let viewers =
            [Viewer::Operator, viewer("pub"), viewer("alice"), viewer("bob"), Viewer::Nobody];
        assert_eq!(viewers.each_ref().map(sees), expected);
    };
    seen([true, true, false, false, false]);
    host.packages().set_readers(&secret.digest, vec![account("alice")]).unwrap();
    seen([true, true, true, false, false]);
    assert_eq!(run("alice"), Ok(State::Succeeded));
    assert_eq!(run("bob"), Err(missing.clone()));
    host.packages().set_visibility(&secret.digest, Visibility::Public).unwrap();
    seen([true; 5]);
    assert_eq!(run("bob"), Ok(State::Succeeded));
    // Readers stay for the next time, and all of it at once.
    let change = PackageChange {
        visibility: Some(Visibility::Private),
        deprecated: Some(Some("use plain".into())),
        readers: None,
    };
    let record = host.packages().change(&secret.digest, change).unwrap();
    assert_eq!(record.deprecated.as_deref(), Some("use plain"));
    seen([true, true, true, false, false]);
    assert_eq!(run("bob"), Err(missing.clone()));
    assert_eq!(run("alice"), Ok(State::Succeeded), "deprecated ones run");
    // A reader who is none of this host changes nothing.
    let error = host.packages().set_readers(&secret.digest, vec![account("bob"), account("carol")]);
    assert_eq!(error.unwrap_err().to_string(), "no account 'carol'");
    seen([true, true, true, false, false]);
    drop(host);
    let host = support::host(folder.path());
    let mut wanted = request(&secret, 1.0);
    assert!(host.run(wanted.clone()).is_ok());
    wanted.account = account("bob");
    assert_eq!(host.run(wanted).unwrap_err().to_string(), missing);
}

#[test]
fn a_job_that_was_taken_in_ends_whatever_becomes_of_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let idle = Config { workers: Some(0), ..Config::default() };
    let host = host_with(folder.path(), idle);
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "t", "1", &Guest::default()));
    let queued = host.submit(request(&publication, 1.0)).unwrap();
    host.packages().set_visibility(&publication.digest, Visibility::Private).unwrap();
    let error = host.packages().delete(&publication.digest).unwrap_err();
    assert!(matches!(error, PackageError::InUse { .. }), "{error}");
    host.cancel(&queued.id).unwrap();
    let again = {
        host.packages().set_visibility(&publication.digest, Visibility::Public).unwrap();
        host.submit(request(&publication, 1.0)).unwrap()
    };
    host.packages().set_visibility(&publication.digest, Visibility::Private).unwrap();
    drop(host);
    let host = support::host(folder.path());
    assert_eq!(host.wait(&again.id, LONG).unwrap().state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn latest_is_the_last_that_is_not_deprecated() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let version = |version: &str, visibility| {
        let file = package(folder.path(), "v", version, &Guest::default());
        let request = PublishRequest { visibility, ..PublishRequest::new(account("pub"), &file) };
        host.publish_signed(&request).unwrap().digest
    };
    let versions = [
        version("1", Visibility::Public),
        version("2", Visibility::Public),
        version("3", Visibility::Private),
    ];
    let latest = |viewer: Option<&Viewer>| {
        let found = host.read(|records| match viewer {
            Some(viewer) => records.find_package_for(viewer, "v"),
            None => records.find_package("v"),
        });
        found.unwrap().unwrap().map(|package| package.version)
    };
    let check = |expected: [&str; 3]| {
        let found = [latest(None), latest(Some(&viewer("pub"))), latest(Some(&Viewer::Nobody))];
        assert_eq!(found, expected.map(|version| Some(version.to_owned())));
    };
    // Equal times are told apart by the digest: these are apart by their publishing.
    check(["3", "3", "2"]);
    host.packages().deprecate(&versions[2], Some("broken".into())).unwrap();
    check(["2", "2", "2"]);
    host.packages().deprecate(&versions[1], Some("broken".into())).unwrap();
    check(["1", "1", "1"]);
    host.packages().deprecate(&versions[0], Some("broken".into())).unwrap();
    check(["3", "3", "2"]);
    host.packages().deprecate(&versions[0], None).unwrap();
    check(["1", "1", "1"]);
    for bad in ["", "a\nb", &"ä".repeat(501)] {
        let error = host.packages().deprecate(&versions[0], Some(bad.into())).unwrap_err();
        assert!(matches!(error, PackageError::Deprecated { .. }), "{error}");
    }
    // Page by page, also when the package at the turn goes.
    let page = |after| {
        let filter = PackageFilter { name: Some("v".into()), after };
        let page = host.read(|records| records.packages_for(&Viewer::Operator, &filter, 1));
        page.unwrap().unwrap().into_iter().next()
    };
    let first = page(None).unwrap();
    let place: PackageCursor = PackageCursor::of(&first).to_string().parse().unwrap();
    host.packages().delete(&first.digest).unwrap();
    let second = page(Some(place)).unwrap();
    let third = page(Some(PackageCursor::of(&second))).unwrap();
    assert_eq!(page(Some(PackageCursor::of(&third))), None);
    let mut found = [first.digest, second.digest, third.digest];
    let mut expected = versions;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for bad in ["", "1", "1-x", "-1-00", "01-aa"] {
        assert!(bad.parse::<PackageCursor>().is_err(), "{bad}");
    }
}

#[test]
fn only_a_package_that_no_job_used_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (host, plain) = full(folder.path());
    let file = package(folder.path(), "gone", "1", &Guest::default());
    let gone = publish(&host, "pub", &file, None).unwrap();
    let path = folder.path().join("data/packages").join(format!("{}.fbx", gone.digest.hex()));
    assert!(path.exists());
    host.packages().set_readers(&gone.digest, vec![account("alice")]).unwrap();
    host.packages().delete(&gone.digest).unwrap();
    assert!(!path.exists());
    let missing = format!("no package '{}' is published here", gone.digest);
    assert_eq!(host.run(request(&gone, 1.0)).unwrap_err().to_string(), missing);
    assert_eq!(host.packages().delete(&gone.digest).unwrap_err().to_string(), missing);
    let error = host.packages().deprecate(&gone.digest, None).unwrap_err();
    assert_eq!(error.to_string(), missing);
    // It may come again, as anybody's.
    let again = publish(&host, "rival", &file, None).unwrap();
    assert!(!again.repeated && again.digest == gone.digest);
    assert_eq!(host.run(request(&gone, 1.0)).unwrap().job.state, State::Succeeded);
    assert_eq!(host.run(request(&plain, 1.0)).unwrap().job.state, State::Succeeded);
    let error = loop {
        // A worker may not have let go of it yet.
        match host.packages().delete(&plain.digest).unwrap_err() {
            PackageError::InUse { .. } => std::thread::yield_now(),
            error => break error.to_string(),
        }
    };
    assert_eq!(
        error,
        "package plain:1 was used by jobs, and stays for their receipts: deprecate it"
    );
    assert_eq!(host.run(request(&plain, 1.0)).unwrap().job.state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn jobs_and_removals_at_once_leave_no_job_without_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let (host, _) = full(folder.path());
    let file = package(folder.path(), "r", "1", &Guest::default());
    for _ in 0..20 {
        let publication = publish(&host, "pub", &file, None).unwrap();
        let (ran, deleted) = std::thread::scope(|scope| {
            let run = scope.spawn(|| host.run(request(&publication, 1.0)));
            let delete = scope.spawn(|| host.packages().delete(&publication.digest));
            (run.join().unwrap(), delete.join().unwrap())
        });
        match (&ran, &deleted) {
            (Ok(done), Err(PackageError::Used { .. } | PackageError::InUse { .. })) => {
                assert_eq!(done.job.state, State::Succeeded);
                break; // it stays from now on
            }
            (Err(JobError::UnknownPackage { .. }), Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn each_is_told_of_his_own_jobs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (host, plain) = full(folder.path());
    let file = package(folder.path(), "b", "1", &Guest::running(&burn(50_000)));
    let burning = publish(&host, "rival", &file, None).unwrap();
    let of = |name: &str, publication: &Publication| {
        let mut wanted = request(publication, 1.0);
        wanted.account = account(name);
        host.run(wanted).unwrap().job
    };
    let jobs = [of("alice", &plain), of("alice", &burning), of("bob", &burning)];
    let credits = |job: usize| jobs[job].end.as_ref().unwrap().credits.micros();
    let sees = |viewer: &Viewer, job: usize| {
        host.read(|records| records.job_for(viewer, &jobs[job].id)).unwrap().unwrap().is_some()
    };
    for job in 0..3 {
        assert!(sees(&Viewer::Operator, job) && !sees(&Viewer::Nobody, job));
        assert_eq!(sees(&viewer("alice"), job), job < 2);
        assert_eq!(sees(&viewer("bob"), job), job == 2);
        assert!(!sees(&viewer("rival"), job), "not even the publisher");
    }
    let usage = |by, name: Option<&str>| {
        let filter = UsageFilter { account: name.map(account), since_unix_ms: 0 };
        let lines = host.read(|records| records.usage_of(by, &filter)).unwrap().unwrap();
        lines
            .into_iter()
            .map(|line| (line.name, line.jobs, line.credits.micros()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        usage(UsageBy::Package, Some("alice")),
        [("b:1".into(), 1, credits(1)), ("plain:1".into(), 1, credits(0))]
    );
    assert_eq!(usage(UsageBy::Account, Some("bob")), [("bob".into(), 1, credits(2))]);
    assert_eq!(usage(UsageBy::Account, None).len(), 2);
    assert_eq!(usage(UsageBy::Account, Some("rival")), []);
    let earned = |name: &str| {
        let lines = host.read(|records| records.earnings(&account(name), 0)).unwrap().unwrap();
        lines
            .into_iter()
            .map(|line| (line.name, line.jobs, line.earned.micros()))
            .collect::<Vec<_>>()
    };
    let share = |job: usize| credits(job) * 7 / 10;
    assert_eq!(earned("rival"), [("b".into(), 2, share(1) + share(2))]);
    assert_eq!(earned("pub"), [("plain".into(), 1, share(0))]);
    assert_eq!(earned("alice"), []);
    let balance = host.accounts().show(&account("rival")).unwrap().credits_posted.micros();
    assert_eq!(balance, (1 << 40) + share(1) + share(2));
    let late = host.read(|records| records.earnings(&account("rival"), u64::MAX >> 1));
    assert_eq!(late.unwrap().unwrap(), []);
}
