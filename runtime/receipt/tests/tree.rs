//! The Merkle tree against RFC 6962's definitions.

mod support;

use fuelbox_digest::Digest;
use fuelbox_receipt::log::Tree;
use support::{Store, entry, naive};

#[test]
fn roots_are_those_of_the_definition() {
    let entries: Vec<Digest> = (0..600).map(entry).collect();
    let mut tree = Tree::new();
    assert_eq!(
        tree.root().hex(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let mut store = Store::default();
    for size in 1..=600 {
        tree.append(&entries[size - 1]);
        assert_eq!(tree.root(), naive::root(&entries[..size]), "size {size}");
        store.write(tree.take_changed());
        let loaded = Tree::load(size as u64, &store).unwrap();
        assert_eq!(loaded.root(), tree.root(), "size {size}");
    }
}
