//! Uploads: large files that come in parts, and go on where they were broken off, also by a restart.
//!
//! An upload is two files in the data folder: what was announced, and what has come. Invariant: what is
//! counted as come is in the file.

use crate::{
    access::now_unix_ms,
    refusal::{Code, Refusal},
    serve::BYTES_S_MIN,
};
use axum::body::Body;
use fuelbox_digest::Digest;
use fuelbox_ledger::AccountId;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::OwnedMutexGuard,
    task::block_in_place,
    time::{Instant, timeout},
};

/// Bytes of one part: what is lost at most when a connection breaks behind a proxy that keeps bodies.
pub(crate) const CHUNK_BYTES_MAX: u64 = 16 << 20;

/// Uploads of one account at once.
const ACCOUNT_UPLOADS_MAX: usize = 8;

/// How long an upload may take.
const TIME_MS: u64 = 24 * 3_600_000;

/// What was announced, as it is kept.
#[derive(Serialize, Deserialize)]
struct Announced {
    account: String,
    bytes: u64,
    digest: Digest,
    created_unix_ms: u64,
}

/// An upload.
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    /// Of the whole.
    pub(crate) bytes: u64,
    /// Of the whole.
    pub(crate) digest: Digest,
    created_unix_ms: u64,
    /// Whoever writes or publishes has it.
    progress: Arc<tokio::sync::Mutex<Progress>>,
}

impl Upload {
    pub(crate) fn expires_unix_ms(&self) -> u64 {
        self.created_unix_ms.saturating_add(TIME_MS)
    }

    /// How much has come; none while somebody writes.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.progress.try_lock().ok().map(|progress| progress.offset)
    }

    /// The upload for oneself alone.
    pub(crate) fn hold(&self) -> Result<OwnedMutexGuard<Progress>, Refusal> {
        self.progress.clone().try_lock_owned().map_err(|_| {
            let sentence = format!("upload {} is in use by another request", self.id);
            Refusal::new(Code::InFlight, sentence).retry_after(Duration::from_secs(1))
        })
    }
}

/// How far something has come.
pub(crate) struct Progress {
    /// Bytes that are in the file.
    pub(crate) offset: u64,
    /// Of these bytes; none after a restart.
    hasher: Option<Sha256>,
}

impl Progress {
    /// Nothing yet.
    pub(crate) fn start() -> Self {
        Self { offset: 0, hasher: Some(Sha256::new()) }
    }

    fn write(&mut self, file: &mut File, data: &[u8]) -> io::Result<()> {
        file.write_all(data)?;
        self.offset += data.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
        Ok(())
    }

    /// The digest of all that has come. Blocks: after a restart the file is read.
    pub(crate) fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        let hasher = match self.hasher.take() {
            Some(hasher) => hasher,
            None => hash_file(path)?,
        };
        let digest = Digest::from_bytes(hasher.clone().finalize().into());
        self.hasher = Some(hasher);
        Ok(digest)
    }
}

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

fn hash_file(path: &Path) -> io::Result<Sha256> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}

/// A file of one request.
pub(crate) struct Scratch {
    pub(crate) file: tempfile::NamedTempFile,
    _place: Place,
}

/// Files of requests at once: each may be as large as a package, so they could fill a disk.
const SCRATCH_MAX: usize = 16;

/// Files of one account's requests at once: as many as may wait to be published, and few enough that
/// three others find a place beside one that takes all it can get.
const ACCOUNT_SCRATCH_MAX: usize = SCRATCH_MAX / 4;

/// Files of requests by account.
type Places = Arc<Mutex<BTreeMap<AccountId, usize>>>;

/// A file's place, free again when it is dropped.
struct Place {
    places: Places,
    account: AccountId,
}

