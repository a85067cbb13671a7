//! Elements of a tensor, as people read them.

use super::text::excerpt;
use fuelbox_oip::Element;
use std::fmt;

/// Longest text that is shown of one element.
const SHOWN_CHARS_MAX: usize = 200;

/// An element on its way to a terminal.
pub(crate) struct Shown<'a>(pub(crate) Element<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Element::Bool(value) => write!(f, "{value}"),
            Element::Unsigned(value) => write!(f, "{value}"),
            Element::Signed(value) => write!(f, "{value}"),
            Element::Single(value) => write!(f, "{value:?}"),
            Element::Double(value) => write!(f, "{value:?}"),
            Element::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => write!(f, "\"{}\"", excerpt(text, SHOWN_CHARS_MAX)),
                Err(_) => write!(f, "{} bytes", bytes.len()),
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use fuelbox_engine::{DataType, Shape, Tensor};

    pub(in crate::output) fn tensor(datatype: DataType, dims: &[u64], bytes: &[u8]) -> Tensor {
        let shape = Shape::new(dims).expect("rank");
        let tensor = Tensor { name: "y".into(), datatype, shape, bytes: bytes.into() };
        tensor.view().check().expect("fits");
        tensor
    }
}
