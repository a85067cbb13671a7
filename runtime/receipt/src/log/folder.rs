//! The log as a folder of static files that any web server can serve (C2SP's tlog-tiles).
//!
//! Tiles and a signed checkpoint go in; files come out, each written beside its place and renamed, the
//! checkpoint last. Writing the same log again changes nothing; writing a longer one writes what is new.
//! A log that does not begin with the one in the folder is refused.

use super::{
    Checkpoint, CheckpointError, ProveError, WrongProof,
    checkpoint::CHECKPOINT_BYTES_MAX,
    proof::{prove_consistency, verify_consistency},
    tile::{
        ENTRY_BYTES, HASH_BYTES, LEVELS, TILE_WIDTH, Tiles, bundle_path, level_widths, tile_path,
    },
};
use crate::keys::KeyRing;
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

mod check;

pub use check::{CheckError, check};

/// The signed size and root.
const CHECKPOINT: &str = "checkpoint";

/// A folder with a log in it, or with nothing yet.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// Why a log cannot be read from a folder, or written there.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FolderError {
    /// The file system.
    #[error("log: cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// More than any file of a log has.
    #[error("log: {} has more than {allowed} bytes", path.display())]
    TooLarge { path: PathBuf, allowed: usize },
    /// Not a text.
    #[error("log: {} is not UTF-8", path.display())]
    NotText { path: PathBuf },
}

/// Why a log was not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublishError<E: std::error::Error + 'static> {
    /// The folder failed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The store failed.
    #[error("log: cannot read a tile to publish: {0}")]
    Tiles(E),
    /// The store has less than the checkpoint says.
    #[error("log is truncated: the store has {found} of {needed} bytes of {path}")]
    Truncated { path: String, found: usize, needed: usize },
    /// The checkpoint to publish is wrong.
    #[error("to publish: {0}")]
    New(CheckpointError),
    /// The checkpoint in the folder is wrong.
    #[error("in the folder: {0}")]
    Old(CheckpointError),
    /// The folder has a longer log.
    #[error("log: the folder has {found} entries, more than the {size} to publish")]
    Longer { found: u64, size: u64 },
    /// There is no proof.
    #[error(transparent)]
    Prove(#[from] ProveError<E>),
    /// The folder has another log.
    #[error("log: the folder's is not the beginning of the one to publish: {0}")]
    Forked(WrongProof),
}

