//! What a host and a guest agree on: the messages that cross the sandbox's wall, and the names of
//! the functions that carry them.
//!
//! A message is a small header and the raw bytes of its tensors (`docs/formats/guest-abi.md` has it
//! byte by byte). Each side writes it straight into the guest's linear memory and reads it in place:
//! decoding borrows, allocates nothing and never panics, whatever the bytes.
//!
//! Knows nothing of Wasm engines, tract or files.

mod datatype;
mod shape;
mod strings;
mod tensor;
mod spec;
mod parameter;
mod wire;
mod encode;
mod decode;

pub use datatype::DataType;
pub use decode::{DecodeError, Message};
pub use encode::{EncodeError, Encoded, Envelope};
pub use parameter::{Parameter, ParameterValue};
pub use shape::Shape;
pub use spec::{Dim, Dims, Role, TensorSpec};
pub use strings::{StringElements, push_string_element};
pub use tensor::{TensorError, TensorView};
pub use wire::{Kind, Status};

/// The version of everything in this crate. A guest tells its own through [`export::ABI`].
pub const ABI_VERSION: u32 = 1;

/// Tensors start at multiples of this many bytes, counted from the start of the message, and
/// messages start at multiples of it in guest memory. 64 is a cache line and the widest vector
/// (AVX-512) that reads them.
pub const ALIGNMENT_BYTES: usize = 64;

/// Longest header. Far above any real signature (a tensor's entry takes about 40 bytes), and small
/// enough that a hostile header costs little to refuse.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// Most tensors, signature entries or parameters in one message, each.
pub const ENTRIES_MAX: usize = 1024;

/// Longest name of a tensor, a dimension or a parameter.
pub const NAME_BYTES_MAX: usize = 512;

/// Longest failure text and longest string parameter.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most dimensions of a tensor. Models in use have up to six.
pub const RANK_MAX: usize = 8;

/// The functions and the memory that every guest exports.
pub mod export {
    /// The one linear memory.
    pub const MEMORY: &str = "memory";
    /// `() -> ()`: constructors of a WASI reactor; called once, before everything else.
    pub const INITIALIZE: &str = "_initialize";
    /// `() -> i32`: the guest's [`ABI_VERSION`](crate::ABI_VERSION).
    pub const ABI: &str = "fuelbox_abi";
    /// `(len: i32) -> i32`: room for a message of `len` bytes, aligned to
    /// [`ALIGNMENT_BYTES`](crate::ALIGNMENT_BYTES); 0 when there is none.
    pub const ALLOC: &str = "fuelbox_alloc";
    /// `(ptr: i32, len: i32) -> i64`: takes a `Load` message, answers `Signature` or `Failure`.
    pub const LOAD: &str = "fuelbox_load";
    /// `(ptr: i32, len: i32) -> i64`: takes a `Run` message, answers `Outputs` or `Failure`.
    pub const RUN: &str = "fuelbox_run";
}

/// Packs the place of a reply into the one `i64` that [`export::LOAD`] and [`export::RUN`] return.
pub const fn pack_reply(ptr: u32, len: u32) -> i64 {
    (((ptr as u64) << 32) | len as u64) as i64
}

/// The pointer and length that [`pack_reply`] packed.
pub const fn unpack_reply(packed: i64) -> (u32, u32) {
    ((packed as u64 >> 32) as u32, packed as u64 as u32)
}
