//! An upload: a file goes to a server in pieces, and goes on where it was interrupted.
//!
//! What an interrupted upload is called stands in a small file beside the package, `FILE.fbx.upload`,
//! until the package is published.

use crate::{
    client::{Remote, Trouble},
    exit::{Exit, Failure, Result},
    file,
    progress::Sending,
};
use fuelbox_engine::Digest;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// An upload that the server knows.
pub(super) struct Upload {
    state: State,
    /// How much of it the server has.
    offset: u64,
    chunk_bytes_max: u64,
    /// Where its name is kept.
    kept: PathBuf,
}

/// What is kept of an upload between two runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The server.
    url: String,
    /// Of the package's file.
    digest: Digest,
    /// The server's name of it.
    id: String,
    chunk_bytes_max: u64,
}

/// What a server says of an upload.
#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    id: Option<String>,
    /// None while a piece is coming in.
    offset: Option<u64>,
    #[serde(default)]
    chunk_bytes_max: Option<u64>,
}

/// Bytes of a piece when the server says nothing: some seconds of a slow line.
const CHUNK_BYTES: u64 = 4 << 20;

/// Bytes of a piece whatever the server says: it is sent again as a whole.
const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the file with an upload's name.
const STATE_BYTES_MAX: u64 = 16 << 10;

/// How often the server may say that it is at another place of the file than we are.
const MISSES_MAX: u32 = 16;

impl Upload {
    /// Finds the upload of this file that was interrupted, or begins one.
    pub(super) fn open(remote: &Remote, path: &Path, bytes: &[u8]) -> Result<Self> {
        let digest = Digest::of(bytes);
        let url = remote.address().to_string();
        let mut kept = path.as_os_str().to_owned();
        kept.push(".upload");
        let kept = PathBuf::from(kept);
        if let Some(state) = read_state(&kept).filter(|state| state.fits(&url, &digest))
            && let Some(offset) = offset_of(remote, &state.id)?
            && offset <= bytes.len() as u64
        {
            remote.verbosity().note(format_args!("going on at byte {offset} of {}", bytes.len()));
            let chunk_bytes_max = state.chunk_bytes_max;
            return Ok(Self { state, offset, chunk_bytes_max, kept });
        }
        let request = json!({ "bytes": bytes.len(), "digest": digest.to_string() });
        let answer = remote.post(&["api", "v1", "uploads"], &request)?;
        let Known { id, offset, chunk_bytes_max } = answer.document("upload")?;
        let id = id.ok_or_else(|| odd("an upload without an id"))?;
        let chunk_bytes_max = chunk_bytes_max.unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES_MAX);
        let state = State { url, digest, id, chunk_bytes_max };
        // Without it an interrupted upload starts anew: no reason to stop.
        if let Err(failure) = keep(&kept, &state) {
            remote.verbosity().note(format_args!("{failure:#}: it could not be gone on with"));
        }
        Ok(Self { state, offset: offset.unwrap_or(0), chunk_bytes_max, kept })
    }

    /// The server's name of it.
    pub(super) fn id(&self) -> &str {
        &self.state.id
    }

    /// Sends what is missing.
    pub(super) fn send(&self, remote: &Remote, bytes: &[u8]) -> Result<()> {
        let total = bytes.len() as u64;
        let bar = Sending::start(remote.verbosity(), "uploading", total);
        let (mut offset, mut misses) = (self.offset, 0);
        while offset < total {
            bar.at(offset);
            let end = total.min(offset.saturating_add(self.chunk_bytes_max));
            match self.send_chunk(remote, bytes, offset..end) {
                Ok(next) => offset = next,
                // Its answer was lost, or another process sends the same file.
                Err(trouble) if trouble.is("conflict") && misses < MISSES_MAX => {
                    misses += 1;
                    let known = offset_of(remote, self.id())?;
                    offset = known.ok_or_else(|| Failure::from(trouble))?;
                }
                Err(trouble) => return Err(trouble.into()),
            }
            if offset > total {
                return Err(odd("more of the file than there is"));
            }
        }
        bar.at(total);
        Ok(())
    }

    /// Sends one piece, and gives where the next one begins.
    fn send_chunk(
        &self,
        remote: &Remote,
        bytes: &[u8],
        range: std::ops::Range<u64>,
    ) -> Result<u64, Trouble> {
        let piece = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| bytes.get(start..end))
            .ok_or_else(|| Trouble::Own(odd("more of the file than there is")))?;
        let url = remote.url(&["api", "v1", "uploads", self.id()]);
        let answer = remote.send(STATE_BYTES_MAX, |client| {
            Ok(client
                .patch(url.clone())
                .header("upload-offset", range.start)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(piece.to_vec()))
        })?;
        let next = answer.header("upload-offset").and_then(|text| text.parse().ok());
        match next.unwrap_or(range.end) {
            next if next > range.start => Ok(next),
            _ => Err(Trouble::Own(odd("nothing of a piece that it took"))),
        }
    }

    /// Forgets the upload: the package is published, or nothing can come of it.
    pub(super) fn close(self, published: bool) {
        if published {
            // It is of no use any more, and it does no harm.
            let _ = fs::remove_file(&self.kept);
        }
    }
}

impl State {
    fn fits(&self, url: &str, digest: &Digest) -> bool {
        self.url == url && self.digest == *digest
    }
}

/// How much of an upload the server has; none when it does not know it (any more).
fn offset_of(remote: &Remote, id: &str) -> Result<Option<u64>> {
    match remote.get(&["api", "v1", "uploads", id]) {
        Ok(answer) => {
            let busy = || {
                let text = "another piece of this file is still coming in; try again in a moment";
                Failure::message(Exit::Limit, text)
            };
            Ok(Some(answer.document::<Known>("upload")?.offset.ok_or_else(busy)?))
        }
        Err(trouble) if trouble.is("not_found") => Ok(None),
        Err(trouble) => Err(trouble.into()),
    }
}

fn read_state(path: &Path) -> Option<State> {
    let state: State = serde_json::from_slice(&file::read(path, STATE_BYTES_MAX).ok()?).ok()?;
    (1..=CHUNK_BYTES_MAX).contains(&state.chunk_bytes_max).then_some(state)
}

fn keep(path: &Path, state: &State) -> anyhow::Result<()> {
    file::write(path, |file| Ok(file.write_all(&serde_json::to_vec(state)?)?))
}

fn odd(what: &str) -> Failure {
    Failure::message(Exit::Host, format!("the server speaks of {what}"))
}
