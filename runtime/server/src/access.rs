//! Access: a key's text becomes a [`Caller`], or a refusal.
//!
//! Whoever sends no valid key is told one thing, whatever is wrong with it.

use crate::{
    app::App,
    refusal::{Code, Refusal},
};
use fuelbox_jobs::{AccessKeyId, Grant, Scope, Viewer};
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
    let refused = || Refusal::new(Code::Unauthenticated, "the key is not valid");
    let text = str::from_utf8(header).ok();
    // The scheme's case does not matter (RFC 9110).
    let key = text.and_then(|text| text.split_once(' '));
    let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, key) = key.ok_or_else(refused)?;
    match app.host.access().check(key.trim()) {
        Ok(grant) => {
            app.rates.take(grant.key)?;
            Ok(Caller { grant })
        }
        Err(error) if error.is_fault() => Err(Refusal::fault(&error)),
        Err(error) => {
            tracing::info!(%error, "key refused");
            Err(refused())
        }
    }
}
