//! Proofs: that an entry is in a log, and that a log has all of an earlier one.
//!
//! A proof is a list of hashes of subtrees (RFC 6962, 2.1.1 and 2.1.2). Making one reads tiles and
//! believes them; checking one reads nothing, and believes the root alone.

use super::{
    SIZE_MAX, TILE_WIDTH,
    tile::{Tiles, leaf_hash, level_widths, split_hashes, subtree_hash, tile_path},
};
use fuelbox_digest::Digest;
use std::{cell::RefCell, collections::BTreeMap};
use tlog_tiles::{Hash, HashReader};

/// Hashes of a proof: two for each level of the largest log is more than any has.
pub(crate) const HASHES_MAX: usize = 2 * SIZE_MAX.ilog2() as usize;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProveError<E: std::error::Error + 'static> {
    /// The store failed.
    #[error(transparent)]
    Tiles(E),
    /// No such entry.
    #[error("log: no entry {index} in {size} entries")]
    Index { index: u64, size: u64 },
    /// No such log.
    #[error("log: {old} entries are not the beginning of {size}")]
    Old { old: u64, size: u64 },
    /// More than there can be.
    #[error("log: size {found}, allowed are {SIZE_MAX}")]
    Size { found: u64 },
    /// A tile is missing or too narrow.
    #[error("log is truncated: {path} has {found} of {needed} hashes needed for size {size}")]
    Truncated { path: String, found: usize, needed: usize, size: u64 },
    /// A tile whose last hash is cut.
    #[error("log is forged: {path} is not a list of hashes")]
    Forged { path: String },
    /// The arithmetic of trees went wrong.
    #[error("log: {0}")]
    Internal(String),
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum WrongProof {
    /// No such entry.
    #[error("proof: of entry {index} in a log of {size} entries")]
    Index { index: u64, size: u64 },
    /// No such log.
    #[error("proof: {old} entries are not the beginning of {size}")]
    Old { old: u64, size: u64 },
    /// More than there can be.
    #[error("proof: size {found}, allowed are {SIZE_MAX}")]
    Size { found: u64 },
    /// More hashes than any proof has.
    #[error("proof: {found} hashes, allowed are {HASHES_MAX}")]
    Hashes { found: usize },
    /// The hashes give another root.
    #[error("proof: does not lead from entry {entry} at {index} to root {root} of {size} entries")]
    Inclusion { entry: Digest, index: u64, size: u64, root: Digest },
    /// The hashes give another root.
    #[error("proof: does not lead from root {old_root} of {old} entries to root {root} of {size}")]
    Consistency { old: u64, old_root: Digest, size: u64, root: Digest },
}

/// The proof that entry `index` is in the log of the first `size` entries.
///
/// # Errors
/// When there is no such entry, or the store does not have the tiles.
pub fn prove_inclusion<T: Tiles>(
    tiles: &T,
    size: u64,
    index: u64,
) -> Result<Vec<Digest>, ProveError<T::Error>> {
    if size > SIZE_MAX {
        return Err(ProveError::Size { found: size });
    }
    if index >= size {
        return Err(ProveError::Index { index, size });
    }
    Reader::run(tiles, size, |reader| tlog_tiles::prove_record(size, index, reader))
}

/// The proof that the log of `size` entries begins with the first `old` ones.
///
/// # Errors
/// When `old` is larger, or the store does not have the tiles.
pub fn prove_consistency<T: Tiles>(
    tiles: &T,
    old: u64,
    size: u64,
) -> Result<Vec<Digest>, ProveError<T::Error>> {
    if size > SIZE_MAX {
        return Err(ProveError::Size { found: size });
    }
    if old > size {
        return Err(ProveError::Old { old, size });
    }
    // Every log begins with none: there is nothing to show.
    if old == 0 {
        return Ok(Vec::new());
    }
    Reader::run(tiles, size, |reader| tlog_tiles::prove_tree(size, old, reader))
}

/// Whether the proof leads from the entry to the root.
///
/// # Errors
/// When it does not.
pub fn verify_inclusion(
    entry: &Digest,
    index: u64,
    size: u64,
    root: &Digest,
    proof: &[Digest],
) -> Result<(), WrongProof> {
    check_lengths(size, proof)?;
    if index >= size {
        return Err(WrongProof::Index { index, size });
    }
    tlog_tiles::check_record(&hashes(proof), size, hash(root), index, hash(&leaf_hash(entry)))
        .map_err(|_| WrongProof::Inclusion { entry: *entry, index, size, root: *root })
}

