//! The envelope: a receipt's statement with a signature, in DSSE's form.
//!
//! A receipt and a key go in, bytes that anybody can check come out, and the way back: bytes, parsed
//! and then verified with trusted keys, become a receipt. One envelope has one byte form.
//!
//! Knows nothing of the log that has the envelope's digest.

use crate::{
    dsse::{Parts, pae},
    keys::{HostKey, KeyId, KeyRing, signature_fits},
    receipt::{Receipt, ReceiptError, STATEMENT_BYTES_MAX},
};
use fuelbox_digest::Digest;

pub use crate::dsse::EnvelopeError;

/// What the payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Bytes of an envelope: a statement of the largest size in base64, and what is around it.
pub const ENVELOPE_BYTES_MAX: usize = STATEMENT_BYTES_MAX / 3 * 4 + 1024;

/// A payload, and a signature that is said to be of it. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope(Parts);

/// A receipt that a trusted key has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub receipt: Receipt,
    /// By which key.
    pub key_id: KeyId,
}

/// Why an envelope proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum VerifyError {
    /// Signed by somebody who is not trusted.
    #[error("envelope: signed by key {found}, which is not among the {known} known keys")]
    UnknownKey { found: KeyId, known: usize },
    /// The key did not sign this.
    #[error("envelope: the signature of key {key_id} does not fit the payload")]
    Signature { key_id: KeyId },
    /// Signed, but no receipt that is understood.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

impl Envelope {
    /// Signs a receipt.
    ///
    /// # Errors
    /// When no reader would take the receipt: it is not signed then.
    pub fn sign(receipt: &Receipt, key: &HostKey) -> Result<Self, ReceiptError> {
        receipt.check()?;
        let payload = receipt.statement_bytes();
        if payload.len() > STATEMENT_BYTES_MAX {
            return Err(ReceiptError::TooLarge { found: payload.len() });
        }
        Ok(Self(Parts::sign(PAYLOAD_TYPE, payload, key)))
    }

    /// An envelope whose parts were kept by themselves. As little is verified as by [`Self::parse`].
    pub fn from_parts(payload: Vec<u8>, key_id: KeyId, signature: [u8; 64]) -> Self {
        Self(Parts { payload, key_id, signature })
    }

    /// What is signed: the statement's bytes.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The key that is said to have signed.
    pub fn key_id(&self) -> KeyId {
        self.0.key_id
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.0.signature
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes(PAYLOAD_TYPE)
    }

    /// Of the canonical bytes: the envelope's entry in the log.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads an envelope. What it says is not to be believed before [`Self::verify`].
    ///
    /// # Errors
    /// The first thing that is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope = Self(Parts::parse(bytes, PAYLOAD_TYPE, ENVELOPE_BYTES_MAX)?);
        if envelope.to_bytes() != bytes {
            return Err(EnvelopeError::NotCanonical);
        }
        Ok(envelope)
    }

    /// Whether a trusted key has signed a receipt, and which.
    ///
    /// # Errors
    /// When the key is unknown, the signature is of something else, or the payload is no receipt.
    pub fn verify(&self, keys: &KeyRing) -> Result<Verified, VerifyError> {
        let Parts { payload, key_id, signature } = &self.0;
        let key_id = *key_id;
        let Some(key) = keys.get(&key_id) else {
            return Err(VerifyError::UnknownKey { found: key_id, known: keys.ids().count() });
        };
        if !signature_fits(key, &pae(PAYLOAD_TYPE, payload), signature) {
            return Err(VerifyError::Signature { key_id });
        }
        let receipt = Receipt::from_statement_bytes(payload)?;
        Ok(Verified { receipt, key_id })
    }
}
