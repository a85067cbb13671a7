//! Checking a log from its files alone: everything is read and computed again.

use super::{CHECKPOINT, Folder, FolderError};
use crate::{
    keys::KeyRing,
    log::{
        Checkpoint, CheckpointError,
        tile::{
            ENTRY_BYTES, HASH_BYTES, TILE_WIDTH, TileUpdate, bundle_entries, bundle_path,
            level_widths, tile_path,
        },
        tree::Tree,
    },
};
use fuelbox_digest::Digest;
use std::path::Path;

/// The first thing that is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckError {
    /// A file cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No log at all.
    #[error("log: {CHECKPOINT} is missing")]
    NoCheckpoint,
    /// The checkpoint is damaged, or nobody who is trusted has signed it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file is missing.
    #[error("log is truncated: {path} is missing, needed for size {size}")]
    Missing { path: String, size: u64 },
    /// A file is too short or too long.
    #[error("log is damaged: {path} has {found} bytes, needed are {needed}")]
    Length { path: String, found: usize, needed: usize },
    /// A bundle with something else than digests in it.
    #[error("log is forged: {path} is not a list of entries of 32 bytes")]
    NotEntries { path: String },
    /// A tile that other files do not give.
    #[error("log is forged: hash {position} of {path} is not that of the entries below it")]
    Tile { path: String, position: usize },
    /// All files fit each other, but not what was signed.
    #[error("log is forged: its {size} entries have root {found}, the checkpoint has {signed}")]
    Root { size: u64, found: Digest, signed: Digest },
}

/// Reads a whole log and computes every hash of it again.
///
/// The caller looks at the origin, and compares with what it knew of the log before.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(folder: &Path, keys: &KeyRing) -> Result<Checkpoint, CheckError> {
    let folder = Folder::new(folder);
    let text = folder.checkpoint()?.ok_or(CheckError::NoCheckpoint)?;
    let checkpoint = Checkpoint::open_any(&text, keys)?;
    let size = checkpoint.size;
    let (full, width) = level_widths(size, 0);
    let mut tree = Tree::new();
    for index in 0..=full {
        let width = if index < full { TILE_WIDTH } else { width };
        let path = bundle_path(index, width);
        let bytes = read(&folder, |width| bundle_path(index, width), width, ENTRY_BYTES, size)?;
        let entries = bundle_entries(&bytes).ok_or(CheckError::NotEntries { path })?;
        for entry in &entries {
            tree.append(entry);
        }
        check_tiles(&folder, tree.take_full().tiles, size)?;
    }
    check_tiles(&folder, tree.partial().tiles, size)?;
    let found = tree.root();
    if found != checkpoint.root {
        return Err(CheckError::Root { size, found, signed: checkpoint.root });
    }
    Ok(checkpoint)
}

fn check_tiles(folder: &Folder, tiles: Vec<TileUpdate>, size: u64) -> Result<(), CheckError> {
    for TileUpdate { level, index, hashes } in tiles {
        let width = hashes.len() / HASH_BYTES;
        let path = tile_path(level, index, width);
        let bytes = read(folder, |width| tile_path(level, index, width), width, HASH_BYTES, size)?;
        if let Some(at) = bytes.iter().zip(&hashes).position(|(found, made)| found != made) {
            return Err(CheckError::Tile { path, position: at / HASH_BYTES });
        }
    }
    Ok(())
}

/// The file of a tile or bundle, which has as many bytes as are needed and no more. When a partial one
/// is gone because there is a full one, the beginning of that.
fn read(
    folder: &Folder,
    path: impl Fn(usize) -> String,
    width: usize,
    unit: usize,
    size: u64,
) -> Result<Vec<u8>, CheckError> {
    if width == 0 {
        return Ok(Vec::new());
    }
    if let Some(bytes) = read_whole(folder, path(width), width * unit)? {
        return Ok(bytes);
    }
    let full = match width {
        TILE_WIDTH => None,
        _ => read_whole(folder, path(TILE_WIDTH), TILE_WIDTH * unit)?,
    };
    let mut bytes = full.ok_or_else(|| CheckError::Missing { path: path(width), size })?;
    bytes.truncate(width * unit);
    Ok(bytes)
}

fn read_whole(folder: &Folder, path: String, needed: usize) -> Result<Option<Vec<u8>>, CheckError> {
    let found = match folder.read(&path, needed) {
        Ok(Some(bytes)) if bytes.len() == needed => return Ok(Some(bytes)),
        Ok(Some(bytes)) => bytes.len(),
        Ok(None) => return Ok(None),
        // One byte more was read: enough to see that there are too many.
        Err(FolderError::TooLarge { .. }) => needed + 1,
        Err(error @ (FolderError::Io { .. } | FolderError::NotText { .. })) => {
            return Err(error.into());
        }
    };
    Err(CheckError::Length { path, found, needed })
}
