//! Keys: what signs, and what signatures are checked with. All of them are Ed25519.
//!
//! A private key comes from the system's randomness or from PKCS#8; it leaves as PKCS#8 alone, and is
//! wiped from memory when it is dropped. Public keys come and go as PEM that `openssl` reads.
//!
//! Knows nothing of what is signed.

use crate::text::excerpt;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{
        DecodePublicKey as _, EncodePublicKey as _,
        spki::der::{pem::LineEnding, zeroize::Zeroizing},
    },
};
use fuelbox_digest::Digest;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

mod store;

pub use store::{KeyStore, KeyStoreError, PublicKey, PublicKeys};

/// Name of a key: the SHA-256 of its public half's SubjectPublicKeyInfo in DER, as 64 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Digest);

impl KeyId {
    fn of(key: &VerifyingKey) -> Self {
        let mut der = [0; SPKI_PREFIX.len() + 32];
        let (prefix, point) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        point.copy_from_slice(key.as_bytes());
        Self(Digest::of(&der))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// An id that was kept as its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }
}

/// DER of a SubjectPublicKeyInfo of Ed25519 (RFC 8410), up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digest = format!("sha256:{text}").parse();
        digest.map(Self).map_err(|_| KeyError::Id { found: excerpt(text) })
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyError {
    /// Not a key's id.
    #[error("key id '{found}', allowed are 64 lower-case hexadecimal digits")]
    Id { found: String },
    /// Not a PKCS#8 key of Ed25519.
    #[error(
        "private key: not Ed25519 in PKCS#8 PEM, as 'openssl genpkey -algorithm ed25519' writes it"
    )]
    Private,
    /// More than is read.
    #[error("public keys: {found} bytes, allowed are {PEM_BYTES_MAX}")]
    TooLarge { found: usize },
    /// Text between or after the keys, or a key without an end.
    #[error("public keys: '{found}' is not in a block of '{PEM_BEGIN}'")]
    NotPem { found: String },
    /// A block that holds something else.
    #[error("public key {index}: not an Ed25519 key: {reason}")]
    Public { index: usize, reason: String },
    /// A point for which a signature can fit more than one message, or one that is not in its one form.
    #[error(
        "public key {index}: a point of small order or not in canonical form, never a host's key"
    )]
    Weak { index: usize },
    /// No key at all.
    #[error("public keys: found none, needed is 1")]
    None,
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(String),
}

/// DER of a PKCS#8 key of Ed25519 without its public half (RFC 8410), up to the 32 bytes of the secret.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Bytes of such a key.
const PKCS8_BYTES: usize = PKCS8_PREFIX.len() + 32;

/// What stands before the one line of base64.
const PRIVATE_BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";

/// What stands behind it.
const PRIVATE_END: &str = "\n-----END PRIVATE KEY-----";

/// A private key of this host. Wiped when dropped.
pub struct HostKey {
    signing: SigningKey,
    id: KeyId,
}

impl HostKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice())
            .map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Self::from_secret(&secret))
    }

    /// The key of these 32 secret bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self::new(SigningKey::from_bytes(secret))
    }

    fn new(signing: SigningKey) -> Self {
        let id = KeyId::of(&signing.verifying_key());
        Self { signing, id }
    }

    /// Reads a PKCS#8 key in the form that `openssl` writes: three lines, the private half alone.
    ///
    /// # Errors
    /// When it is none, or not of Ed25519.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        // By hand, because the decoder at hand leaves a copy of the secret on the stack.
        let line = pem.trim_end().strip_prefix(PRIVATE_BEGIN).ok_or(KeyError::Private)?;
        let line = line.strip_suffix(PRIVATE_END).ok_or(KeyError::Private)?;
        let mut der = Zeroizing::new([0; PKCS8_BYTES]);
        match BASE64_STANDARD.decode_slice(line, der.as_mut_slice()) {
            Ok(PKCS8_BYTES) => {}
            Ok(_) | Err(_) => return Err(KeyError::Private),
        }
        let (prefix, secret) = der.split_at(PKCS8_PREFIX.len());
        match (prefix == PKCS8_PREFIX, <&[u8; 32]>::try_from(secret)) {
            (true, Ok(secret)) => Ok(Self::from_secret(secret)),
            (false, _) | (true, Err(_)) => Err(KeyError::Private),
        }
    }

    /// The key as PKCS#8. Wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; PKCS8_BYTES]);
        der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
        der[PKCS8_PREFIX.len()..].copy_from_slice(self.signing.as_bytes());
        // Room for all of it at once: a text that grows leaves copies behind.
        let mut pem = Zeroizing::new(String::with_capacity(256));
        pem.push_str(PRIVATE_BEGIN);
        BASE64_STANDARD.encode_string(der.as_slice(), &mut pem);
        pem.push_str(PRIVATE_END);
        pem.push('\n');
        pem
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The public half as PEM.
    pub fn public_pem(&self) -> String {
        public_pem(&self.signing.verifying_key())
    }

    /// The public half as the signed-note format has it, for the log of this name.
    pub fn note_key(&self, origin: &str) -> String {
        note_key(origin, &self.signing.verifying_key())
    }

    /// A ring with this key's public half alone.
    pub fn ring(&self) -> KeyRing {
        KeyRing { keys: BTreeMap::from([(self.id, self.signing.verifying_key())]) }
    }

    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Public keys that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, VerifyingKey>,
}

