//! Checkpoints: size and root of a log, signed.
//!
//! A checkpoint is a signed note (C2SP's signed-note and tlog-checkpoint): three lines, an empty one,
//! and a line for each signature. Signatures of unknown keys are passed over, as the formats ask:
//! witnesses may add theirs.

use super::SIZE_MAX;
use crate::{
    keys::{HostKey, KeyRing, note_key_id, signature_fits},
    text::excerpt,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::VerifyingKey;
use fuelbox_digest::Digest;
use signed_note::{Note, NoteError, Signature, VerificationError, Verifier, Verifiers};

/// Bytes of a signed checkpoint: room for the signatures of a hundred witnesses.
pub(super) const CHECKPOINT_BYTES_MAX: usize = 1 << 15;

/// Size and root of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// RFC 6962's tree hash of them.
    pub root: Digest,
}

/// Why a text is no checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckpointError {
    /// More than is read.
    #[error("checkpoint: {found} bytes, allowed are {CHECKPOINT_BYTES_MAX}")]
    TooLarge { found: usize },
    /// Not a signed note.
    #[error("checkpoint: not a signed note: text, an empty line, and signature lines")]
    NotNote,
    /// Not the lines of a checkpoint.
    #[error("checkpoint: not three lines of origin, size and root")]
    Malformed,
    /// Lines behind the root, which this host never writes.
    #[error("checkpoint: found extension lines, allowed are none")]
    Extension,
    /// A name that a note's key cannot have.
    #[error("checkpoint: origin '{found}', allowed is a name without spaces and plus signs")]
    BadOrigin { found: String },
    /// Of another log.
    #[error("checkpoint: of log '{found}', allowed is '{allowed}'")]
    Origin { found: String, allowed: String },
    /// More entries than there can be.
    #[error("checkpoint: size {found}, allowed are {SIZE_MAX}")]
    Size { found: u64 },
    /// The empty log has one root.
    #[error("checkpoint: size 0 with root {found}, which is not that of the empty log")]
    EmptyRoot { found: Digest },
    /// Nobody who is trusted has signed it.
    #[error("checkpoint: no signature by one of the {known} known keys for '{origin}'")]
    UnknownKey { known: usize, origin: String },
    /// The key did not sign this.
    #[error("checkpoint: the signature by key {id:08x} does not fit the text")]
    Signature { id: u32 },
}

impl Checkpoint {
    /// The signed text.
    ///
    /// # Errors
    /// When the origin is no name.
    pub fn sign(&self, key: &HostKey) -> Result<String, CheckpointError> {
        let bad_origin = || CheckpointError::BadOrigin { found: excerpt(&self.origin) };
        if self.origin.chars().any(char::is_control) {
            return Err(bad_origin());
        }
        let text = self.text();
        let signature = key.sign(text.as_bytes()).to_vec();
        let id = note_key_id(&self.origin, &key.verifying_key());
        let signature =
            Signature::new(self.origin.clone(), id, signature).map_err(|_| bad_origin())?;
        let note = Note::new(text.as_bytes(), &[signature]).map_err(|_| bad_origin())?;
        String::from_utf8(note.to_bytes()).map_err(|_| bad_origin())
    }

    /// Reads a signed text, and checks that a known key has signed it as the log of this origin.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open(text: &str, keys: &KeyRing, origin: &str) -> Result<Self, CheckpointError> {
        let (note, checkpoint) = parse(text)?;
        if checkpoint.origin != origin {
            let found = excerpt(&checkpoint.origin);
            return Err(CheckpointError::Origin { found, allowed: excerpt(origin) });
        }
        checkpoint.verify(&note, keys)?;
        Ok(checkpoint)
    }

    /// The same for the log that the text says it is of. The caller looks at [`Self::origin`].
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open_any(text: &str, keys: &KeyRing) -> Result<Self, CheckpointError> {
        let (note, checkpoint) = parse(text)?;
        checkpoint.verify(&note, keys)?;
        Ok(checkpoint)
    }

    fn verify(&self, note: &Note, keys: &KeyRing) -> Result<(), CheckpointError> {
        let key = |key: &VerifyingKey| NoteKey {
            name: self.origin.clone(),
            id: note_key_id(&self.origin, key),
            key: *key,
        };
        let known = NoteKeys(keys.verifying_keys().map(key).collect());
        match note.verify(&known) {
            Ok(_) => Ok(()),
            Err(NoteError::InvalidSignature { id, .. }) => Err(CheckpointError::Signature { id }),
            Err(_) => Err(CheckpointError::UnknownKey {
                known: known.0.len(),
                origin: excerpt(&self.origin),
            }),
        }
    }

    /// What is signed.
    fn text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }
}

fn parse(text: &str) -> Result<(Note, Checkpoint), CheckpointError> {
    if text.len() > CHECKPOINT_BYTES_MAX {
        return Err(CheckpointError::TooLarge { found: text.len() });
    }
    let note = Note::from_bytes(text.as_bytes()).map_err(|_| CheckpointError::NotNote)?;
    let lines =
        tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::Malformed)?;
    if !lines.extension().is_empty() {
        return Err(CheckpointError::Extension);
    }
    let (origin, size) = (lines.origin().to_string(), lines.size());
    let root = Digest::from_bytes(lines.hash().0);
    if size > SIZE_MAX {
        return Err(CheckpointError::Size { found: size });
    }
    if size == 0 && root != Digest::of(b"") {
        return Err(CheckpointError::EmptyRoot { found: root });
    }
    let checkpoint = Checkpoint { origin, size, root };
    // What was signed is what was understood, to the byte.
    if checkpoint.text().as_bytes() != note.text() {
        return Err(CheckpointError::Malformed);
    }
    Ok((note, checkpoint))
}

/// A trusted key under the log's name.
struct NoteKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl Verifier for NoteKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.try_into().is_ok_and(|signature| signature_fits(&self.key, message, signature))
    }
}

struct NoteKeys(Vec<NoteKey>);

impl Verifiers for NoteKeys {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        let mut found = self.0.iter().filter(|key| key.name == name && key.id == id);
        let unknown = || VerificationError::UnknownKey { name: name.into(), id };
        let key = found.next().ok_or_else(unknown)?;
        if found.next().is_some() {
            return Err(VerificationError::AmbiguousKey { name: name.into(), id });
        }
        Ok(key)
    }
}
