//! What is wrong with a request, or with a reply: one sentence and one code each.

use fuelbox_abi::{DataType, RANK_MAX, Shape, TensorError};
use std::fmt;

/// Which of the two documents is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Document {
    Request,
    Reply,
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Reply => "reply",
        })
    }
}

impl Document {
    /// What its tensors are.
    pub(crate) const fn tensor(self) -> &'static str {
        match self {
            Self::Request => "input",
            Self::Reply => "output",
        }
    }
}

/// Why a body is refused, or cannot be written. The texts of strangers in it are bounded and escaped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum OipError {
    /// The header says more JSON than there are bytes.
    #[error("{document}: {json_bytes} bytes of JSON announced, the body has {body_bytes}")]
    HeaderLength { document: Document, json_bytes: usize, body_bytes: usize },
    /// JSON is UTF-8.
    #[error("{document}: byte {offset} is not UTF-8")]
    Utf8 { document: Document, offset: usize },
    /// No JSON.
    #[error("{document}: {reason} at line {line} column {column}")]
    Json { document: Document, reason: String, line: usize, column: usize },
    /// `NaN` and its like, which some libraries write.
    #[error(
        "{document}: {literal} at line {line} column {column}, JSON has no such number; binary data carries it"
    )]
    Literal { document: Document, literal: &'static str, line: usize, column: usize },
    /// JSON in which a member is missing, or of another type.
    #[error("{document}: {reason} at line {line} column {column}")]
    Member { document: Document, reason: String, line: usize, column: usize },
    /// One key twice in one object.
    #[error("{document}: {reason} at line {line} column {column}")]
    Key { document: Document, reason: String, line: usize, column: usize },
    /// A setting that is none.
    #[error("parameter '{name}': found {found}, allowed are {allowed}")]
    Parameter { name: String, found: String, allowed: String },
    /// One tensor twice.
    #[error("{tensor} '{name}': given twice")]
    Twice { tensor: &'static str, name: String },
    /// A name beyond what messages to a model hold.
    #[error("name of {found} bytes, allowed are {allowed}")]
    Name { found: usize, allowed: usize },
    /// The model gives no output of this name.
    #[error("output '{name}': no such output, the model gives {allowed}")]
    UnknownOutput { name: String, allowed: String },
    /// A tensor that is not what it says.
    #[error("{} '{name}': {fault}", document.tensor())]
    Tensor { document: Document, name: String, fault: TensorFault },
    /// Bytes that no tensor claims.
    #[error("{document}: {found} bytes after the last tensor's")]
    Left { document: Document, found: usize },
    /// All tensors together.
    #[error("{document}: tensors of {found} bytes, allowed are {allowed}")]
    TooLarge { document: Document, found: u64, allowed: u64 },
    /// A body without JSON for a model that does not say all that JSON would.
    #[error("raw request: {reason}")]
    Raw { reason: String },
    /// An output that cannot be returned in the way that was asked for.
    #[error("output '{name}': {reason}")]
    OutputOption { name: String, reason: String },
    /// An element that JSON has no form for.
    #[error("{tensor} '{name}': element {index} is {found}, which JSON cannot hold; {advice}")]
    NotJson {
        tensor: &'static str,
        name: String,
        index: usize,
        found: &'static str,
        advice: &'static str,
    },
}

/// What is wrong with one tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum TensorFault {
    #[error("datatype '{found}', allowed are {}", DataType::ALL.map(DataType::name).join(", "))]
    DataType { found: String },
    #[error("{found} dimensions, allowed are {RANK_MAX}")]
    Rank { found: usize },
    #[error("dimension {index} is {found}, allowed are numbers from 0")]
    Dimension { index: usize, found: i64 },
    /// Shape, datatype and bytes do not agree.
    #[error(transparent)]
    Bytes(#[from] TensorError),
    #[error("data: lists nested deeper than {allowed}")]
    Nesting { allowed: usize },
    #[error("data: lists of {first} and of {other} side by side")]
    Ragged { first: u64, other: u64 },
    #[error("data: lists and elements side by side")]
    Mixed,
    #[error("data: {found} elements found, shape {shape} has {needed}")]
    Count { found: u64, shape: Shape, needed: u64 },
    #[error("data: shape {found:?} found, expected {shape} or a flat list")]
    Shape { found: Vec<u64>, shape: Shape },
    #[error("data: one element found, shape {shape} takes a list")]
    NoList { shape: Shape },
    #[error("element {index}: found {found}, {datatype} allows {allowed}")]
    Element { index: u64, found: String, datatype: DataType, allowed: String },
    #[error("element {index}: base64 is malformed")]
    Base64 { index: u64 },
    #[error("both data and binary_data_size, allowed is one of them")]
    BothForms,
    #[error("neither data nor binary_data_size")]
    NoData,
    #[error("shared memory is not offered; send data or binary data")]
    SharedMemory,
    #[error("binary_data_size is {size}, the body has {left} bytes left")]
    Cut { size: u64, left: usize },
    #[error(
        "binary_data_size is {size}, but no Inference-Header-Content-Length says where the JSON ends"
    )]
    NoHeader { size: u64 },
}

impl OipError {
    /// A word for programs. It never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderLength { .. } => "bad_header_length",
            Self::Utf8 { .. } => "bad_utf8",
            Self::Json { .. } => "bad_json",
            Self::Literal { .. } => "json_number",
            Self::Member { .. } => "bad_member",
            Self::Key { .. } => "duplicate_key",
            Self::Parameter { .. } => "bad_parameter",
            Self::Twice { .. } => "duplicate_tensor",
            Self::Name { .. } => "long_name",
            Self::UnknownOutput { .. } => "unknown_output",
            Self::Tensor { fault, .. } => fault.code(),
            Self::Left { .. } => "bad_binary_size",
            Self::TooLarge { .. } => "too_large",
            Self::Raw { .. } => "bad_raw",
            Self::OutputOption { .. } => "bad_output_option",
            Self::NotJson { .. } => "not_json",
        }
    }
}

impl TensorFault {
    fn code(&self) -> &'static str {
        match self {
            Self::DataType { .. } => "bad_datatype",
            Self::Rank { .. } | Self::Dimension { .. } => "bad_shape",
            Self::Bytes(error) => match error {
                TensorError::ShapeOverflow { .. } => "bad_shape",
                TensorError::Length { .. } => "bad_length",
                TensorError::Bool { .. } => "bad_element",
                TensorError::Elements { .. } => "bad_length",
            },
            Self::Nesting { .. } | Self::Ragged { .. } | Self::Mixed => "bad_nesting",
            Self::Shape { .. } | Self::NoList { .. } => "bad_nesting",
            Self::Count { .. } => "bad_length",
            Self::Element { .. } | Self::Base64 { .. } => "bad_element",
            Self::BothForms | Self::NoData => "bad_data",
            Self::SharedMemory => "shared_memory",
            Self::Cut { .. } | Self::NoHeader { .. } => "bad_binary_size",
        }
    }
}
