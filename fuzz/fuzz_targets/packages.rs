//! Any bytes as a package, as the archive in one, and as a manifest: read whole or refused, and what is read
//! has one form.

#![no_main]

use fuelbox_engine::{Archive, Manifest};
use libfuzzer_sys::fuzz_target;

/// What a package file begins with: docs/formats/package.md.
const PREFIX: &[u8] = b"\x50\x2a\x4d\x18\x12\x00\x00\x00fuelbox package 1\n";

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => read(data),
        // The archive in order, its content not.
        1 => read(&packed(data)),
        2 => {
            let manifest = data;
            let mut header = tar::Header::new_ustar();
            header.set_path("manifest.json").expect("a short path");
            header.set_size(manifest.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            let mut archive = header.as_bytes().to_vec();
            archive.extend(manifest);
            archive.resize(archive.len().next_multiple_of(512) + 1_024, 0);
            read(&packed(&archive));
        }
        _ => {
            if let Ok(manifest) = Manifest::parse(data) {
                assert_eq!(manifest.to_bytes(), data, "one form");
            }
        }
    }
}

fn read(file: &[u8]) {
    match Archive::read(file) {
        Ok(archive) => {
            let manifest = archive.manifest();
            let again = Manifest::parse(&manifest.to_bytes()).expect("it was read before");
            assert_eq!(&again, manifest);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(fuelbox_engine::is_active), "{text:?}");
        }
    }
}

fn packed(archive: &[u8]) -> Vec<u8> {
    let mut file = PREFIX.to_vec();
    file.extend(zstd::encode_all(archive, 1).expect("to memory"));
    file
}
