//! The cache: compiled code and model images on disk, sealed so that only whole entries of this host
//! are ever trusted.
//!
//! An entry is a folder `KIND/GROUP/KEY` with some files, a `meta.json` and a `seal`: a keyed BLAKE3
//! hash over all of them and the entry's own place. It is written under a temporary name and renamed
//! when complete, so a killed run leaves nothing that a later one would open; it goes by a rename, too, so
//! nobody finds half of one. An entry whose seal does not fit is removed and made anew.
//!
//! Invariant: what `open` returns was written whole by a process that knew this cache's key. The key
//! lies in the cache itself, readable by its owner only: the seal guards against damage and against
//! files from elsewhere, not against the owner.

use crate::image::ImageFile;
use fuelbox_digest::Digest;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Folders of unfinished entries older than this belong to killed runs and are swept away. No
/// compile or load takes an hour.
const UNFINISHED_MAX_AGE: Duration = Duration::from_secs(3600);

/// How often an entry is given its place, when others put theirs there and remove them meanwhile.
const PUT_TRIES: u32 = 10;

const KEY_FILE: &str = "key";
const META_FILE: &str = "meta.json";
const SEAL_FILE: &str = "seal";
const UNFINISHED: &str = "unfinished";

/// What the cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Compiled code, grouped by module.
    Code,
    /// Model images, grouped by model.
    Image,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Code, Self::Image];

    fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Image => "image",
        }
    }
}

/// A folder of sealed entries.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    key: [u8; 32],
}

/// One entry, as `fuelbox cache list` shows it.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// `code` or `image`.
    pub kind: &'static str,
    /// Digest of the module or the model, in hexadecimal.
    pub group: String,
    /// Digest of what else it depends on, in hexadecimal.
    pub key: String,
    /// Bytes on disk (holes not counted).
    pub disk_bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    path: PathBuf,
}

/// An entry that was opened and whose seal fits.
pub(crate) struct Opened<T> {
    pub(crate) meta: T,
    /// In the order in which they were asked for.
    pub(crate) files: Vec<ImageFile>,
}

/// The right to make entries of one group, held by one at a time on this host. The kernel takes it back
/// from a process that ends, however it ends.
#[derive(Debug)]
pub(crate) struct Making {
    /// None where the file system has no locks: then several make the same entry, and all succeed.
    _group: Option<File>,
}

/// The cache cannot be used. The host's fault.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refused.
    #[error("cache {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others could write to it, and so run machine code of theirs.
    #[error("cache {path}: mode {mode:o} and owner {owner}, allowed are mode 700 and owner {user}")]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: u32,
        /// Who is asking.
        user: u32,
    },
}

impl Cache {
    /// Opens a cache, and makes it when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or used, or when others may write to it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let root = root.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(move_error(&root))?;
        let folder = fs::metadata(&root).map_err(move_error(&root))?;
        let (mode, owner) = (folder.permissions().mode() & 0o777, folder.uid());
        let user = rustix::process::geteuid().as_raw();
        if mode & 0o022 != 0 || owner != user {
            return Err(CacheError::NotPrivate { path: root, mode, owner, user });
        }
        let key_file = root.join(KEY_FILE);
        let key = read_or_make_key(&key_file, &root).map_err(move_error(&key_file))?;
        let cache = Self { root, key };
        cache.sweep();
        Ok(cache)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Every entry, by kind, group and key.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn list(&self) -> Result<Vec<CacheEntry>, CacheError> {
        let mut entries = Vec::new();
        for kind in Kind::ALL {
            for group in folders(&self.root.join(kind.name()))? {
                entries.extend(self.list_group(kind, &group)?);
            }
        }
        Ok(entries)
    }

