//! Envelopes: signed, kept, read, verified, and what is refused on the way.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod support;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_receipt::{Envelope, KeyRing, Receipt, envelope::ENVELOPE_BYTES_MAX};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{key, receipt};

fn envelope() -> Envelope {
    Envelope::sign(&receipt(), &key(7)).unwrap()
}

/// What parsing and verifying say to these bytes.
fn outcome(bytes: &[u8], keys: &KeyRing) -> Result<Receipt, String> {
    let envelope = Envelope::parse(bytes).map_err(|error| error.to_string())?;
    let verified = envelope.verify(keys).map_err(|error| error.to_string())?;
    Ok(verified.receipt)
}

#[test]
fn what_was_signed_is_what_is_verified() {
    let (receipt, key) = (receipt(), key(7));
    let envelope = envelope();
    let bytes = envelope.to_bytes();
    let parsed = Envelope::parse(&bytes).unwrap();
    assert_eq!(parsed, envelope);
    assert_eq!(parsed.digest(), fuelbox_digest::Digest::of(&bytes));
    let verified = parsed.verify(&key.ring()).unwrap();
    assert_eq!((verified.receipt, verified.key_id), (receipt, key.id()));
    let kept = (envelope.payload().to_vec(), envelope.key_id(), *envelope.signature());
    assert_eq!(Envelope::from_parts(kept.0, kept.1, kept.2).to_bytes(), bytes);
}

#[test]
fn what_is_no_envelope_is_refused_with_a_reason() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 13] = [
        (
            |v| v["payloadType"] = json!("application/json"),
            "envelope: payload type 'application/json', allowed is 'application/vnd.in-toto+json'",
        ),
        (|v| v["signatures"] = json!([]), "envelope: 0 signatures, allowed is 1"),
        (
            |v| {
                let again = v["signatures"][0].clone();
                v["signatures"].as_array_mut().unwrap().push(again);
            },
            "envelope: 2 signatures, allowed is 1",
        ),
        (
            |v| v["signatures"][0]["keyid"] = json!("AB"),
            "envelope: keyid 'AB', allowed are 64 lower-case hexadecimal digits",
        ),
        (
            |v| v["signatures"][0]["sig"] = json!("AAAA"),
            "envelope: signature of 3 bytes, allowed are 64",
        ),
        (|v| v["signatures"][0]["sig"] = json!("AAA"), "envelope: signature is not base64: "),
        (|v| v["payload"] = json!("AA=="), "envelope: the signature of key"),
        // Bits behind the last byte.
        (|v| v["payload"] = json!("AB=="), "envelope: payload is not base64: "),
        (|v| v["payload"] = json!("-_=="), "envelope: payload is not base64: "),
        (|v| v["more"] = json!(1), "envelope: unknown field `more`"),
        (|v| v["signatures"][0]["cert"] = json!(""), "envelope: unknown field `cert`"),
        (|v| v["payload"] = json!(1), "envelope: invalid type: integer `1`, expected a string"),
        (|v| *v = json!(null), "envelope: invalid type: null, expected struct Json"),
    ];
    for (change, expected) in table {
        let mut value = serde_json::from_slice(&envelope().to_bytes()).unwrap();
        change(&mut value);
        let found = outcome(&serde_json::to_vec(&value).unwrap(), &key(7).ring()).unwrap_err();
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
    let text = String::from_utf8(envelope().to_bytes()).unwrap();
    for other in
        [format!("{text}\n"), text.replacen(':', ": ", 1), text.replace("vnd", "\\u0076nd")]
    {
        assert_eq!(
            outcome(other.as_bytes(), &key(7).ring()).unwrap_err(),
            "envelope: not in canonical form (keys sorted, no white space)"
        );
    }
    assert_eq!(
        outcome(&vec![b'['; ENVELOPE_BYTES_MAX + 1], &key(7).ring()).unwrap_err(),
        format!("envelope: {} bytes, allowed are {ENVELOPE_BYTES_MAX}", ENVELOPE_BYTES_MAX + 1)
    );
}

#[test]
fn an_unknown_key_is_named() {
    let found = envelope().verify(&key(8).ring()).unwrap_err().to_string();
    let id = key(7).id();
    assert_eq!(found, format!("envelope: signed by key {id}, which is not among the 1 known keys"));
}

#[test]
fn a_signature_by_another_key_or_of_another_payload_does_not_fit() {
    let envelope = envelope();
    let other_key =
        Envelope::from_parts(envelope.payload().to_vec(), key(8).id(), *envelope.signature());
    let mut other = receipt();
    other.usage.fuel += 1;
    let other_payload =
        Envelope::from_parts(other.statement_bytes(), key(7).id(), *envelope.signature());
    let mut keys = key(7).ring();
    keys.extend(key(8).ring());
    for (envelope, id) in [(other_key, key(8).id()), (other_payload, key(7).id())] {
        assert_eq!(
            envelope.verify(&keys).unwrap_err().to_string(),
            format!("envelope: the signature of key {id} does not fit the payload")
        );
    }
}

/// Whoever holds the key may sign what this version does not understand.
#[test]
fn a_signed_receipt_of_a_later_format_is_called_that() {
    let mut receipt = receipt();
    receipt.format = "fuelbox-receipt/2".into();
    let expected = "receipt: format 'fuelbox-receipt/2', allowed is 'fuelbox-receipt/1'";
    assert_eq!(Envelope::sign(&receipt, &key(7)).unwrap_err().to_string(), expected);
    let payload = receipt.statement_bytes();
    let signature = support::sign_payload(7, &payload);
    let envelope = Envelope::from_parts(payload, key(7).id(), signature);
    assert_eq!(envelope.verify(&key(7).ring()).unwrap_err().to_string(), expected);
}

#[test]
fn every_flipped_bit_is_refused() {
    let (bytes, keys) = (envelope().to_bytes(), key(7).ring());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(outcome(&flipped, &keys).is_err(), "bit {bit}");
    }
    assert!(outcome(&bytes, &keys).is_ok());
}

#[test]
fn every_cut_is_refused() {
    let (bytes, keys) = (envelope().to_bytes(), key(7).ring());
    for length in 0..bytes.len() {
        assert!(outcome(&bytes[..length], &keys).is_err(), "length {length}");
    }
}

/// A second signature that the owner of the key never made: the group's order added to `s`.
#[test]
fn a_malleated_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let envelope = envelope();
    let mut signature = *envelope.signature();
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    let other = Envelope::from_parts(envelope.payload().to_vec(), key(7).id(), signature);
    assert!(other.verify(&key(7).ring()).is_err());
}

#[test]
fn base64_of_the_payload_is_the_statement() {
    let value: Value = serde_json::from_slice(&envelope().to_bytes()).unwrap();
    let payload = BASE64_STANDARD.decode(value["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload, receipt().statement_bytes());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Envelope::parse(&bytes);
    }

    /// Parts in any place of good bytes: what is parsed has no other form.
    #[test]
    fn mutated_envelopes_are_refused_or_canonical(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let mut bytes = envelope().to_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(parsed) = Envelope::parse(&bytes) {
            prop_assert_eq!(parsed.to_bytes(), bytes.clone());
            prop_assert_eq!(parsed.verify(&key(7).ring()).is_ok(), bytes == envelope().to_bytes());
        }
    }
}
