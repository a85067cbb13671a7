//! The log of receipts, for everybody: its signed size and root, the keys that sign, and that one log
//! goes on from another.

use super::{
    extract::{Query, blocking},
    values::Sha256,
};
use crate::{app::App, refusal::Refusal};
use axum::{
    extract::State as Shared,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use fuelbox_jobs::HostFault;
use fuelbox_receipt::log::prove_consistency;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// The log as it is now: a signed note.
#[utoipa::path(
    get, path = "/log/checkpoint", tag = "public",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn checkpoint(Shared(app): Shared<Arc<App>>) -> Result<Response, Refusal> {
    let checkpoint = blocking(&app, |app| Ok(app.host.checkpoint()?)).await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], checkpoint).into_response())
}

/// The public keys of receipts and checkpoints, as PEM, the current one last.
#[utoipa::path(
    get, path = "/log/keys", tag = "public",
    responses((status = 200, body = String, content_type = "application/x-pem-file"))
)]
pub(super) async fn keys(Shared(app): Shared<Arc<App>>) -> Response {
    let pem: String = app.host.public_keys().into_iter().map(|key| key.pem).collect();
    ([(CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
}

/// Which logs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// Entries of the earlier log.
    from: u64,
    /// Entries of the later one; as many as there are now when not given.
    to: Option<u64>,
}

/// That a log goes on from an earlier one.
#[derive(Serialize, ToSchema)]
pub(super) struct Consistency {
    from: u64,
    to: u64,
    /// From the earlier root to the later one (RFC 9162).
    hashes: Vec<Sha256>,
}

/// A proof that the log of `to` entries begins with that of `from` entries.
#[utoipa::path(
    get, path = "/log/consistency", tag = "public", params(ConsistencyQuery),
    responses((status = 200, body = Consistency))
)]
pub(super) async fn consistency(
    Shared(app): Shared<Arc<App>>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<axum::Json<Consistency>, Refusal> {
    let proof = blocking(&app, move |app| {
        let from = query.from;
        let proof = app.host.read(|records| -> Result<_, HostFault> {
            let size = records.log_size()?;
            let to = query.to.unwrap_or(size);
            let inside = from <= to && to <= size;
            Ok((size, to, inside.then(|| prove_consistency(&records.tiles(), from, to))))
        })??;
        let (size, to, hashes) = proof;
        let hashes = hashes.ok_or_else(|| {
            Refusal::bad(format!("log: from {from} to {to}, allowed are 0 to {size} in order"))
        })?;
        let hashes = hashes.map_err(|error| Refusal::fault(&error))?;
        Ok(Consistency { from, to, hashes: hashes.into_iter().map(Sha256).collect() })
    });
    Ok(axum::Json(proof.await?))
}
