//! Makes the protocol's messages from the server's own file.

#[cfg(not(feature = "client"))]
fn main() {}

#[cfg(feature = "client")]
fn main() {
    const FOLDER: &str = "../../runtime/server/proto";
    println!("cargo::rerun-if-changed={FOLDER}");
    let files = protox::compile(["grpc_service.proto"], [FOLDER]).expect("a protocol");
    prost_build::compile_fds(files).expect("messages");
}
