//! What tests and benches share: guests in text form, models written on the spot, hosts with a cache.

pub mod host;
pub mod onnx;

pub use fuelbox_attack::guest;

/// A well-formed access key with the public id of `key` and another secret, which is not drawn: a key
/// that differs from `key` in its last character alone is `key` itself one time in sixteen.
pub fn another_secret(key: &str) -> String {
    let (public, secret) = key.split_at("fbx_".len() + 16 + "_".len());
    format!("{public}{}", "A".repeat(secret.len()))
}
