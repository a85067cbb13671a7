//! Access keys: made, listed, taken back. Nobody makes a key that may do more than his own.

use super::{
    extract::{Json, Path, Query, blocking},
    values::{Amount, Moment},
};
use crate::{
    access::{Caller, now_unix_ms},
    app::App,
    refusal::{Code, Refusal},
};
use axum::{extract::State as Shared, http::StatusCode};
use fuelbox_jobs::{
    AccessKey, AccessKeyError, AccessKeyId, NewAccessKey, Scope as HostScope, Scopes,
};
use fuelbox_ledger::AccountId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Keys of one account that are in use.
const KEYS_MAX: usize = 1_000;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// Everything.
    Operator,
    /// Publish, and look after own packages.
    Publisher,
    /// Run jobs, and read own ones.
    Caller,
}

impl From<Scope> for HostScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Operator => Self::Operator,
            Scope::Publisher => Self::Publisher,
            Scope::Caller => Self::Caller,
        }
    }
}

impl From<HostScope> for Scope {
    fn from(scope: HostScope) -> Self {
        match scope {
            HostScope::Operator => Self::Operator,
            HostScope::Publisher => Self::Publisher,
            HostScope::Caller => Self::Caller,
        }
    }
}

/// An access key, all but its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessKey)]
pub(crate) struct KeyJson {
    id: String,
    /// For whom it acts, and who pays.
    account: String,
    scopes: Vec<Scope>,
    /// Name spaces that it may publish in; null: all that its account may publish.
    spaces: Option<Vec<String>>,
    name: Option<String>,
    created: Moment,
    expires: Option<Moment>,
    revoked: Option<Moment>,
    /// The most that may be spent with it, ever.
    spend_limit: Option<Amount>,
    /// What was spent with it. Null where there is no limit: it is not counted then.
    spent: Option<Amount>,
}

impl From<AccessKey> for KeyJson {
    fn from(key: AccessKey) -> Self {
        Self {
            id: key.id.to_string(),
            account: key.account.to_string(),
            scopes: key.scopes.iter().map(Scope::from).collect(),
            spaces: key.spaces.map(|spaces| spaces.to_vec()),
            name: key.name,
            created: Moment(key.created_unix_ms),
            expires: key.expires_unix_ms.map(Moment),
            revoked: key.revoked_unix_ms.map(Moment),
            spent: key.spend_limit.map(|_| key.spent.into()),
            spend_limit: key.spend_limit.map(Amount),
        }
    }
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// For whom it acts; the account of the key that asks, when not given.
    account: Option<String>,
    /// One at least, and none that the key that asks does not have.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// Name spaces that it may publish in; all that its account may publish when not given.
    spaces: Option<Vec<String>>,
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Never when not given.
    expires: Option<Moment>,
    /// The most that may be spent with it, ever. Without a limit when not given.
    spend_limit: Option<Amount>,
}

/// A key that was made. Its text is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    /// The text: `Authorization: Bearer` and this.
    key: String,
    #[serde(flatten)]
    made: KeyJson,
}

impl From<AccessKeyError> for Refusal {
    fn from(error: AccessKeyError) -> Self {
        let sentence = error.to_string();
        match error {
            AccessKeyError::UnknownKey { .. } => Self::new(Code::NotFound, sentence),
            AccessKeyError::NoScope
            | AccessKeyError::Kind { .. }
            | AccessKeyError::SpacesWithoutPublisher
            | AccessKeyError::Space(_)
            | AccessKeyError::Spaces { .. }
            | AccessKeyError::Name { .. } => Self::bad(sentence),
            AccessKeyError::Rejected(error) => error.into(),
            AccessKeyError::Random(_) => Self::fault(&error),
            AccessKeyError::Fault(fault) => fault.into(),
        }
    }
}

