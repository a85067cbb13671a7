//! The transparency log: digests of envelopes under a Merkle tree whose root is signed.
//!
//! Digests go in, one behind the other; tiles come out, and proofs that a digest is in, or that a
//! later log has all of an earlier one. Hashing is that of RFC 6962, tiles, checkpoints and proofs are
//! C2SP's (`docs/formats/log.md`).
//!
//! Knows nothing of receipts: an entry is 32 bytes.

mod tile;

mod tree;

mod checkpoint;

mod proof;

mod proof_text;

pub mod folder;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use folder::{CheckError, Folder, FolderError, PublishError, check};
pub use proof::{
    ProveError, WrongProof, prove_consistency, prove_inclusion, verify_consistency,
    verify_inclusion,
};
pub use proof_text::{ConsistencyProof, InclusionProof, ProofError};
pub use tile::{
    BundleUpdate, ENTRY_BYTES, HASH_BYTES, TILE_WIDTH, TileUpdate, Tiles, bundle_entries,
    bundle_path, leaf_hash, tile_path,
};
pub use tree::{Changed, LoadError, Tree};

/// Entries of a log. A host that runs a million jobs a second gets there in 8 years; the arithmetic of
/// tiles stays far from the end of 64 bits.
pub const SIZE_MAX: u64 = 1 << 48;
