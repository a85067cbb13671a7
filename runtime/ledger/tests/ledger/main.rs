//! The ledger, from outside.

mod common;
mod basics;
