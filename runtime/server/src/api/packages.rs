//! Packages: published, listed, looked after, downloaded.

use super::{
    extract::{Json, Path, Query, blocking, check_json, given, media, parse, unsupported},
    package::{PackageJson, Visibility, is_own},
    uploads,
    values::Amount,
};
use crate::{
    access::Caller,
    app::App,
    publishing::Upload,
    refusal::{Code, Refusal},
    serve::read_body,
    uploads::{Progress, receive},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_digest::Digest;
use fuelbox_jobs::{
    PackageChange, PackageCursor, PackageError, PackageFilter, PackageRecord, Publication, Scope,
};
use fuelbox_ledger::{AccountId, Rejected};
use fuelbox_receipt::PackageSignature;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc};
use tokio::task::block_in_place;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

/// What a package file is.
pub(crate) const PACKAGE: &str = "application/vnd.fuelbox.package";

/// Bytes of a request to publish that names an upload: a signature, and a few words.
const REQUEST_BYTES_MAX: usize = 64 << 10;

impl From<PackageError> for Refusal {
    fn from(error: PackageError) -> Self {
        let sentence = error.to_string();
        match error {
            PackageError::UnknownPackage { .. } => Self::new(Code::NotFound, sentence),
            PackageError::Used { .. } | PackageError::InUse { .. } => {
                Self::new(Code::Conflict, sentence)
            }
            PackageError::Readers { .. } | PackageError::Deprecated { .. } => Self::bad(sentence),
            PackageError::Rejected(Rejected::UnknownAccount { .. }) => Self::bad(sentence),
            PackageError::Rejected(error) => error.into(),
            PackageError::Fault(fault) => fault.into(),
        }
    }
}

/// How a package is published.
#[derive(Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PublishQuery {
    /// Who sees and runs it; everybody when not given.
    #[param(inline)]
    visibility: Option<Visibility>,
    /// Most fuel of each load.
    load_fuel: Option<u64>,
}

/// An upload that is published.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPackage {
    /// One that has come whole.
    upload: String,
    /// A DSSE envelope by a key of the publisher.
    #[schema(value_type = Option<super::answers::EnvelopeJson>)]
    signature: Option<Value>,
    /// Who sees and runs it; everybody when not given.
    visibility: Option<Visibility>,
    /// Most fuel of each load.
    load_fuel: Option<u64>,
}

/// A package, and what publishing it came to.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishedPackage {
    #[serde(flatten)]
    package: PackageJson,
    /// Of loading it, and of its golden cases.
    fuel: u64,
    /// What was paid for that.
    credits: Amount,
    /// Whether it was published before; then nothing was billed.
    repeated: bool,
}

/// Publishes a package: the file itself, or an upload.
///
/// It is loaded and tried out, which the publisher pays for, also when it is refused.
#[utoipa::path(
    post, path = "/packages", tag = "packages",
    params(
        PublishQuery,
        ("Content-Digest" = Option<String>, Header, description = "`sha-256=:BASE64:` of the file (RFC 9530)."),
        ("Fuelbox-Signature" = Option<String>, Header, description = "Base64 of a DSSE envelope by a key of the publisher."),
    ),
    request_body(content(
        (NewPackage = "application/json"),
        (String = "application/vnd.fuelbox.package"),
    )),
    responses(
        (status = 201, body = PublishedPackage),
        (status = 200, description = "It was published before.", body = PublishedPackage),
    )
)]
pub(super) async fn publish(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<PublishQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.must(Scope::Publisher)?;
    let found = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let found = found.unwrap_or_default();
    let publication = match media(&found).to_ascii_lowercase().as_str() {
        PACKAGE => publish_body(&app, &caller, query, &headers, body).await?,
        "application/json" => publish_upload(&app, &caller, query, &headers, body).await?,
        _ => {
            return Err(unsupported(
                &found,
                "application/vnd.fuelbox.package, or application/json",
            ));
        }
    };
    app.models.forget();
    blocking(&app, move |app| {
        let Publication { digest, fuel, credits, repeated, .. } = publication;
        let record = app.host.read(|records| records.find_package(&digest.to_string()))??;
        let record = record.ok_or_else(|| Refusal::new(Code::NotFound, "the package is gone"))?;
        let package = PackageJson::whole(app, &caller, &record)?;
        let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
        let body = PublishedPackage { package, fuel, credits: credits.into(), repeated };
        Ok((status, axum::Json(body)).into_response())
    })
    .await
}

/// The file comes with the request.
async fn publish_body(
    app: &Arc<App>,
    caller: &Caller,
    query: PublishQuery,
    headers: &HeaderMap,
    body: Body,
) -> Result<Publication, Refusal> {
    let expected = content_digest(headers)?;
    let signature = signature_header(headers)?;
    let limits = &app.limits;
    let mut scratch = block_in_place(|| app.uploads.scratch(caller.account()))?;
    let file = &mut scratch.file;
    let mut progress = Progress::start();
    let (bytes_max, pause) = (limits.package_bytes, limits.body_pause);
    receive(body, bytes_max, pause, &mut progress, file.as_file_mut()).await?;
    let found = block_in_place(|| progress.digest(file.path()));
    let found = found.map_err(|error| Refusal::fault(&error))?;
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        let sentence = format!("content-digest: found {found}, the header says {expected}");
        return Err(Refusal::bad(sentence).with("reason", "bad_digest"));
    }
    // The file is there until it is published.
    let path = file.path().to_path_buf();
    send(app, caller, path, signature, query).await
}

