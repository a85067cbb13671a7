//! The signature of a model: what goes in and what comes out.

use crate::{DataType, RANK_MAX, Shape};
use std::{fmt, ops::Deref};

/// One input or output of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorSpec<'a> {
    /// Whether the model takes or gives it.
    pub role: Role,
    /// Its name, unique among those of its role.
    pub name: &'a str,
    /// Type of its elements.
    pub datatype: DataType,
    /// Its dimensions; none when the model does not say how many there are.
    pub dims: Option<Dims<'a>>,
}

impl TensorSpec<'_> {
    /// Length of the longest name in it, its own or a dimension's.
    pub(crate) fn name_bytes_longest(&self) -> usize {
        let dims = self.dims.as_deref().unwrap_or_default();
        let symbols = dims.iter().map(|dim| match dim {
            Dim::Symbol(name) => name.len(),
            Dim::Fixed(_) | Dim::Any => 0,
        });
        symbols.fold(self.name.len(), usize::max)
    }
}

/// Whether the model takes or gives a tensor. The number is the code in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Role {
    Input = 0,
    Output = 1,
}

/// One dimension of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::BorrowDecode)]
pub enum Dim<'a> {
    /// Always this many.
    Fixed(u64),
    /// As many as the caller brings, under a name: equal names stand for equal numbers. A model
    /// with such an input is loaded once for each set of input shapes. Also an expression of such
    /// names (`batch*12`) where an output's size follows from the inputs'.
    Symbol(&'a str),
    /// As many as the caller brings, different in each run of one loaded model.
    Any,
}

/// Up to [`RANK_MAX`] dimensions, outermost first.
#[derive(Clone, Copy, PartialEq)]
pub struct Dims<'a> {
    rank: u8,
    dims: [Dim<'a>; RANK_MAX],
}

impl<'a> Dims<'a> {
    /// These dimensions; none when there are more than [`RANK_MAX`].
    pub fn new(dims: &[Dim<'a>]) -> Option<Self> {
        let mut all =
            Self { rank: u8::try_from(dims.len()).ok()?, dims: [Dim::Fixed(0); RANK_MAX] };
        all.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(all)
    }

    /// The shape, when every dimension is fixed.
    pub fn fixed(&self) -> Option<Shape> {
        let mut dims = [0; RANK_MAX];
        for (fixed, dim) in dims.iter_mut().zip(self.iter()) {
            let Dim::Fixed(size) = *dim else { return None };
            *fixed = size;
        }
        Shape::new(&dims[..self.len()])
    }
}

impl<'a> Deref for Dims<'a> {
    type Target = [Dim<'a>];

    fn deref(&self) -> &[Dim<'a>] {
        &self.dims[..usize::from(self.rank)]
    }
}

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match dim {
                Dim::Fixed(size) => write!(f, "{comma}{size}")?,
                Dim::Symbol(name) => write!(f, "{comma}{}", name.escape_debug())?,
                Dim::Any => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
