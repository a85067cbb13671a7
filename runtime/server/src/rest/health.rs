//! Whether the server lives, whether it takes jobs, and what it is. Without a key.

use super::EXTENSIONS;
use crate::{
    app::App,
    refusal::{Code, Refusal},
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The name of this server in its metadata.
pub(crate) const SERVER_NAME: &str = "fuelbox";

/// This version of fuelbox.
pub(crate) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn metadata() -> Response {
    Json(fuelbox_oip::server_metadata(SERVER_NAME, SERVER_VERSION, &EXTENSIONS)).into_response()
}

/// One body for all clients: some read `live`, some `ready`, most the status alone.
pub(super) async fn live() -> Response {
    Json(json!({"live": true, "ready": true})).into_response()
}

pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    if app.is_ready() {
        return Ok(Json(json!({"live": true, "ready": true})).into_response());
    }
    let code = if app.stop.is_cancelled() { Code::Stopping } else { Code::Busy };
    let refusal = Refusal::new(code, "the host takes no jobs now").with("live", true);
    Err(refusal.with("ready", false).retry_after(Duration::from_secs(1)))
}
