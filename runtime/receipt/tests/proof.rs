//! Proofs against RFC 6962's definitions, as lists of hashes and as text.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::log::{
    Checkpoint, ConsistencyProof, InclusionProof, Tree, prove_consistency, prove_inclusion,
    verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use support::{Naive, Store, entry, key};

const ORIGIN: &str = "fuelbox.dev/log/0123456789abcdef";

fn checkpoint(tree: &Tree) -> Checkpoint {
    Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() }
}

/// The proof of an entry in a log of test entries.
fn inclusion(size: u64, index: u64) -> InclusionProof {
    let (tree, store) = Store::with(size);
    let hashes = prove_inclusion(&store, size, index).unwrap();
    InclusionProof { index, hashes, checkpoint: checkpoint(&tree).sign(&key(7)).unwrap() }
}

fn consistency(old: u64, size: u64) -> (Checkpoint, ConsistencyProof) {
    let (tree, store) = Store::with(size);
    let hashes = prove_consistency(&store, old, size).unwrap();
    let checkpoint_text = checkpoint(&tree).sign(&key(7)).unwrap();
    let earlier = checkpoint(&Store::with(old).0);
    (earlier, ConsistencyProof { old, hashes, checkpoint: checkpoint_text })
}

/// Every pair up to a size past the first tile, then every 11th of each size, and every one around the
/// end of the second tile: unoptimised, all of them take a minute.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let step = |size| if size <= 260 || (511..514).contains(&size) { 1 } else { 11 };
    (0..=600).flat_map(move |size| {
        (size % step(size)..=size).step_by(step(size)).map(move |at| (at, size))
    })
}

#[test]
fn inclusion_proofs_are_those_of_the_definition() {
    let naive = Naive::new((0..600).map(entry).collect());
    let (_, store) = Store::with(600);
    for (index, size) in pairs().filter(|(index, size)| index < size) {
        let proof = prove_inclusion(&store, size as u64, index as u64).unwrap();
        assert_eq!(proof, naive.path(index, size), "{index} of {size}");
        let (entry, root) = (entry(index as u64), naive.root(size));
        verify_inclusion(&entry, index as u64, size as u64, &root, &proof).unwrap();
    }
}

#[test]
fn consistency_proofs_are_those_of_the_definition() {
    let naive = Naive::new((0..600).map(entry).collect());
    let (_, store) = Store::with(600);
    for (old, size) in pairs() {
        let proof = prove_consistency(&store, old as u64, size as u64).unwrap();
        // The standard has none for an empty beginning.
        let expected = if old == 0 { Vec::new() } else { naive.proof(old, size) };
        assert_eq!(proof, expected, "{old} of {size}");
        let (old_root, root) = (naive.root(old), naive.root(size));
        verify_consistency(old as u64, &old_root, size as u64, &root, &proof).unwrap();
    }
}

#[test]
fn proofs_cross_levels() {
    let (tree, store) = Store::with(70_000);
    let old = Store::with(65_537).0;
    for index in [0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
        let proof = prove_inclusion(&store, 70_000, index).unwrap();
        verify_inclusion(&entry(index), index, 70_000, &tree.root(), &proof).unwrap();
    }
    let proof = prove_consistency(&store, 65_537, 70_000).unwrap();
    verify_consistency(65_537, &old.root(), 70_000, &tree.root(), &proof).unwrap();
}