/// Whether the proof leads from one root to the other.
///
/// # Errors
/// When it does not.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    size: u64,
    root: &Digest,
    proof: &[Digest],
) -> Result<(), WrongProof> {
    check_lengths(size, proof)?;
    if old > size {
        return Err(WrongProof::Old { old, size });
    }
    let wrong = WrongProof::Consistency { old, old_root: *old_root, size, root: *root };
    if old == 0 {
        let empty = Digest::of(b"");
        let fits = *old_root == empty && proof.is_empty() && (size > 0 || *root == empty);
        return if fits { Ok(()) } else { Err(wrong) };
    }
    tlog_tiles::check_tree(&hashes(proof), size, hash(root), old, hash(old_root)).map_err(|_| wrong)
}

fn check_lengths(size: u64, proof: &[Digest]) -> Result<(), WrongProof> {
    if size > SIZE_MAX {
        return Err(WrongProof::Size { found: size });
    }
    if proof.len() > HASHES_MAX {
        return Err(WrongProof::Hashes { found: proof.len() });
    }
    Ok(())
}

fn hash(digest: &Digest) -> Hash {
    Hash(*digest.as_bytes())
}

fn hashes(digests: &[Digest]) -> Vec<Hash> {
    digests.iter().map(hash).collect()
}

/// Hashes of subtrees out of tiles, each tile read once.
struct Reader<'a, T: Tiles> {
    tiles: &'a T,
    size: u64,
    read: RefCell<BTreeMap<(u8, u64), Vec<Digest>>>,
    /// What went wrong, past an interface that has no place for it.
    error: RefCell<Option<ProveError<T::Error>>>,
}

impl<'a, T: Tiles> Reader<'a, T> {
    fn run(
        tiles: &'a T,
        size: u64,
        prove: impl FnOnce(&Self) -> Result<Vec<Hash>, tlog_tiles::Error>,
    ) -> Result<Vec<Digest>, ProveError<T::Error>> {
        let reader = Self { tiles, size, read: RefCell::default(), error: RefCell::default() };
        let proof = prove(&reader);
        if let Some(error) = reader.error.into_inner() {
            return Err(error);
        }
        let proof = proof.map_err(|error| ProveError::Internal(error.to_string()))?;
        Ok(proof.iter().map(|hash| Digest::from_bytes(hash.0)).collect())
    }

    /// The root of subtree `number` of those with 2^height entries.
    fn subtree(&self, height: u8, number: u64) -> Result<Digest, ProveError<T::Error>> {
        let (level, within) = (height / 8, height % 8);
        let first = number << within;
        let index = first / TILE_WIDTH as u64;
        let start = (first % TILE_WIDTH as u64) as usize;
        let end = start + (1 << within);
        let mut read = self.read.borrow_mut();
        let hashes = match read.entry((level, index)) {
            std::collections::btree_map::Entry::Occupied(hashes) => hashes.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(self.tile(level, index)?)
            }
        };
        hashes.get(start..end).map(subtree_hash).ok_or_else(|| ProveError::Truncated {
            path: self.path(level, index),
            found: hashes.len(),
            needed: end,
            size: self.size,
        })
    }

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Digest>, ProveError<T::Error>> {
        let bytes = self.tiles.hashes(level, index).map_err(ProveError::Tiles)?.unwrap_or_default();
        split_hashes(&bytes).ok_or_else(|| ProveError::Forged { path: self.path(level, index) })
    }

    fn path(&self, level: u8, index: u64) -> String {
        let (full, width) = level_widths(self.size, level);
        tile_path(level, index, if index < full { TILE_WIDTH } else { width })
    }
}

impl<T: Tiles> HashReader for Reader<'_, T> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let read = |&index: &u64| {
            let (height, number) = tlog_tiles::split_stored_hash_index(index);
            self.subtree(height, number).map(|digest| hash(&digest))
        };
        indexes.iter().map(read).collect::<Result<_, _>>().map_err(|error| {
            *self.error.borrow_mut() = Some(error);
            tlog_tiles::Error::InvalidTile
        })
    }
}
