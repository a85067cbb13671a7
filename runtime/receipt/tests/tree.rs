//! The Merkle tree against RFC 6962's definitions: roots, tiles, and what is written when.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::log::{
    ENTRY_BYTES, HASH_BYTES, TileUpdate, Tree, bundle_entries, bundle_path, tile_path,
};
use support::{Naive, Store, entry};

#[test]
fn roots_are_those_of_the_definition() {
    let naive = Naive::new((0..600).map(entry).collect());
    let mut tree = Tree::new();
    // The empty tree, as RFC 6962 has it.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(tree.root().hex(), empty);
    let mut store = Store::default();
    for size in 1..=600 {
        assert_eq!(tree.append(&entry(size as u64 - 1)), size as u64 - 1);
        assert_eq!(tree.root(), naive.root(size), "size {size}");
        store.write(tree.take_changed());
        let mut loaded = Tree::load(size as u64, &store).unwrap();
        assert_eq!((loaded.size(), loaded.root()), (size as u64, tree.root()), "size {size}");
        assert_eq!(loaded.take_changed(), Default::default(), "size {size}");
    }
}

/// A tree that is loaded goes on as if it had never been away, wherever it was cut.
#[test]
fn a_loaded_tree_appends_the_same_tiles() {
    for cut in [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 700] {
        let (_, mut store) = Store::with(cut);
        let mut tree = Tree::load(cut, &store).unwrap();
        for index in cut..900 {
            tree.append(&entry(index));
        }
        store.write(tree.take_changed());
        let (whole, expected) = Store::with(900);
        assert_eq!(tree.root(), whole.root(), "cut {cut}");
        assert_eq!((store.tiles, store.bundles), (expected.tiles, expected.bundles), "cut {cut}");
    }
}

/// A store may have more than was committed: what is behind the size does not count.
#[test]
fn a_tree_is_loaded_from_a_store_that_is_ahead() {
    let (_, store) = Store::with(900);
    let (tree, _) = Store::with(800);
    assert_eq!(Tree::load(800, &store).unwrap().root(), tree.root());
}

#[test]
fn few_tiles_change() {
    let shape = |changed: Vec<TileUpdate>| -> Vec<(u8, u64, usize)> {
        let width = |tile: &TileUpdate| tile.hashes.len() / HASH_BYTES;
        changed.iter().map(|tile| (tile.level, tile.index, width(tile))).collect()
    };
    let mut tree = Tree::new();
    let mut append = |count: u64| {
        for _ in 0..count {
            tree.append(&entry(tree.size()));
        }
        let changed = tree.take_changed();
        let bundle = |(index, bytes): (u64, usize)| (index, bytes / ENTRY_BYTES);
        let bundles: Vec<_> =
            changed.bundles.iter().map(|b| bundle((b.index, b.entries.len()))).collect();
        (shape(changed.tiles), bundles)
    };
    assert_eq!(append(0), (vec![], vec![]));
    assert_eq!(append(1), (vec![(0, 0, 1)], vec![(0, 1)]));
    assert_eq!(append(2), (vec![(0, 0, 3)], vec![(0, 3)]));
    assert_eq!(append(253), (vec![(0, 0, 256), (1, 0, 1)], vec![(0, 256)]));
    assert_eq!(append(1), (vec![(0, 1, 1)], vec![(1, 1)]));
    assert_eq!(append(256), (vec![(0, 1, 256), (0, 2, 1), (1, 0, 2)], vec![(1, 256), (2, 1)]));
    // What was full and taken is not written again.
    assert_eq!(append(255), (vec![(0, 2, 256), (1, 0, 3)], vec![(2, 256)]));
}

