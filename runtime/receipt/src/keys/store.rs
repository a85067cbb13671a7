//! The folder of a host's keys: one private key that signs, and the public halves of all there were.
//!
//! ```text
//! FOLDER/         mode 700
//!   keys.json     the log's origin and all public keys; the last one is the current one
//!   ID.pem        the current private key, PKCS#8, mode 600
//! ```
//!
//! A change is made in three steps: the private key is written as `ID.pem.new`, `keys.json` is
//! replaced, `ID.pem.new` becomes `ID.pem`. The second step is the change: what an end before or after
//! it left behind is put right at the next start. A private key that signs no more is deleted, so
//! nobody can take it later; its public half is all that its receipts need.
//!
//! A folder belongs to one process at a time.

use super::{HostKey, KeyError, KeyId, KeyRing};
use ed25519_dalek::pkcs8::spki::der::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The only value of [`Index::format`].
const FORMAT: &str = "fuelbox-keys/1";

/// The list of public keys.
const INDEX: &str = "keys.json";

/// Behind the name of a private key that is not yet, or no longer, the current one.
const NEW: &str = ".new";

/// What a log's origin starts with.
const ORIGIN_PREFIX: &str = "fuelbox.dev/log/";

/// Digits of the first key's id in the log's origin: 64 bits, so that no two hosts share one.
const ORIGIN_DIGITS: usize = 16;

/// A public key of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    /// Its name.
    pub id: KeyId,
    /// The key itself.
    pub pem: String,
    /// When it was made.
    pub created_unix_ms: u64,
    /// When it signed for the last time, if that is past.
    pub retired_unix_ms: Option<u64>,
}

/// What `keys.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: String,
    origin: String,
    /// Oldest first. All but the last are retired.
    keys: Vec<PublicKey>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyStoreError {
    /// The file system.
    #[error("keys: cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// Others can get at it.
    #[error("keys: {} has mode {mode:03o}, allowed is {allowed:03o}: others than its owner can use it", path.display())]
    Open { path: PathBuf, mode: u32, allowed: u32 },
    /// It is somebody else's.
    #[error("keys: {} belongs to user {found}, allowed is {user}", path.display())]
    Owner { path: PathBuf, found: u32, user: u32 },
    /// The list is damaged or of a later version.
    #[error("keys: {}: {reason}", path.display())]
    Index { path: PathBuf, reason: String },
    /// A private key without the list that it belongs to.
    #[error("keys: {} is there but {INDEX} is not; put it back, or move the key away to start anew", path.display())]
    NoIndex { path: PathBuf },
    /// The private key is gone.
    #[error("keys: {} is missing; it is the current private key", path.display())]
    NoPrivate { path: PathBuf },
    /// A file that holds another key than its name says.
    #[error("keys: {} holds key {found}", path.display())]
    Other { path: PathBuf, found: KeyId },
    /// A file that holds no key.
    #[error("keys: {}: {source}", path.display())]
    Key { path: PathBuf, source: KeyError },
    /// No new key.
    #[error("keys: {0}")]
    Make(KeyError),
}

/// The public half of a folder of keys: for those who check, beside the process that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// The name of the host's log.
    pub origin: String,
    /// Oldest first. The last one is the current one.
    pub keys: Vec<PublicKey>,
}

impl PublicKeys {
    /// Reads a folder of keys, changing nothing; none when there are no keys in it.
    ///
    /// # Errors
    /// When the list is damaged, or others than this user can change it.
    pub fn read(folder: &Path) -> Result<Option<Self>, KeyStoreError> {
        let index = read_index(folder)?;
        Ok(index.map(|Index { origin, keys, .. }| Self { origin, keys }))
    }

    /// All of them as a ring: what the host's receipts are checked with.
    pub fn ring(&self) -> KeyRing {
        ring_of(&self.keys)
    }
}

/// Public keys, which were checked when their list was read.
fn ring_of(keys: &[PublicKey]) -> KeyRing {
    let mut ring = KeyRing::default();
    for key in keys {
        if let Ok(one) = KeyRing::from_pem(&key.pem) {
            ring.extend(one);
        }
    }
    ring
}