impl Folder {
    /// The log at this path. Nothing is read or made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The signed checkpoint as it stands there; `None` when there is none yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checkpoint(&self) -> Result<Option<String>, FolderError> {
        let Some(bytes) = self.read(CHECKPOINT, CHECKPOINT_BYTES_MAX)? else {
            return Ok(None);
        };
        let path = self.root.join(CHECKPOINT);
        String::from_utf8(bytes).map(Some).map_err(|_| FolderError::NotText { path })
    }

    /// Writes what the folder does not have yet of the log that the checkpoint is of. What was written
    /// before is not looked at again; without its checkpoint, all of a folder is, and put right.
    ///
    /// # Errors
    /// When the checkpoint is not of a known key, when the store has less than it says, when the folder
    /// has a log that this one does not begin with, or when a file cannot be written.
    pub fn publish<T: Tiles>(
        &self,
        tiles: &T,
        checkpoint: &str,
        keys: &KeyRing,
    ) -> Result<Checkpoint, PublishError<T::Error>> {
        let new = Checkpoint::open_any(checkpoint, keys).map_err(PublishError::New)?;
        let old_text = self.checkpoint()?;
        let old_size = match &old_text {
            Some(text) => self.begins(tiles, text, &new, keys)?,
            None => 0,
        };
        for level in 0..LEVELS {
            let (old_full, _) = level_widths(old_size, level);
            let (full, width) = level_widths(new.size, level);
            for index in old_full..=full {
                let width = if index < full { TILE_WIDTH } else { width };
                let path = tile_path(level, index, width);
                self.put(path, width * HASH_BYTES, || tiles.hashes(level, index))?;
                if level == 0 {
                    let path = bundle_path(index, width);
                    self.put(path, width * ENTRY_BYTES, || tiles.entries(index))?;
                }
            }
        }
        if old_text.as_deref() != Some(checkpoint) {
            self.write(CHECKPOINT, checkpoint.as_bytes())?;
            self.remove_partial(old_size, new.size)?;
        }
        Ok(new)
    }

    /// Deletes partial tiles and bundles whose full ones are there. Not before the new checkpoint is, so
    /// that a log that was not written to its end still has all that its checkpoint needs.
    fn remove_partial(&self, old_size: u64, size: u64) -> Result<(), FolderError> {
        for level in 0..LEVELS {
            let (old_full, old_width) = level_widths(old_size, level);
            let (full, _) = level_widths(size, level);
            if old_width > 0 && old_full < full {
                self.remove(tile_path(level, old_full, TILE_WIDTH))?;
                if level == 0 {
                    self.remove(bundle_path(old_full, TILE_WIDTH))?;
                }
            }
        }
        Ok(())
    }

    fn remove(&self, full: String) -> Result<(), FolderError> {
        let path = self.root.join(full + ".p");
        match fs::remove_dir_all(&path) {
            Err(source) if !is_absent(&source) => {
                Err(FolderError::Io { what: "delete", path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The size of the folder's log, if the new one begins with it.
    fn begins<T: Tiles>(
        &self,
        tiles: &T,
        old_text: &str,
        new: &Checkpoint,
        keys: &KeyRing,
    ) -> Result<u64, PublishError<T::Error>> {
        let old = Checkpoint::open(old_text, keys, &new.origin).map_err(PublishError::Old)?;
        if old.size > new.size {
            return Err(PublishError::Longer { found: old.size, size: new.size });
        }
        let proof = prove_consistency(tiles, old.size, new.size)?;
        verify_consistency(old.size, &old.root, new.size, &new.root, &proof)
            .map_err(PublishError::Forked)?;
        Ok(old.size)
    }

    /// Writes a tile or bundle, unless it is there.
    fn put<E: std::error::Error>(
        &self,
        path: String,
        needed: usize,
        read: impl FnOnce() -> Result<Option<Vec<u8>>, E>,
    ) -> Result<(), PublishError<E>> {
        if needed == 0 {
            return Ok(());
        }
        let mut bytes = read().map_err(PublishError::Tiles)?.unwrap_or_default();
        if bytes.len() < needed {
            return Err(PublishError::Truncated { path, found: bytes.len(), needed });
        }
        bytes.truncate(needed);
        match self.read(&path, needed) {
            Ok(Some(found)) if found == bytes => return Ok(()),
            Ok(_) | Err(FolderError::TooLarge { .. }) => {}
            Err(error @ (FolderError::Io { .. } | FolderError::NotText { .. })) => {
                return Err(error.into());
            }
        }
        Ok(self.write(&path, &bytes)?)
    }

    /// The file's bytes, at most `allowed`; `None` when there is no such file.
    fn read(&self, path: &str, allowed: usize) -> Result<Option<Vec<u8>>, FolderError> {
        use io::Read as _;
        let path = self.root.join(path);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(FolderError::Io { what: "open", path, source }),
        };
        let mut bytes = Vec::new();
        file.take(allowed as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| FolderError::Io { what: "read", path: path.clone(), source })?;
        if bytes.len() > allowed {
            return Err(FolderError::TooLarge { path, allowed });
        }
        Ok(Some(bytes))
    }

    /// Writes a file beside its place, and puts it there when it is on disk.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.root.join(path);
        let folder = path.parent().unwrap_or(&self.root);
        let write = || {
            fs::create_dir_all(folder)?;
            // Served to others: readable by all whom the umask lets.
            let mut file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|source| FolderError::Io { what: "write", path: path.clone(), source })
    }

    /// The widest file of a tile or bundle: the full one, or the one with the most behind its `.p/`.
    fn widest(
        &self,
        path: impl Fn(usize) -> String,
        unit: usize,
    ) -> Result<Option<Vec<u8>>, FolderError> {
        let full = self.read(&path(TILE_WIDTH), TILE_WIDTH * unit)?;
        if full.is_some() {
            return Ok(full);
        }
        let folder = self.root.join(path(TILE_WIDTH) + ".p");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(FolderError::Io { what: "read", path: folder, source }),
        };
        let mut widest = None;
        for entry in entries {
            let entry = entry.map_err(|source| FolderError::Io {
                what: "read",
                path: folder.clone(),
                source,
            })?;
            let width = entry.file_name().to_str().and_then(|name| name.parse().ok());
            widest = widest.max(width.filter(|width| (1..TILE_WIDTH).contains(width)));
        }
        match widest {
            Some(width) => self.read(&path(width), width * unit),
            None => Ok(None),
        }
    }
}

/// What the name of a file that is being written starts with. No name of a tile does.
const UNFINISHED: &str = ".unfinished-";

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Tiles for Folder {
    type Error = FolderError;

    fn hashes(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, FolderError> {
        self.widest(|width| tile_path(level, index, width), HASH_BYTES)
    }

    fn entries(&self, index: u64) -> Result<Option<Vec<u8>>, FolderError> {
        self.widest(|width| bundle_path(index, width), ENTRY_BYTES)
    }
}
