//! The Open Inference Protocol, version 2, over HTTP, with the extensions that the server's metadata
//! lists.

mod health;
mod infer;
mod models;
mod repository;

pub(crate) use health::{SERVER_NAME, SERVER_VERSION, ready as healthz};
pub(crate) use infer::HEAVY_BYTES;

use crate::{
    app::App,
    problem,
    refusal::{Code, Refusal, excerpt},
};
use axum::{
    Router,
    http::Uri,
    middleware::map_response,
    routing::{any, get, post},
};
use std::sync::Arc;

/// What this server offers beyond the core of the protocol, by the names that clients look for.
pub(crate) const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// All paths under `/v2`.
pub(crate) fn router(app: Arc<App>) -> Router {
    let model = |version: &str, action: &str| format!("/v2/models/{{name}}{version}{action}");
    let mut router = Router::new()
        .route("/v2", get(health::metadata))
        .route("/v2/", get(health::metadata))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/stats", get(models::all_statistics))
        .route("/v2/repository/index", post(repository::index).get(repository::index))
        .route("/v2/repository/models/{name}/load", post(repository::load))
        .route("/v2/repository/models/{name}/unload", post(repository::unload));
    for version in ["", "/versions/{version}"] {
        router = router
            .route(&model(version, ""), get(models::metadata))
            .route(&model(version, "/ready"), get(models::ready))
            .route(&model(version, "/config"), get(models::config))
            .route(&model(version, "/stats"), get(models::statistics))
            .route(&model(version, "/infer"), post(infer::infer));
    }
    for path in NOT_OFFERED {
        router = router.route(path, any(not_offered));
    }
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(map_response(problem::as_protocol))
        .with_state(app)
}

/// Extensions that clients have calls for, and this server does not offer.
const NOT_OFFERED: [&str; 5] = [
    "/v2/systemsharedmemory/{*rest}",
    "/v2/cudasharedmemory/{*rest}",
    "/v2/trace/setting",
    "/v2/models/{name}/trace/setting",
    "/v2/logging",
];

async fn not_offered(uri: Uri) -> Refusal {
    let sentence = format!("'{}' is not offered: see the extensions in /v2", excerpt(uri.path()));
    Refusal::new(Code::NotSupported, sentence)
}

/// A model in a path.
#[derive(serde::Deserialize)]
pub(crate) struct ModelPath {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}
