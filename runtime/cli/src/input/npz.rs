//! The arrays of a `.npz` file: a zip archive of `.npy` files.
//!
//! Enters: bytes of a stranger, which may unpack to far more than they are. Leaves: named arrays of at
//! most as many bytes together as were allowed.

use super::{Array, npy};
use crate::file::TooLarge;
use anyhow::{Context, Result, ensure};
use std::io::{Cursor, Read};

/// Parses an archive. The arrays stand in the archive's order.
pub(crate) fn parse(bytes: &[u8], bytes_max: u64) -> Result<Vec<(String, Array)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context("npz archive")?;
    let (found, allowed) = (archive.len(), fuelbox_abi::ENTRIES_MAX);
    ensure!(found <= allowed, "npz archive: {found} arrays, allowed are {allowed}");
    ensure!(!archive.metadata().has_duplicate_names(), "npz archive: a name appears twice");
    let mut left = bytes_max;
    let mut arrays = Vec::with_capacity(found);
    for index in 0..found {
        let entry = archive.by_index(index).with_context(|| format!("npz array {index}"))?;
        let file_name = entry.name().with_context(|| format!("npz array {index}"))?.into_owned();
        let at = || format!("npz array '{}'", file_name.escape_debug());
        let name =
            file_name.strip_suffix(".npy").with_context(at).context("expected a name in .npy")?;
        let mut data = Vec::new();
        // Not the size that the entry says: what comes out counts.
        entry.take(left + 1).read_to_end(&mut data).with_context(at)?;
        let found = data.len() as u64;
        left = left.checked_sub(found).ok_or(TooLarge {
            what: "npz archive with arrays",
            found: bytes_max - left + found,
            allowed: bytes_max,
        })?;
        arrays.push((name.to_owned(), npy::parse(&data).with_context(at)?));
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    const ONE: &[u8] =
        b"\x93NUMPY\x01\x00\x3b\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1,), } \n\x07";

    fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(*name, options).expect("starts");
            writer.write_all(bytes).expect("writes");
        }
        writer.finish().expect("finishes").into_inner()
    }

    fn check(bytes: &[u8], bytes_max: u64) -> String {
        match parse(bytes, bytes_max) {
            Ok(arrays) => {
                let show = |(name, array): &(String, Array)| {
                    format!("{name} {} {} {:?}", array.datatype, array.shape, array.bytes)
                };
                arrays.iter().map(show).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn arrays_have_the_names_of_their_files() {
        let two = "b UINT8 [1] [7]; a/x:0 UINT8 [1] [7]";
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = archive(&[("b.npy", ONE), ("a/x:0.npy", ONE)], method);
            assert_eq!(check(&bytes, 2 * ONE.len() as u64), two);
            let allowed = 2 * ONE.len() as u64 - 1;
            let found = allowed + 1;
            let over = format!("npz archive with arrays of {found} bytes, allowed are {allowed}");
            assert_eq!(check(&bytes, allowed), over);
        }
    }

    #[test]
    fn bad_archives_are_named() {
        let bomb = vec![0; 10 << 20];
        let stored = CompressionMethod::Stored;
        let whole = archive(&[("a.npy", ONE)], stored);
        for (bytes, expected) in [
            (archive(&[("a.txt", b"x")], stored), "npz array 'a.txt'"),
            (archive(&[("a.npy", b"x")], stored), "npz array 'a.npy': not an npy file"),
            (
                archive(&[("a.npy", &bomb)], CompressionMethod::Deflated),
                "of 1001 bytes, allowed are 1000",
            ),
            (whole[..whole.len() - 5].to_vec(), "npz archive: "),
            (b"not a zip".to_vec(), "npz archive: "),
            (Vec::new(), "npz archive: "),
        ] {
            let found = check(&bytes, 1000);
            assert!(found.contains(expected), "{found}");
        }
    }
}
