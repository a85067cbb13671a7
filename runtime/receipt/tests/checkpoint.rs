//! Signed checkpoints: what is taken, and what is refused.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::{KeyRing, log::Checkpoint};
use proptest::prelude::*;
use support::{Store, key};

const ORIGIN: &str = "fuelbox.dev/log/0123456789abcdef";

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN.into(), size, root: Store::with(size).0.root() }
}

fn text() -> String {
    checkpoint(5).sign(&key(7)).unwrap()
}

/// Signs lines of any kind, without the code under test.
fn note(lines: &str, secret: u8) -> String {
    let signing = ed25519_dalek::SigningKey::from_bytes(&[secret; 32]);
    let id = signed_note::key_id(
        ORIGIN,
        &[&[1], signing.verifying_key().as_bytes().as_slice()].concat(),
    );
    let signature = ed25519_dalek::Signer::sign(&signing, lines.as_bytes()).to_bytes().to_vec();
    let signature = signed_note::Signature::new(ORIGIN.into(), id, signature).unwrap();
    let note = signed_note::Note::new(lines.as_bytes(), &[signature]).unwrap();
    String::from_utf8(note.to_bytes()).unwrap()
}

#[test]
fn what_was_signed_is_what_is_opened() {
    for size in [0, 1, 5, 300] {
        let checkpoint = checkpoint(size);
        let text = checkpoint.sign(&key(7)).unwrap();
        assert_eq!(Checkpoint::open(&text, &key(7).ring(), ORIGIN).unwrap(), checkpoint);
        assert_eq!(Checkpoint::open_any(&text, &key(7).ring()).unwrap(), checkpoint);
    }
}

/// Another implementation of signed notes takes what this one signs.
#[test]
fn a_checkpoint_is_a_signed_note() {
    let verifier = signed_note::StandardVerifier::new(&key(7).note_key(ORIGIN)).unwrap();
    let note = signed_note::Note::from_bytes(text().as_bytes()).unwrap();
    let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    let (verified, unverified) = note.verify(&known).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
}

#[test]
fn keys_rotate_and_witnesses_sign_too() {
    let (old, new) = (key(1), key(7));
    let mut keys = old.ring();
    keys.extend(new.ring());
    for key in [&old, &new] {
        let text = checkpoint(5).sign(key).unwrap();
        assert!(Checkpoint::open(&text, &keys, ORIGIN).is_ok());
    }
    let witness = "\u{2014} witness.example mJirIklqcmFuZG9tIGJ5dGVzIG9mIGEgd2l0bmVzcw==\n";
    let text = text() + witness;
    assert_eq!(Checkpoint::open(&text, &keys, ORIGIN).unwrap(), checkpoint(5));
}

#[test]
fn what_is_no_checkpoint_is_refused_with_a_reason() {
    let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let signed = |lines: &str| note(&lines.replace("ROOT", root), 7);
    let text = text();
    let other_root = checkpoint(6).root;
    let forged = text.replace("\n5\n", "\n6\n");
    let id = u32::from_str_radix(&key(7).note_key(ORIGIN)[ORIGIN.len() + 1..][..8], 16).unwrap();
    let table = [
        (
            String::new(),
            "checkpoint: not a signed note: text, an empty line, and signature lines".to_string(),
        ),
        (text.replace('\n', "\r\n"), "checkpoint: not a signed note".into()),
        (text.trim_end().into(), "checkpoint: not a signed note".into()),
        (text.split_once("\n\n").unwrap().0.into(), "checkpoint: not a signed note".into()),
        (forged, format!("checkpoint: the signature by key {id:08x} does not fit the text")),
        (
            note(&format!("{ORIGIN}\n5\n{root}\n"), 8),
            format!("checkpoint: no signature by one of the 1 known keys for '{ORIGIN}'"),
        ),
        (
            text.replace("log/0123", "log/1123"),
            format!("checkpoint: of log 'fuelbox.dev/log/1123456789abcdef', allowed is '{ORIGIN}'"),
        ),
        (
            text.replace("\u{2014} fuelbox.dev/log/0", "\u{2014} fuelbox.dev/log/1"),
            format!("checkpoint: no signature by one of the 1 known keys for '{ORIGIN}'"),
        ),
        (
            signed(&format!("{ORIGIN}\n5\nROOT\nmore\n")),
            "checkpoint: found extension lines, allowed are none".into(),
        ),
        (
            signed(&format!("{ORIGIN}\n05\nROOT\n")),
            "checkpoint: not three lines of origin, size and root".into(),
        ),
        (signed(&format!("{ORIGIN}\n-5\nROOT\n")), "checkpoint: not three lines".into()),
        (
            signed(&format!("{ORIGIN}\n18446744073709551616\nROOT\n")),
            "checkpoint: not three lines".into(),
        ),
        (signed(&format!("{ORIGIN}\n5\n{}\n", &root[..40])), "checkpoint: not three lines".into()),
        (
            signed(&format!("{ORIGIN}\n5\n{}\n", root.replace("uFU=", "uFV="))),
            "checkpoint: not three lines".into(),
        ),
        (signed(&format!("{ORIGIN}\n5\n")), "checkpoint: not three lines".into()),
        (
            signed(&format!("{ORIGIN}\n281474976710657\nROOT\n")),
            "checkpoint: size 281474976710657, allowed are 281474976710656".into(),
        ),
        (
            signed(&format!("{ORIGIN}\n0\n{}\n", "A".repeat(43) + "=")),
            format!(
                "checkpoint: size 0 with root {}, which is not that of the empty log",
                Digest::from_bytes([0; 32])
            ),
        ),
        ("x".repeat(40_000), "checkpoint: 40000 bytes, allowed are 32768".into()),
    ];
    for (text, expected) in table {
        let found = Checkpoint::open(&text, &key(7).ring(), ORIGIN).unwrap_err().to_string();
        assert!(found.starts_with(&expected), "found    {found}\nexpected {expected}");
    }
    assert_eq!(
        Checkpoint::open(&text, &KeyRing::default(), ORIGIN).unwrap_err().to_string(),
        format!("checkpoint: no signature by one of the 0 known keys for '{ORIGIN}'")
    );
    for origin in ["", "a b", "a+b", "a\nb", "a\u{1b}b"] {
        let checkpoint = Checkpoint { origin: origin.into(), size: 6, root: other_root };
        let found = checkpoint.sign(&key(7)).unwrap_err().to_string();
        assert!(found.ends_with("allowed is a name without spaces and plus signs"), "{found}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let text = text().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(text) = String::from_utf8(flipped) {
            assert!(Checkpoint::open(&text, &key(7).ring(), ORIGIN).is_err(), "bit {bit}");
            assert!(Checkpoint::open_any(&text, &key(7).ring()).is_err(), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(.|\n){0,200}\n\n(\u{2014} [a-z]{1,5} [A-Za-z0-9+/]{0,80}=?=?\n){0,3}") {
        let _ = Checkpoint::open_any(&text, &key(7).ring());
    }

    #[test]
    fn mutated_checkpoints_are_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..128u8, 0..3u8), 1..4),
    ) {
        let good = text();
        let mut bytes = good.clone().into_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(text) = String::from_utf8(bytes) {
            let opened = Checkpoint::open(&text, &key(7).ring(), ORIGIN);
            prop_assert!(opened.is_err() || text == good);
        }
    }
}
