//! The right edge of a log in memory: all that it takes to append.
//!
//! Entries go in; which tiles and bundles have to be written comes out. The tree holds one hash for each
//! full subtree and the last tile of each level: at most 16 KiB and the last bundle, for any size.

use super::{
    SIZE_MAX,
    tile::{
        BundleUpdate, ENTRY_BYTES, LEVELS, TILE_WIDTH, TileUpdate, Tiles, bundle_entries,
        bundle_path, join_hashes, leaf_hash, level_widths, node_hash, push_entry, split_hashes,
        subtree_hash, tile_path,
    },
};
use fuelbox_digest::Digest;

/// A log that entries are appended to.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the full subtrees, largest first: one for each bit of the size.
    edge: Vec<Digest>,
    /// The last tile of each level, if it is not full.
    levels: Vec<LastTile>,
    /// The last bundle, if it is not full.
    bundle: Vec<u8>,
    /// What became full since the last look.
    full: Changed,
    /// Whether the last bundle has grown since the last look.
    bundle_changed: bool,
}

/// The last tile of a level. Empty when the one before is full.
#[derive(Clone, Debug, Default)]
struct LastTile {
    index: u64,
    hashes: Vec<Digest>,
    /// Whether it has grown since the last look.
    changed: bool,
}

/// What has to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Each tile once.
    pub tiles: Vec<TileUpdate>,
    /// Each bundle once.
    pub bundles: Vec<BundleUpdate>,
}

/// Why a log cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// The store failed.
    #[error(transparent)]
    Tiles(#[from] E),
    /// More than there can be.
    #[error("log: size {found}, allowed are {SIZE_MAX}")]
    Size { found: u64 },
    /// A tile or bundle is missing or too narrow.
    #[error("log is truncated: {path} has {found} of {needed} needed for size {size}")]
    Truncated { path: String, found: usize, needed: usize, size: u64 },
    /// Bytes that are no hashes or entries, or entries that do not give the hashes.
    #[error("log is forged: {path} does not fit the entries")]
    Forged { path: String },
}

impl Tree {
    /// A log without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The log of the first `size` entries of a store. What the store has beyond them is not looked at,
    /// and is written over by appending.
    ///
    /// # Errors
    /// When the store has less than that, or its last entries do not fit its last hashes. The caller
    /// compares [`Tree::root`] with a checkpoint.
    pub fn load<T: Tiles>(size: u64, tiles: &T) -> Result<Self, LoadError<T::Error>> {
        if size > SIZE_MAX {
            return Err(LoadError::Size { found: size });
        }
        let mut tree = Self { size, ..Self::default() };
        for level in 0..LEVELS {
            let (index, width) = level_widths(size, level);
            let mut hashes = Vec::new();
            if width > 0 {
                let path = tile_path(level, index, width);
                let bytes = tiles.hashes(level, index)?.unwrap_or_default();
                hashes =
                    split_hashes(&bytes).ok_or_else(|| LoadError::Forged { path: path.clone() })?;
                truncate(&mut hashes, width, size, &path)?;
            }
            tree.levels.push(LastTile { index, hashes, changed: false });
        }
        tree.load_bundle(tiles)?;
        tree.edge = tree.levels.iter().rev().flat_map(|last| subtrees(&last.hashes)).collect();
        Ok(tree)
    }

    fn load_bundle<T: Tiles>(&mut self, tiles: &T) -> Result<(), LoadError<T::Error>> {
        let (index, width) = level_widths(self.size, 0);
        if width == 0 {
            return Ok(());
        }
        let path = bundle_path(index, width);
        let bytes = tiles.entries(index)?.unwrap_or_default();
        let mut entries =
            bundle_entries(&bytes).ok_or_else(|| LoadError::Forged { path: path.clone() })?;
        truncate(&mut entries, width, self.size, &path)?;
        let hashes = self.levels.first().map(|last| last.hashes.as_slice()).unwrap_or_default();
        if !entries.iter().map(leaf_hash).eq(hashes.iter().copied()) {
            return Err(LoadError::Forged { path: tile_path(0, index, width) });
        }
        entries.iter().for_each(|entry| push_entry(&mut self.bundle, entry));
        Ok(())
    }

