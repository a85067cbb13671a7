//! Makes the messages and the service of gRPC from the protocol's file: for the server with its own
//! codec, for the client that tests use with the stock one.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler.include_imports(true).open_file("grpc_service.proto")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("protocol.bin"), compiler.encode_file_descriptor_set())?;
    let messages = || {
        // Maps are in order, so that a request has one form; tensors are not copied out of messages.
        tonic_prost_build::configure().btree_map(".").bytes(".").emit_rerun_if_changed(false)
    };
    messages()
        .build_client(false)
        .codec_path("crate::grpc::codec::BoundedCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    let client = out.join("client");
    fs::create_dir_all(&client)?;
    messages().build_server(false).out_dir(client).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
