//! Blobs: inputs and outputs by their digests, in files.
//!
//! What is in a file is what its name says: content is hashed whenever it is read. Small blobs lie in
//! the database instead (`tables`), in the transaction of their job; these are the large ones.

use fuelbox_digest::Digest;
use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A place for large blobs. One host has a folder; many hosts would share an object store.
pub trait Blobs: Send + Sync {
    /// Stores content under its digest. `durable` asks for it to be there after a power failure.
    ///
    /// # Errors
    /// When it cannot be stored; nothing is left of it then.
    fn put(&self, digest: &Digest, content: &[u8], durable: bool) -> io::Result<()>;

    /// The content, checked against its digest; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>>;

    /// Removes content that was last stored at least so long ago; no error when it is not there. A
    /// job that stores the same content again does not lose it to somebody who removes it.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, digest: &Digest, unused_for: Duration) -> io::Result<()>;

    /// Shows all content that was last stored at least so long ago, and removes what is not needed, as
    /// [`Blobs::remove`] does. A place that looks after itself shows nothing.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn sweep(&self, unused_for: Duration, see: &mut dyn FnMut(&Digest) -> Seen) -> io::Result<()> {
        let _ = (unused_for, see);
        Ok(())
    }
}

/// What is to become of content that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is needed.
    Needed,
    /// Nobody needs it.
    Orphan,
    /// Enough was seen: it stays, and the rest is not shown.
    Stop,
}

/// Blobs in a folder, one file each, in 256 folders by the first byte of the digest.
#[derive(Debug)]
pub struct BlobFolder {
    root: PathBuf,
    /// Held while a file gets its name, its time or its end: so content that is found is kept.
    names: Mutex<()>,
}

impl BlobFolder {
    /// Opens a folder, making it when it is not there, and clears what a crash left half-written.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(unfinished)?;
        Ok(Self { root, names: Mutex::new(()) })
    }

    /// A folder that another process may work on: nothing is made or cleared.
    pub(crate) fn look(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), names: Mutex::new(()) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(&hex[..2]).join(hex)
    }
}

/// Files before they have their names.
const UNFINISHED: &str = "unfinished";

impl Blobs for BlobFolder {
    fn put(&self, digest: &Digest, content: &[u8], durable: bool) -> io::Result<()> {
        let path = self.path(digest);
        // Already there, and whole: it was renamed into place. A durable one may only have been
        // written loosely before, so it is written again.
        if !durable {
            let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(file) = fs::File::open(&path) {
                return file.set_modified(SystemTime::now());
            }
        }
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(self.root.join(UNFINISHED))?;
        file.write_all(content)?;
        if durable {
            file.as_file().sync_data()?;
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        file.persist(&path).map_err(|error| error.error)?;
        drop(names);
        if durable {
            sync_folder(folder)?;
            sync_folder(&self.root)?; // which may be where `folder` is new
        }
        Ok(())
    }

    fn get(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let content = match fs::read(self.path(digest)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = Digest::of(&content);
        if found == *digest {
            Ok(Some(content))
        } else {
            let text = format!("blob {digest} has content of digest {found}");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }

    fn remove(&self, digest: &Digest, unused_for: Duration) -> io::Result<()> {
        let path = self.path(digest);
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // A time in the future is a clock that was set back: the next look decides.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if age < unused_for { Ok(()) } else { fs::remove_file(path) }
    }

    fn sweep(&self, unused_for: Duration, see: &mut dyn FnMut(&Digest) -> Seen) -> io::Result<()> {
        for first in 0..=u8::MAX {
            let folder = self.root.join(format!("{first:02x}"));
            for (name, _) in old_files(&folder, unused_for)? {
                let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                // A file that is nobody's blob is left to whoever put it there.
                let Some(digest) = digest.filter(|digest| self.path(digest).starts_with(&folder))
                else {
                    continue;
                };
                match see(&digest) {
                    Seen::Needed => {}
                    Seen::Orphan => self.remove(&digest, unused_for)?,
                    Seen::Stop => return Ok(()),
                }
            }
        }
        for (_, path) in old_files(&self.root.join(UNFINISHED), unused_for)? {
            // One that stays is cleared at the next start.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// Names and places of the files in a folder that were last written at least so long ago; none when there
/// is no such folder.
pub(crate) fn old_files(folder: &Path, age: Duration) -> io::Result<Vec<(OsString, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        // One that went in the meantime is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        // A time in the future is a clock that was set back: the next look decides.
        let found = metadata.modified()?.elapsed().unwrap_or_default();
        if metadata.is_file() && found >= age {
            files.push((entry.file_name(), entry.path()));
        }
    }
    Ok(files)
}

/// Makes the names in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_what_its_name_says_or_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = BlobFolder::open(folder.path().join("blobs")).expect("blobs");
        let digest = Digest::of(b"content");
        assert!(blobs.get(&digest).expect("readable").is_none());
        for durable in [false, true, false] {
            blobs.put(&digest, b"content", durable).expect("stored");
            assert_eq!(blobs.get(&digest).expect("readable").as_deref(), Some(&b"content"[..]));
        }
        fs::write(blobs.path(&digest), b"damaged").expect("written");
        let error = blobs.get(&digest).expect_err("damaged").to_string();
        assert!(error.starts_with(&format!("blob {digest} has content of digest")), "{error}");
        blobs.remove(&digest, Duration::from_secs(3_600)).expect("too young");
        assert!(blobs.path(&digest).exists());
        blobs.remove(&digest, Duration::ZERO).expect("removed");
        blobs.remove(&digest, Duration::ZERO).expect("nothing to do");
        assert!(blobs.get(&digest).expect("readable").is_none());
    }

    #[test]
    fn what_a_crash_left_half_written_is_cleared() {
        let folder = tempfile::tempdir().expect("folder");
        drop(BlobFolder::open(folder.path()).expect("blobs"));
        let half = folder.path().join(UNFINISHED).join("half");
        fs::write(&half, b"ha").expect("written");
        drop(BlobFolder::open(folder.path()).expect("blobs"));
        assert!(!half.exists());
    }
}