    /// Appends an entry, and says at which index it is.
    pub fn append(&mut self, entry: &Digest) -> u64 {
        let index = self.size;
        push_entry(&mut self.bundle, entry);
        self.bundle_changed = true;
        if self.bundle.len() == TILE_WIDTH * ENTRY_BYTES {
            let entries = std::mem::take(&mut self.bundle);
            let index = index / TILE_WIDTH as u64;
            self.full.bundles.push(BundleUpdate { index, entries });
            self.bundle_changed = false;
        }
        let mut hash = leaf_hash(entry);
        self.push_hash(0, hash);
        // Each trailing one bit of the size is a full subtree that this one completes to a larger one.
        for height in 1..=index.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                hash = node_hash(&left, &hash);
            }
            if height % 8 == 0 {
                self.push_hash((height / 8) as usize, hash);
            }
        }
        self.edge.push(hash);
        self.size += 1;
        index
    }

    fn push_hash(&mut self, level: usize, hash: Digest) {
        if level == self.levels.len() {
            self.levels.push(LastTile::default());
        }
        let last = &mut self.levels[level];
        last.hashes.push(hash);
        last.changed = true;
        if last.hashes.len() == TILE_WIDTH {
            self.full.tiles.push(last.update(level));
            *last = LastTile { index: last.index + 1, ..LastTile::default() };
        }
    }

    /// How many entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// RFC 6962's tree hash of all entries.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.edge.iter().rev().copied();
        let last = subtrees.next().unwrap_or_else(|| Digest::of(b""));
        subtrees.fold(last, |right, left| node_hash(&left, &right))
    }

    /// What has grown since the tree was made or this was called last: what a store has to write before
    /// it says that the entries are in.
    pub fn take_changed(&mut self) -> Changed {
        let mut changed = std::mem::take(&mut self.full);
        for (level, last) in self.levels.iter_mut().enumerate() {
            if std::mem::take(&mut last.changed) {
                changed.tiles.push(last.update(level));
            }
        }
        if std::mem::take(&mut self.bundle_changed) {
            changed.bundles.push(self.last_bundle());
        }
        changed
    }

    /// Tiles and bundles that are full, without those that still grow.
    pub(super) fn take_full(&mut self) -> Changed {
        std::mem::take(&mut self.full)
    }

    /// Tiles and bundles that are not full, changed or not.
    pub(super) fn partial(&self) -> Changed {
        let levels = self.levels.iter().enumerate();
        let tiles = levels.filter(|(_, last)| !last.hashes.is_empty());
        let tiles = tiles.map(|(level, last)| last.update(level)).collect();
        let bundles = if self.bundle.is_empty() { Vec::new() } else { vec![self.last_bundle()] };
        Changed { tiles, bundles }
    }

    fn last_bundle(&self) -> BundleUpdate {
        BundleUpdate { index: self.size / TILE_WIDTH as u64, entries: self.bundle.clone() }
    }
}

impl LastTile {
    fn update(&self, level: usize) -> TileUpdate {
        TileUpdate { level: level as u8, index: self.index, hashes: join_hashes(&self.hashes) }
    }
}

/// The roots of the full subtrees of a tile, largest first.
fn subtrees(mut hashes: &[Digest]) -> Vec<Digest> {
    let mut roots = Vec::new();
    while !hashes.is_empty() {
        let (subtree, rest) = hashes.split_at(1 << hashes.len().ilog2());
        roots.push(subtree_hash(subtree));
        hashes = rest;
    }
    roots
}

fn truncate<E: std::error::Error>(
    digests: &mut Vec<Digest>,
    needed: usize,
    size: u64,
    path: &str,
) -> Result<(), LoadError<E>> {
    if digests.len() < needed {
        let found = digests.len();
        return Err(LoadError::Truncated { path: path.into(), found, needed, size });
    }
    digests.truncate(needed);
    Ok(())
}
