//! Access keys: who makes a request, and what he may do. Made, listed and taken back here, and checked
//! for every request.
//!
//! Invariants:
//! - The store has a hash of each key's secret, and nothing that a key could be made from.
//! - Once `revoke` has returned, no check takes the key.
//!
//! Knows nothing of requests, headers or status codes.

use crate::{
    access_key::{self, AccessKey, AccessKeyId, Grant, Scope, Scopes, Secret, SecretHash},
    access_rows::{COLUMNS, access_key, find, insert},
    fault::HostFault,
    publishers::check_space,
    shared::now_unix_ms,
    tables::Tables,
};
use fuelbox_ledger::{
    AccountId, AccountKind, Credits, Ledger, LedgerError, Rejected, StoreError, Tx,
};
use rusqlite::params;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The one sentence for whoever brings a key that is not taken, whatever is wrong with it: anything
/// else would tell strangers which keys there are.
pub const ACCESS_REFUSED: &str = "the access key is not valid";

/// Why a key is not taken: for the host's own log.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AccessError {
    /// No key's text at all.
    #[error("access key: not of the form fbx_ID_SECRET")]
    Malformed,
    /// No key has this id.
    #[error("access key {id}: unknown")]
    Unknown { id: AccessKeyId },
    /// A key has this id, and another secret.
    #[error("access key {id}: wrong secret")]
    Secret { id: AccessKeyId },
    /// It was taken back.
    #[error("access key {id}: revoked at {revoked_unix_ms} ms")]
    Revoked { id: AccessKeyId, revoked_unix_ms: u64 },
    /// Its time is over.
    #[error("access key {id}: expired at {expires_unix_ms} ms")]
    Expired { id: AccessKeyId, expires_unix_ms: u64 },
    /// The host failed: nothing is said of the key.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

/// Why a key is not made, or not found.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AccessKeyError {
    /// No such key.
    #[error("no access key '{id}'")]
    UnknownKey { id: AccessKeyId },
    /// A key that could do nothing.
    #[error("access key: found no scope, needed is one of operator, publisher, caller")]
    NoScope,
    /// The account is not of the kind that the scope is for.
    #[error("access key: scope {scope} is not for account '{account}' of kind {kind}")]
    Kind { scope: Scope, account: AccountId, kind: AccountKind },
    /// Name spaces are of no use to this key.
    #[error("access key: name spaces are for the scope publisher alone")]
    SpacesWithoutPublisher,
    /// Not a name space, or too many.
    #[error("access key: {0}")]
    Space(#[from] crate::publishers::SpaceError),
    /// Too many of them.
    #[error("access key: {found} name spaces, allowed are {SPACES_MAX}")]
    Spaces { found: usize },
    /// A name that is too long, or moves a cursor.
    #[error(
        "access key name '{found}': allowed are 1 to {NAME_CHARS_MAX} characters, none of control"
    )]
    Name { found: String },
    /// No such account, or another rule of the ledger.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(String),
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

impl From<LedgerError> for AccessKeyError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Rejected(error) => Self::Rejected(error),
            LedgerError::Store(error) => Self::Fault(error.into()),
        }
    }
}

impl From<StoreError> for AccessKeyError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<rusqlite::Error> for AccessKeyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Name spaces of one key.
const SPACES_MAX: usize = 64;

/// Characters of a key's name: a line.
const NAME_CHARS_MAX: usize = 100;

/// A key that somebody wants.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// For whom it acts. Of the kind operator for that scope, of the kind publisher for that one; any of
    /// the two or a caller for the scope caller.
    pub account: AccountId,
    /// What it may be used for: one at least.
    pub scopes: Scopes,
    /// Name spaces that it may publish in; none: all that its account may publish.
    pub spaces: Option<Vec<String>>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// From when on it is of no use.
    pub expires_unix_ms: Option<u64>,
    /// The most that may be spent with it, ever.
    pub spend_limit: Option<Credits>,
}

impl NewAccessKey {
    /// A key with what every key has.
    pub fn new(account: AccountId, scopes: impl Into<Scopes>) -> Self {
        let scopes = scopes.into();
        Self { account, scopes, spaces: None, name: None, expires_unix_ms: None, spend_limit: None }
    }