/// How a block starts.
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";

/// How a block ends.
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// Bytes of a file of public keys: 9,000 keys. A host that changes its key every day has that many
/// after 24 years.
const PEM_BYTES_MAX: usize = 1 << 20;

impl KeyRing {
    /// Reads public keys, one PEM block behind the other.
    ///
    /// # Errors
    /// The first thing that is wrong. A ring without keys trusts nobody, and is refused too.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > PEM_BYTES_MAX {
            return Err(KeyError::TooLarge { found: text.len() });
        }
        let mut keys = BTreeMap::new();
        let mut rest = text.trim_start();
        let mut index = 0;
        while !rest.is_empty() {
            let not_pem = || KeyError::NotPem { found: excerpt(rest) };
            let inside = rest.strip_prefix(PEM_BEGIN).ok_or_else(not_pem)?;
            let end = PEM_BEGIN.len() + inside.find(PEM_END).ok_or_else(not_pem)? + PEM_END.len();
            let (block, after) = rest.split_at(end);
            let key = parse_public(block, index)?;
            keys.insert(KeyId::of(&key), key);
            rest = after.trim_start();
            index += 1;
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Self { keys }) }
    }

    /// The key of these 32 bytes, as RFC 8032 has them.
    ///
    /// # Errors
    /// When they are no point, or one that is not taken.
    pub fn from_raw(raw: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(raw)
            .map_err(|error| KeyError::Public { index: 0, reason: error.to_string() })?;
        let key = checked(key, 0)?;
        Ok(Self { keys: BTreeMap::from([(KeyId::of(&key), key)]) })
    }

    /// The 32 bytes of each key, sorted by id.
    pub fn raw(&self) -> impl Iterator<Item = (KeyId, [u8; 32])> + '_ {
        self.keys.iter().map(|(id, key)| (*id, key.to_bytes()))
    }

    /// All keys, sorted by id, one PEM block behind the other.
    pub fn to_pem(&self) -> String {
        self.keys.values().map(public_pem).collect()
    }

    /// The ids, sorted.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.keys().copied()
    }

    /// Whether this key is trusted.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.keys.contains_key(id)
    }

    /// Trusts the keys of another ring too.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// All keys as the signed-note format has them, for the log of this name.
    pub fn note_keys(&self, origin: &str) -> Vec<String> {
        self.keys.values().map(|key| note_key(origin, key)).collect()
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.keys.get(id)
    }

    pub(crate) fn verifying_keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.values()
    }
}

/// Whether the signature is one of the message by this key, and the only one that the key's owner would
/// have made: points of small order and signatures in other forms are refused.
pub(crate) fn signature_fits(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

fn parse_public(block: &str, index: usize) -> Result<VerifyingKey, KeyError> {
    let key = VerifyingKey::from_public_key_pem(block)
        .map_err(|error| KeyError::Public { index, reason: error.to_string() })?;
    checked(key, index)
}

fn checked(key: VerifyingKey, index: usize) -> Result<VerifyingKey, KeyError> {
    if key.is_weak() || key.to_edwards().compress().as_bytes() != key.as_bytes() {
        return Err(KeyError::Weak { index });
    }
    Ok(key)
}

fn public_pem(key: &VerifyingKey) -> String {
    // The encoder fails when the text is longer than it can count.
    key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
}

/// Signature type of Ed25519 in signed notes.
const NOTE_ED25519: u8 = 1;

fn note_bytes(key: &VerifyingKey) -> [u8; 33] {
    let mut bytes = [NOTE_ED25519; 33];
    bytes[1..].copy_from_slice(key.as_bytes());
    bytes
}

/// The number by which a signed note names this key.
pub(crate) fn note_key_id(origin: &str, key: &VerifyingKey) -> u32 {
    signed_note::key_id(origin, &note_bytes(key))
}

fn note_key(origin: &str, key: &VerifyingKey) -> String {
    let encoded = BASE64_STANDARD.encode(note_bytes(key));
    format!("{origin}+{:08x}+{encoded}", note_key_id(origin, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the neutral element for `R`, `s` is the hash times the secret: a signature that plain
    /// verification takes, and that no signer ever makes.
    #[test]
    fn a_signature_with_a_point_of_small_order_does_not_fit() {
        const S: [u8; 32] = [
            0xd4, 0xc5, 0x32, 0x31, 0x31, 0xff, 0x96, 0x83, 0xcf, 0xb3, 0xd3, 0x01, 0x97, 0xc7,
            0x86, 0xc9, 0x04, 0x3f, 0x10, 0x52, 0xd6, 0xc2, 0xd5, 0x29, 0x3f, 0x19, 0xd6, 0xf3,
            0x6b, 0x91, 0x11, 0x04,
        ];
        let key = HostKey::from_secret(&[7; 32]).verifying_key();
        let mut signature = [0; 64];
        signature[0] = 1;
        signature[32..].copy_from_slice(&S);
        let plain = Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&key, b"message", &plain).is_ok());
        assert!(!signature_fits(&key, b"message", &signature));
    }
}
