//! Envelopes: signed, kept, read, verified.

mod support;

use fuelbox_receipt::{Envelope, Receipt};
use support::{key, receipt};

#[test]
fn what_was_signed_is_what_is_verified() {
    let (receipt, key) = (receipt(), key(7));
    let envelope = Envelope::sign(&receipt, &key).unwrap();
    let parsed = Envelope::parse(&envelope.to_bytes()).unwrap();
    assert_eq!(parsed, envelope);
    let verified = parsed.verify(&key.ring()).unwrap();
    assert_eq!((verified.receipt, verified.key_id), (receipt.clone(), key.id()));
    assert_eq!(Receipt::from_statement_bytes(envelope.payload()).unwrap(), receipt);
}
