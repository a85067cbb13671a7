//! The log as static files: written in steps, read back, checked to the last bit.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_receipt::log::{
    Checkpoint, Folder, Tiles as _, Tree, check, prove_inclusion, verify_inclusion,
};
use std::{collections::BTreeMap, fs, path::Path};
use support::{Store, entry, key};

const ORIGIN: &str = "fuelbox.dev/log/0123456789abcdef";

fn signed(tree: &Tree) -> String {
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() };
    checkpoint.sign(&key(7)).unwrap()
}

/// Writes a log of test entries of this size.
fn publish(folder: &Folder, size: u64) -> Result<Checkpoint, String> {
    let (tree, store) = Store::with(size);
    folder.publish(&store, &signed(&tree), &key(7).ring()).map_err(|error| error.to_string())
}

/// All files below, by their path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, at: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn new() -> (tempfile::TempDir, Folder) {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::new(temp.path().join("log"));
    (temp, folder)
}

#[test]
fn files_are_those_of_the_standard() {
    let (_temp, folder) = new();
    publish(&folder, 600).unwrap();
    let files = files(folder.path());
    let names: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect();
    assert_eq!(
        names,
        [
            ("checkpoint", 213),
            ("tile/0/000", 8192),
            ("tile/0/001", 8192),
            ("tile/0/002.p/88", 88 * 32),
            ("tile/1/000.p/2", 64),
            ("tile/entries/000", 256 * 34),
            ("tile/entries/001", 256 * 34),
            ("tile/entries/002.p/88", 88 * 34),
        ]
    );
    let bundle = &files["tile/entries/000"];
    assert_eq!(&bundle[..34], [&[0, 32], entry(0).as_bytes().as_slice()].concat());
}

#[test]
fn a_log_that_grows_is_written_in_steps() {
    let (_temp, folder) = new();
    for size in [0, 1, 1, 200, 256, 257, 600, 600, 1100] {
        let checkpoint = publish(&folder, size).unwrap();
        assert_eq!(checkpoint.size, size);
        assert_eq!(check(folder.path(), &key(7).ring()).unwrap(), checkpoint, "size {size}");
        let tree = Tree::load(size, &folder).unwrap();
        assert_eq!(tree.root(), checkpoint.root, "size {size}");
    }
    // Partial tiles stay for readers of earlier checkpoints until there is a full one.
    let names: Vec<String> = files(folder.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002",
            "tile/0/003",
            "tile/0/004.p/76",
            "tile/1/000.p/1",
            "tile/1/000.p/2",
            "tile/1/000.p/4",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002",
            "tile/entries/003",
            "tile/entries/004.p/76",
        ]
    );
    let proof = prove_inclusion(&folder, 1100, 700).unwrap();
    let root = Tree::load(1100, &folder).unwrap().root();
    verify_inclusion(&entry(700), 700, 1100, &root, &proof).unwrap();
}

#[test]
fn writing_again_touches_nothing() {
    let (_temp, folder) = new();
    publish(&folder, 600).unwrap();
    let inode = |name: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(folder.path().join(name)).unwrap())
    };
    let before: Vec<u64> = files(folder.path()).keys().map(|name| inode(name)).collect();
    publish(&folder, 600).unwrap();
    let after: Vec<u64> = files(folder.path()).keys().map(|name| inode(name)).collect();
    assert_eq!(before, after);
}

/// A process that ends while it writes leaves the log as it was; the next one writes the rest.
#[test]
fn a_log_that_was_not_written_to_its_end_is_whole() {
    let (_temp, folder) = new();
    let before = publish(&folder, 250).unwrap();
    let old = fs::read(folder.path().join("checkpoint")).unwrap();
    publish(&folder, 600).unwrap();
    fs::write(folder.path().join("checkpoint"), old).unwrap();
    // Partial tiles of 250 are gone, the full ones have them.
    assert_eq!(check(folder.path(), &key(7).ring()).unwrap(), before);
    fs::remove_file(folder.path().join("tile/entries/001")).unwrap();
    let after = publish(&folder, 600).unwrap();
    assert_eq!(check(folder.path(), &key(7).ring()).unwrap(), after);
}

#[test]
fn another_history_is_never_written_over() {
    let (_temp, folder) = new();
    publish(&folder, 600).unwrap();
    let before = files(folder.path());
    assert_eq!(
        publish(&folder, 599).unwrap_err(),
        "log: the folder has 600 entries, more than the 599 to publish"
    );
    let mut fork = Tree::new();
    for index in 0..700 {
        fork.append(&entry(if index == 300 { 0 } else { index }));
    }
    let text = signed(&fork);
    let mut store = Store::default();
    store.write(fork.take_changed());
    let found = folder.publish(&store, &text, &key(7).ring()).unwrap_err().to_string();
    assert!(
        found.starts_with("log: the folder's is not the beginning of the one to publish: proof: "),
        "{found}"
    );
    let (tree, mut store) = Store::with(700);
    let found = folder.publish(&store, &signed(&tree), &key(8).ring()).unwrap_err().to_string();
    assert!(found.starts_with("to publish: checkpoint: no signature"), "{found}");
    store.bundles.remove(&2);
    let found = folder.publish(&store, &signed(&tree), &key(7).ring()).unwrap_err().to_string();
    assert_eq!(found, "log is truncated: the store has 0 of 6392 bytes of tile/entries/002.p/188");
    let mut after = files(folder.path());
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after, before);
    assert_eq!(check(folder.path(), &key(7).ring()).unwrap().size, 600);
}

