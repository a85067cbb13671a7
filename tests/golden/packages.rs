//! A package of format version 1, as it was written once: it must be read for as long as the format is.

use fuelbox_engine::{Archive, Digest, Manifest, PartRef, Signature, write_archive};

/// `tiny-1.fbx`: written by [`packed`] when the format was made.
const PINNED: &[u8] = include_bytes!("tiny-1.fbx");

fn packed() -> Vec<u8> {
    let guest = b"\0asm\x01\0\0\0";
    let signature = Signature { inputs: vec![], outputs: vec![] };
    let manifest = Manifest::new("tiny".into(), "1.0.0".into(), PartRef::of(guest), signature);
    let mut file = Vec::new();
    write_archive(&manifest, &[guest], &mut file).unwrap();
    file
}

#[test]
fn packages_of_version_one_are_read() {
    let archive = Archive::read(PINNED).unwrap();
    assert_eq!(archive.manifest().name, "tiny");
    assert_eq!(archive.package().module.digest(), Digest::of(b"\0asm\x01\0\0\0"));
    assert_eq!(
        archive.manifest().digest().to_string(),
        "sha256:f76dcb6a1d14c7f7de64b5308d605d125c813fb93f6b689a2ca5cebbfc451222"
    );
}

#[test]
fn the_writer_still_writes_them() {
    // zstd may pack better one day; what is packed stays the same.
    let unpacked = |file: &[u8]| zstd::decode_all(file).unwrap();
    assert_eq!(unpacked(&packed()), unpacked(PINNED));
}
