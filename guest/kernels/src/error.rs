//! Why a call is refused.

/// A call that is not done: the guest's mistake. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KernelError {
    /// An array that is not inside of memory.
    #[error("{what} lie outside of memory")]
    Memory { what: &'static str },
    /// An address that is no multiple of four.
    #[error("{what} are at {address:#x}, multiples of 4 are allowed")]
    Alignment { what: &'static str, address: usize },
    /// Two arrays share elements of which one is written before the other is read.
    #[error("output and {what} overlap")]
    Overlap { what: &'static str },
    /// A code, size or step that has no meaning.
    #[error("{what} {found} found, {allowed} allowed")]
    Parameter { what: &'static str, found: i64, allowed: &'static str },
    /// More work than one call may do.
    #[error("a call of {found} fuel found, at most {} allowed", crate::CALL_FUEL_MAX)]
    TooMuch { found: u64 },
}

impl KernelError {
    pub(crate) fn parameter(
        what: &'static str,
        found: impl Into<i64>,
        allowed: &'static str,
    ) -> Self {
        Self::Parameter { what, found: found.into(), allowed }
    }
}