/// The keys of this host.
#[derive(Debug)]
pub struct KeyStore {
    folder: PathBuf,
    index: Index,
    current: HostKey,
}

impl KeyStore {
    /// Opens the folder; makes it, and the first key, when they are not there.
    ///
    /// # Errors
    /// When the folder or the key is damaged, or others than this user can get at it.
    pub fn open(folder: &Path, now_unix_ms: u64) -> Result<Self, KeyStoreError> {
        let folder = folder.to_path_buf();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE);
        builder.create(&folder).map_err(io_error("create", &folder))?;
        check_private(&folder, FOLDER_MODE)?;
        let store = match read_index(&folder)? {
            Some(index) => Self::finish(folder, index)?,
            None => Self::start(folder, now_unix_ms)?,
        };
        store.tidy()?;
        Ok(store)
    }

    /// The key that signs.
    pub fn current(&self) -> &HostKey {
        &self.current
    }

    /// The name of this host's log: of its first key, and the same for good.
    pub fn origin(&self) -> &str {
        &self.index.origin
    }

    /// All public keys, oldest first. The last one is the current one.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.index.keys.clone()
    }

    /// All public keys as a ring: what this host's receipts are checked with.
    pub fn ring(&self) -> KeyRing {
        ring_of(&self.index.keys)
    }

    /// Makes a new key the current one, and deletes the private half of the old one.
    ///
    /// # Errors
    /// When the new key cannot be written. The old one then stays the current one, unless the error came
    /// after the change: opening the folder again tells.
    pub fn rotate(&mut self, now_unix_ms: u64) -> Result<KeyId, KeyStoreError> {
        let key = HostKey::generate().map_err(KeyStoreError::Make)?;
        let mut index = self.index.clone();
        if let Some(last) = index.keys.last_mut() {
            last.retired_unix_ms = Some(now_unix_ms);
        }
        index.keys.push(public_key(&key, now_unix_ms));
        install(&self.folder, &index, &key)?;
        self.index = index;
        self.current = key;
        self.tidy()?;
        Ok(self.current.id())
    }

    /// The first start: nothing is there, or what was left when a first start was cut short.
    fn start(folder: PathBuf, now_unix_ms: u64) -> Result<Self, KeyStoreError> {
        let whole = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "pem");
        if let Some(path) = private_keys(&folder)?.into_iter().find(whole) {
            return Err(KeyStoreError::NoIndex { path });
        }
        let current = HostKey::generate().map_err(KeyStoreError::Make)?;
        let digits = &current.id().to_string()[..ORIGIN_DIGITS];
        let index = Index {
            format: FORMAT.into(),
            origin: format!("{ORIGIN_PREFIX}{digits}"),
            keys: vec![public_key(&current, now_unix_ms)],
        };
        install(&folder, &index, &current)?;
        Ok(Self { folder, index, current })
    }

    /// A later start: the private key is there, or its last step is yet to be made.
    fn finish(folder: PathBuf, index: Index) -> Result<Self, KeyStoreError> {
        let wrong = |reason: &str| KeyStoreError::Index {
            path: folder.join(INDEX),
            reason: reason.to_string(),
        };
        let Some(last) = index.keys.last() else {
            return Err(wrong("found 0 keys, needed is 1"));
        };
        let path = private_path(&folder, last.id);
        let new = new_path(&path);
        if !exists(&path)? {
            if !exists(&new)? {
                return Err(KeyStoreError::NoPrivate { path });
            }
            check_private(&new, FILE_MODE)?;
            rename(&new, &path, &folder)?;
        }
        check_private(&path, FILE_MODE)?;
        let pem = fs::read_to_string(&path).map(Zeroizing::new).map_err(io_error("read", &path))?;
        let current = HostKey::from_pem(&pem)
            .map_err(|source| KeyStoreError::Key { path: path.clone(), source })?;
        if current.id() != last.id {
            return Err(KeyStoreError::Other { path, found: current.id() });
        }
        Ok(Self { folder, index, current })
    }

    /// Deletes private keys that are not the current one.
    fn tidy(&self) -> Result<(), KeyStoreError> {
        let current = private_path(&self.folder, self.current.id());
        for path in private_keys(&self.folder)? {
            if path != current {
                fs::remove_file(&path).map_err(io_error("delete", &path))?;
            }
        }
        sync(&self.folder)
    }
}

