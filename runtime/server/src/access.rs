//! Access: a key's text becomes a [`Caller`], or a refusal.
//!
//! Whoever sends no valid key is told one thing, whatever is wrong with it.

use crate::{
    app::App,
    refusal::{Code, Refusal},
    seeing,
};
use fuelbox_jobs::{ACCESS_REFUSED, AccessError, AccessKeyId, Grant, Scope, Viewer};
use fuelbox_ledger::AccountId;

/// Somebody with a valid key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) grant: Grant,
}

impl Caller {
    /// Who pays.
    pub(crate) fn account(&self) -> &AccountId {
        &self.grant.account
    }

    pub(crate) fn key(&self) -> AccessKeyId {
        self.grant.key
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.grant.scopes.contains(Scope::Operator)
    }

    /// What is visible to this caller.
    pub(crate) fn viewer(&self) -> Viewer {
        if self.is_operator() { Viewer::Operator } else { Viewer::Account(self.account().clone()) }
    }

    /// Whether the key's scopes allow this.
    pub(crate) fn must(&self, scope: Scope) -> Result<(), Refusal> {
        if self.grant.scopes.allows(scope) {
            return Ok(());
        }
        let sentence = format!(
            "the key has the scopes '{}', this needs '{}'",
            self.grant.scopes,
            scope.name()
        );
        Err(Refusal::new(Code::Forbidden, sentence))
    }
}

/// Who sent this `Authorization` header.
pub(crate) fn authenticate(app: &App, header: Option<&[u8]>) -> Result<Caller, Refusal> {
    let header = header.ok_or_else(|| {
        Refusal::new(Code::Unauthenticated, "no key: send 'Authorization: Bearer KEY'")
    })?;
    let refused = || Refusal::new(Code::Unauthenticated, ACCESS_REFUSED);
    let text = str::from_utf8(header).ok();
    // The scheme's case does not matter (RFC 9110).
    let key = text.and_then(|text| text.split_once(' '));
    let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, key) = key.ok_or_else(refused)?;
    match app.host.access().check(key.trim(), now_unix_ms()) {
        Ok(grant) => {
            let caller = Caller { grant };
            seeing::note_caller(&caller);
            app.rates.take(caller.key())?;
            Ok(caller)
        }
        Err(AccessError::Fault(fault)) => Err(fault.into()),
        Err(
            error @ (AccessError::Malformed
            | AccessError::Unknown { .. }
            | AccessError::Secret { .. }
            | AccessError::Revoked { .. }
            | AccessError::Expired { .. }),
        ) => {
            tracing::info!(%error, "key refused");
            Err(refused())
        }
    }
}

/// Milliseconds since 1970 in UTC.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
