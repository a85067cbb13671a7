//! Signatures of webhooks: that a message comes from this host (Standard Webhooks, asymmetric: `v1a`).
//!
//! What is signed begins with the message's id, and so is never taken for an envelope's or a note's.

use crate::keys::{HostKey, KeyRing, signature_fits};

/// Signs a message. The id has no dot in it.
pub fn sign(key: &HostKey, id: &str, timestamp_s: u64, body: &[u8]) -> [u8; 64] {
    key.sign(&signed(id, timestamp_s, body))
}

/// Whether one of these keys has signed a message.
pub fn verify(
    keys: &KeyRing,
    id: &str,
    timestamp_s: u64,
    body: &[u8],
    signature: &[u8; 64],
) -> bool {
    let message = signed(id, timestamp_s, body);
    keys.verifying_keys().any(|key| signature_fits(key, &message, signature))
}

fn signed(id: &str, timestamp_s: u64, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{id}.{timestamp_s}.").into_bytes();
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_message() {
        let key = HostKey::from_secret(&[7; 32]);
        let signature = sign(&key, "a", 1, b"{}");
        let fits =
            |id: &str, time: u64, body: &[u8]| verify(&key.ring(), id, time, body, &signature);
        assert!(fits("a", 1, b"{}"));
        assert!(!fits("b", 1, b"{}") && !fits("a", 2, b"{}") && !fits("a", 1, b"{ }"));
        let other = HostKey::from_secret(&[8; 32]).ring();
        assert!(!verify(&other, "a", 1, b"{}", &signature));
    }
}
