//! The package file: a manifest and its parts as one compressed archive, the same bytes every time.
//!
//! ```text
//! zstd skippable frame: magic 50 2a 4d 18, length, "fuelbox package 1\n"
//! zstd frame with a checksum: tar of
//!     manifest.json
//!     parts/HEX        one for each digest of the manifest, sorted
//! ```
//!
//! Any `zstd` and `tar` can read it. This reader trusts nothing: it takes the parts that the manifest
//! names, of the sizes and digests that it names, and no other entry of any kind.

use super::{Asset, GuestModule, Manifest, ManifestError, Package, PartRef};
use crate::{
    limits::constants::{MANIFEST_BYTES_MAX, PACKAGE_BYTES_MAX, ZSTD_WINDOW_LOG_MAX},
    log::excerpt,
};
use fuelbox_digest::Digest;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

/// A zstd skippable frame: readers of zstd pass over it.
const PREFIX: &[u8] = b"\x50\x2a\x4d\x18\x12\x00\x00\x00fuelbox package 1\n";
const PREFIX_ANY_VERSION_BYTES: usize = 24; // up to and with "fuelbox package "

const MANIFEST_PATH: &str = "manifest.json";
const PARTS_FOLDER: &str = "parts/";

/// zstd's level: past it, the stock guest gets 5% smaller for three times the time.
const LEVEL: i32 = 9;

/// What tar pads its archives to, by tradition: 20 blocks.
const TAR_RECORD_BYTES: u64 = 20 * 512;

/// A package file, read and checked.
#[derive(Clone, Debug)]
pub struct Archive {
    manifest: Manifest,
    parts: BTreeMap<Digest, Arc<[u8]>>,
}

