//! Memory for messages: zeroed, and aligned as the ABI asks.

use fuelbox_abi::ALIGNMENT_BYTES;

/// A buffer that starts at a multiple of [`ALIGNMENT_BYTES`].
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Room for `len` bytes from `start` on. Never grows, so `start` stays aligned.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A zeroed buffer; none when there is no memory for it.
    pub(crate) fn new(len: usize) -> Option<Self> {
        let room = len.checked_add(ALIGNMENT_BYTES - 1)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).ok()?;
        bytes.resize(room, 0);
        let start = bytes.as_ptr().align_offset(ALIGNMENT_BYTES);
        // `align_offset` may answer `usize::MAX`, but does so only in const evaluation.
        (start < ALIGNMENT_BYTES).then_some(Self { bytes, start, len })
    }

    /// Where the buffer is, for the host to write to and read from.
    pub(crate) fn expose(&mut self) -> (usize, usize) {
        let address = self.as_mut_slice().as_mut_ptr().expose_provenance();
        (address, self.len)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_of_their_length() {
        for len in [0, 1, 63, 64, 65, 4096] {
            let mut buffer = Buffer::new(len).expect("memory");
            assert_eq!(buffer.as_slice(), vec![0; len]);
            let (address, exposed_len) = buffer.expose();
            assert_eq!((address % ALIGNMENT_BYTES, exposed_len), (0, len));
        }
    }

    #[test]
    fn no_memory_is_no_panic() {
        assert!(Buffer::new(usize::MAX).is_none());
        assert!(Buffer::new(isize::MAX as usize).is_none());
    }
}
