//! What the tests of this crate share: a receipt with every field filled in, fixed keys, a store in
//! memory, and RFC 6962 once more from its definitions alone.

#![allow(dead_code)] // every test file uses a part of it

use fuelbox_digest::Digest;
use fuelbox_receipt::{
    HostKey, Receipt,
    log::{Changed, ENTRY_BYTES, HASH_BYTES, Tiles, Tree},
    receipt::{Asset, FORMAT, Limits, Load, Price, Usage, Verdict},
};
use std::{cell::RefCell, collections::BTreeMap, convert::Infallible};

/// A receipt whose fields all differ from each other.
pub(crate) fn receipt() -> Receipt {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let asset = |name: &str| Asset { name: name.into(), digest: digest(name) };
    Receipt {
        output: digest("output"),
        format: FORMAT.into(),
        job: "0192f0c4-7a3e-7c11-8d2b-3f5a6b7c8d9e".into(),
        package: digest("package"),
        guest: digest("guest"),
        image: digest("image"),
        assets: vec![asset("model.onnx"), asset("labels.txt")],
        input: digest("input"),
        parameters: digest("parameters"),
        seed: 18_446_744_073_709_551_615,
        profile: digest("profile"),
        limits: Limits {
            fuel: 252_512,
            memory_bytes: 2_424_832,
            input_bytes: 16_777_216,
            output_bytes: 16_777_217,
            log_bytes: 65_536,
        },
        usage: Usage { fuel: 126_256, memory_bytes_peak: 1_900_544 },
        verdict: Verdict { name: "completed".into(), kind: None },
        replayable: true,
        load: Some(Load { fuel: 5_021_337, credits_micro: 502 }),
        price: Price {
            schedule: digest("schedule"),
            version: 3,
            credits_micro: 1_263,
            publisher_micro: 126,
        },
        payer: "acct:alice".into(),
        publisher: "acct:bob".into(),
        finished_unix_ms: 1_795_000_000_123,
    }
}

/// A key that signs nothing outside of tests: its secret is one byte, 32 times.
pub(crate) fn key(byte: u8) -> HostKey {
    HostKey::from_secret(&[byte; 32])
}

/// The entries of test logs.
pub(crate) fn entry(index: u64) -> Digest {
    Digest::of(&index.to_be_bytes())
}

/// A store of tiles that gives what was put in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) tiles: BTreeMap<(u8, u64), Vec<u8>>,
    pub(crate) bundles: BTreeMap<u64, Vec<u8>>,
}

impl Store {
    /// What a store does before its commit.
    pub(crate) fn write(&mut self, changed: Changed) {
        for tile in changed.tiles {
            assert_eq!(tile.hashes.len() % HASH_BYTES, 0);
            self.tiles.insert((tile.level, tile.index), tile.hashes);
        }
        for bundle in changed.bundles {
            assert_eq!(bundle.entries.len() % ENTRY_BYTES, 0);
            self.bundles.insert(bundle.index, bundle.entries);
        }
    }

    /// A log of this many test entries, and the store that has it.
    pub(crate) fn with(size: u64) -> (Tree, Self) {
        let (mut tree, mut store) = (Tree::new(), Self::default());
        for index in 0..size {
            assert_eq!(tree.append(&entry(index)), index);
        }
        store.write(tree.take_changed());
        (tree, store)
    }
}

impl Tiles for Store {
    type Error = Infallible;

    fn hashes(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.tiles.get(&(level, index)).cloned())
    }

    fn entries(&self, index: u64) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.bundles.get(&index).cloned())
    }
}

/// RFC 6962, section 2.1, word for word. Hashes of subtrees are remembered: nothing else makes it fast.
pub(crate) struct Naive {
    entries: Vec<Digest>,
    known: RefCell<BTreeMap<(usize, usize), Digest>>,
}

impl Naive {
    pub(crate) fn new(entries: Vec<Digest>) -> Self {
        Self { entries, known: RefCell::default() }
    }

    /// MTH(D[0:size]).
    pub(crate) fn root(&self, size: usize) -> Digest {
        self.hash(0, size)
    }

    /// MTH(D[from:to]).
    pub(crate) fn hash(&self, from: usize, to: usize) -> Digest {
        if let Some(known) = self.known.borrow().get(&(from, to)) {
            return *known;
        }
        let hash = match to - from {
            0 => Digest::of(&[]),
            1 => Digest::of(&[&[0], self.entries[from].as_bytes().as_slice()].concat()),
            count => {
                let middle = from + split(count);
                let (left, right) = (self.hash(from, middle), self.hash(middle, to));
                Digest::of(&[&[1], left.as_bytes().as_slice(), right.as_bytes()].concat())
            }
        };
        self.known.borrow_mut().insert((from, to), hash);
        hash
    }

    /// PATH(index, D[0:size]).
    pub(crate) fn path(&self, index: usize, size: usize) -> Vec<Digest> {
        self.path_in(index, 0, size)
    }

    fn path_in(&self, index: usize, from: usize, to: usize) -> Vec<Digest> {
        if to - from == 1 {
            return Vec::new();
        }
        let middle = from + split(to - from);
        let (mut path, sibling) = if index < middle {
            (self.path_in(index, from, middle), self.hash(middle, to))
        } else {
            (self.path_in(index, middle, to), self.hash(from, middle))
        };
        path.push(sibling);
        path
    }

    /// PROOF(old, D[0:size]).
    pub(crate) fn proof(&self, old: usize, size: usize) -> Vec<Digest> {
        self.subproof(old, 0, size, true)
    }

    fn subproof(&self, old: usize, from: usize, to: usize, whole: bool) -> Vec<Digest> {
        if old == to {
            return if whole { Vec::new() } else { vec![self.hash(from, to)] };
        }
        let middle = from + split(to - from);
        let (mut proof, sibling) = if old <= middle {
            (self.subproof(old, from, middle, whole), self.hash(middle, to))
        } else {
            (self.subproof(old, middle, to, false), self.hash(from, middle))
        };
        proof.push(sibling);
        proof
    }
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// DSSE's signature of any payload, made without the code under test.
pub(crate) fn sign_payload(secret: u8, payload: &[u8]) -> [u8; 64] {
    use ed25519_dalek::Signer as _;
    let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
    let message = [head.as_bytes(), payload].concat();
    ed25519_dalek::SigningKey::from_bytes(&[secret; 32]).sign(&message).to_bytes()
}
