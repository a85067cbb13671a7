//! Keys as PEM, and the folder that they are kept in.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_receipt::{Envelope, HostKey, KeyRing, KeyStore, PublicKeys};
use proptest::prelude::*;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use support::{key, receipt};

/// RFC 8410, section 10.1: the example of a public key, and of its private half.
const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";
const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

fn block(der: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    )
}

/// The PEM block of 32 bytes, whether or not they are a point.
fn public(point: [u8; 32]) -> String {
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    block(&[prefix.as_slice(), &point].concat())
}

#[test]
fn keys_of_the_standard_are_read_and_written() {
    let key = HostKey::from_pem(RFC_PRIVATE).unwrap();
    assert_eq!(key.public_pem(), RFC_PUBLIC);
    assert_eq!(KeyRing::from_pem(RFC_PUBLIC).unwrap(), key.ring());
    assert_eq!(key.to_pem().as_str(), RFC_PRIVATE);
}

/// `openssl pkey -pubin -outform DER | sha256sum` of the key above.
#[test]
fn the_id_is_the_digest_of_the_public_key_info() {
    let key = HostKey::from_pem(RFC_PRIVATE).unwrap();
    let der = [
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..],
        &key_bytes(RFC_PUBLIC),
    ]
    .concat();
    assert_eq!(key.id().to_string(), fuelbox_digest::Digest::of(&der).hex());
    assert_eq!(key.id().to_string(), RFC_ID);
}

const RFC_ID: &str = "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f";

fn key_bytes(pem: &str) -> Vec<u8> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let line = pem.lines().nth(1).unwrap();
    BASE64_STANDARD.decode(line).unwrap()[12..].to_vec()
}

#[test]
fn note_keys_are_those_of_the_signed_note_format() {
    for secret in [1, 7] {
        let text = key(secret).note_key("fuelbox.dev/log/x");
        let other = signed_note::StandardVerifier::new(&text).unwrap();
        assert_eq!(signed_note::Verifier::name(&other), "fuelbox.dev/log/x");
        assert_eq!(key(secret).ring().note_keys("fuelbox.dev/log/x"), [text]);
    }
}

#[test]
fn a_ring_takes_keys_one_behind_the_other() {
    let (one, two) = (key(1), key(2));
    let text = format!("\n{}\r\n\n{}{}", one.public_pem(), two.public_pem(), one.public_pem());
    let ring = KeyRing::from_pem(&text).unwrap();
    let mut ids = [one.id(), two.id()];
    ids.sort();
    assert_eq!(ring.ids().collect::<Vec<_>>(), ids);
    assert_eq!(KeyRing::from_pem(&ring.to_pem()).unwrap(), ring);
}

