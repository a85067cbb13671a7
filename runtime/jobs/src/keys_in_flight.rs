//! Callers' keys whose jobs are not done: two requests with one key never run side by side.

use fuelbox_digest::Digest;
use fuelbox_ledger::AccountId;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

/// Keys in use, each with the digest of its request.
#[derive(Clone, Default)]
pub(crate) struct KeysInFlight {
    keys: Arc<Mutex<HashMap<(AccountId, String), Digest>>>,
}

/// A key in use; free again when dropped.
pub(crate) struct KeyGuard {
    keys: KeysInFlight,
    key: (AccountId, String),
}

impl KeysInFlight {
    /// Takes a key.
    ///
    /// # Errors
    /// The digest of the request that has it.
    pub(crate) fn take(
        &self,
        account: &AccountId,
        key: &str,
        request: Digest,
    ) -> Result<KeyGuard, Digest> {
        let key = (account.clone(), key.to_owned());
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.entry(key.clone()) {
            Entry::Occupied(entry) => Err(*entry.get()),
            Entry::Vacant(entry) => {
                entry.insert(request);
                Ok(KeyGuard { keys: self.clone(), key })
            }
        }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut keys = self.keys.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_free_again_when_its_job_is_done() {
        let keys = KeysInFlight::default();
        let account: AccountId = "a".parse().expect("an account");
        let other: AccountId = "b".parse().expect("an account");
        let request = Digest::of(b"1");
        let guard = keys.take(&account, "k", request).ok();
        assert!(guard.is_some());
        assert_eq!(keys.take(&account, "k", Digest::of(b"2")).err(), Some(request));
        assert!(keys.take(&other, "k", request).is_ok());
        drop(guard);
        assert!(keys.take(&account, "k", request).is_ok());
    }
}
