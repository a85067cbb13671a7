//! fuelbox from the outside: what it does with good packages (`flow`), what it does with bad ones
//! (`hostile`), and what must never change (`golden`).

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

mod flow;
mod golden;
mod hostile;
