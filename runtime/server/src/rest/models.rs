//! Models over HTTP: what they take and give, whether they take jobs, and how they did.

use super::ModelPath;
use crate::{
    access::Caller,
    app::App,
    describe,
    models::Model,
    refusal::{Code, Refusal},
};
use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::sync::Arc;

fn find(app: &App, caller: &Caller, path: &ModelPath) -> Result<Arc<Model>, Refusal> {
    app.models.find(caller, &path.name, path.version.as_deref())
}

pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
) -> Result<Response, Refusal> {
    let model = find(&app, &caller, &path)?;
    let versions = match path.version {
        Some(version) => vec![version],
        None => app.models.versions(&caller, &path.name)?,
    };
    let signature = &model.manifest.signature;
    let name = &model.manifest.name;
    let document = fuelbox_oip::model_metadata(name, versions, describe::PLATFORM, signature);
    Ok(Json(document).into_response())
}

pub(super) async fn ready(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
) -> Result<Response, Refusal> {
    let model = find(&app, &caller, &path)?;
    let (name, version) = model.key();
    if app.models.is_loaded(&model.digest) {
        return Ok(Json(json!({"name": name, "ready": true})).into_response());
    }
    let sentence = format!("model '{name}' version '{version}' is unloaded");
    Err(Refusal::new(Code::Unavailable, sentence).with("name", name).with("ready", false))
}

pub(super) async fn config(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
) -> Result<Response, Refusal> {
    Ok(Json(describe::config(&*find(&app, &caller, &path)?)).into_response())
}

pub(super) async fn statistics(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
) -> Result<Response, Refusal> {
    let model = find(&app, &caller, &path)?;
    Ok(Json(json!({"model_stats": [describe::statistics(&model)]})).into_response())
}

pub(super) async fn all_statistics(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let models = app.models.visible(&caller)?;
    let all: Vec<_> = models.iter().map(|model| describe::statistics(model)).collect();
    Ok(Json(json!({"model_stats": all})).into_response())
}