/// Makes a key: of one's own account, or of any for operators.
#[utoipa::path(
    post, path = "/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, body = MadeKey))
)]
pub(super) async fn create(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<MadeKey>), Refusal> {
    let account: AccountId = match &new.account {
        None => caller.account().clone(),
        Some(text) => text.parse().map_err(Refusal::bad)?,
    };
    let expires_unix_ms = new.expires.map(|expires| expires.0);
    if let (Some(expires), Some(at)) = (new.expires, expires_unix_ms)
        && at <= now_unix_ms()
    {
        return Err(Refusal::bad(format!("expires: {expires} is over")));
    }
    let wanted = NewAccessKey {
        account,
        scopes: new.scopes.into_iter().map(HostScope::from).collect(),
        spaces: new.spaces,
        name: new.name,
        expires_unix_ms,
        spend_limit: new.spend_limit.map(|limit| limit.0),
    };
    let made = blocking(&app, move |app| {
        if !caller.is_operator() {
            check_weaker(app, &caller, &wanted)?;
        }
        let keys = app.host.access().list(Some(&wanted.account))?;
        if keys.iter().filter(|key| key.revoked_unix_ms.is_none()).count() >= KEYS_MAX {
            let sentence = format!("account '{}' has {KEYS_MAX} keys already", wanted.account);
            return Err(Refusal::new(Code::Conflict, sentence));
        }
        let (made, secret) = app.host.access().create(wanted)?;
        Ok(MadeKey { key: secret.to_string(), made: made.into() })
    });
    Ok((StatusCode::CREATED, axum::Json(made.await?)))
}

/// Whether a key would do nothing that the key which asks for it does not.
fn check_weaker(app: &App, caller: &Caller, wanted: &NewAccessKey) -> Result<(), Refusal> {
    let forbidden = |sentence: String| Err(Refusal::new(Code::Forbidden, sentence));
    if wanted.account != *caller.account() {
        return forbidden("keys of other accounts are made by operators".into());
    }
    covers(caller, wanted.scopes)?;
    let own = app.host.access().get(&caller.key())?;
    let own = own.ok_or_else(|| Refusal::new(Code::Forbidden, "the key is gone"))?;
    if let Some(limit) = own.spend_limit {
        return forbidden(format!("the key has a spend limit of {limit}: it makes no others"));
    }
    if let Some(at) = own.expires_unix_ms
        && wanted.expires_unix_ms.is_none_or(|expires| expires > at)
    {
        return forbidden(format!("the key expires at {}: others that it makes, too", Moment(at)));
    }
    if let (Some(own), true) = (&own.spaces, wanted.scopes.contains(HostScope::Publisher)) {
        let inside = |spaces: &Vec<String>| spaces.iter().all(|space| own.contains(space));
        if !wanted.spaces.as_ref().is_some_and(inside) {
            let own = own.join(", ");
            return forbidden(format!("the key is for the name spaces {own} alone"));
        }
    }
    Ok(())
}

/// Whether a key has all of these scopes.
fn covers(caller: &Caller, scopes: Scopes) -> Result<(), Refusal> {
    scopes.iter().try_for_each(|scope| caller.must(scope))
}

/// Whose keys are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this account alone: for operators.
    account: Option<String>,
}

/// Access keys, the oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyJson>,
}

/// Lists the keys of one's own account, or of all for operators. Those that were taken back are there, too.
#[utoipa::path(get, path = "/keys", tag = "keys", params(ListQuery), responses((status = 200, body = Keys)))]
pub(super) async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Keys>, Refusal> {
    let account = super::account_filter(&caller, query.account.as_deref())?;
    let keys = blocking(&app, move |app| {
        let keys = app.host.access().list(account.as_ref())?;
        Ok(Keys { keys: keys.into_iter().map(KeyJson::from).collect() })
    });
    Ok(axum::Json(keys.await?))
}

/// Takes a key back: from now on it opens nothing. Jobs that were taken in with it go on.
#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 204, description = "It is taken back."))
)]
pub(super) async fn revoke(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let unknown = move |id: &str| Refusal::not_found("access key", id);
    let parsed: AccessKeyId = id.parse().map_err(|_| unknown(&id))?;
    blocking(&app, move |app| {
        let found = app.host.access().get(&parsed)?;
        let seen = |key: &AccessKey| caller.is_operator() || key.account == *caller.account();
        let found = found.filter(seen).ok_or_else(|| unknown(&id))?;
        // One that leaked must not shut out its owner.
        covers(&caller, found.scopes)?;
        app.host.access().revoke(&parsed)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
