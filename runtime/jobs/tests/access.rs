//! Access keys: what a check takes and refuses, and what is spent with them.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{
    AccessError, AccessKeyError, AccessKeyId, Config, DataFolder, Host, JobError, JobFilter, JobId,
    JobRequest, NewAccessKey, PublishError, PublishRequest, Scope, Scopes, SpendError, State,
};
use fuelbox_ledger::AccountKind;
use fuelbox_test_support::guest::Guest;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use support::{account, available, burn, host_with, micros, package, request, set_up};

fn idle(folder: &Path) -> Host {
    let host = host_with(folder, Config { workers: Some(0), ..Config::default() });
    for (name, kind) in [("pub", AccountKind::Publisher), ("alice", AccountKind::Caller)] {
        host.accounts().create(&account(name), kind).unwrap();
    }
    host
}

#[test]
fn a_key_is_taken_until_it_is_revoked_or_expires() {
    let folder = tempfile::tempdir().unwrap();
    let host = idle(folder.path());
    let access = host.access();
    let new = NewAccessKey {
        spaces: Some(vec!["acme".into(), "b".into()]),
        name: Some("laptop".into()),
        expires_unix_ms: Some(1_000),
        spend_limit: Some(micros(5)),
        ..NewAccessKey::new(
            account("pub"),
            [Scope::Caller, Scope::Publisher].into_iter().collect::<Scopes>(),
        )
    };
    let (key, secret) = access.create(new).unwrap();
    let text = secret.to_string();
    assert_eq!(access.get(&key.id).unwrap(), Some(key.clone()));
    let grant = access.check(&text, 999).unwrap();
    assert_eq!((grant.key, &grant.account), (key.id, &account("pub")));
    assert_eq!((grant.scopes, &grant.spaces), (key.scopes, &key.spaces));
    assert!(grant.covers("acme.x") && !grant.covers("plain"));
    let refused = |text: &str, now| access.check(text, now).unwrap_err().to_string();
    let id = key.id;
    assert_eq!(refused(&text, 1_000), format!("access key {id}: expired at 1000 ms"));
    assert!(access.check(&text, 999).is_ok());
    // Another secret under this id, an id that nobody has, no key at all.
    let (other, other_secret) =
        access.create(NewAccessKey::new(account("alice"), Scope::Caller)).unwrap();
    let other_text = other_secret.to_string();
    let mixed = other_text.replace(other.id.as_str(), id.as_str());
    assert_eq!(refused(&mixed, 0), format!("access key {id}: wrong secret"));
    let nobody = text.replace(id.as_str(), "aaaaaaaaaaaaaaaa");
    assert_eq!(refused(&nobody, 0), "access key aaaaaaaaaaaaaaaa: unknown");
    assert_eq!(refused("Bearer x", 0), "access key: not of the form fbx_ID_SECRET");
    // Revoked: at once, for good, and one time.
    let revoked = access.revoke(&id).unwrap();
    let at = revoked.revoked_unix_ms.unwrap();
    assert_eq!(refused(&text, 0), format!("access key {id}: revoked at {at} ms"));
    assert_eq!(access.revoke(&id).unwrap(), revoked);
    assert!(access.check(&other_text, 0).is_ok());
    assert_eq!(access.list(None).unwrap().len(), 2);
    assert_eq!(access.list(Some(&account("pub"))).unwrap(), std::slice::from_ref(&revoked));
    let error = access.revoke(&"aaaaaaaaaaaaaaaa".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "no access key 'aaaaaaaaaaaaaaaa'");
    drop(host);
    // And so it is after a restart, without any secret on the disk.
    let host = idle(folder.path());
    assert!(matches!(host.access().check(&text, 0), Err(AccessError::Revoked { .. })));
    assert!(host.access().check(&other_text, 0).is_ok());
    drop(host);
    let secret = &other_text[21..];
    for file in ["fuelbox.db", "fuelbox.db-wal"] {
        let bytes = std::fs::read(folder.path().join("data").join(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{file}");
    }
}

#[test]
fn a_key_that_is_revoked_while_others_check_it_is_of_no_use_after() {
    let folder = tempfile::tempdir().unwrap();
    let host = idle(folder.path());
    for _ in 0..50 {
        let (key, secret) =
            host.access().create(NewAccessKey::new(account("alice"), Scope::Caller)).unwrap();
        let text = secret.to_string();
        let until = Instant::now() + LONG;
        std::thread::scope(|scope| {
            let check = || {
                while host.access().check(&text, 0).is_ok() {
                    assert!(Instant::now() < until, "a revoked key is taken");
                }
            };
            let checking = [scope.spawn(check), scope.spawn(check)];
            host.access().revoke(&key.id).unwrap();
            assert!(host.access().check(&text, 0).is_err());
            for thread in checking {
                thread.join().unwrap();
            }
        });
        // Not even what a slow reader had in hand.
        assert!(host.access().check(&text, 0).is_err());
    }
}

#[test]
fn keys_are_for_accounts_of_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let host = idle(folder.path());
    let create = |name: &str, scope| {
        let made = host.access().create(NewAccessKey::new(account(name), scope));
        made.map(|_| ()).map_err(|error| error.to_string())
    };
    let refused = |scope: Scope, name: &str, kind: &str| {
        Err(format!("access key: scope {scope} is not for account '{name}' of kind {kind}"))
    };
    for (name, kind, allowed) in [
        ("operator", "operator", &[Scope::Operator, Scope::Caller][..]),
        ("pub", "publisher", &[Scope::Publisher, Scope::Caller]),
        ("alice", "caller", &[Scope::Caller]),
        ("revenue", "revenue", &[]),
        ("escrow", "escrow", &[]),
    ] {
        for scope in Scope::ALL {
            let expected =
                if allowed.contains(&scope) { Ok(()) } else { refused(scope, name, kind) };
            assert_eq!(create(name, scope), expected);
        }
    }
    assert_eq!(create("nobody", Scope::Caller), Err("no account 'nobody'".into()));
    let plain = || NewAccessKey::new(account("pub"), Scope::Publisher);
    for (new, expected) in [
        (
            NewAccessKey { scopes: Scopes::NONE, ..plain() },
            "access key: found no scope, needed is one of operator, publisher, caller",
        ),
        (
            NewAccessKey { scopes: Scope::Caller.into(), spaces: Some(vec![]), ..plain() },
            "access key: name spaces are for the scope publisher alone",
        ),
        (
            NewAccessKey { spaces: Some(vec!["A".into()]), ..plain() },
            "access key: name space 'A', expected 1 to 64 of a-z 0-9 _ - and the first a letter or a digit",
        ),
        (
            NewAccessKey { spaces: Some(vec!["a".into(); 65]), ..plain() },
            "access key: 65 name spaces, allowed are 64",
        ),
        (
            NewAccessKey { name: Some("a\nb".into()), ..plain() },
            "access key name 'a\\nb': allowed are 1 to 100 characters, none of control",
        ),
        (
            NewAccessKey { name: Some("ä".repeat(101)), ..plain() },
            &format!(
                "access key name '{}': allowed are 1 to 100 characters, none of control",
                "ä".repeat(80)
            ),
        ),
    ] {
        let error: AccessKeyError = host.access().create(new).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let name = "ä".repeat(100);
    host.access().create(NewAccessKey { name: Some(name), ..plain() }).unwrap();
    drop(host);
    assert!(DataFolder::new(folder.path().join("data")).exists());
}

/// A key of `alice` that may spend so many micro-credits.
fn limited(host: &Host, name: &str, scope: Scope, limit: u64) -> AccessKeyId {
    let spend_limit = Some(micros(limit));
    let new = NewAccessKey { spend_limit, ..NewAccessKey::new(account(name), scope) };
    host.access().create(new).unwrap().0.id
}

fn spent(host: &Host, key: AccessKeyId) -> u64 {
    host.access().get(&key).unwrap().unwrap().spent.micros()
}

/// The limits' price of the tests' packages: 10 M fuel at 100 per million, and 64 MiB for it.
const HOLD: u64 = 10 * 100 + 10 * 5;

/// The least that a job costs.
const MINIMUM: u64 = 10;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_key_spends_up_to_its_limit_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let key = limited(&host, "alice", Scope::Caller, HOLD + 2 * MINIMUM);
    let with = |key| JobRequest { access_key: Some(key), ..request(&publication, 1.0) };
    // The limit's price counts, not what the job will come to.
    for jobs in 1..=3 {
        let done = host.run(with(key)).unwrap();
        assert_eq!(done.job.access_key, Some(key));
        assert_eq!(spent(&host, key), jobs * MINIMUM);
    }
    let refused = [host.run(with(key)).err(), host.submit(with(key)).err()];
    for error in refused.map(Option::unwrap) {
        assert_eq!(
            error.to_string(),
            format!(
                "access key {key} has 0.00104 left of its spend limit of 0.00107, needed 0.00105"
            )
        );
    }
    // A job that is cheap enough by its limits.
    let mut cheap = with(key);
    cheap.limits.fuel = Some(100_000);
    host.run(cheap).unwrap();
    assert_eq!(spent(&host, key), 4 * MINIMUM);
    // Others are not concerned, and keys without a limit are not counted.
    let free =
        host.access().create(NewAccessKey::new(account("alice"), Scope::Caller)).unwrap().0.id;
    host.run(with(free)).unwrap();
    host.run(request(&publication, 1.0)).unwrap();
    assert_eq!((spent(&host, free), spent(&host, key)), (0, 4 * MINIMUM));
    // What the host refuses for another reason holds nothing of the limit.
    let exact = limited(&host, "alice", Scope::Caller, HOLD);
    let mut poor = with(exact);
    poor.inputs[0].name = "z".into();
    assert!(host.run(poor).is_err());
    host.run(with(exact)).unwrap();
    for short in [HOLD - 1, 0] {
        let key = limited(&host, "alice", Scope::Caller, short);
        assert!(matches!(host.run(with(key)), Err(JobError::Spend(SpendError::Limit { .. }))));
    }
    // A key acts for its own account, and must be there.
    let other = limited(&host, "pub", Scope::Caller, HOLD);
    assert_eq!(
        host.run(with(other)).unwrap_err().to_string(),
        format!("access key {other} is not of account 'alice'")
    );
    let nobody = "aaaaaaaaaaaaaaaa".parse().unwrap();
    assert_eq!(host.run(with(nobody)).unwrap_err().to_string(), "no access key 'aaaaaaaaaaaaaaaa'");
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn queued_jobs_hold_their_part_of_the_limit_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let idle = || Config { workers: Some(0), ..Config::default() };
    let host = host_with(folder.path(), idle());
    let publication =
        set_up(&host, 1_000_000, &package(folder.path(), "t", "1", &Guest::default()));
    let key = limited(&host, "alice", Scope::Caller, 2 * HOLD);
    let wanted = || JobRequest { access_key: Some(key), ..request(&publication, 1.0) };
    let jobs = [host.submit(wanted()).unwrap().id, host.submit(wanted()).unwrap().id];
    let is_refused = |host: &Host| {
        let error = host.submit(wanted()).err();
        matches!(error, Some(JobError::Spend(SpendError::Limit { left, .. })) if left == micros(0))
    };
    assert!(is_refused(&host));
    drop(host);
    let host = host_with(folder.path(), idle());
    assert!(is_refused(&host), "what waits is held after a restart");
    // One that is cancelled frees its part, at once.
    host.cancel(&jobs[1]).unwrap();
    let third = host.submit(wanted()).unwrap().id;
    assert!(is_refused(&host));
    assert_eq!(spent(&host, key), 0);
    drop(host);
    let host = support::host(folder.path());
    for id in [jobs[0], third] {
        assert_eq!(host.wait(&id, LONG).unwrap().state, State::Succeeded);
    }
    assert_eq!(spent(&host, key), 2 * MINIMUM);
    host.run(wanted()).unwrap();
    assert_eq!(spent(&host, key), 3 * MINIMUM);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn many_at_once_never_pass_the_limit() {
    for round in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let host = host_with(folder.path(), Config { workers: Some(2), ..Config::default() });
        // A guest that burns all that it may: each job costs what was held for it.
        let guest = Guest::running("(loop $l (br $l))");
        let publication = set_up(&host, 1 << 40, &package(folder.path(), "e", "1", &guest));
        let mut wanted = request(&publication, 1.0);
        wanted.limits.fuel = Some(200_000);
        let price = host.prices().run(200_000, 64 << 20).unwrap().micros();
        let key = limited(&host, "alice", Scope::Caller, 7 * price + round);
        wanted.access_key = Some(key);
        let mut ran = 0;
        let mut queued = Vec::new();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..24)
                .map(|number| {
                    let (host, wanted) = (&host, wanted.clone());
                    scope.spawn(move || match number % 2 {
                        0 => host.run(wanted).map(|done| done.job),
                        _ => host.submit(wanted),
                    })
                })
                .collect();
            for caller in callers {
                match caller.join().unwrap() {
                    Ok(job) if job.state == State::Failed => ran += 1,
                    Ok(job) => queued.push(job.id),
                    Err(JobError::Spend(SpendError::Limit { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for id in &queued {
            assert_eq!(host.wait(id, LONG).unwrap().state, State::Failed);
        }
        let bills = bills(&host, key);
        assert_eq!(spent(&host, key), bills);
        assert!(bills <= 7 * price + round, "{bills}");
        // Its memory at the peak is less than its limit, so a few more may fit.
        assert!(ran + queued.len() >= 7, "{ran} {}", queued.len());
        drop(host);
        support::check_folder(folder.path());
    }
}

/// All that was paid for jobs of a key.
fn bills(host: &Host, key: AccessKeyId) -> u64 {
    let jobs = host.read(|records| records.jobs(&JobFilter::default(), 1_000)).unwrap().unwrap();
    let jobs = jobs.into_iter().filter(|job| job.access_key == Some(key));
    jobs.filter_map(|job| job.end).map(|end| end.credits.micros()).sum()
}

/// Any order of work, restarts and keys, beside a model that only adds up.
#[test]
fn what_is_spent_is_what_a_model_says() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        |workers| host_with(folder.path(), Config { workers: Some(workers), ..Config::default() });
    let mut host = open(0);
    let publication = set_up(&host, 1 << 40, &package(folder.path(), "t", "1", &Guest::default()));
    let limits = [3 * HOLD, HOLD + MINIMUM, 40 * HOLD];
    let keys = limits.map(|limit| limited(&host, "alice", Scope::Caller, limit));
    let mut random = Random(0x5eed);
    let (mut spent_by, mut held) = ([0_u64; 3], [0_u64; 3]);
    let mut queued: Vec<(usize, JobId, u64)> = Vec::new();
    for _ in 0..400 {
        let which = random.below(3) as usize;
        let fuel = 1_000_000 * (1 + random.below(10));
        let price = host.prices().run(fuel, 64 << 20).unwrap().micros();
        let mut wanted = request(&publication, 1.0);
        wanted.limits.fuel = Some(fuel);
        wanted.access_key = Some(keys[which]);
        match random.below(8) {
            0 => {
                drop(host);
                host = open(0);
            }
            1 => {
                // All that waits is run.
                drop(host);
                host = open(2);
                for (which, id, price) in queued.drain(..) {
                    let job = host.wait(&id, LONG).unwrap();
                    spent_by[which] += job.end.unwrap().credits.micros();
                    held[which] -= price;
                }
                // A job whose caller waits holds, is billed, and holds no more.
                let fits = spent_by[which] + held[which] + price <= limits[which];
                match host.run(wanted) {
                    Ok(done) if fits => spent_by[which] += done.job.end.unwrap().credits.micros(),
                    Err(JobError::Spend(_)) if !fits => {}
                    other => panic!("{fits} {other:?}"),
                }
                drop(host);
                host = open(0);
            }
            2 | 3 if !queued.is_empty() => {
                let (which, id, price) =
                    queued.swap_remove(random.below(queued.len() as u64) as usize);
                host.cancel(&id).unwrap();
                held[which] -= price;
            }
            _ => {
                let fits = spent_by[which] + held[which] + price <= limits[which];
                match host.submit(wanted) {
                    Ok(job) if fits => {
                        held[which] += price;
                        queued.push((which, job.id, price));
                    }
                    Err(JobError::Spend(_)) if !fits => {}
                    other => panic!("{fits} {other:?}"),
                }
            }
        }
        for (which, key) in keys.into_iter().enumerate() {
            assert_eq!(spent(&host, key), spent_by[which]);
            assert_eq!(bills(&host, key), spent_by[which]);
        }
    }
    assert!(spent_by.iter().all(|spent| *spent > 0), "{spent_by:?}");
    drop(host);
    support::check_folder(folder.path());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[test]
fn publishing_counts_against_the_limit_also_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    set_up(&host, 0, &package(folder.path(), "t", "1", &Guest::default()));
    let burning = |version: &str, rounds| {
        let guest = Guest { load: burn(rounds), ..Guest::default() };
        package(folder.path(), "p", version, &guest)
    };
    // 1 M fuel of one load is held: 25 micro-credits.
    let key = limited(&host, "pub", Scope::Publisher, 50);
    let publish = |file: &[u8]| {
        host.publish_signed(&PublishRequest {
            load_fuel: Some(1_000_000),
            access_key: Some(key),
            ..PublishRequest::new(account("pub"), file)
        })
    };
    let before = available(&host, "pub");
    let paid = || u64::try_from(before - available(&host, "pub")).unwrap();
    let first = publish(&burning("1", 50_000)).unwrap();
    assert!(first.credits.micros() > 10);
    assert_eq!((spent(&host, key), paid()), (first.credits.micros(), first.credits.micros()));
    assert!(publish(&burning("1", 50_000)).unwrap().repeated);
    assert_eq!(spent(&host, key), paid());
    // A load over its limit: refused, billed, and counted.
    let error = publish(&burning("2", 500_000)).unwrap_err();
    assert!(matches!(error, PublishError::LoadLimit { .. }), "{error}");
    assert_eq!(paid(), first.credits.micros() + 25);
    assert_eq!(spent(&host, key), paid());
    // Nothing is left for another one, whatever it would burn.
    let error = publish(&burning("3", 1)).unwrap_err();
    assert!(matches!(error, PublishError::Spend(SpendError::Limit { .. })), "{error}");
    assert_eq!(spent(&host, key), paid());
    drop(host);
    support::check_folder(folder.path());
}
