//! Uploads: files in parts, each behind the one before it.

use super::{
    extract::{Json, Path, blocking, media, unsupported},
    values::{Moment, Sha256},
};
use crate::{
    access::Caller,
    app::App,
    refusal::{Code, Refusal},
    uploads::{CHUNK_BYTES_MAX, Upload},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use fuelbox_jobs::Scope;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A file to be uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUpload {
    /// Of the whole.
    #[schema(minimum = 1)]
    bytes: u64,
    /// SHA-256 of the whole.
    digest: Sha256,
}

/// An upload.
#[derive(Serialize, ToSchema)]
#[schema(as = Upload)]
pub(super) struct UploadJson {
    id: String,
    bytes: u64,
    digest: Sha256,
    /// How much has come: where the next part begins. Null while a part is coming.
    offset: Option<u64>,
    /// Bytes of a part, at most.
    chunk_bytes_max: u64,
    /// It is removed then.
    expires: Moment,
}

impl From<&Upload> for UploadJson {
    fn from(upload: &Upload) -> Self {
        Self {
            id: upload.id.clone(),
            bytes: upload.bytes,
            digest: upload.digest.into(),
            offset: upload.offset(),
            chunk_bytes_max: CHUNK_BYTES_MAX,
            expires: Moment(upload.expires_unix_ms()),
        }
    }
}

/// Where an upload is.
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// Begins an upload. Its parts follow as PATCH requests, and then it can be published.
#[utoipa::path(
    post, path = "/uploads", tag = "packages", request_body = NewUpload,
    responses((status = 201, body = UploadJson, headers(("Location" = String, description = "The upload."))))
)]
pub(super) async fn begin(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Json(new): Json<NewUpload>,
) -> Result<Response, Refusal> {
    caller.must(Scope::Publisher)?;
    let begun =
        blocking(&app, move |app| app.uploads.begin(caller.account(), new.bytes, new.digest.0));
    let upload = begun.await?;
    let location = HeaderValue::try_from(format!("/api/v1/uploads/{}", upload.id));
    let body = axum::Json(UploadJson::from(&*upload));
    let mut response = (StatusCode::CREATED, body).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) fn find(app: &App, caller: &Caller, id: &str) -> Result<Arc<Upload>, Refusal> {
    caller.must(Scope::Publisher)?;
    let account = (!caller.is_operator()).then(|| caller.account());
    app.uploads.find(account, id)
}

/// Shows how far an upload has come.
#[utoipa::path(
    get, path = "/uploads/{id}", tag = "packages",
    params(("id" = String, Path, description = "The upload.")),
    responses((status = 200, body = UploadJson))
)]
pub(super) async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<UploadJson>, Refusal> {
    Ok(axum::Json((&*find(&app, &caller, &id)?).into()))
}

/// Brings a part of an upload.
///
/// It begins where the one before it ended. Of a request that is broken off, what has come stays. With
/// the last part the digest is looked at: when it is another, the upload is removed.
#[utoipa::path(
    patch, path = "/uploads/{id}", tag = "packages",
    params(
        ("id" = String, Path, description = "The upload."),
        ("Upload-Offset" = u64, Header, description = "Where the part begins."),
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is written.", headers(
        ("Upload-Offset" = String, description = "Where the next part begins."),
    )))
)]
pub(super) async fn write(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let upload = find(&app, &caller, &id)?;
    let found = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let found = found.unwrap_or_default();
    if !media(&found).eq_ignore_ascii_case("application/octet-stream") {
        return Err(unsupported(&found, "application/octet-stream"));
    }
    let offset = offset(&headers)?;
    let mut progress = upload.hold()?;
    if offset != progress.offset {
        let sentence =
            format!("upload-offset: found {offset}, the upload is at {}", progress.offset);
        return Err(Refusal::new(Code::Conflict, sentence).with("offset", progress.offset));
    }
    app.uploads.write(&upload, &mut progress, body, app.limits.body_pause).await?;
    let offset = HeaderValue::from(progress.offset);
    Ok((StatusCode::NO_CONTENT, [(UPLOAD_OFFSET, offset)]).into_response())
}

fn offset(headers: &HeaderMap) -> Result<u64, Refusal> {
    let value = headers.get(UPLOAD_OFFSET);
    let found = value.map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let digits = !found.is_empty() && found.bytes().all(|byte| byte.is_ascii_digit());
    let offset = digits.then(|| found.parse().ok()).flatten();
    offset.ok_or_else(|| {
        let found = crate::refusal::excerpt(&found);
        Refusal::bad(format!("header upload-offset: found '{found}', expected a whole number"))
    })
}

/// Removes an upload.
#[utoipa::path(
    delete, path = "/uploads/{id}", tag = "packages",
    params(("id" = String, Path, description = "The upload.")),
    responses((status = 204, description = "It is removed."))
)]
pub(super) async fn remove(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let upload = find(&app, &caller, &id)?;
    let _held = upload.hold()?;
    blocking(&app, move |app| {
        app.uploads.remove(&id);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
