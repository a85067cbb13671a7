//! DSSE: bytes of a stated type with one Ed25519 signature, as JSON.
//!
//! Knows nothing of what the bytes mean.

use crate::{
    keys::{HostKey, KeyId},
    text::excerpt,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

/// Why bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum EnvelopeError {
    /// More than is read.
    #[error("envelope: {found} bytes, allowed are {allowed}")]
    TooLarge { found: usize, allowed: usize },
    /// Not JSON, or not these fields.
    #[error("envelope: {0}")]
    Json(String),
    /// Something else is signed, or by a later version.
    #[error("envelope: payload type '{found}', allowed is '{allowed}'")]
    PayloadType { found: String, allowed: &'static str },
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

/// The parts of an envelope. Nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) payload: Vec<u8>,
    pub(crate) key_id: KeyId,
    pub(crate) signature: [u8; 64],
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

impl Parts {
    pub(crate) fn sign(payload_type: &str, payload: Vec<u8>, key: &HostKey) -> Self {
        let signature = key.sign(&pae(payload_type, &payload));
        Self { payload, key_id: key.id(), signature }
    }

    /// The canonical bytes. The type must have no character that JSON escapes.
    pub(crate) fn to_bytes(&self, payload_type: &str) -> Vec<u8> {
        format!(
            r#"{{"payload":"{}","payloadType":"{payload_type}","signatures":[{{"keyid":"{}","sig":"{}"}}]}}"#,
            BASE64_STANDARD.encode(&self.payload),
            self.key_id,
            BASE64_STANDARD.encode(self.signature),
        )
        .into_bytes()
    }

    /// Reads an envelope of this type, in any form that JSON has for it.
    pub(crate) fn parse(
        bytes: &[u8],
        payload_type: &'static str,
        bytes_max: usize,
    ) -> Result<Self, EnvelopeError> {
        if bytes.len() > bytes_max {
            return Err(EnvelopeError::TooLarge { found: bytes.len(), allowed: bytes_max });
        }
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| EnvelopeError::Json(excerpt(&error.to_string())))?;
        if json.payload_type != payload_type {
            let found = excerpt(&json.payload_type);
            return Err(EnvelopeError::PayloadType { found, allowed: payload_type });
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
        Ok(Self { payload, key_id, signature })
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|error| EnvelopeError::Base64 { field, reason: error.to_string() })
}

/// What is signed: type and payload behind their lengths (DSSE's pre-authentication encoding), so that
/// bytes that were signed as one thing are never taken for another.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
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