/// Why a file is no package.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ArchiveError {
    /// Something else.
    #[error("package: not a package file: it starts with '{found}', expected 'fuelbox package 1'")]
    Magic { found: String },
    /// Of a later version.
    #[error("package: format version '{found}', allowed is 1")]
    Version { found: String },
    /// Too large on disk, or once unpacked.
    #[error("package: over {PACKAGE_BYTES_MAX} bytes {state}, allowed are {PACKAGE_BYTES_MAX}")]
    TooLarge { state: &'static str },
    /// Damaged, or cut.
    #[error("package: damaged or cut short: {message}")]
    Damaged { message: String },
    /// An entry that a package does not have.
    #[error("package: entry '{found}' is {problem}")]
    Entry { found: String, problem: &'static str },
    /// A manifest that is not there.
    #[error("package: first entry '{found}', expected '{MANIFEST_PATH}'")]
    NoManifest { found: String },
    /// A manifest of the wrong size.
    #[error("package: manifest of {found} bytes, allowed are {MANIFEST_BYTES_MAX}")]
    ManifestSize { found: u64 },
    /// A bad manifest.
    #[error("package: {0}")]
    Manifest(#[from] ManifestError),
    /// A part whose size is not the manifest's.
    #[error("package: part {digest} of {found} bytes, the manifest says {expected}")]
    PartSize { digest: Digest, found: u64, expected: u64 },
    /// A part whose content is not the manifest's.
    #[error("package: part {digest} has content of digest {found}")]
    PartDigest { digest: Digest, found: Digest },
    /// A part that is not there.
    #[error("package: part {digest} is missing")]
    PartMissing { digest: Digest },
}

impl Archive {
    /// Reads a package file.
    ///
    /// # Errors
    /// The first thing that is wrong with it, as it is read from its start to its end; of its manifest, all
    /// that [`Manifest::check`] finds.
    pub fn read(file: impl Read) -> Result<Self, ArchiveError> {
        Self::read_within(PACKAGE_BYTES_MAX, PACKAGE_BYTES_MAX, file)
    }

    fn read_within(
        frame_bytes_max: u64,
        unpacked_bytes_max: u64,
        mut file: impl Read,
    ) -> Result<Self, ArchiveError> {
        let mut prefix = Vec::new();
        file.by_ref().take(PREFIX.len() as u64).read_to_end(&mut prefix).map_err(damaged)?;
        check_prefix(&prefix)?;
        let compressed = AtMost { from: file, left: frame_bytes_max, state: "on disk" };
        let mut decoder = zstd::Decoder::new(compressed).map_err(damaged)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
        let unpacked = AtMost { from: decoder, left: unpacked_bytes_max, state: "unpacked" };
        let mut tar = tar::Archive::new(unpacked);
        // Raw: without the extensions (long names, sparse files), each of which is a way to make a
        // reader do more than it was asked.
        let mut entries = tar.entries().map_err(damaged)?.raw(true);
        let manifest = match entries.next() {
            Some(entry) => read_manifest(entry.map_err(damaged)?)?,
            None => {
                return Err(ArchiveError::NoManifest { found: String::new() });
            }
        };
        let expected = manifest.parts();
        let mut parts = BTreeMap::new();
        for entry in entries {
            let (digest, bytes) = read_part(entry.map_err(damaged)?, &expected)?;
            if parts.insert(digest, Arc::from(bytes)).is_some() {
                return Err(entry_error(digest.hex().as_bytes(), "there twice"));
            }
        }
        read_end(tar.into_inner())?;
        match expected.keys().find(|digest| !parts.contains_key(digest)) {
            Some(digest) => Err(ArchiveError::PartMissing { digest: *digest }),
            None => Ok(Self { manifest, parts }),
        }
    }

    /// What the package says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a part that the manifest names.
    pub fn part(&self, part: &PartRef) -> &[u8] {
        self.parts.get(&part.digest).map_or(&[], |bytes| bytes)
    }

    /// What a model is loaded from.
    pub fn package(&self) -> Package {
        let part = |part: &PartRef| self.parts.get(&part.digest).cloned().unwrap_or_default();
        let module = part(&self.manifest.guest);
        let assets = self.manifest.assets.iter().map(|asset| Asset {
            name: asset.name.clone(),
            digest: asset.part.digest,
            bytes: part(&asset.part),
        });
        Package {
            module: GuestModule::lazy(self.manifest.guest.digest, move || Ok(module.to_vec())),
            assets: assets.collect(),
        }
    }
}

/// Writes a package file: the same manifest gives the same bytes.
///
/// # Errors
/// When the manifest is not in order, a part is missing among `parts` or is not what it is said to be,
/// or when writing fails.
pub fn write_archive(
    manifest: &Manifest,
    parts: &[&[u8]],
    mut out: impl Write,
) -> Result<(), ArchiveError> {
    manifest.check()?;
    let given: BTreeMap<_, _> = parts.iter().map(|bytes| (Digest::of(bytes), *bytes)).collect();
    let write = || -> io::Result<Option<Digest>> {
        out.write_all(PREFIX)?;
        let mut encoder = zstd::Encoder::new(out, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut tar = tar::Builder::new(encoder);
        append(&mut tar, MANIFEST_PATH, &manifest.to_bytes())?;
        for digest in manifest.parts().keys() {
            let Some(bytes) = given.get(digest) else {
                return Ok(Some(*digest));
            };
            append(&mut tar, &format!("{PARTS_FOLDER}{}", digest.hex()), bytes)?;
        }
        tar.into_inner()?.finish()?.flush()?;
        Ok(None)
    };
    match write().map_err(damaged)? {
        Some(digest) => Err(ArchiveError::PartMissing { digest }),
        None => Ok(()),
    }
}

/// An entry without owner, time or anything else that differs between machines.
fn append(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    tar.append(&header, bytes)
}

fn check_prefix(found: &[u8]) -> Result<(), ArchiveError> {
    if found == PREFIX {
        return Ok(());
    }
    let known = &PREFIX[..PREFIX_ANY_VERSION_BYTES];
    match found.strip_prefix(known) {
        Some(version) => Err(ArchiveError::Version { found: excerpt(version.trim_ascii(), 16) }),
        None => Err(ArchiveError::Magic { found: excerpt(found, 26) }),
    }
}

fn read_manifest(entry: tar::Entry<'_, impl Read>) -> Result<Manifest, ArchiveError> {
    let path = entry.path_bytes();
    if *path != *MANIFEST_PATH.as_bytes() {
        return Err(ArchiveError::NoManifest { found: excerpt(&path, 120) });
    }
    check_type(&entry)?;
    let size = entry.header().entry_size().map_err(damaged)?;
    if size > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::ManifestSize { found: size });
    }
    Ok(Manifest::parse(&read_exactly(entry, size)?)?)
}

fn read_part(
    entry: tar::Entry<'_, impl Read>,
    expected: &BTreeMap<Digest, u64>,
) -> Result<(Digest, Vec<u8>), ArchiveError> {
    let path = entry.path_bytes().into_owned();
    check_type(&entry)?;
    let digest = str::from_utf8(&path)
        .ok()
        .and_then(|path| path.strip_prefix(PARTS_FOLDER))
        .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
    let unknown = || entry_error(&path, "not named by the manifest");
    let digest = digest.ok_or_else(unknown)?;
    let expected = *expected.get(&digest).ok_or_else(unknown)?;
    let found = entry.header().entry_size().map_err(damaged)?;
    if found != expected {
        return Err(ArchiveError::PartSize { digest, found, expected });
    }
    let bytes = read_exactly(entry, found)?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(ArchiveError::PartDigest { digest, found });
    }
    Ok((digest, bytes))
}