/// The example of C2SP's tlog-tiles: a log of 70,000 entries.
#[test]
fn seventy_thousand_entries_cross_a_level() {
    let (tree, store) = Store::with(70_000);
    let entries: Vec<Digest> = (0..70_000).map(entry).collect();
    let naive = Naive::new(entries.clone());
    assert_eq!(tree.root(), naive.root(70_000));
    let widths = |level: u8| -> Vec<usize> {
        let tiles = store.tiles.iter().filter(|((of, _), _)| *of == level);
        tiles.map(|(_, hashes)| hashes.len() / HASH_BYTES).collect()
    };
    let full = |count: usize, last: usize| [vec![256; count], vec![last]].concat();
    assert_eq!(widths(0), full(273, 112));
    assert_eq!(widths(1), full(1, 17));
    assert_eq!(widths(2), [1]);
    assert!(widths(3).is_empty());
    assert_eq!(Tree::load(70_000, &store).unwrap().root(), tree.root());
    // The tiles' own definition: MTH(D[(n * 256 + i) * 256^l : (n * 256 + i + 1) * 256^l]).
    let at = |level: u8, index: u64, i: usize| {
        Digest::from_bytes(
            store.tiles[&(level, index)][i * HASH_BYTES..][..HASH_BYTES].try_into().unwrap(),
        )
    };
    assert_eq!(at(0, 273, 111), naive.hash(69_999, 70_000));
    assert_eq!(at(1, 1, 16), naive.hash(272 * 256, 273 * 256));
    assert_eq!(at(2, 0, 0), naive.root(65_536));
    let bundled: Vec<Digest> =
        store.bundles.values().flat_map(|bundle| bundle_entries(bundle).unwrap()).collect();
    assert_eq!(bundled, entries);
}

#[test]
fn a_store_that_lacks_something_is_not_loaded() {
    type Change = fn(&mut Store);
    let table: [(Change, &str); 9] = [
        (
            |s| drop(s.tiles.remove(&(0, 2))),
            "log is truncated: tile/0/002.p/88 has 0 of 88 needed for size 600",
        ),
        (
            |s| drop(s.tiles.get_mut(&(0, 2)).unwrap().split_off(32 * 87)),
            "log is truncated: tile/0/002.p/88 has 87 of 88 needed for size 600",
        ),
        (
            |s| drop(s.tiles.remove(&(1, 0))),
            "log is truncated: tile/1/000.p/2 has 0 of 2 needed for size 600",
        ),
        (
            |s| drop(s.bundles.remove(&2)),
            "log is truncated: tile/entries/002.p/88 has 0 of 88 needed for size 600",
        ),
        (
            |s| s.tiles.get_mut(&(1, 0)).unwrap().truncate(63),
            "log is forged: tile/1/000.p/2 does not fit the entries",
        ),
        (
            |s| s.bundles.get_mut(&2).unwrap().truncate(88 * 34 - 1),
            "log is forged: tile/entries/002.p/88 does not fit the entries",
        ),
        (
            |s| s.bundles.get_mut(&2).unwrap()[1] ^= 1,
            "log is forged: tile/entries/002.p/88 does not fit the entries",
        ),
        (
            |s| s.bundles.get_mut(&2).unwrap()[2] ^= 1,
            "log is forged: tile/0/002.p/88 does not fit the entries",
        ),
        (
            |s| s.tiles.get_mut(&(0, 2)).unwrap()[0] ^= 1,
            "log is forged: tile/0/002.p/88 does not fit the entries",
        ),
    ];
    for (change, expected) in table {
        let (_, mut store) = Store::with(600);
        change(&mut store);
        assert_eq!(Tree::load(600, &store).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        Tree::load(u64::MAX, &Store::default()).unwrap_err().to_string(),
        "log: size 18446744073709551615, allowed are 281474976710656"
    );
}

#[test]
fn paths_are_those_of_the_standard() {
    for (path, expected) in [
        (tile_path(0, 0, 1), "tile/0/000.p/1"),
        (tile_path(0, 999, 256), "tile/0/999"),
        (tile_path(1, 1000, 255), "tile/1/x001/000.p/255"),
        (tile_path(6, 1_234_067, 256), "tile/6/x001/x234/067"),
        (bundle_path(1_067, 12), "tile/entries/x001/067.p/12"),
    ] {
        assert_eq!(path, expected);
    }
}