    /// Removes every entry, and what killed runs left. Returns the bytes that were freed.
    /// Running jobs are not disturbed: they hold their files open.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<u64, CacheError> {
        let freed = self.list()?.iter().map(|entry| entry.disk_bytes).sum();
        for name in Kind::ALL.map(Kind::name).into_iter().chain([UNFINISHED]) {
            let path = self.root.join(name);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(move_error(&path)(error));
                }
                _ => {}
            }
        }
        Ok(freed)
    }

    /// Opens an entry. `None` when there is none, or none that can be trusted.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        group: &Digest,
        key: &Digest,
        names: &[&str],
    ) -> Result<Option<Opened<T>>, CacheError> {
        let path = self.entry_path(kind, group, key);
        match self.try_get(&path, names) {
            Ok(Some(opened)) => Ok(Some(opened)),
            Ok(None) => {
                // Damaged, or sealed with another key. Whoever comes next makes a new one.
                self.remove(&path).map_err(move_error(&path))?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(move_error(&path)(error)),
        }
    }

    /// Waits until nobody else makes entries of this group.
    pub(crate) fn making(&self, kind: Kind, group: &Digest) -> Making {
        let locked = || -> io::Result<File> {
            let path = self.group_path(kind, group);
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let group = File::open(path)?;
            rustix::io::retry_on_intr(|| flock(&group, FlockOperation::LockExclusive))?;
            Ok(group)
        };
        Making { _group: locked().ok() }
    }

    /// Whether somebody makes an entry of this group right now.
    pub(crate) fn is_making(&self, kind: Kind, group: &Digest) -> bool {
        let group = File::open(self.group_path(kind, group));
        group.is_ok_and(|group| {
            // Lets go again with the file.
            flock(&group, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        })
    }

    /// Writes an entry and opens it. `meta` is made while the files are written.
    pub(crate) fn put<T: Serialize + DeserializeOwned + Send>(
        &self,
        kind: Kind,
        group: &Digest,
        key: &Digest,
        files: &[(&str, &[u8])],
        meta: impl FnOnce() -> T + Send,
    ) -> Result<Opened<T>, CacheError> {
        let path = self.entry_path(kind, group, key);
        let put = || -> io::Result<Opened<T>> {
            let unfinished = self.root.join(UNFINISHED);
            DirBuilder::new().recursive(true).mode(0o700).create(&unfinished)?;
            let folder = tempfile::tempdir_in(&unfinished)?;
            let (meta, hashes) = std::thread::scope(|scope| {
                let meta = scope.spawn(meta);
                let hashes = files.iter().map(|(name, bytes)| {
                    self.write_file(&folder.path().join(name), bytes)?;
                    Ok((*name, self.hash(bytes)))
                });
                let hashes = hashes.collect::<io::Result<Vec<_>>>();
                (meta.join(), hashes)
            });
            let meta = meta.map_err(|_| io::Error::other("the entry's maker panicked"))?;
            let json = serde_json::to_vec(&meta)?;
            fs::write(folder.path().join(META_FILE), &json)?;
            let seal = self.seal(&path, &json, hashes?.into_iter());
            fs::write(folder.path().join(SEAL_FILE), seal.as_bytes())?;
            if let Some(group) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(group)?;
            }
            let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
            // Opened before the rename: what was just written needs no check.
            let opened = open_files(folder.path(), &names)?;
            let mut tries = 0;
            while let Err(error) = fs::rename(folder.path(), &path) {
                // Another may have been faster, with an entry as good as this one; or what is there is
                // damaged.
                if let Ok(Some(opened)) = self.try_get(&path, &names) {
                    return Ok(opened);
                }
                tries += 1;
                if tries == PUT_TRIES {
                    return Err(error);
                }
                self.remove(&path)?;
            }
            Ok(Opened { meta, files: opened })
        };
        put().map_err(move_error(&path))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        crate::image::write_sparse(&file, bytes)
    }

    /// Removes the entries of a group that were used least recently, until `entries_max` are left beside
    /// the one of `kept`, which stays.
    pub(crate) fn evict(
        &self,
        kind: Kind,
        group: &Digest,
        kept: &Digest,
        entries_max: usize,
    ) -> Result<(), CacheError> {
        let mut entries = self.list_group(kind, &self.group_path(kind, group))?;
        let kept = kept.hex();
        entries.retain(|entry| entry.key != kept);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        for entry in entries.iter().skip(entries_max) {
            self.remove(&entry.path).map_err(move_error(&entry.path))?;
        }
        Ok(())
    }

    /// Removes an entry, all at once for whoever looks; none is no error.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let unfinished = self.root.join(UNFINISHED);
        DirBuilder::new().recursive(true).mode(0o700).create(&unfinished)?;
        let folder = tempfile::tempdir_in(&unfinished)?;
        match fs::rename(path, folder.path().join("removed")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        folder.close()
    }

    /// `Ok(None)` when something is there that is not to be trusted.
    fn try_get<T: DeserializeOwned>(
        &self,
        path: &Path,
        names: &[&str],
    ) -> io::Result<Option<Opened<T>>> {
        let seal_file = File::open(path.join(SEAL_FILE))?;
        let mut seal = Vec::new();
        (&seal_file).take(64).read_to_end(&mut seal)?;
        let meta = fs::read(path.join(META_FILE))?;
        let files = open_files(path, names)?;
        // The files are hashed through the very mappings that will be used.
        let hashes = files.iter().map(|file| {
            let hash = self.hash(file.bytes());
            file.release();
            hash
        });
        let expected = self.seal(path, &meta, names.iter().copied().zip(hashes));
        let Ok(seal) = <[u8; 32]>::try_from(seal) else {
            return Ok(None);
        };
        // `blake3::Hash` compares in constant time.
        if expected != blake3::Hash::from_bytes(seal) {
            return Ok(None);
        }
        let Ok(meta) = serde_json::from_slice(&meta) else {
            return Ok(None);
        };
        // Only for `evict`: a time that cannot be set makes the entry look old, no more.
        let _ = File::options()
            .append(true)
            .open(path.join(SEAL_FILE))
            .and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(Opened { meta, files }))
    }

    fn hash(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.key, bytes)
    }

    fn seal<'a>(
        &self,
        path: &Path,
        meta: &[u8],
        files: impl Iterator<Item = (&'a str, blake3::Hash)>,
    ) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        // The place, so that no entry can pass for another; below the root, so that the whole cache
        // can be moved.
        let place = path.strip_prefix(&self.root).unwrap_or(path);
        field(place.as_os_str().as_encoded_bytes());
        field(meta);
        for (name, hash) in files {
            field(name.as_bytes());
            field(hash.as_bytes());
        }
        hasher.finalize()
    }

    fn group_path(&self, kind: Kind, group: &Digest) -> PathBuf {
        self.root.join(kind.name()).join(group.hex())
    }

    fn entry_path(&self, kind: Kind, group: &Digest, key: &Digest) -> PathBuf {
        self.group_path(kind, group).join(key.hex())
    }

    fn list_group(&self, kind: Kind, group: &Path) -> Result<Vec<CacheEntry>, CacheError> {
        let name = |path: &Path| {
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        };
        let mut entries = Vec::new();
        for path in folders(group)? {
            let used = fs::metadata(path.join(SEAL_FILE)).and_then(|seal| seal.modified());
            let disk_bytes = match disk_bytes(&path) {
                // Removed since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(move_error(&path))?,
            };
            entries.push(CacheEntry {
                kind: kind.name(),
                group: name(group),
                key: name(&path),
                disk_bytes,
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            });
        }
        Ok(entries)
    }

    /// Removes what killed runs left. Best effort: what stays is in nobody's way.
    fn sweep(&self) {
        for path in folders(&self.root.join(UNFINISHED)).unwrap_or_default() {
            let age = fs::metadata(&path).and_then(|folder| folder.modified());
            if age.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > UNFINISHED_MAX_AGE)) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

