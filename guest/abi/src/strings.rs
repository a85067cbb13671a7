//! The elements of `BYTES` tensors: a little-endian `u32` length, then that many bytes, each.

/// Appends one element in wire form. An element longer than `u32::MAX` bytes is refused with `None`.
pub fn push_string_element(buffer: &mut Vec<u8>, element: &[u8]) -> Option<()> {
    let len = u32::try_from(element.len()).ok()?;
    buffer.extend_from_slice(&len.to_le_bytes());
    buffer.extend_from_slice(element);
    Some(())
}

/// Walks the elements of a `BYTES` tensor. Ends early, without a word, at an element that is cut
/// short: a [`TensorView`](crate::TensorView) that was checked has none.
#[derive(Clone, Debug)]
pub struct StringElements<'a> {
    rest: &'a [u8],
}

impl<'a> StringElements<'a> {
    /// The elements in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What no element has claimed so far.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for StringElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.rest = rest;
        Some(element)
    }
}
