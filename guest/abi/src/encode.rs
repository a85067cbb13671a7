//! Encoding: an [`Envelope`] is laid out once, then written straight to where it will be read.

use crate::{
    ALIGNMENT_BYTES, ENTRIES_MAX, HEADER_BYTES_MAX, Kind, NAME_BYTES_MAX, Parameter,
    ParameterValue, Status, TEXT_BYTES_MAX, TensorError, TensorSpec, TensorView,
    wire::{MAGIC, PREFIX_BYTES, WireHead, WireShape, WireSpec, WireTensor, align, config},
};
use bincode::Encode;

/// A message before it is encoded. What a kind does not use stays empty.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// What the message is.
    pub kind: Kind,
    /// [`Status::Ok`] unless the kind is [`Kind::Failure`].
    pub status: Status,
    /// What went wrong, for people; empty unless the kind is [`Kind::Failure`].
    pub text: &'a str,
    /// Inputs, outputs or assets.
    pub tensors: &'a [TensorView<'a>],
    /// A signature, or the input shapes to plan for.
    pub specs: &'a [TensorSpec<'a>],
    /// Named settings.
    pub parameters: &'a [Parameter<'a>],
}

impl<'a> Envelope<'a> {
    /// An empty message of this kind.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, status: Status::Ok, text: "", tensors: &[], specs: &[], parameters: &[] }
    }

    /// A failure; a text over [`TEXT_BYTES_MAX`] is cut.
    pub fn failure(status: Status, text: &'a str) -> Self {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        Self { status, text, ..Self::new(Kind::Failure) }
    }

    /// Lays the message out.
    ///
    /// # Errors
    /// When a part is over its limit, or a tensor's bytes do not fit its shape.
    pub fn encode(&self) -> Result<Encoded<'a>, EncodeError> {
        within("text bytes", self.text.len(), TEXT_BYTES_MAX)?;
        within("tensors", self.tensors.len(), ENTRIES_MAX)?;
        within("specs", self.specs.len(), ENTRIES_MAX)?;
        within("parameters", self.parameters.len(), ENTRIES_MAX)?;
        let mut prefix = vec![0; PREFIX_BYTES];
        push(
            &mut prefix,
            WireHead {
                kind: self.kind as u8,
                status: self.status as u8,
                text: self.text,
                tensors: self.tensors.len() as u32,
                specs: self.specs.len() as u32,
                parameters: self.parameters.len() as u32,
            },
        )?;
        let mut data_bytes = 0u64;
        for tensor in self.tensors {
            within("name bytes", tensor.name.len(), NAME_BYTES_MAX)?;
            let named =
                |source| EncodeError::Tensor { name: tensor.name.into(), source: Box::new(source) };
            tensor.check().map_err(named)?;
            let (offset, length) =
                (align(data_bytes).ok_or(EncodeError::Overflow)?, tensor.bytes.len() as u64);
            data_bytes = offset.checked_add(length).ok_or(EncodeError::Overflow)?;
            push(
                &mut prefix,
                WireTensor {
                    name: tensor.name,
                    datatype: tensor.datatype.code(),
                    shape: WireShape(tensor.shape),
                    offset,
                    length,
                },
            )?;
        }
        for spec in self.specs {
            within("name bytes", spec.name_bytes_longest(), NAME_BYTES_MAX)?;
            push(&mut prefix, WireSpec::from(spec))?;
        }
        for parameter in self.parameters {
            within("name bytes", parameter.name.len(), NAME_BYTES_MAX)?;
            if let ParameterValue::String(text) = parameter.value {
                within("parameter bytes", text.len(), TEXT_BYTES_MAX)?;
            }
            push(&mut prefix, *parameter)?;
        }
        let header_bytes = prefix.len() - PREFIX_BYTES;
        within("header bytes", header_bytes, HEADER_BYTES_MAX)?;
        prefix[..4].copy_from_slice(&MAGIC);
        prefix[4..PREFIX_BYTES].copy_from_slice(&(header_bytes as u32).to_le_bytes());
        prefix.resize(prefix.len().next_multiple_of(ALIGNMENT_BYTES), 0);
        let len = usize::try_from(data_bytes).ok().and_then(|data| data.checked_add(prefix.len()));
        Ok(Encoded { len: len.ok_or(EncodeError::Overflow)?, prefix, tensors: self.tensors })
    }
}

/// A message laid out: its header is encoded, its tensors are still where they were.
#[derive(Clone, Debug)]
pub struct Encoded<'a> {
    len: usize,
    /// Magic, header length, header and padding.
    prefix: Vec<u8>,
    tensors: &'a [TensorView<'a>],
}

impl Encoded<'_> {
    /// Bytes of the whole message.
    #[allow(clippy::len_without_is_empty)] // never empty: there is a prefix
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes the message: the one copy of each tensor. Gaps between tensors are zeroed.
    ///
    /// # Panics
    /// When `out` is not exactly [`Encoded::len`] long.
    pub fn write_to(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len, "a message is written to a place of its own length");
        let (prefix, mut rest) = out.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(&self.prefix);
        for (index, tensor) in self.tensors.iter().enumerate() {
            let (bytes, after) = rest.split_at_mut(tensor.bytes.len());
            bytes.copy_from_slice(tensor.bytes);
            let last = index + 1 == self.tensors.len();
            let gap = if last { 0 } else { bytes.len().wrapping_neg() % ALIGNMENT_BYTES };
            // The gap is there: a tensor follows, and it starts at a multiple of the alignment.
            let (gap, after) = after.split_at_mut(gap);
            gap.fill(0);
            rest = after;
        }
    }

    /// The message in a buffer of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.write_to(&mut out);
        out
    }
}

/// Why a message cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// More of something than a message may have.
    #[error("too many {what}: {found}, allowed are {allowed}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// A tensor that is not what it is said to be.
    #[error("tensor '{name}': {source}")]
    Tensor {
        /// Whose.
        name: String,
        /// What is wrong. Boxed, as it has a whole shape in it and errors are rare.
        source: Box<TensorError>,
    },
    /// The message's size is beyond this machine's addresses.
    #[error("message size overflows")]
    Overflow,
    /// bincode refused.
    #[error("header: {0}")]
    Header(#[from] bincode::error::EncodeError),
}

fn within(what: &'static str, found: usize, allowed: usize) -> Result<(), EncodeError> {
    if found <= allowed { Ok(()) } else { Err(EncodeError::TooMany { what, found, allowed }) }
}

fn push(prefix: &mut Vec<u8>, entry: impl Encode) -> Result<(), EncodeError> {
    prefix.extend(bincode::encode_to_vec(entry, config())?);
    Ok(())
}