    fn check(&self) -> Result<(), AccessKeyError> {
        if self.scopes.is_empty() {
            return Err(AccessKeyError::NoScope);
        }
        if let Some(spaces) = &self.spaces {
            if !self.scopes.contains(Scope::Publisher) {
                return Err(AccessKeyError::SpacesWithoutPublisher);
            }
            if spaces.len() > SPACES_MAX {
                return Err(AccessKeyError::Spaces { found: spaces.len() });
            }
            for space in spaces {
                check_space(space)?;
            }
        }
        if let Some(name) = &self.name {
            let chars = name.chars().take(NAME_CHARS_MAX + 1).count();
            if !(1..=NAME_CHARS_MAX).contains(&chars) || name.chars().any(char::is_control) {
                let found = name.escape_debug().take(80).collect();
                return Err(AccessKeyError::Name { found });
            }
        }
        Ok(())
    }
}

/// The access keys of a host.
pub struct Access<'a> {
    ledger: &'a Ledger<Tables>,
    cache: &'a AccessCache,
}

impl<'a> Access<'a> {
    pub(crate) fn new(ledger: &'a Ledger<Tables>, cache: &'a AccessCache) -> Self {
        Self { ledger, cache }
    }

    /// Makes a key. Its secret is shown this once.
    ///
    /// # Errors
    /// When there is no such account, or a scope is not for it, and when the store fails.
    pub fn create(&self, new: NewAccessKey) -> Result<(AccessKey, Secret), AccessKeyError> {
        new.check()?;
        let (id, secret, hash) =
            Secret::generate().map_err(|error| AccessKeyError::Random(error.to_string()))?;
        let key = AccessKey {
            id,
            account: new.account,
            scopes: new.scopes,
            spaces: new.spaces.map(Arc::from),
            name: new.name,
            created_unix_ms: now_unix_ms(),
            expires_unix_ms: new.expires_unix_ms.map(|at| at.min(i64::MAX.cast_unsigned())),
            revoked_unix_ms: None,
            spend_limit: new.spend_limit,
            spent: Credits::ZERO,
        };
        let row = key.clone();
        self.ledger.write(move |tx| -> Result<(), AccessKeyError> {
            check_account(tx, &row.account, row.scopes)?;
            insert(tx.connection(), &row, &hash)?;
            Ok(())
        })?;
        Ok((key, secret))
    }

    /// Keys of an account, or of all, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self, account: Option<&AccountId>) -> Result<Vec<AccessKey>, HostFault> {
        let rows = self.ledger.read(|reader| -> rusqlite::Result<Vec<AccessKey>> {
            let sql = format!(
                "SELECT {COLUMNS} FROM access_key WHERE ?1 IS NULL OR account = ?1
                 ORDER BY created_unix_ms, id"
            );
            let mut select = reader.connection().prepare_cached(&sql)?;
            let rows = select.query_map([account.map(AccountId::as_str)], access_key)?;
            rows.collect()
        })?;
        Ok(rows?)
    }

    /// A key.
    ///
    /// # Errors
    /// When the store fails.
    pub fn get(&self, id: &AccessKeyId) -> Result<Option<AccessKey>, HostFault> {
        Ok(self.ledger.read(|reader| find(reader.connection(), id))??.map(|(key, _)| key))
    }

    /// Takes a key back: once this returns, it is of no use. Jobs that were taken in with it go on. A key
    /// that was taken back before stays as it is.
    ///
    /// # Errors
    /// When there is no such key, and when the store fails.
    pub fn revoke(&self, id: &AccessKeyId) -> Result<AccessKey, AccessKeyError> {
        let (id, now) = (*id, now_unix_ms());
        let revoked = self.ledger.write(move |tx| -> Result<AccessKey, AccessKeyError> {
            let found = find(tx.connection(), &id)?;
            let (mut key, _) = found.ok_or(AccessKeyError::UnknownKey { id })?;
            if key.revoked_unix_ms.is_none() {
                let sql = "UPDATE access_key SET revoked_unix_ms = ?2 WHERE id = ?1";
                let mut update = tx.connection().prepare_cached(sql)?;
                update.execute(params![id.as_str(), now.cast_signed()])?;
                key.revoked_unix_ms = Some(now);
            }
            Ok(key)
        });
        // Also when it failed: what is read again is right in any case.
        self.cache.forget(&id);
        revoked
    }

    /// Whether a key's text is that of a key that is good at this time, and what its bearer may do. A
    /// microsecond, and no look at the store but the first.
    ///
    /// # Errors
    /// Why it is not taken. Strangers are told [`ACCESS_REFUSED`], whatever it is.
    pub fn check(&self, text: &str, now_unix_ms: u64) -> Result<Grant, AccessError> {
        let (id, hash) = access_key::parse(text).ok_or(AccessError::Malformed)?;
        let Some(known) = self.known(&id)? else {
            // As long as for a key that is there.
            let _ = std::hint::black_box(hash.fits(&SecretHash::NOBODY));
            return Err(AccessError::Unknown { id });
        };
        if !hash.fits(&known.hash) {
            return Err(AccessError::Secret { id });
        }
        if let Some(revoked_unix_ms) = known.revoked_unix_ms {
            return Err(AccessError::Revoked { id, revoked_unix_ms });
        }
        if let Some(expires_unix_ms) = known.expires_unix_ms.filter(|at| *at <= now_unix_ms) {
            return Err(AccessError::Expired { id, expires_unix_ms });
        }
        Ok(known.grant.clone())
    }

    fn known(&self, id: &AccessKeyId) -> Result<Option<Arc<Known>>, HostFault> {
        let generation = match self.cache.get(id) {
            Ok(known) => return Ok(Some(known)),
            Err(generation) => generation,
        };
        let found = self.ledger.read(|reader| find(reader.connection(), id))??;
        Ok(found.map(|(key, hash)| {
            let known = Arc::new(Known {
                hash,
                revoked_unix_ms: key.revoked_unix_ms,
                expires_unix_ms: key.expires_unix_ms,
                grant: Grant {
                    key: key.id,
                    account: key.account,
                    scopes: key.scopes,
                    spaces: key.spaces,
                },
            });
            self.cache.put(known.clone(), generation);
            known
        }))
    }
}

