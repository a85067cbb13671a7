//! The model repository over HTTP: which models there are, and which of them take jobs.

use super::ModelPath;
use crate::{access::Caller, app::App, describe, refusal::Refusal, serve::read_body};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// A request without tensors: names and flags.
const REQUEST_BYTES_MAX: usize = 64 << 10;

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

pub(super) async fn index(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<Response, Refusal> {
    // Some clients send nothing at all.
    let wanted: IndexRequest = optional(&app, &caller, body).await?;
    Ok(Json(describe::index(&app, &caller, wanted.ready)?).into_response())
}

async fn optional<T: Default + for<'a> Deserialize<'a>>(
    app: &App,
    caller: &Caller,
    body: Body,
) -> Result<T, Refusal> {
    let part = app.bodies.part(caller.account());
    let received = read_body(body, REQUEST_BYTES_MAX, app.limits.body_pause, part).await?;
    if received.bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&received.bytes)
        .map_err(|error| Refusal::bad(format!("request: malformed JSON: {error}")))
}

/// What a load may say: nothing that changes the model, which is as it was published.
#[derive(Default, Deserialize)]
struct LoadRequest {
    #[serde(default)]
    parameters: serde_json::Map<String, serde_json::Value>,
}

pub(super) async fn load(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
    body: Body,
) -> Result<Response, Refusal> {
    let wanted: LoadRequest = optional(&app, &caller, body).await?;
    let mut names = wanted.parameters.keys();
    if let Some(name) = names.find(|name| *name == "config" || name.starts_with("file:")) {
        let name = crate::refusal::excerpt(name);
        let sentence = format!("parameter '{name}': a model is as it was published");
        return Err(Refusal::new(crate::refusal::Code::NotSupported, sentence));
    }
    app.models.set_loaded(&caller, &path.name, true).await?;
    Ok(Json(json!({})).into_response())
}

pub(super) async fn unload(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
    body: Body,
) -> Result<Response, Refusal> {
    // `unload_dependents` changes nothing: no model here depends on another.
    let _: LoadRequest = optional(&app, &caller, body).await?;
    app.models.set_loaded(&caller, &path.name, false).await?;
    Ok(Json(json!({})).into_response())
}
