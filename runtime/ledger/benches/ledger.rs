//! Transfers a second.

fn main() {}