/// The file came before.
async fn publish_upload(
    app: &Arc<App>,
    caller: &Caller,
    query: PublishQuery,
    headers: &HeaderMap,
    body: Body,
) -> Result<Publication, Refusal> {
    check_json(headers)?;
    let pause = app.limits.body_pause;
    let part = app.bodies.part(caller.account());
    let received = read_body(body, REQUEST_BYTES_MAX, pause, part).await?;
    let new: NewPackage = parse(&received.bytes)?;
    let signature = new.signature.map(|envelope| read_signature(envelope.to_string().as_bytes()));
    let signature = signature.transpose()?;
    let upload = uploads::find(app, caller, &new.upload)?;
    // Nobody writes to it, or removes it, while it is published.
    let progress = upload.hold()?;
    if progress.offset < upload.bytes {
        let (offset, bytes) = (progress.offset, upload.bytes);
        let sentence = format!("upload {} is at {offset} of {bytes} bytes", upload.id);
        return Err(Refusal::new(Code::Conflict, sentence).with("offset", offset));
    }
    let query = PublishQuery {
        visibility: new.visibility.or(query.visibility),
        load_fuel: new.load_fuel.or(query.load_fuel),
    };
    let publication = send(app, caller, app.uploads.part(&upload.id), signature, query).await?;
    let id = upload.id.clone();
    blocking(app, move |app| {
        app.uploads.remove(&id);
        Ok(publication)
    })
    .await
}

async fn send(
    app: &App,
    caller: &Caller,
    file: PathBuf,
    signature: Option<PackageSignature>,
    query: PublishQuery,
) -> Result<Publication, Refusal> {
    let visibility = query.visibility.unwrap_or(Visibility::Public).into();
    let upload = Upload {
        account: caller.account().clone(),
        access_key: caller.key(),
        file,
        signature,
        visibility,
        load_fuel: query.load_fuel,
    };
    app.publishing.publish(upload).await
}

fn read_signature(envelope: &[u8]) -> Result<PackageSignature, Refusal> {
    PackageSignature::parse(envelope)
        .map_err(|error| Refusal::bad(error).with("reason", "bad_signature"))
}

fn signature_header(headers: &HeaderMap) -> Result<Option<PackageSignature>, Refusal> {
    let Some(value) = headers.get("fuelbox-signature") else { return Ok(None) };
    let envelope = BASE64_STANDARD.decode(value.as_bytes()).map_err(|_| {
        Refusal::bad("header fuelbox-signature: expected base64 of a DSSE envelope")
    })?;
    read_signature(&envelope).map(Some)
}

/// The SHA-256 among the digests of a body (RFC 9530); other algorithms say nothing here.
fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    let bad = || Refusal::bad("header content-digest: expected sha-256=:BASE64:");
    for value in headers.get_all("content-digest") {
        for member in value.to_str().map_err(|_| bad())?.split(',') {
            let (name, value) = member.trim().split_once('=').ok_or_else(bad)?;
            if name != "sha-256" {
                continue;
            }
            let inside = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
            let bytes = BASE64_STANDARD.decode(inside.ok_or_else(bad)?).map_err(|_| bad())?;
            let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| bad())?;
            return Ok(Some(Digest::from_bytes(bytes)));
        }
    }
    Ok(None)
}

/// Which packages are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this name alone.
    name: Option<String>,
    /// Most of them: 1 to 1000, or 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Behind this place: `next` of the page before.
    after: Option<String>,
}

/// A page of packages, the latest first.
#[derive(Serialize, ToSchema)]
pub(super) struct PackagePage {
    packages: Vec<PackageJson>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// Lists packages, the latest first: those that are public, one's own, and those that one is a reader of.
#[utoipa::path(
    get, path = "/packages", tag = "packages", params(ListQuery),
    responses((status = 200, body = PackagePage))
)]
pub(super) async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<PackagePage>, Refusal> {
    let limit = super::page(query.limit)?;
    let after = query.after.as_deref().map(str::parse::<PackageCursor>).transpose();
    let after = after.map_err(Refusal::bad)?;
    let filter = PackageFilter { name: query.name, after };
    let page = blocking(&app, move |app| {
        let viewer = caller.viewer();
        let found = app.host.read(|records| records.packages_for(&viewer, &filter, limit))??;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|last| PackageCursor::of(last).to_string());
        let packages = found.iter().map(|found| PackageJson::listed(&caller, found)).collect();
        Ok(PackagePage { packages, next })
    });
    Ok(axum::Json(page.await?))
}

