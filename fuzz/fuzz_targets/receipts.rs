//! Any bytes as what an auditor is handed: envelopes, package signatures, proofs. What is read has one form, and
//! none of it holds without a key.

#![no_main]

use fuelbox_receipt::{
    Envelope, HostKey, PackageSignature,
    log::{ConsistencyProof, InclusionProof},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let keys = HostKey::from_secret(&[7; 32]).ring();
    if let Ok(envelope) = Envelope::parse(data) {
        assert_eq!(envelope.to_bytes(), data);
        assert!(envelope.verify(&keys).is_err(), "nobody has signed");
    }
    let _ = PackageSignature::parse(data);
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(proof) = InclusionProof::parse(text) {
        assert_eq!(proof.to_text(), text);
    }
    if let Ok(proof) = ConsistencyProof::parse(text) {
        assert_eq!(proof.to_text(), text);
    }
}
