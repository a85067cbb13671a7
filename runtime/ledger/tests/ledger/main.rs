//! The ledger, from outside.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod common;
mod model;
mod basics;
mod rejections;
mod neighbours;
mod faults;
mod sequences;
mod opening;
mod damage;
