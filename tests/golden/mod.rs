//! What is pinned: bytes of formats, digests, fuel.
