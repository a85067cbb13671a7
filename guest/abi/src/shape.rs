//! A tensor's concrete shape, held without allocation.

use crate::RANK_MAX;
use std::{fmt, ops::Deref};

/// Up to [`RANK_MAX`] dimensions, outermost first. Rank 0 is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Shape {
    rank: u8,
    /// Zero beyond `rank`, so that derived equality holds.
    dims: [u64; RANK_MAX],
}

impl Shape {
    /// A shape of these dimensions; none when there are more than [`RANK_MAX`].
    pub fn new(dims: &[u64]) -> Option<Self> {
        let mut shape = Self { rank: u8::try_from(dims.len()).ok()?, dims: [0; RANK_MAX] };
        shape.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(shape)
    }

    /// Number of elements; none when the product overflows 64 bits.
    pub fn element_count(&self) -> Option<u64> {
        // A zero anywhere makes the tensor empty, even where the other dimensions would overflow.
        if self.contains(&0) {
            return Some(0);
        }
        self.iter().try_fold(1u64, |count, &dim| count.checked_mul(dim))
    }
}

impl Deref for Shape {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.dims[..usize::from(self.rank)]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_count_overflows_to_none_unless_empty() {
        let count = |dims: &[u64]| Shape::new(dims).expect("rank").element_count();
        assert_eq!(count(&[]), Some(1));
        assert_eq!(count(&[2, 3]), Some(6));
        assert_eq!(count(&[1 << 32, (1 << 32) - 1]), Some((1 << 32) * ((1 << 32) - 1)));
        assert_eq!(count(&[1 << 32, 1 << 32]), None);
        assert_eq!(count(&[1 << 32, 1 << 32, 0]), Some(0));
    }

    #[test]
    fn rank_is_limited() {
        assert!(Shape::new(&[1; RANK_MAX]).is_some());
        assert!(Shape::new(&[1; RANK_MAX + 1]).is_none());
    }
}