/// A proof holds for one entry at one index of one tree, and for nothing else.
#[test]
fn a_proof_proves_one_thing() {
    let entries: Vec<Digest> = (0..40).map(entry).collect();
    let (_, store) = Store::with(40);
    let naive = Naive::new(entries.clone());
    let roots: Vec<Digest> = (0..=40).map(|size| naive.root(size)).collect();
    for size in 1..=40u64 {
        for index in 0..size {
            let proof = prove_inclusion(&store, size, index).unwrap();
            for other in 0..40u64 {
                let fits = |index, size: u64, entry: u64| {
                    let (entry, root) = (&entries[entry as usize], &roots[size as usize]);
                    verify_inclusion(entry, index, size, root, &proof).is_ok()
                };
                assert_eq!(fits(other, size, index), other == index);
                assert_eq!(fits(index, size, other), other == index);
                assert_eq!(fits(index, other + 1, index), other + 1 == size);
            }
            let root = &roots[size as usize];
            let mut longer = proof.clone();
            longer.push(entry(0));
            assert!(
                verify_inclusion(&entries[index as usize], index, size, root, &longer).is_err()
            );
            if let Some((_, shorter)) = proof.split_last() {
                assert!(
                    verify_inclusion(&entries[index as usize], index, size, root, shorter).is_err()
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let (_, mut store) = Store::with(600);
    let root = entry(0);
    let many = vec![root; 97];
    let proves = [
        (prove_inclusion(&store, 600, 600), "log: no entry 600 in 600 entries"),
        (prove_inclusion(&store, 0, 0), "log: no entry 0 in 0 entries"),
        (
            prove_inclusion(&store, u64::MAX, 0),
            "log: size 18446744073709551615, allowed are 281474976710656",
        ),
        (
            prove_inclusion(&store, 602, 601),
            "log is truncated: tile/0/002.p/90 has 88 of 89 hashes needed for size 602",
        ),
        (prove_consistency(&store, 601, 600), "log: 601 entries are not the beginning of 600"),
        (
            prove_consistency(&store, 1, 1 << 48),
            "log is truncated: tile/1/000 has 2 of 4 hashes needed for size 281474976710656",
        ),
        (
            prove_consistency(&store, 1, u64::MAX),
            "log: size 18446744073709551615, allowed are 281474976710656",
        ),
    ];
    for (found, expected) in proves {
        assert_eq!(found.unwrap_err().to_string(), expected);
    }
    store.tiles.get_mut(&(0, 1)).unwrap().pop();
    assert_eq!(
        prove_inclusion(&store, 600, 300).unwrap_err().to_string(),
        "log is forged: tile/0/001 is not a list of hashes"
    );
    let verifies = [
        (
            verify_inclusion(&root, 5, 5, &root, &[]),
            "proof: of entry 5 in a log of 5 entries".to_string(),
        ),
        (
            verify_inclusion(&root, 0, u64::MAX, &root, &[]),
            "proof: size 18446744073709551615, allowed are 281474976710656".into(),
        ),
        (verify_inclusion(&root, 0, 5, &root, &many), "proof: 97 hashes, allowed are 96".into()),
        (
            verify_inclusion(&root, 0, 1, &root, &[]),
            format!("proof: does not lead from entry {root} at 0 to root {root} of 1 entries"),
        ),
        (
            verify_consistency(6, &root, 5, &root, &[]),
            "proof: 6 entries are not the beginning of 5".into(),
        ),
        (
            verify_consistency(5, &root, 1 << 49, &root, &[]),
            "proof: size 562949953421312, allowed are 281474976710656".into(),
        ),
        (
            verify_consistency(4, &root, 5, &root, &[]),
            format!("proof: does not lead from root {root} of 4 entries to root {root} of 5"),
        ),
        (
            verify_consistency(0, &root, 5, &root, &[]),
            format!("proof: does not lead from root {root} of 0 entries to root {root} of 5"),
        ),
        (
            verify_consistency(0, &Digest::of(b""), 5, &root, &[root]),
            "proof: does not lead from root".into(),
        ),
        (
            verify_consistency(0, &Digest::of(b""), 0, &root, &[]),
            "proof: does not lead from root".into(),
        ),
        (verify_consistency(5, &root, 5, &entry(1), &[]), "proof: does not lead from root".into()),
    ];
    for (found, expected) in verifies {
        let found = found.unwrap_err().to_string();
        assert!(found.starts_with(&expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn text_and_proof_are_one_to_one() {
    for (size, index) in [(1, 0), (2, 1), (7, 3), (300, 299)] {
        let proof = inclusion(size, index);
        let text = proof.to_text();
        assert_eq!(InclusionProof::parse(&text).unwrap(), proof);
        let verified = proof.verify(&entry(index), &key(7).ring(), ORIGIN).unwrap();
        assert_eq!(verified.size, size);
    }
    for (old, size) in [(0, 0), (0, 5), (5, 5), (3, 8), (255, 300)] {
        let (earlier, proof) = consistency(old, size);
        assert_eq!(ConsistencyProof::parse(&proof.to_text()).unwrap(), proof);
        assert_eq!(proof.verify(&earlier, &key(7).ring()).unwrap().size, size);
    }
}

#[test]
fn what_is_no_proof_is_refused_with_a_reason() {
    let text = inclusion(7, 3).to_text();
    let table = [
        (
            text.replacen("@v1", "@v2", 1),
            "proof: first line 'c2sp.org/tlog-proof@v2', allowed is 'c2sp.org/tlog-proof@v1'",
        ),
        (
            text.replacen("\nindex", "\nextra AAAA\nindex", 1),
            "proof: found an 'extra' line, allowed is none",
        ),
        (
            text.replacen("index 3", "index 03", 1),
            "proof: second line 'index 03', allowed is 'index' and a number",
        ),
        (
            text.replacen("index 3", "index +3", 1),
            "proof: second line 'index +3', allowed is 'index' and a number",
        ),
        (
            text.replacen("index 3", "index 18446744073709551616", 1),
            "proof: second line 'index 18446744073709551616', allowed is",
        ),
        (text.replacen("index 3", "index 2", 1), "proof: does not lead from entry"),
        (text.replacen("index 3", "index 7", 1), "proof: of entry 7 in a log of 7 entries"),
        (
            text.replacen("index 3\n", "index 3\nAAAA\n", 1),
            "proof: line 3 'AAAA' is not a hash of 32 bytes in base64",
        ),
        (
            text.replacen("\n\n", "\n", 1).replacen("\n\n", "\n", 1),
            "proof: no empty line with a checkpoint behind it",
        ),
        (
            text.replacen("log/0", "log/1", 1),
            "checkpoint: of log 'fuelbox.dev/log/1123456789abcdef', allowed is 'fuelbox.dev/log/0123456789abcdef'",
        ),
        (text.replace('\n', "\r\n"), "proof: no empty line"),
        (format!("{text}\n"), "checkpoint: not a signed note"),
        ("x".repeat(40_000), "proof: 40000 bytes, allowed are 37344"),
        (
            consistency(3, 8).1.to_text(),
            "proof: first line 'fuelbox.dev/log-consistency@v1', allowed is 'c2sp.org/tlog-proof@v1'",
        ),
    ];
    for (text, expected) in table {
        let found = verify(&text).unwrap_err();
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
    let (earlier, proof) = consistency(3, 8);
    let shorter = Checkpoint { size: 2, ..earlier.clone() };
    let other = Checkpoint { root: entry(0), ..earlier.clone() };
    let another_log = Checkpoint { origin: "other".into(), ..earlier };
    for (earlier, expected) in [
        (shorter, "proof: begins at 3 entries, needed is 2"),
        (other, "proof: does not lead from root"),
        (another_log, "checkpoint: of log 'fuelbox.dev/log/0123456789abcdef', allowed is 'other'"),
    ] {
        let found = proof.verify(&earlier, &key(7).ring()).unwrap_err().to_string();
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

/// Whether the text proves that entry 3 is in.
fn verify(text: &str) -> Result<(), String> {
    let proof = InclusionProof::parse(text).map_err(|error| error.to_string())?;
    proof.verify(&entry(3), &key(7).ring(), ORIGIN).map(drop).map_err(|error| error.to_string())
}

#[test]
fn every_flipped_bit_is_refused() {
    let text = inclusion(7, 3).to_text().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = String::from_utf8(flipped).map_or(true, |text| verify(&text).is_err());
        assert!(refused, "bit {bit}");
    }
    let (earlier, proof) = consistency(3, 7);
    let text = proof.to_text().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(text) = String::from_utf8(flipped) else { continue };
        let Ok(proof) = ConsistencyProof::parse(&text) else { continue };
        assert!(proof.verify(&earlier, &key(7).ring()).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(c2sp.org/tlog-proof@v1\nindex )?[0-9]{0,30}\n(.|\n){0,300}") {
        let _ = InclusionProof::parse(&text);
        let _ = ConsistencyProof::parse(&text);
    }

    #[test]
    fn any_numbers_are_taken_without_a_panic(
        index in any::<u64>(), size in any::<u64>(), bits in 0..64u32, count in 0..100usize,
    ) {
        let (index, size) = (index >> bits, size >> bits);
        let proof = vec![entry(1); count];
        prop_assert!(verify_inclusion(&entry(1), index, size, &entry(1), &proof).is_err());
        let _ = verify_consistency(index, &entry(1), size, &entry(1), &proof);
        let _ = prove_inclusion(&Store::default(), size, index);
        let _ = prove_consistency(&Store::default(), index, size);
    }

    #[test]
    fn mutated_proofs_are_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..128u8, 0..3u8), 1..4),
    ) {
        let good = GOOD.with(Clone::clone);
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
            prop_assert_eq!(verify(&text).is_ok(), text == good);
        }
    }
}

thread_local! {
    static GOOD: String = inclusion(7, 3).to_text();
}
