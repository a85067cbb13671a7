//! What is pinned: digests and fuel of the examples, bytes of formats.

mod examples;
mod families;
mod packages;
