//! For fuzz targets: what is not public, and must hold for any bytes.

mod slots;
mod split;

pub use slots::slots_are_pristine;
pub use split::split_is_the_same;