impl Place {
    fn take(places: &Places, account: &AccountId) -> Result<Self, Refusal> {
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(account).copied().unwrap_or(0);
        let of_all = |whose: &str, allowed: usize| {
            let sentence = format!(
                "too many packages{whose} are being received: allowed are {allowed}; uploads in parts are \
                 not among them"
            );
            Refusal::new(Code::Busy, sentence).retry_after(Duration::from_secs(10))
        };
        if own >= ACCOUNT_SCRATCH_MAX {
            return Err(of_all(" of this account", ACCOUNT_SCRATCH_MAX));
        }
        if taken.values().sum::<usize>() >= SCRATCH_MAX {
            return Err(of_all("", SCRATCH_MAX));
        }
        taken.insert(account.clone(), own + 1);
        Ok(Self { places: places.clone(), account: account.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

/// All uploads.
pub(crate) struct Uploads {
    scratch: Places,
    folder: PathBuf,
    /// Bytes of one upload, and half of what one account may have announced.
    bytes_max: u64,
    known: Mutex<HashMap<String, Arc<Upload>>>,
}

impl Uploads {
    /// Opens the folder, and finds what an earlier process left.
    pub(crate) fn open(folder: PathBuf, bytes_max: u64) -> Self {
        let uploads =
            Self { scratch: Places::default(), folder, bytes_max, known: Mutex::default() };
        if let Err(error) = uploads.find_earlier() {
            // Without the folder each upload fails by itself; nothing else does.
            tracing::error!(%error, "uploads cannot be read");
        }
        uploads
    }

    /// A place for a file that is whole in one request. Gone when it is dropped.
    pub(crate) fn scratch(&self, account: &AccountId) -> Result<Scratch, Refusal> {
        let place = Place::take(&self.scratch, account)?;
        let file = tempfile::Builder::new().prefix(SCRATCH).tempfile_in(&self.folder);
        Ok(Scratch { file: file.map_err(|error| Refusal::fault(&error))?, _place: place })
    }

    /// Begins an upload. Blocks.
    pub(crate) fn begin(
        &self,
        account: &AccountId,
        bytes: u64,
        digest: Digest,
    ) -> Result<Arc<Upload>, Refusal> {
        if bytes > self.bytes_max {
            let sentence =
                format!("upload over limit: found {bytes} bytes, allowed {}", self.bytes_max);
            return Err(Refusal::new(Code::TooLarge, sentence));
        }
        if bytes == 0 {
            return Err(Refusal::bad("upload: found 0 bytes, needed is 1"));
        }
        let mut known = self.known();
        let own = || known.values().filter(|upload| upload.account == *account);
        let (count, announced) = (own().count(), own().map(|upload| upload.bytes).sum::<u64>());
        let allowed = self.bytes_max.saturating_mul(2);
        if count >= ACCOUNT_UPLOADS_MAX || announced.saturating_add(bytes) > allowed {
            let sentence = format!(
                "too many uploads: found {count} of {announced} bytes, allowed are \
                 {ACCOUNT_UPLOADS_MAX} of {allowed} bytes; delete one, or publish it"
            );
            return Err(Refusal::new(Code::Conflict, sentence));
        }
        let upload = Arc::new(Upload {
            id: uuid::Uuid::now_v7().to_string(),
            account: account.clone(),
            bytes,
            digest,
            created_unix_ms: now_unix_ms(),
            progress: Arc::new(tokio::sync::Mutex::new(Progress::start())),
        });
        self.announce(&upload).map_err(|error| Refusal::fault(&error))?;
        known.insert(upload.id.clone(), upload.clone());
        Ok(upload)
    }

    fn announce(&self, upload: &Upload) -> io::Result<()> {
        File::create(self.part(&upload.id))?;
        let announced = Announced {
            account: upload.account.to_string(),
            bytes: upload.bytes,
            digest: upload.digest,
            created_unix_ms: upload.created_unix_ms,
        };
        fs::write(self.about(&upload.id), serde_json::to_vec(&announced)?)
    }

    /// An upload of an account; of any, when none is given.
    pub(crate) fn find(
        &self,
        account: Option<&AccountId>,
        id: &str,
    ) -> Result<Arc<Upload>, Refusal> {
        let found = self.known().get(id).cloned();
        let found = found.filter(|upload| account.is_none_or(|account| upload.account == *account));
        found.ok_or_else(|| Refusal::not_found("upload", id))
    }

    /// The file of what has come.
    pub(crate) fn part(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    fn about(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Writes a part of an upload, as much of it as comes. Cancelled, it keeps what has come.
    pub(crate) async fn write(
        &self,
        upload: &Upload,
        progress: &mut Progress,
        body: Body,
        pause: Duration,
    ) -> Result<(), Refusal> {
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().write(true).open(self.part(&upload.id))?;
            // A write that failed may have left more.
            file.set_len(progress.offset)?;
            file.seek(SeekFrom::Start(progress.offset))?;
            Ok(file)
        };
        let mut file = block_in_place(open).map_err(|error| Refusal::fault(&error))?;
        let left = upload.bytes - progress.offset;
        receive(body, left.min(CHUNK_BYTES_MAX), pause, progress, &mut file).await?;
        if progress.offset < upload.bytes {
            return Ok(());
        }
        let found = block_in_place(|| progress.digest(&self.part(&upload.id)));
        let found = found.map_err(|error| Refusal::fault(&error))?;
        if found == upload.digest {
            return Ok(());
        }
        self.remove(&upload.id);
        let sentence = format!("upload: found {found}, announced {}; it is removed", upload.digest);
        Err(Refusal::bad(sentence).with("reason", "bad_digest"))
    }

    /// Forgets an upload, and removes its files. Blocks for a moment.
    pub(crate) fn remove(&self, id: &str) {
        self.known().remove(id);
        // What cannot be removed now is found at the next start, without or past its time.
        let _ = fs::remove_file(self.about(id));
        let _ = fs::remove_file(self.part(id));
    }

    /// Removes uploads whose time is over. Blocks.
    pub(crate) fn tidy(&self) {
        let now = now_unix_ms();
        let over = |upload: &&Arc<Upload>| upload.expires_unix_ms() <= now;
        let over: Vec<_> = self.known().values().filter(over).cloned().collect();
        for upload in over {
            // One that is being published goes when that is done.
            if let Ok(_held) = upload.hold() {
                self.remove(&upload.id);
            }
        }
    }

    fn find_earlier(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(SCRATCH) {
                // Of a process that was killed: this is the only one on the folder.
                fs::remove_file(self.folder.join(name))?;
            } else if let Some(id) = name.strip_suffix(".part") {
                ids.push(id.to_owned());
            }
        }
        for id in ids {
            match self.read_earlier(&id) {
                Some(upload) => drop(self.known().insert(id, Arc::new(upload))),
                None => self.remove(&id),
            }
        }
        self.tidy();
        Ok(())
    }

    fn read_earlier(&self, id: &str) -> Option<Upload> {
        let about = fs::read(self.about(id)).ok()?;
        let about: Announced = serde_json::from_slice(&about).ok()?;
        let offset = fs::metadata(self.part(id)).ok()?.len();
        (offset <= about.bytes).then_some(())?;
        Some(Upload {
            id: id.to_owned(),
            account: about.account.parse().ok()?,
            bytes: about.bytes,
            digest: about.digest,
            created_unix_ms: about.created_unix_ms,
            progress: Arc::new(tokio::sync::Mutex::new(Progress { offset, hasher: None })),
        })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What names of files begin with that belong to one request.
const SCRATCH: &str = "request-";

/// Writes a body to a file as it comes: at most so many bytes, with no longer pause than this.
pub(crate) async fn receive(
    body: Body,
    bytes_max: u64,
    pause: Duration,
    progress: &mut Progress,
    file: &mut File,
) -> Result<(), Refusal> {
    // Written before anything else is waited for: what is counted is there.
    let write = |data: &[u8]| block_in_place(|| progress.write(file, data));
    take_in(body, bytes_max, pause, write).await
}

async fn take_in(
    mut body: Body,
    bytes_max: u64,
    pause: Duration,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Refusal> {
    let too_large = |found: u64| {
        let sentence = format!("body over limit: found {found} bytes, allowed {bytes_max}");
        Refusal::new(Code::TooLarge, sentence)
    };
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > bytes_max {
        return Err(too_large(announced));
    }
    let late = || {
        let seconds = pause.as_secs();
        let sentence =
            format!("the body paused for {seconds} s, or came slower than {BYTES_S_MIN} bytes/s");
        Refusal::new(Code::RequestTimeout, sentence)
    };
    let (started, mut received) = (Instant::now(), 0_u64);
    loop {
        if started.elapsed() > pause + Duration::from_secs(received / BYTES_S_MIN) {
            return Err(late());
        }
        let frame = timeout(pause, body.frame()).await.map_err(|_| late())?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| {
            let error = crate::refusal::excerpt(&error.to_string());
            Refusal::bad(format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        received = received.saturating_add(data.len() as u64);
        if received > bytes_max {
            return Err(too_large(received));
        }
        write(&data).map_err(|error| Refusal::fault(&error))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> AccountId {
        name.parse().expect("an account")
    }

    const PAUSE: Duration = Duration::from_secs(5);

    #[tokio::test(flavor = "multi_thread")]
    async fn an_upload_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Uploads::open(folder.path().join("uploads"), 1_000);
        let (uploads, pat) = (open(), account("pat"));
        let upload = uploads.begin(&pat, 6, Digest::of(b"abcdef")).expect("begun");
        let mut held = upload.hold().expect("free");
        uploads.write(&upload, &mut held, Body::from("abc"), PAUSE).await.expect("written");
        assert!(upload.hold().is_err(), "one writer at a time");
        let id = upload.id.clone();
        // What a write that failed would leave.
        let again = open();
        let upload = again.find(Some(&pat), &id).expect("found");
        assert_eq!(upload.offset(), Some(3));
        assert!(again.find(Some(&account("eve")), &id).is_err());
        let mut held = upload.hold().expect("free");
        again.write(&upload, &mut held, Body::from("def"), PAUSE).await.expect("whole");
        assert_eq!(fs::read(again.part(&id)).expect("a file"), b"abcdef");
        again.remove(&id);
        assert_eq!(fs::read_dir(folder.path().join("uploads")).expect("a folder").count(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_not_announced_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path().to_owned(), 1_000);
        let pat = account("pat");
        let refused = |refusal: Refusal| refusal.code;
        let begin = |bytes| uploads.begin(&pat, bytes, Digest::of(b"abc"));
        assert_eq!(begin(0).err().map(refused), Some(Code::BadInput));
        assert_eq!(begin(1_001).err().map(refused), Some(Code::TooLarge));
        let upload = begin(3).expect("begun");
        let mut held = upload.hold().expect("free");
        let write = uploads.write(&upload, &mut held, Body::from("abcd"), PAUSE).await;
        assert_eq!(write.err().map(refused), Some(Code::TooLarge));
        let write = uploads.write(&upload, &mut held, Body::from("abd"), PAUSE).await;
        let refusal = write.expect_err("another digest");
        assert_eq!(refusal.members[0].1, "bad_digest");
        assert!(uploads.find(None, &upload.id).is_err(), "it is gone");
    }

    #[test]
    fn files_of_requests_are_few_and_no_account_has_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path().to_owned(), 1_000);
        let scratch = |name: &str| uploads.scratch(&account(name));
        let refused = |name: &str| {
            let refusal = scratch(name).err().expect("no place");
            assert_eq!((refusal.code, refusal.retry_after.is_some()), (Code::Busy, true));
            refusal.sentence
        };
        let fill = |name: &str| (0..4).map(|_| scratch(name).expect("a place")).collect();
        let mut open: Vec<Vec<_>> = vec![fill("pat")];
        let expected = "too many packages of this account are being received: allowed are 4; uploads in \
                        parts are not among them";
        assert_eq!(refused("pat"), expected);
        open.extend(["eve", "kim", "lea"].map(fill));
        let expected = "too many packages are being received: allowed are 16; uploads in parts are not among them";
        assert_eq!(refused("sam"), expected);
        open[0].pop();
        open[1].pop();
        assert!(scratch("pat").is_ok() && scratch("sam").is_ok());
        drop(open);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        assert!(uploads.scratch.lock().expect("a lock").is_empty());
    }

    /// How a body ends that brings so many bytes each second, and how many bytes came by then.
    async fn drip(bytes: usize, seconds: usize) -> (Result<(), Code>, usize) {
        let piece = axum::body::Bytes::from(vec![7; bytes]);
        let pieces =
            tokio_stream::iter((0..seconds).map(move |_| Ok::<_, io::Error>(piece.clone())));
        let pieces = tokio_stream::StreamExt::throttle(pieces, Duration::from_secs(1));
        let mut came = 0;
        let write = |data: &[u8]| {
            came += data.len();
            Ok(())
        };
        let end = take_in(Body::from_stream(pieces), 1 << 30, PAUSE, write).await;
        (end.map_err(|refusal| refusal.code), came)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_drips_is_not_waited_for() {
        let (bytes, seconds) = (BYTES_S_MIN as usize, 100);
        assert_eq!(drip(bytes, seconds).await, (Ok(()), bytes * seconds));
        let (end, came) = drip(bytes / 4, seconds).await;
        assert_eq!(end, Err(Code::RequestTimeout));
        assert!(came < 2 * PAUSE.as_secs() as usize * bytes / 4, "{came}");
    }

    #[test]
    fn an_account_has_some_uploads_and_others_have_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path().to_owned(), 1_000);
        let begin = |name: &str, bytes| uploads.begin(&account(name), bytes, Digest::of(b""));
        for _ in 0..ACCOUNT_UPLOADS_MAX {
            begin("pat", 10).expect("begun");
        }
        assert_eq!(begin("pat", 10).err().map(|refusal| refusal.code), Some(Code::Conflict));
        begin("eve", 1_000).expect("begun");
        begin("eve", 1_000).expect("begun");
        assert_eq!(begin("eve", 1).err().map(|refusal| refusal.code), Some(Code::Conflict));
    }
}