#[test]
fn what_is_no_ring_of_keys_is_refused_with_a_reason() {
    let good = key(1).public_pem();
    // y = 1: the neutral element, of order 1. y = -1: of order 2. Then a point of order 8, and y = 1
    // once more as p + 1.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut order_2 = [0xff; 32];
    (order_2[0], order_2[31]) = (0xec, 0x7f);
    let order_8 = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let mut not_reduced = [0xff; 32];
    (not_reduced[0], not_reduced[31]) = (0xee, 0x7f);
    // y = p + 3, a point of large order in a form that it must not have.
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xf0, 0x7f);
    // There is no point with y = 2.
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let weak = "a point of small order or not in canonical form, never a host's key";
    let rsa = block(&[
        0x30, 0x1a, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
        0x05, 0x00, 0x03, 0x09, 0x00, 0x30, 0x06, 0x02, 0x01, 0x03, 0x02, 0x01, 0x03,
    ]);
    let table = [
        (String::new(), "public keys: found none, needed is 1".to_string()),
        (" \n".into(), "public keys: found none, needed is 1".into()),
        ("hello".into(), "public keys: 'hello' is not in a block of".into()),
        (format!("{good}hello"), "public keys: 'hello' is not in a block of".into()),
        (good.replace("END", "DNE"), "public keys: '-----BEGIN PUBLIC KEY".into()),
        (RFC_PRIVATE.into(), "public keys: '-----BEGIN PRIVATE KEY".into()),
        (good.replacen("MCow", "MCo!", 1), "public key 0: not an Ed25519 key: ".into()),
        (format!("{good}{rsa}"), "public key 1: not an Ed25519 key: ".into()),
        (public(no_point), "public key 0: not an Ed25519 key: ".into()),
        (public(neutral), format!("public key 0: {weak}")),
        (format!("{good}{}", public(order_2)), format!("public key 1: {weak}")),
        (public(order_8), format!("public key 0: {weak}")),
        (public(not_reduced), format!("public key 0: {weak}")),
        (public(not_canonical), format!("public key 0: {weak}")),
        (good.repeat(10_000), "public keys: 1130000 bytes, allowed are 1048576".into()),
    ];
    for (text, expected) in table {
        let found = KeyRing::from_pem(&text).unwrap_err().to_string();
        assert!(found.starts_with(&expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn what_is_no_private_key_is_refused() {
    for text in [
        "",
        RFC_PUBLIC,
        &RFC_PRIVATE[..80],
        &RFC_PRIVATE.replace("MC4C", "MC4D"),
        &RFC_PRIVATE.replace("dVhC", "dVhCdVhC"),
        &RFC_PRIVATE.replace("MC4C", ""),
        &RFC_PRIVATE.replace("EdVhC", "EdVh!"),
    ] {
        let found = HostKey::from_pem(text).unwrap_err().to_string();
        assert!(found.starts_with("private key: not Ed25519 in PKCS#8 PEM, as"), "{found}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    assert_eq!(format!("{:?}", key(7)), format!("HostKey {{ id: {}, .. }}", key(7).id()));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Names in the folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("deep/keys");
    (temp, path)
}

/// The names that a whole folder has.
fn whole(store: &KeyStore) -> Vec<String> {
    let mut names = vec![format!("{}.pem", store.current().id()), "keys.json".to_string()];
    names.sort();
    names
}

#[test]
fn the_first_start_makes_a_key_and_later_ones_find_it() {
    let (_temp, path) = folder();
    let store = KeyStore::open(&path, 1000).unwrap();
    let id = store.current().id();
    assert_eq!(store.origin(), format!("fuelbox.dev/log/{}", &id.to_string()[..16]));
    assert_eq!(names(&path), whole(&store));
    assert_eq!((mode(&path), mode(&path.join(format!("{id}.pem")))), (0o700, 0o600));
    assert_eq!(mode(&path.join("keys.json")), 0o600);
    let again = KeyStore::open(&path, 2000).unwrap();
    assert_eq!(again.public_keys(), store.public_keys());
    let [key] = again.public_keys().try_into().unwrap();
    assert_eq!((key.id, key.created_unix_ms, key.retired_unix_ms), (id, 1000, None));
    let envelope = Envelope::sign(&receipt(), again.current()).unwrap();
    assert!(envelope.verify(&KeyRing::from_pem(&key.pem).unwrap()).is_ok());
}

#[test]
fn rotation_keeps_public_keys_and_the_origin_and_deletes_the_private_key() {
    let (_temp, path) = folder();
    let mut store = KeyStore::open(&path, 1000).unwrap();
    let (first, origin) = (store.current().id(), store.origin().to_string());
    let old = Envelope::sign(&receipt(), store.current()).unwrap();
    let second = store.rotate(5000).unwrap();
    assert_ne!(first, second);
    let public = PublicKeys::read(&path).unwrap().unwrap();
    assert_eq!((public.origin.as_str(), public.ring()), (origin.as_str(), store.ring()));
    assert_eq!(public.keys, store.public_keys());
    for store in [&store, &KeyStore::open(&path, 9000).unwrap()] {
        assert_eq!((store.current().id(), store.origin()), (second, origin.as_str()));
        let times: Vec<_> = (store.public_keys().iter())
            .map(|key| (key.id, key.created_unix_ms, key.retired_unix_ms))
            .collect();
        assert_eq!(times, [(first, 1000, Some(5000)), (second, 5000, None)]);
        assert_eq!(names(&path), whole(store));
        assert!(old.verify(&store.ring()).is_ok());
    }
}

#[test]
fn what_others_can_get_at_is_refused() {
    let (_temp, path) = folder();
    let id = KeyStore::open(&path, 0).unwrap().current().id();
    let private = path.join(format!("{id}.pem"));
    for (file, good, bad) in [
        (&path, 0o700, [0o710, 0o704, 0o777]),
        (&private, 0o600, [0o640, 0o604, 0o620]),
        (&path.join("keys.json"), 0o600, [0o640, 0o604, 0o602]),
    ] {
        for bad in bad {
            set_mode(file, bad);
            assert_eq!(
                KeyStore::open(&path, 0).unwrap_err().to_string(),
                format!(
                    "keys: {} has mode {bad:o}, allowed is {good:o}: others than its owner can use it",
                    file.display()
                )
            );
        }
        set_mode(file, good);
        assert!(KeyStore::open(&path, 0).is_ok());
    }
}

#[test]
fn public_keys_are_read_without_a_change() {
    let (_temp, path) = folder();
    assert!(PublicKeys::read(&path).unwrap().is_none());
    assert!(!path.exists());
    let store = KeyStore::open(&path, 0).unwrap();
    let (id, index) = (store.current().id(), path.join("keys.json"));
    fs::remove_file(path.join(format!("{id}.pem"))).unwrap();
    assert_eq!(PublicKeys::read(&path).unwrap().unwrap().ring(), store.ring());
    set_mode(&index, 0o620);
    assert!(PublicKeys::read(&path).unwrap_err().to_string().contains("has mode 620"));
    assert_eq!(names(&path), ["keys.json"]);
}

#[test]
fn what_is_damaged_or_missing_is_named() {
    let (_temp, path) = folder();
    let id = KeyStore::open(&path, 0).unwrap().current().id();
    let (private, index) = (path.join(format!("{id}.pem")), path.join("keys.json"));
    let good = (fs::read(&private).unwrap(), fs::read_to_string(&index).unwrap());
    let other = key(7).to_pem();
    let check = |expected: &str| {
        let found = KeyStore::open(&path, 0).unwrap_err().to_string();
        assert!(found.contains(expected), "found    {found}\nexpected {expected}");
    };
    let write_private = |bytes: &[u8]| fs::write(&private, bytes).unwrap();
    write_private(other.as_bytes());
    check(&format!("holds key {}", key(7).id()));
    write_private(b"hello");
    check("private key: not Ed25519 in PKCS#8 PEM");
    fs::remove_file(&private).unwrap();
    check("is missing; it is the current private key");
    write_private(&good.0);
    set_mode(&private, 0o600);
    for (bad, expected) in [
        (
            good.1.replace("fuelbox-keys/1", "fuelbox-keys/2"),
            "format 'fuelbox-keys/2', allowed is 'fuelbox-keys/1'",
        ),
        (good.1.replace("created", "made"), "unknown field `made_unix_ms`"),
        (good.1.replace(&key_line(&good.1), "AAAA"), "not an Ed25519 key"),
        (good.1.replacen(&id.to_string(), &key(7).id().to_string(), 1), "is another key's"),
        (
            "{\"format\":\"fuelbox-keys/1\",\"origin\":\"o\",\"keys\":[]}".into(),
            "found 0 keys, needed is 1",
        ),
        (String::new(), "EOF while parsing"),
    ] {
        fs::write(&index, bad).unwrap();
        check(expected);
    }
    fs::remove_file(&index).unwrap();
    check("is there but keys.json is not; put it back, or move the key away to start anew");
    fs::write(&index, &good.1).unwrap();
    set_mode(&index, 0o600);
    assert_eq!(KeyStore::open(&path, 0).unwrap().current().id(), id);
}

/// The base64 of the first key in `keys.json`.
fn key_line(index: &str) -> String {
    index.split("\\n").nth(1).unwrap().to_string()
}

/// What a process leaves that ends between two steps of a change.
#[test]
fn a_change_that_was_cut_short_is_put_right() {
    let (_temp, path) = folder();
    fs::create_dir_all(&path).unwrap();
    set_mode(&path, 0o700);
    let leave = |name: &str, bytes: &[u8]| {
        fs::write(path.join(name), bytes).unwrap();
        set_mode(&path.join(name), 0o600);
    };
    let id = key(7).id();
    // Before the first list of keys: as if nothing had been.
    leave(&format!("{id}.pem.new"), key(7).to_pem().as_bytes());
    leave("unfinished-x", b"half");
    let mut store = KeyStore::open(&path, 0).unwrap();
    assert_ne!(store.current().id(), id);
    assert_eq!(names(&path), whole(&store));
    // After the list, before the private key has its name: the change is finished.
    let private = path.join(format!("{}.pem", store.current().id()));
    let new = path.join(format!("{}.pem.new", store.current().id()));
    fs::rename(&private, &new).unwrap();
    let again = KeyStore::open(&path, 0).unwrap();
    assert_eq!(again.current().id(), store.current().id());
    assert_eq!(names(&path), whole(&again));
    // After a rotation, before the old private key is deleted; and one that did not come to be.
    let old = fs::read(&private).unwrap();
    let first = store.current().id();
    store.rotate(1).unwrap();
    leave(&format!("{first}.pem"), &old);
    leave(&format!("{id}.pem.new"), key(7).to_pem().as_bytes());
    let again = KeyStore::open(&path, 0).unwrap();
    assert_eq!(again.current().id(), store.current().id());
    assert_eq!(names(&path), whole(&again));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,300}", at in any::<prop::sample::Index>(), byte in 32..127u8) {
        let _ = KeyRing::from_pem(&text);
        let _ = HostKey::from_pem(&text);
        let mut good = RFC_PUBLIC.as_bytes().to_vec();
        let at = at.index(good.len());
        good[at] = byte;
        let _ = KeyRing::from_pem(&String::from_utf8(good).unwrap());
        let mut good = RFC_PRIVATE.as_bytes().to_vec();
        good[at] = byte;
        let _ = HostKey::from_pem(&String::from_utf8(good).unwrap());
    }
}
