//! The envelope: a receipt's statement with a signature, in DSSE's form.
//!
//! A receipt and a key go in, bytes that anybody can check come out, and the way back: bytes, parsed
//! and then verified with trusted keys, become a receipt. One envelope has one byte form.
//!
//! Knows nothing of the log that has the envelope's digest.

use crate::{
    keys::{HostKey, KeyId, KeyRing, signature_fits},
    receipt::{Receipt, ReceiptError, STATEMENT_BYTES_MAX},
    text::excerpt,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_digest::Digest;
use serde::Deserialize;

/// What the payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Bytes of an envelope: a statement of the largest size in base64, and what is around it.
pub const ENVELOPE_BYTES_MAX: usize = STATEMENT_BYTES_MAX / 3 * 4 + 1024;

/// A payload, and a signature that is said to be of it. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    key_id: KeyId,
    signature: [u8; 64],
}

/// A receipt that a trusted key has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub receipt: Receipt,
    /// By which key.
    pub key_id: KeyId,
}

/// Why bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum EnvelopeError {
    /// More than is read.
    #[error("envelope: {found} bytes, allowed are {ENVELOPE_BYTES_MAX}")]
    TooLarge { found: usize },
    /// Not JSON, or not these fields.
    #[error("envelope: {0}")]
    Json(String),
    /// Something else is signed, or by a later version.
    #[error("envelope: payload type '{found}', allowed is '{PAYLOAD_TYPE}'")]
    PayloadType { found: String },
    /// None, or several.
    #[error("envelope: {found} signatures, allowed is 1")]
    Signatures { found: usize },
    /// Not a key's id.
    #[error("envelope: keyid '{found}', allowed are 64 lower-case hexadecimal digits")]
    KeyId { found: String },
    /// Damaged base64.
    #[error("envelope: {field} is not base64: {reason}")]
    Base64 { field: &'static str, reason: String },
    /// A signature of another kind.
    #[error("envelope: signature of {found} bytes, allowed are 64")]
    SignatureLength { found: usize },
    /// The right content in another form.
    #[error("envelope: not in canonical form (keys sorted, no white space)")]
    NotCanonical,
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

/// The envelope as JSON has it, fields sorted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<JsonSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSignature {
    keyid: String,
    sig: String,
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
        let signature = key.sign(&pae(PAYLOAD_TYPE, &payload));
        Ok(Self { payload, key_id: key.id(), signature })
    }

    /// An envelope whose parts were kept by themselves. As little is verified as by [`Self::parse`].
    pub fn from_parts(payload: Vec<u8>, key_id: KeyId, signature: [u8; 64]) -> Self {
        Self { payload, key_id, signature }
    }

    /// What is signed: the statement's bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that is said to have signed.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // None of the values has a character that JSON escapes.
        format!(
            r#"{{"payload":"{}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"{}","sig":"{}"}}]}}"#,
            BASE64_STANDARD.encode(&self.payload),
            self.key_id,
            BASE64_STANDARD.encode(self.signature),
        )
        .into_bytes()
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
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { found: bytes.len() });
        }
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| EnvelopeError::Json(excerpt(&error.to_string())))?;
        if json.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType { found: excerpt(&json.payload_type) });
        }
        let [signature] = json.signatures.as_slice() else {
            return Err(EnvelopeError::Signatures { found: json.signatures.len() });
        };
        let key_id = (signature.keyid.parse())
            .map_err(|_| EnvelopeError::KeyId { found: excerpt(&signature.keyid) })?;
        let payload = decode("payload", &json.payload)?;
        let signature = decode("signature", &signature.sig)?;
        let signature = <[u8; 64]>::try_from(signature.as_slice())
            .map_err(|_| EnvelopeError::SignatureLength { found: signature.len() })?;
        let envelope = Self { payload, key_id, signature };
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
        let key_id = self.key_id;
        let Some(key) = keys.get(&key_id) else {
            return Err(VerifyError::UnknownKey { found: key_id, known: keys.ids().count() });
        };
        if !signature_fits(key, &pae(PAYLOAD_TYPE, &self.payload), &self.signature) {
            return Err(VerifyError::Signature { key_id });
        }
        let receipt = Receipt::from_statement_bytes(&self.payload)?;
        Ok(Verified { receipt, key_id })
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|error| EnvelopeError::Base64 { field, reason: error.to_string() })
}

/// What is signed: type and payload behind their lengths (DSSE's pre-authentication encoding), so that
/// bytes that were signed as one thing are never taken for another.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that DSSE's protocol.md publishes, and the two ends of its lengths.
    #[test]
    fn pre_authentication_encoding_is_that_of_the_standard() {
        let table: [(&str, &str, &str); 3] = [
            (
                "http://example.com/HelloWorld",
                "hello world",
                "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
            ),
            ("", "", "DSSEv1 0  0 "),
            ("\u{e9}", "a b\n", "DSSEv1 2 \u{e9} 4 a b\n"),
        ];
        for (payload_type, payload, expected) in table {
            assert_eq!(pae(payload_type, payload.as_bytes()), expected.as_bytes());
        }
    }
}
