//! Tensor bytes as Rust values, without a copy.

use crate::Error;
use fuelbox_abi::{DataType, RANK_MAX, Shape, TensorView};
use half::f16;
use zerocopy::{FromBytes, Immutable, IntoBytes};

// Messages are little-endian, and so is Wasm: bytes are values.
const _: () = assert!(cfg!(target_endian = "little"));

/// A Rust type that tensors have elements of. `BOOL` and `BYTES` have none: see
/// [`Elements::bools`] and [`TensorView::strings`].
pub trait Element: FromBytes + IntoBytes + Immutable + Copy + Send + Sync + 'static {
    /// The same, in a message.
    const DATATYPE: DataType;
}

macro_rules! elements {
    ($($rust:ty => $datatype:ident,)*) => {
        $(impl Element for $rust {
            const DATATYPE: DataType = DataType::$datatype;
        })*
    };
}

elements! {
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f16 => Fp16,
    f32 => Fp32,
    f64 => Fp64,
}

/// Reads the elements of a tensor as Rust values.
pub trait Elements<'a> {
    /// The elements in row-major order.
    ///
    /// # Errors
    /// When the tensor has another datatype.
    fn elements<T: Element>(&self) -> Result<&'a [T], Error>;

    /// The elements of a `BOOL` tensor.
    ///
    /// # Errors
    /// When the tensor has another datatype.
    fn bools(&self) -> Result<impl Iterator<Item = bool> + use<'a, Self>, Error>;
}

impl<'a> Elements<'a> for TensorView<'a> {
    fn elements<T: Element>(&self) -> Result<&'a [T], Error> {
        expect(self, T::DATATYPE)?;
        // Only bytes from elsewhere than a message can be misaligned or of an odd length.
        <[T]>::ref_from_bytes(self.bytes)
            .map_err(|error| Error::invalid_input(format!("tensor '{}': {error}", self.name)))
    }

    fn bools(&self) -> Result<impl Iterator<Item = bool> + use<'a>, Error> {
        expect(self, DataType::Bool)?;
        Ok(self.bytes.iter().map(|&byte| byte != 0))
    }
}

/// Rust values as a tensor, without a copy: an input for a model that the guest itself runs.
///
/// # Errors
/// When there are not as many elements as the shape says.
pub fn view<'a, T: Element>(
    name: &'a str,
    shape: &[u64],
    elements: &'a [T],
) -> Result<TensorView<'a>, Error> {
    let wrong = |text: String| Error::invalid_input(format!("tensor '{name}': {text}"));
    let rank = shape.len();
    let shape = Shape::new(shape)
        .ok_or_else(|| wrong(format!("{rank} dimensions found, up to {RANK_MAX} allowed")))?;
    let tensor = TensorView { name, datatype: T::DATATYPE, shape, bytes: elements.as_bytes() };
    tensor.check().map_err(|error| wrong(error.to_string()))?;
    Ok(tensor)
}

/// Whether the tensor has this datatype.
pub(crate) fn expect(tensor: &TensorView<'_>, allowed: DataType) -> Result<(), Error> {
    if tensor.datatype == allowed {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "tensor '{}': datatype {} found, {allowed} allowed",
        tensor.name, tensor.datatype
    )))
}