fn move_error(path: &Path) -> impl FnOnce(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source| CacheError::Io { path, source }
}

/// The folders in a folder, by name; none when it is not there.
fn folders(path: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let read = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other,
    };
    let paths = read
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = paths.map_err(move_error(path))?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

fn open_files(path: &Path, names: &[&str]) -> io::Result<Vec<ImageFile>> {
    names.iter().map(|name| ImageFile::open(File::open(path.join(name))?)).collect()
}

fn disk_bytes(path: &Path) -> io::Result<u64> {
    let blocks = |entry: io::Result<fs::DirEntry>| Ok(entry?.metadata()?.blocks() * 512);
    fs::read_dir(path)?.map(blocks).sum()
}

/// The cache's key; a new one when there is none. Two processes that start at once agree: the first
/// to link its key wins, and both read it.
fn read_or_make_key(path: &Path, root: &Path) -> io::Result<[u8; 32]> {
    let read = || -> io::Result<[u8; 32]> {
        let key = fs::read(path)?;
        key.try_into().map_err(|_| io::Error::other("the key is damaged: remove the cache"))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            File::open("/dev/urandom")?.read_exact(&mut key)?;
            let mut file = tempfile::NamedTempFile::new_in(root)?; // mode 600
            file.write_all(&key)?;
            match file.persist_noclobber(path) {
                Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(error.error)
                }
                _ => read(),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Digest = Digest::from_bytes([1; 32]);
    const KEY: Digest = Digest::from_bytes([2; 32]);
    const FILES: [(&str, &[u8]); 2] = [("a", b"first"), ("b", b"")];

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("folder");
        let cache = Cache::open(folder.path().join("cache")).expect("cache");
        (folder, cache)
    }

    fn get(cache: &Cache) -> Option<String> {
        let opened = cache.get::<String>(Kind::Code, &GROUP, &KEY, &["a", "b"]).expect("get");
        opened.map(|opened| {
            assert_eq!(opened.files[0].bytes(), b"first");
            assert_eq!(opened.files[1].bytes(), b"");
            opened.meta
        })
    }

    #[test]
    fn what_was_put_is_there_for_the_next_process() {
        let (_folder, cache) = cache();
        assert_eq!(get(&cache), None);
        cache.put(Kind::Code, &GROUP, &KEY, &FILES, || "meta".to_owned()).expect("put");
        assert_eq!(get(&cache).as_deref(), Some("meta"));
        let again = Cache::open(cache.path()).expect("cache");
        assert_eq!(get(&again).as_deref(), Some("meta"));
        assert_eq!(again.list().expect("list").len(), 1);
        again.clear().expect("clear");
        assert_eq!(get(&cache), None);
    }

    #[test]
    fn one_at_a_time_makes_entries_of_a_group() {
        let (_folder, cache) = cache();
        let other = Digest::from_bytes([3; 32]);
        assert!(!cache.is_making(Kind::Code, &GROUP));
        let making = cache.making(Kind::Code, &GROUP);
        // As another process would: with files of its own.
        let cache = Cache::open(cache.path()).expect("cache");
        assert!(cache.is_making(Kind::Code, &GROUP));
        assert!(!cache.is_making(Kind::Code, &other));
        drop(cache.making(Kind::Code, &other));
        // What the kernel does with the files of a process that was killed.
        drop(making);
        assert!(!cache.is_making(Kind::Code, &GROUP));
        drop(cache.making(Kind::Code, &GROUP));
        assert_eq!(cache.list().expect("list").len(), 0);
    }

    #[test]
    fn damaged_moved_and_foreign_entries_are_not_trusted() {
        let damage: [fn(&Path); 7] = [
            |entry| fs::write(entry.join("a"), b"fjrst").expect("write"),
            |entry| fs::write(entry.join("a"), b"firs").expect("write"),
            |entry| fs::write(entry.join("b"), b"x").expect("write"),
            |entry| fs::write(entry.join(META_FILE), b"\"mesa\"").expect("write"),
            |entry| fs::write(entry.join(SEAL_FILE), [0; 32]).expect("write"),
            |entry| fs::remove_file(entry.join(SEAL_FILE)).expect("remove"),
            |entry| {
                fs::write(entry.ancestors().nth(3).expect("root").join("key"), [7; 32])
                    .expect("write")
            },
        ];
        for (index, damage) in damage.into_iter().enumerate() {
            let (_folder, cache) = cache();
            cache.put(Kind::Code, &GROUP, &KEY, &FILES, || "meta".to_owned()).expect("put");
            damage(&cache.entry_path(Kind::Code, &GROUP, &KEY));
            let cache = Cache::open(cache.path()).expect("cache");
            assert_eq!(get(&cache), None, "damage {index}");
            cache.put(Kind::Code, &GROUP, &KEY, &FILES, || "meta".to_owned()).expect("put");
            assert_eq!(get(&cache).as_deref(), Some("meta"), "damage {index}");
        }
        let (_folder, cache) = cache();
        let other = Digest::from_bytes([3; 32]);
        cache.put(Kind::Code, &GROUP, &other, &FILES, || "meta".to_owned()).expect("put");
        let (from, to) = (
            cache.entry_path(Kind::Code, &GROUP, &other),
            cache.entry_path(Kind::Code, &GROUP, &KEY),
        );
        fs::rename(from, to).expect("rename");
        assert_eq!(get(&cache), None, "moved");
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let (_folder, cache) = cache();
        let keys: Vec<_> = (0..5).map(|byte| Digest::from_bytes([byte; 32])).collect();
        for (age, key) in keys.iter().enumerate() {
            cache.put(Kind::Image, &GROUP, key, &[], || 0u8).expect("put");
            let seal = cache.entry_path(Kind::Image, &GROUP, key).join(SEAL_FILE);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64);
            File::options()
                .append(true)
                .open(seal)
                .expect("seal")
                .set_modified(time)
                .expect("time");
        }
        cache.get::<u8>(Kind::Image, &GROUP, &keys[0], &[]).expect("get").expect("there");
        cache.evict(Kind::Image, &GROUP, &keys[1], 2).expect("evict");
        let left: Vec<_> = cache.list().expect("list").into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, [keys[0].hex(), keys[1].hex(), keys[4].hex()], "and the one that stays");
    }

    #[test]
    fn entries_are_made_and_make_room_side_by_side() {
        let (_folder, cache) = cache();
        let work = |first: u8| {
            for round in 0..200_u8 {
                let key = Digest::from_bytes([(first + round) % 7; 32]);
                let files: [(&str, &[u8]); 1] = [("a", b"first")];
                let found = cache.get::<u8>(Kind::Image, &GROUP, &key, &["a"]).expect("get");
                let opened = match found {
                    Some(opened) => opened,
                    None => cache.put(Kind::Image, &GROUP, &key, &files, || 5).expect("put"),
                };
                assert_eq!((opened.meta, opened.files[0].bytes()), (5, &b"first"[..]));
                cache.evict(Kind::Image, &GROUP, &Digest::from_bytes([9; 32]), 2).expect("evict");
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|first| drop(scope.spawn(move || work(first)))));
        assert!(cache.list().expect("list").len() <= 2 + 3, "each may have made one more");
    }

    #[test]
    fn a_cache_that_others_can_write_to_is_refused() {
        let (_folder, cache) = cache();
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        let error = Cache::open(cache.path()).expect_err("refused").to_string();
        assert!(error.contains("mode 777"), "{error}");
    }
}
