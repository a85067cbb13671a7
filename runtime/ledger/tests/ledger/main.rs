//! The ledger, from outside.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod basics;
