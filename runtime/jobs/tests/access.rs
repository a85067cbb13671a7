//! Access keys: what a check takes and refuses, and what is spent with them.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::{
    AccessError, AccessKeyError, Config, DataFolder, Host, NewAccessKey, Scope, Scopes,
};
use fuelbox_ledger::AccountKind;
use std::path::Path;
use support::{account, host_with, micros};

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
    assert_eq!(access.list(Some(&account("pub"))).unwrap(), [revoked.clone()]);
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
        std::thread::scope(|scope| {
            let check = || while host.access().check(&text, 0).is_ok() {};
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