/// Of the folder: nobody but its owner.
const FOLDER_MODE: u32 = 0o700;

/// Of a private key: nobody but its owner, and not executable.
const FILE_MODE: u32 = 0o600;

fn public_key(key: &HostKey, now_unix_ms: u64) -> PublicKey {
    PublicKey {
        id: key.id(),
        pem: key.public_pem(),
        created_unix_ms: now_unix_ms,
        retired_unix_ms: None,
    }
}

/// The three steps of a change.
fn install(folder: &Path, index: &Index, key: &HostKey) -> Result<(), KeyStoreError> {
    let path = private_path(folder, key.id());
    let new = new_path(&path);
    write(folder, &new, key.to_pem().as_bytes())?;
    let mut json = serde_json::to_vec_pretty(index).map_err(|error| KeyStoreError::Index {
        path: folder.join(INDEX),
        reason: error.to_string(),
    })?;
    json.push(b'\n');
    write(folder, &folder.join(INDEX), &json)?;
    rename(&new, &path, folder)
}

/// Writes a file beside its place, and puts it there when it is on disk.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), KeyStoreError> {
    // Made with mode 600.
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)
        .map_err(io_error("write in", folder))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.as_file().sync_all().map_err(io_error("sync", path))?;
    file.persist(path).map_err(|error| error.error).map_err(io_error("write", path))?;
    sync(folder)
}

/// What the name of a file that is being written starts with.
const UNFINISHED: &str = "unfinished-";

fn rename(from: &Path, to: &Path, folder: &Path) -> Result<(), KeyStoreError> {
    fs::rename(from, to).map_err(io_error("rename", from))?;
    sync(folder)
}

fn sync(folder: &Path) -> Result<(), KeyStoreError> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}

fn read_index(folder: &Path) -> Result<Option<Index>, KeyStoreError> {
    let path = folder.join(INDEX);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyStoreError::Io { what: "read", path, source }),
    };
    // Whoever can write here can make receipts of this host be checked with another key.
    check_private(&path, FILE_MODE)?;
    parse_index(&bytes).map(Some).map_err(|reason| KeyStoreError::Index { path, reason })
}

fn parse_index(bytes: &[u8]) -> Result<Index, String> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    // The format first, so that a later version is called that, and not a list of odd fields.
    let Head { format } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!("format '{}', allowed is '{FORMAT}'", format.escape_debug()));
    }
    let index: Index = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    for key in &index.keys {
        let ring = KeyRing::from_pem(&key.pem).map_err(|error| error.to_string())?;
        if ring.ids().ne([key.id]) {
            return Err(format!("the PEM of key {} is another key's", key.id));
        }
    }
    Ok(index)
}

fn private_path(folder: &Path, id: KeyId) -> PathBuf {
    folder.join(format!("{id}.pem"))
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(NEW);
    name.into()
}

/// Every private key in the folder, whole or not, whatever it is called.
fn private_keys(folder: &Path) -> Result<Vec<PathBuf>, KeyStoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.strip_suffix(NEW).unwrap_or(&name).strip_suffix(".pem").unwrap_or_default();
        if name.starts_with(UNFINISHED) || id.parse::<KeyId>().is_ok() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether nobody but this user can use it.
fn check_private(path: &Path, allowed: u32) -> Result<(), KeyStoreError> {
    let metadata = fs::metadata(path).map_err(io_error("read", path))?;
    let (found, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if found != user {
        return Err(KeyStoreError::Owner { path: path.into(), found, user });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyStoreError::Open { path: path.into(), mode, allowed });
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, KeyStoreError> {
    path.try_exists().map_err(io_error("read", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyStoreError {
    let path = path.to_path_buf();
    move |source| KeyStoreError::Io { what, path, source }
}
