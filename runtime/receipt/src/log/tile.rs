//! Tiles: how the hashes of a log are cut into files, and what those are called.
//!
//! A tile of level 0 has the hashes of 256 entries; one of level 1 has those of 256 full tiles of level
//! 0, and so on. An entry bundle has the entries of a tile of level 0.

use fuelbox_digest::Digest;

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: usize = 256;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// Bytes of an entry in a bundle: its length, big-endian in two bytes, and the digest.
pub const ENTRY_BYTES: usize = 2 + HASH_BYTES;

/// The length of every entry, as a bundle has it.
const ENTRY_PREFIX: [u8; 2] = [0, HASH_BYTES as u8];

/// Levels of tiles of a log of [`super::SIZE_MAX`] entries.
pub(crate) const LEVELS: u8 = 7;

/// Where tiles come from. None of it is believed: who reads checks it against a signed root, or owns the
/// store.
pub trait Tiles {
    /// Why a tile cannot be read, other than that there is none.
    type Error: std::error::Error + 'static;

    /// The hashes of a tile, 32 bytes each, as many as are stored; `None` when there is no such tile.
    ///
    /// # Errors
    /// When the store fails.
    fn hashes(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, Self::Error>;

    /// An entry bundle, [`ENTRY_BYTES`] each, as many as are stored; `None` when there is no such bundle.
    ///
    /// # Errors
    /// When the store fails.
    fn entries(&self, index: u64) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// A tile that has to be written, in place of a narrower one with the same level and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileUpdate {
    /// 0 above the entries.
    pub level: u8,
    /// From the left, in its level.
    pub index: u64,
    /// All hashes of the tile.
    pub hashes: Vec<u8>,
}

/// An entry bundle that has to be written, in place of a narrower one with the same index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleUpdate {
    /// From the left.
    pub index: u64,
    /// All entries of the bundle, each behind its length.
    pub entries: Vec<u8>,
}

/// RFC 6962's hash of an entry.
pub fn leaf_hash(entry: &Digest) -> Digest {
    let mut bytes = [0; 1 + HASH_BYTES];
    bytes[1..].copy_from_slice(entry.as_bytes());
    Digest::of(&bytes)
}

/// RFC 6962's hash of two subtrees.
pub(crate) fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1; 1 + 2 * HASH_BYTES];
    bytes[1..=HASH_BYTES].copy_from_slice(left.as_bytes());
    bytes[1 + HASH_BYTES..].copy_from_slice(right.as_bytes());
    Digest::of(&bytes)
}

/// The root of a full subtree: of as many hashes as a power of two.
pub(crate) fn subtree_hash(hashes: &[Digest]) -> Digest {
    match hashes {
        [] => Digest::of(b""),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&subtree_hash(left), &subtree_hash(right))
        }
    }
}

/// How many hashes of this level a log of `size` entries has, in full tiles and then in the last one.
pub(crate) fn level_widths(size: u64, level: u8) -> (u64, usize) {
    let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    (hashes / TILE_WIDTH as u64, (hashes % TILE_WIDTH as u64) as usize)
}

/// The hashes of a tile, unless its last one is cut.
pub(crate) fn split_hashes(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    rest.is_empty().then(|| hashes.iter().copied().map(Digest::from_bytes).collect())
}

pub(crate) fn join_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The entries of a bundle; `None` when it is not a list of entries of 32 bytes.
pub fn bundle_entries(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    let entry = |entry: &[u8; ENTRY_BYTES]| {
        let digest = entry.strip_prefix(&ENTRY_PREFIX)?;
        digest.try_into().ok().map(Digest::from_bytes)
    };
    rest.is_empty().then(|| entries.iter().map(entry).collect())?
}

pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &Digest) {
    bundle.extend_from_slice(&ENTRY_PREFIX);
    bundle.extend_from_slice(entry.as_bytes());
}

/// The path of a tile, as C2SP's tlog-tiles has it: `tile/0/x001/067.p/12`.
pub fn tile_path(level: u8, index: u64, width: usize) -> String {
    path(&level.to_string(), index, width)
}

/// The path of an entry bundle: `tile/entries/x001/067.p/12`.
pub fn bundle_path(index: u64, width: usize) -> String {
    path("entries", index, width)
}

fn path(kind: &str, index: u64, width: usize) -> String {
    let mut number = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        number = format!("x{:03}/{number}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < TILE_WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{kind}/{number}{partial}")
}
