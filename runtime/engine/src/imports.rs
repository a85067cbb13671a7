//! Imports: all that a guest may call.

use crate::{kernels, wasi};

/// The functions that a guest may import: module, name, and type as in `(i32, i64) -> (i32)`.
pub fn allowed_imports() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let wasi = wasi::allowed_names().map(|name| (wasi::MODULE, name, wasi::type_of(name)));
    let kernels =
        kernels::allowed_names().map(|name| (kernels::MODULE, name, kernels::type_of(name)));
    wasi.chain(kernels).filter_map(|(module, name, kind)| Some((module, name, kind?)))
}
