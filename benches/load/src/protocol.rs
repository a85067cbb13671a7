//! The messages of `runtime/server/proto/grpc_service.proto`. Most of them are the server's alone.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/inference.rs"));
