//! The page that shows the API's document, and tries it out. All of it comes from this server.

use crate::{problem, refusal::Refusal};
use axum::{
    Router,
    extract::{OriginalUri, Path},
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::{Config, serve};

/// Nothing from elsewhere, nothing inline, nobody around it. Images of the page are in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/api/v1/openapi.json");
    // The validator is a service elsewhere, which would be told of every document.
    Arc::new(config.validator_url("none").default_models_expand_depth(0))
});

/// `/docs`.
pub(super) fn router() -> Router {
    let home = || async { Redirect::permanent("/docs/") };
    Router::new()
        .route("/docs", get(home))
        .route("/docs/", get(|uri| show(String::new(), uri)))
        .route("/docs/{*file}", get(|Path(file): Path<String>, uri| show(file, uri)))
        .method_not_allowed_fallback(problem::no_such_method)
}

async fn show(file: String, OriginalUri(uri): OriginalUri) -> Result<Response, Refusal> {
    let found = serve(&file, CONFIG.clone()).ok().flatten();
    let found = found.ok_or_else(|| Refusal::not_found("path", uri.path()))?;
    let mut response = found.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    let media = HeaderValue::try_from(found.content_type);
    headers.insert(CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("text/plain")));
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if found.gzpipped {
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
