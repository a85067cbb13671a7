//! The compiled guests that come with fuelbox, so that running a model needs no Wasm toolchain.
//!
//! `cargo xtask guests` builds them and writes the files in this folder: each guest compressed, and
//! `guests.json`, which names them with digests, sizes, toolchain and flags. `cargo xtask guests
//! --check` builds them again and compares. They are embedded here: no file is looked for at run time.
//!
//! Knows nothing of what guests are or do.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{io::Read, sync::LazyLock};

/// A compiled guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    name: String,
    digest: [u8; 32],
    size_bytes: u64,
    compressed: &'static [u8],
}

/// Why a guest cannot be had. Only a build of fuelbox that went wrong gives these.
#[derive(Debug, thiserror::Error)]
pub enum PrebuiltError {
    /// The compressed file is damaged.
    #[error("prebuilt guest {name}: {source}")]
    Decompress {
        /// Which guest.
        name: String,
        /// zstd's word.
        source: std::io::Error,
    },
    /// The file holds more or less than the list says.
    #[error("prebuilt guest {name}: {found} bytes or more found, {listed} are listed")]
    Size {
        /// Which guest.
        name: String,
        /// Bytes read, up to one more than listed.
        found: u64,
        /// Bytes in the list.
        listed: u64,
    },
    /// The file holds something else than the list says.
    #[error("prebuilt guest {name}: sha256 {found} found, {listed} is listed")]
    Digest {
        /// Which guest.
        name: String,
        /// Of the bytes.
        found: String,
        /// In the list.
        listed: String,
    },
}

/// The stock guest, which runs any ONNX or NNEF file.
pub fn onnx() -> &'static Guest {
    by_name("onnx").expect("the list has the stock guest: a test asserts it")
}

/// The guest of this name.
pub fn by_name(name: &str) -> Option<&'static Guest> {
    all().iter().find(|guest| guest.name == name)
}

/// All guests, in the list's order.
pub fn all() -> &'static [Guest] {
    static GUESTS: LazyLock<Vec<Guest>> =
        LazyLock::new(|| parse(LIST).expect("the list is well-formed: a test asserts it"));
    &GUESTS
}

impl Guest {
    /// Its name: that of its file, without endings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of [`Guest::bytes`], from the list: nothing is decompressed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How long [`Guest::bytes`] are, from the list.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The Wasm module.
    ///
    /// # Errors
    /// When the file and the list disagree.
    pub fn bytes(&self) -> Result<Vec<u8>, PrebuiltError> {
        let name = || self.name.clone();
        let damaged = |source| PrebuiltError::Decompress { name: name(), source };
        let decoder = zstd::Decoder::with_buffer(self.compressed).map_err(damaged)?;
        let mut bytes = Vec::new();
        // One byte over is read, to tell a longer file from one of the listed size.
        let mut limited = decoder.take(self.size_bytes.saturating_add(1));
        limited.read_to_end(&mut bytes).map_err(damaged)?;
        let found = bytes.len() as u64;
        if found != self.size_bytes {
            return Err(PrebuiltError::Size { name: name(), found, listed: self.size_bytes });
        }
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found != self.digest {
            return Err(PrebuiltError::Digest {
                name: name(),
                found: hex(&found),
                listed: hex(&self.digest),
            });
        }
        Ok(bytes)
    }
}

const LIST: &str = include_str!("../guests.json");

/// A file's bytes by its name. Cargo builds this crate anew when one of them changes.
fn compressed(file: &str) -> Option<&'static [u8]> {
    match file {
        "onnx.wasm.zst" => Some(include_bytes!("../onnx.wasm.zst")),
        "digits-image.wasm.zst" => Some(include_bytes!("../digits-image.wasm.zst")),
        _ => None,
    }
}

/// What this crate reads of `guests.json`; `xtask` writes it.
#[derive(Deserialize)]
struct List {
    guests: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    sha256: String,
    size_bytes: u64,
}

fn parse(list: &str) -> Result<Vec<Guest>, String> {
    let list: List = serde_json::from_str(list).map_err(|error| error.to_string())?;
    let guest = |listed: Listed| {
        let file = format!("{}.wasm.zst", listed.name);
        let digest = unhex(&listed.sha256);
        Ok(Guest {
            digest: digest.ok_or_else(|| format!("'{}' is no SHA-256", listed.sha256))?,
            compressed: compressed(&file).ok_or_else(|| format!("no file {file}"))?,
            name: listed.name,
            size_bytes: listed.size_bytes,
        })
    };
    list.guests.into_iter().map(guest).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_guest_is_what_the_list_says() {
        assert_eq!(onnx().name(), "onnx");
        assert!(by_name("digits-image").is_some());
        assert!(by_name("nothing").is_none());
        for guest in all() {
            let bytes = guest.bytes().expect("whole");
            assert_eq!(&bytes[..8], b"\0asm\x01\0\0\0", "{}", guest.name());
            assert_eq!(bytes.len() as u64, guest.size_bytes());
            assert_eq!(guest.digest(), <[u8; 32]>::from(Sha256::digest(&bytes)));
        }
    }

    #[test]
    fn other_bytes_than_listed_are_refused() {
        let guest = |change: fn(&mut Guest)| {
            let mut guest = onnx().clone();
            change(&mut guest);
            guest.bytes().expect_err("not as listed").to_string()
        };
        let size_bytes = onnx().size_bytes();
        assert_eq!(
            guest(|guest| guest.size_bytes += 1),
            format!(
                "prebuilt guest onnx: {size_bytes} bytes or more found, {} are listed",
                size_bytes + 1
            )
        );
        assert_eq!(
            guest(|guest| guest.size_bytes -= 1),
            format!(
                "prebuilt guest onnx: {size_bytes} bytes or more found, {} are listed",
                size_bytes - 1
            )
        );
        let other = guest(|guest| guest.digest = [0; 32]);
        assert!(other.ends_with(&format!("{} is listed", "00".repeat(32))), "{other}");
        let cut = guest(|guest| guest.compressed = &guest.compressed[..1000]);
        assert!(cut.starts_with("prebuilt guest onnx: "), "{cut}");
    }

    #[test]
    fn bad_lists_are_refused() {
        let list = |name: &str, sha256: &str| {
            parse(&format!(
                r#"{{"guests": [{{"name": "{name}", "sha256": "{sha256}", "size_bytes": 1}}]}}"#
            ))
        };
        assert!(list("onnx", &"ab".repeat(32)).is_ok());
        assert_eq!(list("onnx", "ab").unwrap_err(), "'ab' is no SHA-256");
        assert_eq!(list("x", &"ab".repeat(32)).unwrap_err(), "no file x.wasm.zst");
    }
}
