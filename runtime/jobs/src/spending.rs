//! Spending: what may still be spent with an access key that has a limit.
//!
//! A job's price is held against the limit when the job is taken in, beside the money that is held for
//! it. What was spent is in the store, and grows in the transaction that moves the money.
//!
//! Invariant, for every key with a limit: `spent + held <= limit`, after any crash. A queued job's hold
//! is let go of only when its row is final in the store.
//!
//! Keys without a limit are not known here.

use crate::{access_key::AccessKeyId, access_rows, fault::HostFault, tables::Tables};
use fuelbox_ledger::{AccountId, Credits, Ledger, StoreError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Keys that nothing is held for stay in memory up to this number, about 5 MB.
const KEYS_MAX: usize = 65_536;

/// Why nothing is spent with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SpendError {
    /// The limit would be passed.
    #[error("access key {key} has {left} left of its spend limit of {limit}, needed {needed}")]
    Limit {
        key: AccessKeyId,
        limit: Credits,
        /// The limit less what was spent, and less the price of what is under way.
        left: Credits,
        needed: Credits,
    },
    /// No such key.
    #[error("no access key '{key}'")]
    UnknownKey { key: AccessKeyId },
    /// The key acts for somebody else.
    #[error("access key {key} is not of account '{account}'")]
    OtherAccount { key: AccessKeyId, account: AccountId },
}

/// The limits of the keys that are in use.
#[derive(Default)]
pub(crate) struct Spending(Mutex<HashMap<AccessKeyId, Key>>);

struct Key {
    account: AccountId,
    /// None: there is no limit, and the rest is not counted.
    limit: Option<Credits>,
    spent: u64,
    held: u64,
    /// How many hold something.
    holds: usize,
}

impl Key {
    fn left(&self, limit: Credits) -> u64 {
        limit.micros().saturating_sub(self.spent).saturating_sub(self.held)
    }
}

/// A price that is held against a key's limit. Dropping it lets go of it.
pub(crate) struct SpendHold {
    spending: Arc<Spending>,
    pub(crate) key: AccessKeyId,
    amount: u64,
}

impl Spending {
    /// Holds a price against the limit of a key. None when the key has no limit. The inner error is a
    /// refusal, the outer one the store's.
    pub(crate) fn hold(
        self: &Arc<Self>,
        ledger: &Ledger<Tables>,
        key: AccessKeyId,
        account: &AccountId,
        price: Credits,
    ) -> Result<Result<Option<SpendHold>, SpendError>, HostFault> {
        match self.try_hold(ledger, key, account, price)? {
            Err(SpendError::Limit { left, limit, .. }) if left < limit => {
                // A job that ended a moment ago may still hold its price: its commit is seen before the
                // writer says so here. After an empty work, all that was committed has been said.
                ledger.write(|_| Ok::<(), StoreError>(()))?;
                self.try_hold(ledger, key, account, price)
            }
            tried => Ok(tried),
        }
    }

    fn try_hold(
        self: &Arc<Self>,
        ledger: &Ledger<Tables>,
        key: AccessKeyId,
        account: &AccountId,
        price: Credits,
    ) -> Result<Result<Option<SpendHold>, SpendError>, HostFault> {
        let mut keys = self.known(ledger, key)?;
        let Some(found) = keys.get_mut(&key) else {
            return Ok(Err(SpendError::UnknownKey { key }));
        };
        if found.account != *account {
            return Ok(Err(SpendError::OtherAccount { key, account: account.clone() }));
        }
        let Some(limit) = found.limit else {
            return Ok(Ok(None));
        };
        let left = found.left(limit);
        if price.micros() > left {
            let left = Credits::from_micros(left).unwrap_or_default();
            return Ok(Err(SpendError::Limit { key, limit, left, needed: price }));
        }
        Ok(Ok(Some(self.held(found, key, price))))
    }

    /// Holds again what was held for a job before the process ended: it was within the limit then.
    pub(crate) fn hold_again(
        self: &Arc<Self>,
        ledger: &Ledger<Tables>,
        key: AccessKeyId,
        price: Credits,
    ) -> Result<Option<SpendHold>, HostFault> {
        let mut keys = self.known(ledger, key)?;
        let found = keys.get_mut(&key).filter(|found| found.limit.is_some());
        Ok(found.map(|found| self.held(found, key, price)))
    }

    fn held(self: &Arc<Self>, found: &mut Key, key: AccessKeyId, price: Credits) -> SpendHold {
        let amount = price.micros();
        found.held += amount;
        found.holds += 1;
        SpendHold { spending: self.clone(), key, amount }
    }

    /// The map, with this key in it if there is one. It is read under the lock: nothing is spent with
    /// a key between that and its entry, as whoever spends holds something.
    fn known(
        &self,
        ledger: &Ledger<Tables>,
        key: AccessKeyId,
    ) -> Result<MutexGuard<'_, HashMap<AccessKeyId, Key>>, HostFault> {
        let mut keys = self.lock();
        if !keys.contains_key(&key) {
            let found = ledger.read(|reader| access_rows::find(reader.connection(), &key))??;
            if let Some((row, _)) = found {
                if keys.len() >= KEYS_MAX {
                    keys.retain(|_, known| known.holds > 0);
                }
                let (account, limit, spent) = (row.account, row.spend_limit, row.spent.micros());
                keys.insert(key, Key { account, limit, spent, held: 0, holds: 0 });
            }
        }
        Ok(keys)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccessKeyId, Key>> {
        // Nothing below panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpendHold {
    /// The bill is in the store: it takes the place of the hold.
    pub(crate) fn settled(self, bill: Credits) {
        if let Some(found) = self.spending.lock().get_mut(&self.key) {
            found.spent = found.spent.saturating_add(bill.micros());
        }
    }
}

impl Drop for SpendHold {
    fn drop(&mut self) {
        // An entry that holds something is never forgotten.
        if let Some(found) = self.spending.lock().get_mut(&self.key) {
            found.held = found.held.saturating_sub(self.amount);
            found.holds = found.holds.saturating_sub(1);
        }
    }
}
