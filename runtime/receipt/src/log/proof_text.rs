//! Proofs as text: a file that stands by itself beside a trusted key.
//!
//! An inclusion proof is C2SP's tlog-proof; a consistency proof has the same lines under another name.

use super::{
    Checkpoint, CheckpointError,
    checkpoint::CHECKPOINT_BYTES_MAX,
    proof::{HASHES_MAX, WrongProof, verify_consistency, verify_inclusion},
};
use crate::{keys::KeyRing, text::excerpt};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_digest::Digest;

/// First line of an inclusion proof.
const INCLUSION: &str = "c2sp.org/tlog-proof@v1";

/// First line of a consistency proof.
const CONSISTENCY: &str = "fuelbox.dev/log-consistency@v1";

/// Bytes of a proof: its lines of 45 bytes each, and the checkpoint.
const PROOF_BYTES_MAX: usize = 256 + 45 * HASHES_MAX + CHECKPOINT_BYTES_MAX;

/// That an entry is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Of the entry.
    pub index: u64,
    /// From the entry to the root.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint of the log.
    pub checkpoint: String,
}

/// That a log begins with an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many entries the earlier one has.
    pub old: u64,
    /// From the one root to the other.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint of the later one.
    pub checkpoint: String,
}

/// Why a text proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProofError {
    /// More than is read.
    #[error("proof: {found} bytes, allowed are {PROOF_BYTES_MAX}")]
    TooLarge { found: usize },
    /// Of a later version, or of something else.
    #[error("proof: first line '{found}', allowed is '{allowed}'")]
    Format { found: String, allowed: &'static str },
    /// Data that no signature covers.
    #[error("proof: found an 'extra' line, allowed is none")]
    Extra,
    /// No number where one must be.
    #[error("proof: second line '{found}', allowed is '{name}' and a number")]
    Number { found: String, name: &'static str },
    /// A line that is no hash.
    #[error("proof: line {line} '{found}' is not a hash of 32 bytes in base64")]
    Hash { line: usize, found: String },
    /// No checkpoint behind the hashes.
    #[error("proof: no empty line with a checkpoint behind it")]
    End,
    /// The checkpoint is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes are wrong.
    #[error(transparent)]
    Wrong(#[from] WrongProof),
    /// The earlier log is of another size than the proof is for.
    #[error("proof: begins at {found} entries, needed is {needed}")]
    Earlier { found: u64, needed: u64 },
}

impl InclusionProof {
    /// The text.
    pub fn to_text(&self) -> String {
        to_text(INCLUSION, "index", self.index, &self.hashes, &self.checkpoint)
    }

    /// Reads a text. What it says is not to be believed before [`Self::verify`].
    ///
    /// # Errors
    /// The first thing that is wrong with its form.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (index, hashes, checkpoint) = parse(text, INCLUSION, "index")?;
        Ok(Self { index, hashes, checkpoint })
    }

    /// Whether the entry is in a log that one of the keys has signed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(
        &self,
        entry: &Digest,
        keys: &KeyRing,
        origin: &str,
    ) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, keys, origin)?;
        verify_inclusion(entry, self.index, checkpoint.size, &checkpoint.root, &self.hashes)?;
        Ok(checkpoint)
    }
}

impl ConsistencyProof {
    /// The text.
    pub fn to_text(&self) -> String {
        to_text(CONSISTENCY, "old", self.old, &self.hashes, &self.checkpoint)
    }

    /// Reads a text. What it says is not to be believed before [`Self::verify`].
    ///
    /// # Errors
    /// The first thing that is wrong with its form.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (old, hashes, checkpoint) = parse(text, CONSISTENCY, "old")?;
        Ok(Self { old, hashes, checkpoint })
    }

    /// Whether a log that one of the keys has signed begins with all of an earlier one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, earlier: &Checkpoint, keys: &KeyRing) -> Result<Checkpoint, ProofError> {
        if earlier.size != self.old {
            return Err(ProofError::Earlier { found: self.old, needed: earlier.size });
        }
        let later = Checkpoint::open(&self.checkpoint, keys, &earlier.origin)?;
        verify_consistency(self.old, &earlier.root, later.size, &later.root, &self.hashes)?;
        Ok(later)
    }
}

fn to_text(first: &str, name: &str, number: u64, hashes: &[Digest], checkpoint: &str) -> String {
    let hashes: String =
        hashes.iter().map(|hash| BASE64_STANDARD.encode(hash.as_bytes()) + "\n").collect();
    format!("{first}\n{name} {number}\n{hashes}\n{checkpoint}")
}

fn parse(
    text: &str,
    first: &'static str,
    name: &'static str,
) -> Result<(u64, Vec<Digest>, String), ProofError> {
    if text.len() > PROOF_BYTES_MAX {
        return Err(ProofError::TooLarge { found: text.len() });
    }
    let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::End)?;
    let mut lines = head.split('\n');
    let found = lines.next().unwrap_or_default();
    if found != first {
        return Err(ProofError::Format { found: excerpt(found), allowed: first });
    }
    let second = lines.next().unwrap_or_default();
    if second.starts_with("extra ") {
        return Err(ProofError::Extra);
    }
    let number =
        number(second, name).ok_or_else(|| ProofError::Number { found: excerpt(second), name })?;
    let mut hashes = Vec::new();
    for (index, line) in lines.enumerate() {
        let hash = BASE64_STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
        let wrong = || ProofError::Hash { line: index + 3, found: excerpt(line) };
        hashes.push(Digest::from_bytes(hash.ok_or_else(wrong)?));
    }
    Ok((number, hashes, checkpoint.to_string()))
}

/// The number of a line like `index 12`, in its one form.
fn number(line: &str, name: &str) -> Option<u64> {
    let digits = line.strip_prefix(name)?.strip_prefix(' ')?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}
