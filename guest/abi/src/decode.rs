//! Decoding: bytes from the other side become a [`Message`], checked whole, borrowed, in place.
//!
//! Invariant: a `Message` exists only for bytes in which every entry decodes and every tensor passes
//! [`TensorView::check`], so its iterators cannot meet an error. Nothing is allocated on the way,
//! but the text of an error.

use crate::{
    ABI_VERSION, ALIGNMENT_BYTES, DataType, ENTRIES_MAX, HEADER_BYTES_MAX, Kind, NAME_BYTES_MAX,
    Parameter, ParameterValue, Role, Status, TEXT_BYTES_MAX, TensorError, TensorSpec, TensorView,
    wire::{MAGIC, PREFIX_BYTES, WireHead, WireSpec, WireTensor, align, config},
};
use bincode::BorrowDecode;

/// A decoded message that borrows the bytes it came from.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    kind: Kind,
    status: Status,
    text: &'a str,
    tensors: Entries<'a>,
    specs: Entries<'a>,
    parameters: Entries<'a>,
    data: &'a [u8],
}

/// A run of entries of one type in the header.
#[derive(Clone, Copy, Debug)]
struct Entries<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Decodes and checks the message that fills `bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, data) = split(bytes)?;
        let mut reader = Reader { rest: header };
        let head: WireHead<'a> = reader.next("head", 0)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == head.kind);
        let kind = kind.ok_or(DecodeError::Code { what: "message kind", found: head.kind })?;
        let status = Status::ALL.into_iter().find(|status| *status as u8 == head.status);
        let status = status.ok_or(DecodeError::Code { what: "status", found: head.status })?;
        if (kind == Kind::Failure) == (status == Status::Ok) {
            return Err(DecodeError::StatusOfKind { kind, status });
        }
        within("text bytes", head.text.len(), TEXT_BYTES_MAX)?;
        let mut end = 0;
        let tensors = reader.entries("tensor", head.tensors, |index, wire: &WireTensor<'a>| {
            check_tensor(index, wire, data, &mut end)
        })?;
        if end != data.len() as u64 {
            return Err(DecodeError::Trailing { found: data.len() as u64 - end });
        }
        let specs =
            reader.entries("spec", head.specs, |index, wire: &WireSpec<'a>| match spec(wire) {
                Some(spec) => within("name bytes", spec.name_bytes_longest(), NAME_BYTES_MAX),
                None => Err(DecodeError::Spec { index, role: wire.role, datatype: wire.datatype }),
            })?;
        let parameters =
            reader.entries("parameter", head.parameters, |_, parameter: &Parameter<'a>| {
                within("name bytes", parameter.name.len(), NAME_BYTES_MAX)?;
                match parameter.value {
                    ParameterValue::String(text) => {
                        within("parameter bytes", text.len(), TEXT_BYTES_MAX)
                    }
                    ParameterValue::Bool(_) | ParameterValue::Int(_) | ParameterValue::Float(_) => {
                        Ok(())
                    }
                }
            })?;
        if !reader.rest.is_empty() {
            return Err(DecodeError::Trailing { found: reader.rest.len() as u64 });
        }
        Ok(Self { kind, status, text: head.text, tensors, specs, parameters, data })
    }

    /// What the message is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// [`Status::Ok`] unless the kind is [`Kind::Failure`].
    pub fn status(&self) -> Status {
        self.status
    }

    /// What went wrong, when the kind is [`Kind::Failure`].
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'a>> + use<'a> {
        let data = self.data;
        self.tensors.iter().filter_map(move |wire| tensor(&wire, data))
    }

    /// The specs, in order.
    pub fn specs(&self) -> impl Iterator<Item = TensorSpec<'a>> + use<'a> {
        self.specs.iter().filter_map(|wire| spec(&wire))
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        self.parameters.iter()
    }
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Not even magic and length.
    #[error("message has {found} bytes, at least {PREFIX_BYTES} are needed")]
    Short {
        /// Bytes that are there.
        found: usize,
    },
    /// Something else than a message.
    #[error("message starts with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// The bytes that are there.
        found: [u8; 4],
    },
    /// A message of another ABI.
    #[error("message of guest ABI {found}, allowed is {ABI_VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A header that is longer than its message, or than any may be.
    #[error(
        "header of {found} bytes, the message has room for {room}, allowed are {HEADER_BYTES_MAX}"
    )]
    HeaderLength {
        /// As claimed.
        found: usize,
        /// As there is.
        room: usize,
    },
    /// bincode refused an entry.
    #[error("{what} {index}: {reason}")]
    Entry {
        /// `head`, `tensor`, `spec` or `parameter`.
        what: &'static str,
        /// Which one.
        index: u32,
        /// bincode's word.
        reason: String,
    },
    /// A number that stands for nothing.
    #[error("unknown {what} {found}")]
    Code {
        /// Of what.
        what: &'static str,
        /// The number.
        found: u8,
    },
    /// A failure without a status, or a status without a failure.
    #[error("{kind:?} message with status {status:?}")]
    StatusOfKind {
        /// Of the message.
        kind: Kind,
        /// Of the message.
        status: Status,
    },
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
    /// A tensor that does not lie where the layout rule puts it, or not inside the message.
    #[error(
        "tensor {index}: offset {offset} and length {length}, expected offset {expected} and an end within {data_bytes} data bytes"
    )]
    Place {
        /// Which one.
        index: u32,
        /// As claimed.
        offset: u64,
        /// As claimed.
        length: u64,
        /// Where it has to start.
        expected: u64,
        /// Bytes of all tensors.
        data_bytes: u64,
    },
    /// A tensor whose bytes do not fit its description.
    #[error("tensor {index}: {source}")]
    Tensor {
        /// Which one.
        index: u32,
        /// What is wrong.
        source: TensorError,
    },
    /// A spec with unknown codes.
    #[error("spec {index}: role {role}, datatype {datatype}: unknown")]
    Spec {
        /// Which one.
        index: u32,
        /// As found.
        role: u8,
        /// As found.
        datatype: u8,
    },
    /// Bytes that belong to nothing.
    #[error("{found} bytes too many")]
    Trailing {
        /// How many.
        found: u64,
    },
}

/// Header and data of a message.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let short = DecodeError::Short { found: bytes.len() };
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(short.clone())?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    if magic[..3] != MAGIC[..3] {
        return Err(DecodeError::Magic { found: *magic });
    }
    if magic[3] != MAGIC[3] {
        return Err(DecodeError::Version { found: magic[3] });
    }
    let found = u32::from_le_bytes(*length) as usize;
    let too_long = DecodeError::HeaderLength { found, room: rest.len() };
    if found > HEADER_BYTES_MAX {
        return Err(too_long);
    }
    let header = rest.get(..found).ok_or(too_long.clone())?;
    let data_start = (PREFIX_BYTES + found).next_multiple_of(ALIGNMENT_BYTES);
    Ok((header, bytes.get(data_start..).ok_or(too_long)?))
}

/// Reads entries off the front of a header.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn next<T: BorrowDecode<'a, ()>>(
        &mut self,
        what: &'static str,
        index: u32,
    ) -> Result<T, DecodeError> {
        let (entry, read) = bincode::borrow_decode_from_slice(self.rest, config())
            .map_err(|error| DecodeError::Entry { what, index, reason: error.to_string() })?;
        self.rest = &self.rest[read..];
        Ok(entry)
    }

    fn entries<T: BorrowDecode<'a, ()>>(
        &mut self,
        what: &'static str,
        count: u32,
        mut check: impl FnMut(u32, &T) -> Result<(), DecodeError>,
    ) -> Result<Entries<'a>, DecodeError> {
        within(what, count as usize, ENTRIES_MAX)?;
        let bytes = self.rest;
        for index in 0..count {
            check(index, &self.next(what, index)?)?;
        }
        Ok(Entries { count, bytes })
    }
}

impl<'a> Entries<'a> {
    /// The entries once more. They decoded before, so they do again.
    fn iter<T: BorrowDecode<'a, ()>>(self) -> impl Iterator<Item = T> + use<'a, T> {
        let mut reader = Reader { rest: self.bytes };
        (0..self.count).map_while(move |index| reader.next("entry", index).ok())
    }
}

fn within(what: &'static str, found: usize, allowed: usize) -> Result<(), DecodeError> {
    if found <= allowed { Ok(()) } else { Err(DecodeError::TooMany { what, found, allowed }) }
}

/// Checks one tensor's place and content; `end` is where the one before it ended.
fn check_tensor(
    index: u32,
    wire: &WireTensor<'_>,
    data: &[u8],
    end: &mut u64,
) -> Result<(), DecodeError> {
    within("name bytes", wire.name.len(), NAME_BYTES_MAX)?;
    let code = DecodeError::Code { what: "datatype", found: wire.datatype };
    let place = DecodeError::Place {
        index,
        offset: wire.offset,
        length: wire.length,
        expected: align(*end).unwrap_or(u64::MAX),
        data_bytes: data.len() as u64,
    };
    DataType::from_code(wire.datatype).ok_or(code)?;
    if align(*end) != Some(wire.offset) {
        return Err(place);
    }
    let tensor = tensor(wire, data).ok_or(place)?;
    *end = wire.offset + wire.length; // no overflow: the slice is inside `data`
    tensor.check().map_err(|source| DecodeError::Tensor { index, source })
}

fn tensor<'a>(wire: &WireTensor<'a>, data: &'a [u8]) -> Option<TensorView<'a>> {
    let start = usize::try_from(wire.offset).ok()?;
    let end = start.checked_add(usize::try_from(wire.length).ok()?)?;
    Some(TensorView {
        name: wire.name,
        datatype: DataType::from_code(wire.datatype)?,
        shape: wire.shape.0,
        bytes: data.get(start..end)?,
    })
}

fn spec<'a>(wire: &WireSpec<'a>) -> Option<TensorSpec<'a>> {
    Some(TensorSpec {
        role: match wire.role {
            0 => Role::Input,
            1 => Role::Output,
            _ => return None,
        },
        name: wire.name,
        datatype: DataType::from_code(wire.datatype)?,
        dims: wire.dims.as_ref().map(|dims| dims.0),
    })
}