/// Every bit of every file of a small log; of a log with full tiles, bits at a distance that is a prime,
/// so that all places in bytes and hashes are met.
#[test]
fn every_flipped_bit_is_found_and_its_file_named() {
    for (size, step) in [(5, 1), (259, 151)] {
        let (_temp, folder) = new();
        publish(&folder, size).unwrap();
        let keys = key(7).ring();
        for (name, good) in files(folder.path()) {
            let path = folder.path().join(&name);
            for bit in (0..good.len() * 8).step_by(step) {
                let mut flipped = good.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, flipped).unwrap();
                let found = check(folder.path(), &keys).unwrap_err().to_string();
                // An entry that is still an entry shows up in the tile above it.
                let expected = match name.strip_prefix("tile/entries/") {
                    Some(number) if !found.contains(&name) => &format!("tile/0/{number}"),
                    Some(_) | None => &name,
                };
                assert!(found.contains(expected), "bit {bit} of {name}: {found}");
            }
            fs::write(&path, good).unwrap();
        }
        assert!(check(folder.path(), &keys).is_ok());
    }
}

#[test]
fn what_is_missing_or_cut_is_named() {
    let (_temp, folder) = new();
    let keys = key(7).ring();
    assert_eq!(check(folder.path(), &keys).unwrap_err().to_string(), "log: checkpoint is missing");
    publish(&folder, 600).unwrap();
    let table = [
        ("tile/0/000", "tile/0/000", 8192),
        ("tile/0/002.p/88", "tile/0/002.p/88", 2816),
        ("tile/1/000.p/2", "tile/1/000.p/2", 64),
        ("tile/entries/001", "tile/entries/001", 8704),
        ("tile/entries/002.p/88", "tile/entries/002.p/88", 2992),
    ];
    for (name, path, needed) in table {
        let file = folder.path().join(name);
        let good = fs::read(&file).unwrap();
        let found = || check(folder.path(), &keys).unwrap_err().to_string();
        fs::remove_file(&file).unwrap();
        assert_eq!(found(), format!("log is truncated: {path} is missing, needed for size 600"));
        fs::write(&file, &good[..needed - 1]).unwrap();
        assert_eq!(
            found(),
            format!("log is damaged: {path} has {} bytes, needed are {needed}", needed - 1)
        );
        fs::write(&file, [good.as_slice(), b"x"].concat()).unwrap();
        assert_eq!(
            found(),
            format!("log is damaged: {path} has {} bytes, needed are {needed}", needed + 1)
        );
        fs::write(&file, good).unwrap();
    }
    assert!(check(folder.path(), &keys).is_ok());
}

#[test]
fn a_damaged_folder_is_put_right_without_its_checkpoint() {
    let (_temp, folder) = new();
    let checkpoint = publish(&folder, 600).unwrap();
    let before = files(folder.path());
    fs::remove_file(folder.path().join("checkpoint")).unwrap();
    fs::remove_file(folder.path().join("tile/0/000")).unwrap();
    fs::write(folder.path().join("tile/entries/000"), "short").unwrap();
    fs::write(folder.path().join("tile/0/002.p/88"), vec![7; 10_000]).unwrap();
    assert_eq!(publish(&folder, 600).unwrap(), checkpoint);
    assert_eq!(files(folder.path()), before);
}

/// Whoever can write all files, but cannot sign, has the checkpoint against them.
#[test]
fn a_log_that_was_made_anew_does_not_fit_its_checkpoint() {
    let (_temp, folder) = new();
    publish(&folder, 300).unwrap();
    let text = fs::read(folder.path().join("checkpoint")).unwrap();
    let (_other_temp, other) = new();
    let mut fork = Tree::new();
    for index in 0..300 {
        fork.append(&entry(index + 1));
    }
    let mut store = Store::default();
    let checkpoint = signed(&fork);
    store.write(fork.take_changed());
    other.publish(&store, &checkpoint, &key(7).ring()).unwrap();
    fs::write(other.path().join("checkpoint"), text).unwrap();
    let found = check(other.path(), &key(7).ring()).unwrap_err().to_string();
    let signed = Store::with(300).0.root();
    assert_eq!(
        found,
        format!(
            "log is forged: its 300 entries have root {}, the checkpoint has {signed}",
            fork.root()
        )
    );
}

#[test]
fn what_is_not_there_is_none() {
    let (_temp, folder) = new();
    assert!(folder.hashes(0, 0).unwrap().is_none());
    assert!(folder.entries(0).unwrap().is_none());
    publish(&folder, 5).unwrap();
    assert_eq!(folder.hashes(0, 0).unwrap().unwrap().len(), 5 * 32);
    assert_eq!(folder.entries(0).unwrap().unwrap().len(), 5 * 34);
    assert!(folder.hashes(1, 0).unwrap().is_none());
    assert!(folder.entries(1).unwrap().is_none());
}
