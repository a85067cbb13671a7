//! What version 1 wrote, byte by byte: it must be read, and mean the same, for ever.
//!
//! The key of these files is no secret: it signs nothing but tests.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::{
    Envelope, HostKey, KeyRing, Receipt,
    log::{
        Checkpoint, ConsistencyProof, Folder, InclusionProof, Tree, check, prove_consistency,
        prove_inclusion,
    },
};
use std::{fs, path::PathBuf};
use support::{Store, receipt};

const ORIGIN: &str = "fuelbox.dev/log/8f0de7c6c5c11908";

/// Entries of the golden log: a full tile and a bit. The receipt is the last but one.
const SIZE: u64 = 258;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/receipts").join(name)
}

fn read(name: &str) -> String {
    let path = golden(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn keys() -> KeyRing {
    KeyRing::from_pem(&read("keys.pem")).unwrap()
}

#[test]
fn the_receipt_is_read() {
    let bytes = read("receipt-1.json");
    assert_eq!(Receipt::from_statement_bytes(bytes.as_bytes()).unwrap(), receipt());
    assert_eq!(Digest::of(bytes.as_bytes()).hex(), RECEIPT);
}

#[test]
fn the_envelope_is_read_and_verified() {
    let bytes = read("envelope-1.json");
    let envelope = Envelope::parse(bytes.as_bytes()).unwrap();
    let verified = envelope.verify(&keys()).unwrap();
    assert_eq!(verified.receipt, receipt());
    assert_eq!(verified.key_id.to_string(), KEY);
    assert_eq!(envelope.payload(), read("receipt-1.json").as_bytes());
    assert_eq!(envelope.digest().hex(), ENVELOPE);
}

#[test]
fn the_log_is_read_and_checked() {
    let checkpoint = check(&golden("log"), &keys()).unwrap();
    let expected = Checkpoint {
        origin: ORIGIN.into(),
        size: SIZE,
        root: format!("sha256:{ROOT}").parse().unwrap(),
    };
    assert_eq!(checkpoint, expected);
    let text = read("checkpoint-1.txt");
    assert_eq!(text, read("log/checkpoint"));
    assert_eq!(Checkpoint::open(&text, &keys(), ORIGIN).unwrap(), expected);
    let tree = Tree::load(SIZE, &Folder::new(golden("log"))).unwrap();
    assert_eq!(tree.root(), expected.root);
}

#[test]
fn the_proofs_are_read_and_verified() {
    let entry = Envelope::parse(read("envelope-1.json").as_bytes()).unwrap().digest();
    let proof = InclusionProof::parse(&read("inclusion-1.tlog-proof")).unwrap();
    assert_eq!(proof.index, SIZE - 2);
    let later = proof.verify(&entry, &keys(), ORIGIN).unwrap();
    let earlier = Checkpoint::open(&read("checkpoint-1-earlier.txt"), &keys(), ORIGIN).unwrap();
    let proof = ConsistencyProof::parse(&read("consistency-1.txt")).unwrap();
    assert_eq!(proof.verify(&earlier, &keys()).unwrap(), later);
}

/// Signing is deterministic and every form is the only one, so what is written today is what was.
#[test]
fn what_is_written_today_is_what_was_written() {
    let key = HostKey::from_pem(&read("key.pem")).unwrap();
    let envelope = Envelope::sign(&receipt(), &key).unwrap();
    let (mut tree, mut store) = (Tree::new(), Store::default());
    let mut earlier = String::new();
    for index in 0..SIZE {
        if index == 200 {
            earlier = sign(&tree, &key);
        }
        tree.append(&if index == SIZE - 2 { envelope.digest() } else { support::entry(index) });
    }
    store.write(tree.take_changed());
    let checkpoint = sign(&tree, &key);
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::new(temp.path().join("log"));
    folder.publish(&store, &checkpoint, &keys()).unwrap();
    let inclusion = InclusionProof {
        index: SIZE - 2,
        hashes: prove_inclusion(&folder, SIZE, SIZE - 2).unwrap(),
        checkpoint: checkpoint.clone(),
    };
    let consistency = ConsistencyProof {
        old: 200,
        hashes: prove_consistency(&folder, 200, SIZE).unwrap(),
        checkpoint: checkpoint.clone(),
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let mut wrong = Vec::new();
    for (name, made) in [
        ("keys.pem", key.public_pem()),
        ("note-key.txt", key.note_key(ORIGIN) + "\n"),
        ("receipt-1.json", text(receipt().statement_bytes())),
        ("envelope-1.json", text(envelope.to_bytes())),
        ("checkpoint-1.txt", checkpoint),
        ("checkpoint-1-earlier.txt", earlier),
        ("inclusion-1.tlog-proof", inclusion.to_text()),
        ("consistency-1.txt", consistency.to_text()),
    ] {
        if fs::read_to_string(golden(name)).is_ok_and(|golden| golden == made) {
            continue;
        }
        if std::env::var_os("FUELBOX_WRITE_GOLDEN").is_some() {
            fs::write(golden(name), &made).unwrap();
        }
        wrong.push(name.to_string());
    }
    for name in LOG {
        let made = fs::read(folder.path().join(name)).unwrap();
        let golden = golden("log").join(name);
        if fs::read(&golden).is_ok_and(|golden| golden == made) {
            continue;
        }
        if std::env::var_os("FUELBOX_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(golden, &made).unwrap();
        }
        wrong.push(format!("log/{name}"));
    }
    assert!(wrong.is_empty(), "differ: {wrong:?}");
}

/// Every file of the golden log.
const LOG: [&str; 6] = [
    "checkpoint",
    "tile/0/000",
    "tile/0/001.p/2",
    "tile/1/000.p/1",
    "tile/entries/000",
    "tile/entries/001.p/2",
];

fn sign(tree: &Tree, key: &HostKey) -> String {
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() };
    checkpoint.sign(key).unwrap()
}

const KEY: &str = "8f0de7c6c5c11908d89398a443cee1ad15c17fbc10f5433c3abf36110d5dc2bd";
const RECEIPT: &str = "823ce4693fd97ec1094a12ede97c7b4fec67a1f664ee89b8da832facccc9b65d";
const ENVELOPE: &str = "289a0b1785e67314af9720567e21eb34ba3e89b86aea61af1fabc3a731420571";
const ROOT: &str = "3bc80473b6e0ff9e746b022bead78beb52ff5ce567ef050130ff8d07dad5e4b9";
