//! A tensor in place: its description, and its bytes wherever they lie.

use crate::{DataType, Shape, strings::StringElements};

/// A borrowed tensor. [`TensorView::check`] says whether bytes, datatype and shape agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// Name of the model's input or output, or of the asset.
    pub name: &'a str,
    /// Type of the elements.
    pub datatype: DataType,
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Elements in row-major order, little-endian.
    pub bytes: &'a [u8],
}

/// Why bytes are not the tensor that they are said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the dimensions is no 64-bit number of bytes.
    #[error("shape {shape} of {datatype} overflows 64 bits")]
    ShapeOverflow {
        /// As found.
        shape: Shape,
        /// As found.
        datatype: DataType,
    },
    /// More or fewer bytes than the shape needs.
    #[error("{found_bytes} bytes found, shape {shape} of {datatype} takes {needed_bytes}")]
    Length {
        /// As found.
        shape: Shape,
        /// As found.
        datatype: DataType,
        /// Bytes that are there.
        found_bytes: u64,
        /// Bytes that shape and datatype ask for.
        needed_bytes: u64,
    },
    /// A `BOOL` element other than 0 and 1.
    #[error("BOOL element {index} is {found}, allowed are 0 and 1")]
    Bool {
        /// Which element.
        index: usize,
        /// Its byte.
        found: u8,
    },
    /// A `BYTES` tensor whose elements do not fill its bytes exactly.
    #[error(
        "BYTES elements: {found} complete ones and {rest_bytes} bytes over, shape {shape} has {needed}"
    )]
    Elements {
        /// As found.
        shape: Shape,
        /// Complete elements that are there (counted no further than one past the shape's).
        found: u64,
        /// Elements of the shape.
        needed: u64,
        /// Bytes after the last complete element.
        rest_bytes: usize,
    },
}

impl<'a> TensorView<'a> {
    /// Whether bytes, datatype and shape agree.
    ///
    /// # Errors
    /// The first thing that does not: see [`TensorError`].
    pub fn check(&self) -> Result<(), TensorError> {
        let (shape, datatype) = (self.shape, self.datatype);
        let overflow = TensorError::ShapeOverflow { shape, datatype };
        let count = shape.element_count().ok_or(overflow.clone())?;
        let Some(size_bytes) = datatype.size_bytes() else {
            return self.check_elements(count);
        };
        let needed_bytes = count.checked_mul(size_bytes).ok_or(overflow)?;
        let found_bytes = self.bytes.len() as u64;
        if found_bytes != needed_bytes {
            return Err(TensorError::Length { shape, datatype, found_bytes, needed_bytes });
        }
        if datatype == DataType::Bool
            && let Some(index) = self.bytes.iter().position(|&byte| byte > 1)
        {
            return Err(TensorError::Bool { index, found: self.bytes[index] });
        }
        Ok(())
    }

    /// The elements of a `BYTES` tensor.
    pub fn strings(&self) -> StringElements<'a> {
        StringElements::new(self.bytes)
    }

    fn check_elements(&self, needed: u64) -> Result<(), TensorError> {
        let mut elements = self.strings();
        let found = elements.by_ref().map(|_| 1u64).sum();
        let rest_bytes = elements.rest().len();
        if found != needed || rest_bytes != 0 {
            return Err(TensorError::Elements { shape: self.shape, found, needed, rest_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push_string_element;

    fn check(datatype: DataType, shape: &[u64], bytes: &[u8]) -> String {
        let shape = Shape::new(shape).expect("rank");
        match (TensorView { name: "t", datatype, shape, bytes }).check() {
            Ok(()) => "ok".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lengths_are_exact() {
        assert_eq!(check(DataType::Fp32, &[2], &[0; 8]), "ok");
        assert_eq!(
            check(DataType::Fp32, &[2], &[0; 7]),
            "7 bytes found, shape [2] of FP32 takes 8"
        );
        assert_eq!(
            check(DataType::Fp64, &[1 << 61], &[]),
            "shape [2305843009213693952] of FP64 overflows 64 bits"
        );
        assert_eq!(check(DataType::Fp64, &[0, 1 << 61], &[]), "ok");
    }

    #[test]
    fn bools_are_zero_or_one() {
        assert_eq!(check(DataType::Bool, &[2], &[0, 1]), "ok");
        assert_eq!(
            check(DataType::Bool, &[2], &[0, 2]),
            "BOOL element 1 is 2, allowed are 0 and 1"
        );
    }

    #[test]
    fn strings_fill_their_bytes() {
        let mut bytes = Vec::new();
        push_string_element(&mut bytes, b"seven").expect("short");
        push_string_element(&mut bytes, b"").expect("short");
        assert_eq!(check(DataType::Bytes, &[2], &bytes), "ok");
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(
            check(DataType::Bytes, &[2], cut),
            "BYTES elements: 1 complete ones and 3 bytes over, shape [2] has 2"
        );
        assert_eq!(
            check(DataType::Bytes, &[1], &bytes),
            "BYTES elements: 2 complete ones and 0 bytes over, shape [1] has 1"
        );
    }
}
