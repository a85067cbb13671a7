//! Guests in WebAssembly's text form, small enough to say exactly what they do.
//!
//! The replies are encoded here and lie in the guest's data, so a guest is a few instructions.

use fuelbox_abi::{
    ALIGNMENT_BYTES, DataType, Dim, Dims, Encoded, Envelope, Kind, Role, Shape, TensorSpec,
    TensorView, pack_reply,
};
use std::fmt::Write;

/// Where the reply to `load` lies.
pub const SIGNATURE_AT: u32 = 1024;
/// Where the reply to `run` lies.
pub const OUTPUTS_AT: u32 = 8192;
/// Where requests are put.
pub const REQUEST_AT: u32 = 65536;

/// A guest that takes `x` (FP32 `[1]`) and gives `y` (FP32 `[1]`, always 42), in between doing what a
/// test wants.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Instructions at the start of `fuelbox_load`; locals 2 and 3 are `i32`.
    pub load: String,
    /// Instructions at the start of `fuelbox_run`; locals 2 and 3 are `i32`.
    pub run: String,
    /// The instruction that gives `fuelbox_run`'s result.
    pub reply: String,
    /// Definitions before all others: types and imports.
    pub imports: String,
    /// More definitions.
    pub extra: String,
    /// Body of `fuelbox_alloc`.
    pub alloc: String,
    /// The memory's limits, in pages.
    pub memory: String,
    /// The reply to `load`.
    pub signature: Vec<u8>,
    /// The reply to `run`.
    pub outputs: Vec<u8>,
}

impl Default for Guest {
    fn default() -> Self {
        let outputs = outputs(42.0);
        Self {
            load: String::new(),
            run: String::new(),
            reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, outputs.len() as u32)),
            imports: String::new(),
            extra: String::new(),
            alloc: format!("(i32.const {REQUEST_AT})"),
            memory: "3".into(),
            signature: signature(&[Dim::Fixed(1)]),
            outputs,
        }
    }
}

impl Guest {
    /// A guest that runs these instructions before it answers.
    pub fn running(run: &str) -> Self {
        Self { run: run.into(), ..Self::default() }
    }

    /// The module in text form.
    pub fn wat(&self) -> String {
        let Self { load, run, reply, imports, extra, alloc, memory, signature, outputs } = self;
        let loaded = pack_reply(SIGNATURE_AT, signature.len() as u32);
        let (signature, outputs) = (data(signature), data(outputs));
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {memory})
  (global $state (mut i32) (i32.const 7))
  (data (i32.const {SIGNATURE_AT}) "{signature}")
  (data (i32.const {OUTPUTS_AT}) "{outputs}")
  (func (export "fuelbox_abi") (result i32) (i32.const 1))
  (func (export "fuelbox_alloc") (param i32) (result i32) {alloc})
  (func (export "fuelbox_load") (param i32 i32) (result i64) (local i32 i32)
    {load}
    (i64.const {loaded}))
  (func (export "fuelbox_run") (param i32 i32) (result i64) (local i32 i32)
    {run}
    {reply})
  {extra})"#
        )
    }

    /// The module.
    ///
    /// # Panics
    /// When the instructions are no valid text: they are those of cases and tests, never a stranger's.
    pub fn wasm(&self) -> Vec<u8> {
        let wat = self.wat();
        wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
    }
}

/// A `Signature` message: `x` with these dimensions to `y` `[1]`, both FP32.
pub fn signature(x: &[Dim<'_>]) -> Vec<u8> {
    signature_of(DataType::Fp32, x)
}

/// A `Signature` message: `x` of this type with these dimensions to `y`, FP32 `[1]`.
pub fn signature_of(datatype: DataType, x: &[Dim<'_>]) -> Vec<u8> {
    let spec = |role, name, dims: &[Dim<'static>]| TensorSpec {
        role,
        name,
        datatype: DataType::Fp32,
        dims: Dims::new(dims),
    };
    let x = TensorSpec { datatype, dims: Dims::new(x), ..spec(Role::Input, "x", &[]) };
    let specs = [x, spec(Role::Output, "y", &[Dim::Fixed(1)])];
    encode(&Envelope { specs: &specs, ..Envelope::new(Kind::Signature) })
}

/// An `Outputs` message: `y`, one FP32.
pub fn outputs(y: f32) -> Vec<u8> {
    let bytes = y.to_le_bytes();
    let shape = Shape::new(&[1]).expect("rank 1");
    let tensors = [TensorView { name: "y", datatype: DataType::Fp32, shape, bytes: &bytes }];
    encode(&Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) })
}

/// A message's bytes.
///
/// # Panics
/// When it cannot be encoded: it is one of cases and tests, never a stranger's.
pub fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    envelope.encode().as_ref().map(Encoded::to_vec).expect("a message of a test is in order")
}

/// Where the header of a message begins. With no text in it, each of the numbers below is one byte.
pub(crate) const HEADER_AT: usize = 8;
/// Where a message says how many tensors it has.
pub(crate) const TENSORS_AT: usize = 11;
/// Where a message of specs says how long the name of the first one is.
pub(crate) const NAME_LEN_AT: usize = 15;

/// A message with another field of its header, of any length; its data lie where they have to.
///
/// # Panics
/// When the field is not the one that is there: the message is one of cases and tests.
pub(crate) fn with_field(message: &[u8], at: usize, found: &[u8], field: &[u8]) -> Vec<u8> {
    let end = header_end(message);
    let after = at + found.len();
    assert_eq!(&message[at..after], found, "the field at {at} of {message:02x?}");
    let header = [&message[HEADER_AT..at], field, &message[after..end]].concat();
    let mut other = message[..4].to_vec();
    other.extend((header.len() as u32).to_le_bytes());
    other.extend(header);
    other.resize(other.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    other.extend(&message[end.next_multiple_of(ALIGNMENT_BYTES)..]);
    other
}

/// Where the header of a message ends, and padding begins.
pub(crate) fn header_end(message: &[u8]) -> usize {
    let len = message[4..HEADER_AT].iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
    HEADER_AT + len
}

/// Bytes as a string of the text form.
pub(crate) fn data(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}"); // writing to a string cannot fail
        text
    })
}

/// A module from its text form.
///
/// # Panics
/// When it is not valid text: it is that of cases and tests, never a stranger's.
pub fn parse(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}
