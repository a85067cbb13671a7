//! Publishers: the public keys of those who sign packages, and who owns which name space.

use super::{
    extract::{Json, Operator, Path, Query, blocking},
    values::Moment,
};
use crate::{
    access::Caller,
    app::App,
    refusal::{Code, Refusal},
};
use axum::{extract::State as Shared, http::StatusCode};
use fuelbox_jobs::{PublisherError, PublisherKey, Scope, Space};
use fuelbox_ledger::AccountId;
use fuelbox_receipt::KeyId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Keys of one account.
const KEYS_MAX: usize = 1_000;

impl From<PublisherError> for Refusal {
    fn from(error: PublisherError) -> Self {
        let sentence = error.to_string();
        match error {
            PublisherError::Key(_) | PublisherError::Keys { .. } | PublisherError::Space(_) => {
                Self::bad(sentence)
            }
            PublisherError::NoPublisher { .. } => Self::new(Code::Forbidden, sentence),
            PublisherError::UnknownKey { .. } => Self::new(Code::NotFound, sentence),
            PublisherError::KeyTaken { .. }
            | PublisherError::KeyRevoked { .. }
            | PublisherError::SpaceTaken { .. }
            | PublisherError::SpaceInUse { .. } => Self::new(Code::Conflict, sentence),
            PublisherError::Rejected(error) => error.into(),
            PublisherError::Fault(fault) => fault.into(),
        }
    }
}

/// A key that packages are signed with.
#[derive(Serialize, ToSchema)]
#[schema(as = PublisherKey)]
pub(crate) struct PublisherKeyJson {
    /// SHA-256 of the public half's SubjectPublicKeyInfo: 64 digits.
    id: String,
    account: String,
    /// PEM.
    public_key: String,
    created: Moment,
    revoked: Option<Moment>,
}

impl PublisherKeyJson {
    fn of(key: &PublisherKey) -> Result<Self, Refusal> {
        Ok(Self {
            id: key.id.to_string(),
            account: key.account.to_string(),
            public_key: key.to_pem()?,
            created: Moment(key.created_unix_ms),
            revoked: key.revoked_unix_ms.map(Moment),
        })
    }
}

/// A key to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPublisherKey {
    /// Ed25519, as PEM.
    public_key: String,
    /// Whose it is: for operators. One's own when not given.
    account: Option<String>,
}

/// Registers a public key for one's account. The same once more changes nothing.
#[utoipa::path(
    post, path = "/publisher-keys", tag = "publishers", request_body = NewPublisherKey,
    responses((status = 201, body = PublisherKeyJson))
)]
pub(super) async fn register(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Json(new): Json<NewPublisherKey>,
) -> Result<(StatusCode, axum::Json<PublisherKeyJson>), Refusal> {
    caller.must(Scope::Publisher)?;
    let account = super::account_filter(&caller, new.account.as_deref())?;
    let account = account.unwrap_or_else(|| caller.account().clone());
    let key = blocking(&app, move |app| {
        let publishers = app.host.publishers();
        let known = publishers.keys(Some(&account))?.len();
        if known >= KEYS_MAX {
            let sentence = format!("publisher keys: found {known}, allowed are {KEYS_MAX}");
            return Err(Refusal::new(Code::Conflict, sentence));
        }
        PublisherKeyJson::of(&publishers.register_key(&account, &new.public_key)?)
    });
    Ok((StatusCode::CREATED, axum::Json(key.await?)))
}

/// Whose keys are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this account alone: for operators.
    account: Option<String>,
}

/// Publishers' keys, the oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct PublisherKeys {
    keys: Vec<PublisherKeyJson>,
}

/// Lists the keys of one's account, or of all for operators. Those that were taken back are there, too.
#[utoipa::path(
    get, path = "/publisher-keys", tag = "publishers", params(ListQuery),
    responses((status = 200, body = PublisherKeys))
)]
pub(super) async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<PublisherKeys>, Refusal> {
    caller.must(Scope::Publisher)?;
    let account = super::account_filter(&caller, query.account.as_deref())?;
    let keys = blocking(&app, move |app| {
        let keys = app.host.publishers().keys(account.as_ref())?;
        let keys = keys.iter().map(PublisherKeyJson::of).collect::<Result<_, _>>()?;
        Ok(PublisherKeys { keys })
    });
    Ok(axum::Json(keys.await?))
}

/// Takes a key back: nothing more is published with it. What it signed stays published.
#[utoipa::path(
    delete, path = "/publisher-keys/{id}", tag = "publishers",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 204, description = "It is taken back."))
)]
pub(super) async fn revoke(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    caller.must(Scope::Publisher)?;
    let unknown = move |id: &str| Refusal::not_found("publisher key", id);
    let parsed: KeyId = id.parse().map_err(|_| unknown(&id))?;
    blocking(&app, move |app| {
        let publishers = app.host.publishers();
        let seen = |key: &PublisherKey| caller.is_operator() || key.account == *caller.account();
        let found = publishers.key(&parsed)?.filter(seen).ok_or_else(|| unknown(&id))?;
        publishers.revoke_key(&found.account, &parsed)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A name space: what stands before the first dot of its packages' names.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSpace {
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")]
    space: String,
    /// Who alone publishes in it: of the kind publisher.
    account: String,
}

/// A name space and its owner.
#[derive(Serialize, ToSchema)]
#[schema(as = Space)]
pub(super) struct SpaceJson {
    space: String,
    account: String,
    created: Moment,
}

impl From<Space> for SpaceJson {
    fn from(space: Space) -> Self {
        Self {
            space: space.name,
            account: space.account.to_string(),
            created: Moment(space.created_unix_ms),
        }
    }
}

/// Gives a name space to a publisher, for good. The same once more changes nothing.
#[utoipa::path(
    post, path = "/spaces", tag = "operator", request_body = NewSpace,
    responses((status = 201, body = SpaceJson))
)]
pub(super) async fn claim(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Json(new): Json<NewSpace>,
) -> Result<(StatusCode, axum::Json<SpaceJson>), Refusal> {
    let account: AccountId = new.account.parse().map_err(Refusal::bad)?;
    let space =
        blocking(&app, move |app| Ok(app.host.publishers().claim_space(&new.space, &account)?));
    Ok((StatusCode::CREATED, axum::Json(space.await?.into())))
}

/// Name spaces, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct Spaces {
    spaces: Vec<SpaceJson>,
}

/// Lists all name spaces.
#[utoipa::path(get, path = "/spaces", tag = "operator", responses((status = 200, body = Spaces)))]
pub(super) async fn spaces(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
) -> Result<axum::Json<Spaces>, Refusal> {
    let spaces = blocking(&app, |app| Ok(app.host.publishers().spaces()?)).await?;
    Ok(axum::Json(Spaces { spaces: spaces.into_iter().map(SpaceJson::from).collect() }))
}
