//! The Open Inference Protocol, version 2, over gRPC, with Triton's extensions of it; health and
//! reflection beside it.
//!
//! ```text
//! call -> guard (who, how much, how fast) -> codec (messages) -> service
//!      -> request -> infer -> answer, or a refusal as its status
//! ```

mod status;
mod share;
mod guard;
mod incoming;
mod scan;
pub(crate) mod codec;
mod timeout;
mod parameters;
mod contents;
mod request;
mod answer;
mod infer;
mod stream;
mod describe;
mod health;
mod service;

pub(crate) use status::panicked;

use crate::{app::App, config::Limits};
use axum::{
    Router, body::Body, middleware::from_fn_with_state, response::IntoResponse, routing::any,
};
use std::sync::Arc;
use tonic::{codec::CompressionEncoding, server::NamedService};

/// What the protocol's file says, as Rust.
#[allow(clippy::all, missing_docs, unreachable_pub)]
mod protocol {
    tonic::include_proto!("inference");

    /// The file itself, compiled, for reflection.
    pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/protocol.bin"));
}

/// The service of the protocol, as paths and health checks name it.
pub(crate) const SERVICE: &str = "inference.GRPCInferenceService";

/// What a message may have beside its tensors: names, shapes and parameters.
const MESSAGE_EXTRA_BYTES: usize = 64 << 10;

/// Bytes of the largest message: no request is larger.
pub(crate) fn message_bytes_max(limits: &Limits) -> usize {
    limits.request_bytes.saturating_add(MESSAGE_EXTRA_BYTES)
}

/// All calls. Needs a runtime: readiness is looked after.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let bytes_max = message_bytes_max(&app.limits);
    let service = protocol::grpc_inference_service_server::GrpcInferenceServiceServer::new(
        service::Service::new(app.clone()),
    );
    // Answers are compressed as the client asks for it. How long they get is the engine's limit.
    let service = service
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Deflate);
    let health = tonic_health::pb::health_server::HealthServer::new(health::Health::start(app))
        .max_decoding_message_size(MESSAGE_EXTRA_BYTES);
    let router = Router::new()
        .route_service(&path_of(&service), service)
        .route_service(&path_of(&health), health);
    reflection(router)
        .fallback(any(|| async { status::no_such_call().into_http::<Body>().into_response() }))
        .layer(from_fn_with_state(app.clone(), guard::guard))
}

/// The services that tell what there is.
fn reflection(router: Router) -> Router {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(protocol::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            let v1 = v1.max_decoding_message_size(MESSAGE_EXTRA_BYTES);
            let v1alpha = v1alpha.max_decoding_message_size(MESSAGE_EXTRA_BYTES);
            router.route_service(&path_of(&v1), v1).route_service(&path_of(&v1alpha), v1alpha)
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "reflection");
            router
        }
    }
}

fn path_of<S: NamedService>(_: &S) -> String {
    format!("/{}/{{method}}", S::NAME)
}
