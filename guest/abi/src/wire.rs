//! The header as bincode sees it. Everything in it is checked by `decode` before anyone sees it.

use crate::{ALIGNMENT_BYTES, Dims, HEADER_BYTES_MAX, RANK_MAX, Role, Shape, TensorSpec};
use bincode::{
    BorrowDecode, Encode,
    config::{Configuration, Limit, LittleEndian, Varint},
    de::{BorrowDecoder, Decode},
    enc::Encoder,
    error::{DecodeError, EncodeError},
};

/// The first four bytes of a message; the last one is the ABI version.
pub(crate) const MAGIC: [u8; 4] = *b"FBX\x01";

/// Magic, then the header's length as a little-endian `u32`.
pub(crate) const PREFIX_BYTES: usize = 8;

pub(crate) type Config = Configuration<LittleEndian, Varint, Limit<HEADER_BYTES_MAX>>;

/// bincode's standard encoding (little-endian, variable-length integers) with a byte limit.
pub(crate) fn config() -> Config {
    bincode::config::standard().with_limit()
}

/// What a message is. The number is its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host to guest: the assets as tensors, the input shapes to plan for as specs, parameters.
    Load = 1,
    /// Guest to host: the model's inputs and outputs as specs.
    Signature = 2,
    /// Host to guest: the inputs as tensors, parameters.
    Run = 3,
    /// Guest to host: the outputs as tensors, parameters.
    Outputs = 4,
    /// Guest to host: a status and a text.
    Failure = 5,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Load, Self::Signature, Self::Run, Self::Outputs, Self::Failure];
}

/// Why a guest failed, as the guest sees it. The number is its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It did not: the only status of messages other than `Failure`.
    Ok = 0,
    /// The caller's tensors or parameters do not fit the model.
    InvalidInput = 1,
    /// The assets are no model that this guest can read.
    InvalidModel = 2,
    /// The model is well-formed, and asks for something that this guest does not have.
    Unsupported = 3,
    /// Anything else.
    Failed = 4,
}

impl Status {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ok, Self::InvalidInput, Self::InvalidModel, Self::Unsupported, Self::Failed];
}

/// The header's fixed part; the entries follow it: tensors, specs, parameters.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WireHead<'a> {
    pub(crate) kind: u8,
    pub(crate) status: u8,
    pub(crate) text: &'a str,
    pub(crate) tensors: u32,
    pub(crate) specs: u32,
    pub(crate) parameters: u32,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) datatype: u8,
    pub(crate) shape: WireShape,
    /// From the start of the data, which is the end of the header rounded up to the alignment.
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireSpec<'a> {
    pub(crate) role: u8,
    pub(crate) name: &'a str,
    pub(crate) datatype: u8,
    pub(crate) dims: Option<WireDims<'a>>,
}

impl<'a> From<&TensorSpec<'a>> for WireSpec<'a> {
    fn from(spec: &TensorSpec<'a>) -> Self {
        Self {
            role: match spec.role {
                Role::Input => 0,
                Role::Output => 1,
            },
            name: spec.name,
            datatype: spec.datatype.code(),
            dims: spec.dims.map(WireDims),
        }
    }
}

/// A [`Shape`] as its rank (one byte) and its dimensions.
pub(crate) struct WireShape(pub(crate) Shape);

/// [`Dims`] as their rank (one byte) and each dimension.
pub(crate) struct WireDims<'a>(pub(crate) Dims<'a>);

fn checked_rank(rank: u8) -> Result<usize, DecodeError> {
    let rank = usize::from(rank);
    if rank <= RANK_MAX {
        return Ok(rank);
    }
    Err(DecodeError::OtherString(format!("rank {rank}, allowed are up to {RANK_MAX}")))
}

impl Encode for WireShape {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u8).encode(encoder)?;
        self.0.iter().try_for_each(|dim| dim.encode(encoder))
    }
}

impl<'de, C> BorrowDecode<'de, C> for WireShape {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(d: &mut D) -> Result<Self, DecodeError> {
        let rank = checked_rank(u8::decode(d)?)?;
        let mut dims = [0u64; RANK_MAX];
        for dim in &mut dims[..rank] {
            *dim = u64::decode(d)?;
        }
        Ok(Self(Shape::new(&dims[..rank]).unwrap_or_default()))
    }
}

impl Encode for WireDims<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u8).encode(encoder)?;
        self.0.iter().try_for_each(|dim| dim.encode(encoder))
    }
}

impl<'de, C> BorrowDecode<'de, C> for WireDims<'de> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(d: &mut D) -> Result<Self, DecodeError> {
        let rank = checked_rank(u8::decode(d)?)?;
        let mut dims = [crate::Dim::Fixed(0); RANK_MAX];
        for dim in &mut dims[..rank] {
            *dim = crate::Dim::borrow_decode(d)?;
        }
        let none = DecodeError::Other("rank over the limit");
        Dims::new(&dims[..rank]).map(Self).ok_or(none)
    }
}

/// The next multiple of the alignment; none when there is none in 64 bits.
pub(crate) fn align(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(ALIGNMENT_BYTES as u64)
}
