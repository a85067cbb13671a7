//! Named settings beside the tensors of a request or a reply.

/// One named setting.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::BorrowDecode)]
pub struct Parameter<'a> {
    /// Unique within its message.
    pub name: &'a str,
    /// What it is set to.
    pub value: ParameterValue<'a>,
}

/// The kinds of settings that the Open Inference Protocol has.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs)]
pub enum ParameterValue<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(&'a str),
}
