//! A publisher's signature of a package: "this digest is version V of N", in DSSE's form.
//!
//! The payload is canonical JSON, so equal statements are equal bytes; the envelope around it may have
//! any form that JSON has.
//!
//! Knows nothing of packages but their names and digests, and not who may publish what.

use crate::{
    dsse::{EnvelopeError, Parts, pae},
    keys::{HostKey, KeyId, KeyRing, signature_fits},
    text::excerpt,
};
use fuelbox_digest::Digest;
use serde::{Deserialize, Serialize};

/// What the payload is.
pub const PACKAGE_PAYLOAD_TYPE: &str = "application/vnd.fuelbox.package.v1+json";

/// Bytes of an envelope: names of a package have 128 bytes at most, and white space is free.
const ENVELOPE_BYTES_MAX: usize = 4_096;

/// What is signed.
// Fields stand in the order of their names: that is how they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPackage {
    /// The package's identity.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The name, version and digest of a package, and a signature that is said to be of them. Nothing is
/// verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSignature {
    parts: Parts,
    package: SignedPackage,
}

/// Why a signature is none, or not one of this package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PackageSignatureError {
    /// No envelope.
    #[error("package signature: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The payload is no statement about a package.
    #[error("package signature: its payload: {0}")]
    Payload(String),
    /// The right content in another form.
    #[error(
        "package signature: its payload is not in canonical form (keys sorted, no white space)"
    )]
    NotCanonical,
    /// It is about something else.
    #[error("package signature: it is of {field} {found}, the package has {expected}")]
    Other { field: &'static str, found: String, expected: String },
    /// Signed by somebody else.
    #[error("package signature: key {found} is not among the known keys")]
    UnknownKey { found: KeyId },
    /// The key did not sign this.
    #[error("package signature: the signature of key {key_id} does not fit the payload")]
    Signature { key_id: KeyId },
}

impl PackageSignature {
    /// Signs a package.
    pub fn sign(key: &HostKey, digest: &Digest, name: &str, version: &str) -> Self {
        let package =
            SignedPackage { digest: *digest, name: name.to_owned(), version: version.to_owned() };
        let parts = Parts::sign(PACKAGE_PAYLOAD_TYPE, package.to_bytes(), key);
        Self { parts, package }
    }

    /// A signature whose parts were kept by themselves. As little is verified as by [`Self::parse`].
    pub fn from_parts(package: SignedPackage, key_id: KeyId, signature: [u8; 64]) -> Self {
        let parts = Parts { payload: package.to_bytes(), key_id, signature };
        Self { parts, package }
    }

    /// Reads an envelope. What it says is not to be believed before [`Self::verify`].
    ///
    /// # Errors
    /// The first thing that is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageSignatureError> {
        let parts = Parts::parse(bytes, PACKAGE_PAYLOAD_TYPE, ENVELOPE_BYTES_MAX)?;
        let package: SignedPackage = serde_json::from_slice(&parts.payload)
            .map_err(|error| PackageSignatureError::Payload(excerpt(&error.to_string())))?;
        if package.to_bytes() != parts.payload {
            return Err(PackageSignatureError::NotCanonical);
        }
        Ok(Self { parts, package })
    }

    /// The envelope in canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts.to_bytes(PACKAGE_PAYLOAD_TYPE)
    }

    /// The key that is said to have signed.
    pub fn key_id(&self) -> KeyId {
        self.parts.key_id
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.parts.signature
    }

    /// What is said to be signed.
    pub fn package(&self) -> &SignedPackage {
        &self.package
    }

    /// Whether one of these keys has signed this package.
    ///
    /// # Errors
    /// When it is a signature of something else, or the key is unknown, or the signature does not fit.
    pub fn verify(
        &self,
        keys: &KeyRing,
        package: &SignedPackage,
    ) -> Result<(), PackageSignatureError> {
        let SignedPackage { digest, name, version } = &self.package;
        for (field, found, expected) in [
            ("name", name, &package.name),
            ("version", version, &package.version),
            ("digest", &digest.to_string(), &package.digest.to_string()),
        ] {
            if found != expected {
                let (found, expected) = (excerpt(found), excerpt(expected));
                return Err(PackageSignatureError::Other { field, found, expected });
            }
        }
        let Parts { payload, key_id, signature } = &self.parts;
        let key_id = *key_id;
        let key = keys.get(&key_id).ok_or(PackageSignatureError::UnknownKey { found: key_id })?;
        if signature_fits(key, &pae(PACKAGE_PAYLOAD_TYPE, payload), signature) {
            Ok(())
        } else {
            Err(PackageSignatureError::Signature { key_id })
        }
    }
}

impl SignedPackage {
    fn to_bytes(&self) -> Vec<u8> {
        // Three strings: there is nothing that JSON could not write.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
