//! The money.