/// What a check needs of a key.
struct Known {
    hash: SecretHash,
    revoked_unix_ms: Option<u64>,
    expires_unix_ms: Option<u64>,
    grant: Grant,
}

/// Keys that were used, in memory.
#[derive(Default)]
pub(crate) struct AccessCache(RwLock<Cached>);

#[derive(Default)]
struct Cached {
    keys: HashMap<AccessKeyId, Arc<Known>>,
    /// Raised whenever a key changes: what was read before is not kept.
    generation: u64,
}

/// Keys in memory, about 20 MB. When there are more, all are forgotten, and read again when they come.
const KEYS_MAX: usize = 65_536;

impl AccessCache {
    /// The key; or the generation in which it was not there.
    fn get(&self, id: &AccessKeyId) -> Result<Arc<Known>, u64> {
        let cached = self.0.read().unwrap_or_else(PoisonError::into_inner);
        cached.keys.get(id).cloned().ok_or(cached.generation)
    }

    fn put(&self, known: Arc<Known>, generation: u64) {
        let mut cached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if cached.generation != generation {
            return; // a key changed since this one was read: perhaps this one
        }
        if cached.keys.len() >= KEYS_MAX {
            cached.keys.clear();
        }
        cached.keys.insert(known.grant.key, known);
    }

    fn forget(&self, id: &AccessKeyId) {
        let mut cached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        cached.generation += 1;
        cached.keys.remove(id);
    }
}

/// Whether an account is of the kinds that these scopes are for. Nobody acts for the host's earnings, or
/// for the money on its way.
fn check_account(
    tx: &mut Tx<'_, Tables>,
    account: &AccountId,
    scopes: Scopes,
) -> Result<(), AccessKeyError> {
    let found = tx.account(account)?;
    let kind = found.ok_or_else(|| Rejected::UnknownAccount { account: account.clone() })?.kind;
    for scope in scopes.iter() {
        let fits = match kind {
            AccountKind::Operator => matches!(scope, Scope::Operator | Scope::Caller),
            AccountKind::Publisher => matches!(scope, Scope::Publisher | Scope::Caller),
            AccountKind::Caller => scope == Scope::Caller,
            AccountKind::Revenue | AccountKind::Escrow => false,
        };
        if !fits {
            return Err(AccessKeyError::Kind { scope, account: account.clone(), kind });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_key_changed_is_not_kept() {
        let cache = AccessCache::default();
        let id = AccessKeyId::from_random([7; 10]);
        let known = || {
            let account = "a".parse().expect("an account");
            let grant = Grant { key: id, account, scopes: Scope::Caller.into(), spaces: None };
            let (revoked_unix_ms, expires_unix_ms) = (None, None);
            Arc::new(Known { hash: SecretHash::NOBODY, revoked_unix_ms, expires_unix_ms, grant })
        };
        let before = cache.get(&id).err().expect("not there yet");
        cache.forget(&id);
        cache.put(known(), before);
        let after = cache.get(&id).err().expect("read too early");
        cache.put(known(), after);
        assert!(cache.get(&id).is_ok());
        cache.forget(&id);
        assert!(cache.get(&id).is_err());
    }
}
