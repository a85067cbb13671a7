//! Signatures of packages: what is signed, what is read back, and what does not fit.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_digest::Digest;
use fuelbox_receipt::{HostKey, KeyRing, PackageSignature, SignedPackage};

fn key() -> HostKey {
    HostKey::from_secret(&[7; 32])
}

fn package() -> SignedPackage {
    let digest = Digest::of(b"package");
    SignedPackage { digest, name: "acme.digits".into(), version: "1.0+b".into() }
}

fn signed() -> PackageSignature {
    let SignedPackage { digest, name, version } = package();
    PackageSignature::sign(&key(), &digest, &name, &version)
}

#[test]
fn a_signature_is_read_back_and_fits() {
    let signature = signed();
    let bytes = signature.to_bytes();
    let read = PackageSignature::parse(&bytes).unwrap();
    assert_eq!(read, signature);
    assert_eq!(read.package(), &package());
    assert_eq!(read.key_id(), key().id());
    read.verify(&key().ring(), &package()).unwrap();
    let parts = PackageSignature::from_parts(package(), read.key_id(), *read.signature());
    assert_eq!(parts.to_bytes(), bytes);
    // What a tool in another language signs.
    let payload = format!(
        r#"{{"digest":"{}","name":"acme.digits","version":"1.0+b"}}"#,
        Digest::of(b"package")
    );
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["payloadType"], "application/vnd.fuelbox.package.v1+json");
    assert_eq!(json["payload"], BASE64_STANDARD.encode(payload));
    // White space and order are the envelope's own affair.
    let pretty = serde_json::to_vec_pretty(&json).unwrap();
    assert_eq!(PackageSignature::parse(&pretty).unwrap(), signature);
}

#[test]
fn a_signature_of_something_else_or_by_somebody_else_does_not_fit() {
    let signature = signed();
    let fails = |ring: &KeyRing, package: &SignedPackage| {
        signature.verify(ring, package).unwrap_err().to_string()
    };
    let other = HostKey::from_secret(&[8; 32]);
    let id = key().id();
    assert_eq!(
        fails(&other.ring(), &package()),
        format!("package signature: key {id} is not among the known keys")
    );
    let changed = |change: &dyn Fn(&mut SignedPackage)| {
        let mut changed = package();
        change(&mut changed);
        fails(&key().ring(), &changed)
    };
    assert_eq!(
        changed(&|package| package.name = "acme.wine".into()),
        "package signature: it is of name acme.digits, the package has acme.wine"
    );
    assert_eq!(
        changed(&|package| package.version = "2".into()),
        "package signature: it is of version 1.0+b, the package has 2"
    );
    assert!(
        changed(&|package| package.digest = Digest::of(b"")).contains("it is of digest sha256:")
    );
    // The same words under another's name, and one bit.
    let forged = PackageSignature::from_parts(package(), other.id(), *signature.signature());
    let error = forged.verify(&other.ring(), &package()).unwrap_err().to_string();
    assert!(error.ends_with("does not fit the payload"), "{error}");
    let mut bits = *signature.signature();
    bits[40] ^= 1;
    let damaged = PackageSignature::from_parts(package(), id, bits);
    let error = damaged.verify(&key().ring(), &package()).unwrap_err().to_string();
    assert!(error.ends_with("does not fit the payload"), "{error}");
}

#[test]
fn what_is_no_signature_of_a_package_is_refused() {
    let json: serde_json::Value = serde_json::from_slice(&signed().to_bytes()).unwrap();
    let check = |change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let mut changed = json.clone();
        change(&mut changed);
        let error = PackageSignature::parse(&serde_json::to_vec(&changed).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let payload = |text: &str| serde_json::Value::from(BASE64_STANDARD.encode(text));
    check(
        &|json| json["payloadType"] = "application/vnd.in-toto+json".into(),
        "package signature: envelope: payload type 'application/vnd.in-toto+json', allowed is \
         'application/vnd.fuelbox.package.v1+json'",
    );
    check(
        &|json| json["signatures"] = serde_json::json!([]),
        "package signature: envelope: 0 signatures, allowed is 1",
    );
    let digest = Digest::of(b"package");
    let text = format!(r#"{{"digest":"{digest}", "name":"a","version":"1"}}"#);
    check(
        &|json| json["payload"] = payload(&text),
        "package signature: its payload is not in canonical form (keys sorted, no white space)",
    );
    check(
        &|json| json["payload"] = payload("{}"),
        "package signature: its payload: missing field `digest` at line 1 column 2",
    );
    let large = vec![b' '; 4_097];
    assert_eq!(
        PackageSignature::parse(&large).unwrap_err().to_string(),
        "package signature: envelope: 4097 bytes, allowed are 4096"
    );
}

#[test]
fn a_ring_of_one_key_is_made_of_its_32_bytes() {
    let ring = key().ring();
    let (id, raw) = ring.raw().next().unwrap();
    assert_eq!(id, key().id());
    assert_eq!(KeyRing::from_raw(&raw).unwrap(), ring);
    for bad in [[0; 32], [255; 32]] {
        assert!(KeyRing::from_raw(&bad).is_err(), "{bad:?}");
    }
}