/// Reads what follows the last entry: zeros up to the size that some writers of tar round up to, then
/// the frame's checksum, which covers the manifest, too.
fn read_end(rest: impl Read) -> Result<(), ArchiveError> {
    let mut end = Vec::new();
    rest.take(TAR_RECORD_BYTES + 1).read_to_end(&mut end).map_err(damaged)?;
    if end.len() as u64 > TAR_RECORD_BYTES || end.iter().any(|&byte| byte != 0) {
        return Err(ArchiveError::Damaged { message: "data after the last part".into() });
    }
    Ok(())
}

fn check_type(entry: &tar::Entry<'_, impl Read>) -> Result<(), ArchiveError> {
    if entry.header().entry_type() == tar::EntryType::Regular {
        Ok(())
    } else {
        Err(entry_error(&entry.path_bytes(), "no regular file"))
    }
}

/// Reads as many bytes as the header says, making room as they come.
fn read_exactly(entry: tar::Entry<'_, impl Read>, size: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    entry.take(size).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 != size {
        let message = format!("an entry has {} of {size} bytes", bytes.len());
        return Err(ArchiveError::Damaged { message });
    }
    Ok(bytes)
}

fn entry_error(path: &[u8], problem: &'static str) -> ArchiveError {
    ArchiveError::Entry { found: excerpt(path, 120), problem }
}

fn damaged(error: io::Error) -> ArchiveError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
        Some(TooLarge(state)) => ArchiveError::TooLarge { state },
        None => ArchiveError::Damaged { message: excerpt(error.to_string().as_bytes(), 200) },
    }
}

/// A reader that fails when more comes than may.
struct AtMost<R> {
    from: R,
    left: u64,
    state: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("over {PACKAGE_BYTES_MAX} bytes {0}")]
struct TooLarge(&'static str);

impl<R: Read> Read for AtMost<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(TooLarge(self.state))),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Signature;

    #[test]
    fn a_package_is_bounded_on_disk_and_unpacked() {
        let guest = b"\0asm";
        let signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
        let manifest = Manifest::new("a".into(), "1".into(), PartRef::of(guest), signature);
        let mut file = Vec::new();
        write_archive(&manifest, &[guest], &mut file).expect("written");
        let frame = &file[PREFIX.len()..];
        let on_disk = frame.len() as u64;
        let tar = zstd::decode_all(frame).expect("a frame");
        let unpacked = tar.len() as u64;
        let read = |frame_bytes_max, unpacked_bytes_max| {
            let read = Archive::read_within(frame_bytes_max, unpacked_bytes_max, &file[..]);
            read.map(|archive| archive.manifest).map_err(|error| error.to_string())
        };
        assert_eq!(read(on_disk, unpacked), Ok(manifest));
        let over =
            |state| Err(format!("package: over 2147483648 bytes {state}, allowed are 2147483648"));
        assert_eq!(read(on_disk - 1, unpacked), over("on disk"));
        assert_eq!(read(on_disk, unpacked - 1), over("unpacked"));
    }
}
