//! The cases, one file for each thing that attackers are after, and one for slowness.

mod denial;
mod drip;
mod escape;
mod free_ride;
mod leak;
mod lie;
mod model;

use crate::{
    attempt::{Attempt, Held, ensure, is_harmless},
    suite::Case,
    target::{Broken, Job, Ran, Refusal},
};

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

/// Runs a job that must be refused before it runs, in a sentence with these words.
fn declined(attempt: &Attempt<'_>, job: &Job<'_>, words: &str) -> Held {
    match attempt.target().run(job)? {
        Ran::Refused(Refusal { text, .. }) => {
            is_harmless(&text)?;
            ensure(text.contains(words), || format!("refused, and not for '{words}': {text}"))?;
            Ok(format!("refused: {text}"))
        }
        Ran::Ended(end) => Err(Broken(format!("ran: {end:?}"))),
    }
}
