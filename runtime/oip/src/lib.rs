//! Inference requests and replies of the Open Inference Protocol, version 2, as the bodies of REST calls.
//!
//! ```text
//! body -> document (JSON) -> data (elements), binary (what follows the JSON) -> Request, Reply
//! Response, encode_request -> write (JSON), binary -> Encoded
//! ```
//!
//! Triton's extensions are in it: binary data, raw binary requests, classification. Beyond the
//! protocol, so that nothing is lost on the way through JSON, what is read may have the floats "NaN",
//! "Infinity" and "-Infinity", and elements of BYTES as {"base64": "..."}. Replies are written without
//! either: [`OipError::NotJson`] tells the caller to ask for binary data.
//!
//! Strangers' bytes make no allocation that is not in proportion to them, and no panic. Knows nothing
//! of HTTP, of packages or of jobs.

mod text;
mod error;
mod parameter;
mod document;
mod data;
mod binary;
mod request;
mod elements;
mod classes;
mod labels;
mod write;
mod response;
mod client;
mod metadata;

pub use classes::{classified, likeliest};
pub use client::{Reply, decode_response, encode_request};
pub use elements::{Element, elements};
pub use error::{Document, OipError, TensorFault};
pub use labels::{LABELS_BYTES_MAX, Labels, LabelsError};
pub use metadata::{
    ModelMetadata, ServerMetadata, TensorMetadata, model_metadata, server_metadata,
};
pub use parameter::value_of_json;
pub use request::{Limits, Request, Requested, RequestedOutput};
pub use response::Response;
pub use write::{Encoded, ParametersJson, TensorJson};
