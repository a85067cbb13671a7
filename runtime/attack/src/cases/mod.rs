//! The cases, one file for each thing that attackers are after, and one for slowness.

mod denial;
mod drip;
mod escape;
mod free_ride;
mod leak;
mod lie;
mod model;

use crate::suite::Case;

/// Bytes of a page of Wasm's memory.
const PAGE_BYTES: u64 = 64 << 10;

/// All of them.
pub(crate) fn all(stock_guest: &[u8]) -> Vec<Case> {
    let groups = [
        escape::cases(),
        denial::cases(),
        drip::cases(),
        free_ride::cases(),
        leak::cases(),
        lie::cases(),
        model::cases(stock_guest),
    ];
    groups.into_iter().flatten().collect()
}

/// An import of WASI under the name `$host`.
fn wasi(name: &str, kind: &str) -> String {
    format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $host {kind}))"#)
}

/// The type of `fd_write`, and of others with vectors.
const VECTORS: &str = "(param i32 i32 i32 i32) (result i32)";
/// The type of `random_get`, and of others with two numbers.
const TWO: &str = "(param i32 i32) (result i32)";