/// All versions of a package that one sees.
#[derive(Serialize, ToSchema)]
pub(super) struct Versions {
    name: String,
    /// What runs when nobody says which version.
    latest: String,
    /// The latest first.
    versions: Vec<PackageJson>,
}

/// Lists the versions of a package.
#[utoipa::path(
    get, path = "/packages/{name}", tag = "packages",
    params(("name" = String, Path, description = "The package.")),
    responses((status = 200, body = Versions))
)]
pub(super) async fn versions(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Versions>, Refusal> {
    let versions = blocking(&app, move |app| {
        let viewer = caller.viewer();
        let found = app.host.read(|records| records.versions(&viewer, &name))??;
        let current = found.iter().find(|found| found.deprecated.is_none()).or(found.first());
        let latest = current.ok_or_else(|| Refusal::not_found("package", &name))?.version.clone();
        let versions = found.iter().map(|found| PackageJson::listed(&caller, found)).collect();
        Ok(Versions { name, latest, versions })
    });
    Ok(axum::Json(versions.await?))
}

/// A package that this caller sees. Blocks for a moment.
fn find(app: &App, caller: &Caller, name: &str, version: &str) -> Result<PackageRecord, Refusal> {
    let (viewer, text) = (caller.viewer(), format!("{name}:{version}"));
    let found = app.host.read(|records| records.find_package_for(&viewer, &text))??;
    found.ok_or_else(|| Refusal::not_found("package", &text))
}

/// A package that this caller looks after.
fn find_own(
    app: &App,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<PackageRecord, Refusal> {
    let record = find(app, caller, name, version)?;
    if is_own(caller, &record) && caller.grant.covers(name) {
        return Ok(record);
    }
    let sentence = "packages are changed by their publisher, within the name spaces of his key";
    Err(Refusal::new(Code::Forbidden, sentence))
}

/// Shows a package.
#[utoipa::path(
    get, path = "/packages/{name}/{version}", tag = "packages",
    params(("name" = String, Path, description = "The package."), ("version" = String, Path, description = "Its version.")),
    responses((status = 200, body = PackageJson))
)]
pub(super) async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Result<axum::Json<PackageJson>, Refusal> {
    let package = blocking(&app, move |app| {
        let record = find(app, &caller, &name, &version)?;
        PackageJson::whole(app, &caller, &record)
    });
    Ok(axum::Json(package.await?))
}

/// What is to be different. What is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Why it should not be used any more; null: it should.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    deprecated: Option<Option<String>>,
    visibility: Option<Visibility>,
    /// Accounts that see and run it while it is private: these, and no others.
    #[schema(max_items = 4096)]
    readers: Option<Vec<String>>,
}

/// Changes who sees a package, or says that it should not be used any more.
#[utoipa::path(
    patch, path = "/packages/{name}/{version}", tag = "packages", request_body = Change,
    params(("name" = String, Path, description = "The package."), ("version" = String, Path, description = "Its version.")),
    responses((status = 200, body = PackageJson))
)]
pub(super) async fn change(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Json(change): Json<Change>,
) -> Result<axum::Json<PackageJson>, Refusal> {
    caller.must(Scope::Publisher)?;
    let package = blocking(&app, move |app| {
        let record = find_own(app, &caller, &name, &version)?;
        let readers = change.readers.map(|readers| {
            readers.iter().map(|reader| reader.parse().map_err(Refusal::bad)).collect()
        });
        let readers: Option<Result<Vec<AccountId>, Refusal>> = readers;
        let change = PackageChange {
            visibility: change.visibility.map(Into::into),
            readers: readers.transpose()?,
            deprecated: change.deprecated,
        };
        let changed = app.host.packages().change(&record.digest, change)?;
        app.models.forget();
        PackageJson::whole(app, &caller, &changed)
    });
    Ok(axum::Json(package.await?))
}

/// Removes a package that no job ever used. Its version is free again.
#[utoipa::path(
    delete, path = "/packages/{name}/{version}", tag = "packages",
    params(("name" = String, Path, description = "The package."), ("version" = String, Path, description = "Its version.")),
    responses((status = 204, description = "It is removed."))
)]
pub(super) async fn remove(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    caller.must(Scope::Publisher)?;
    blocking(&app, move |app| {
        let record = find_own(app, &caller, &name, &version)?;
        app.host.packages().delete(&record.digest)?;
        app.models.forget();
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The package file.
#[utoipa::path(
    get, path = "/packages/{name}/{version}/file", tag = "packages",
    params(("name" = String, Path, description = "The package."), ("version" = String, Path, description = "Its version.")),
    responses((status = 200, body = String, content_type = "application/vnd.fuelbox.package"))
)]
pub(super) async fn file(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let record = find(&app, &caller, &name, &version)?;
    let fault = |error: std::io::Error| Refusal::fault(&error);
    let file = tokio::fs::File::open(app.folder.package(&record.digest)).await.map_err(fault)?;
    let bytes = file.metadata().await.map_err(fault)?.len();
    let mut response =
        Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PACKAGE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    // Names and versions of packages have no quotes.
    let name = format!("attachment; filename=\"{}-{}.fbx\"", record.name, record.version);
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
