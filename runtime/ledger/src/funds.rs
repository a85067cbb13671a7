//! What accounts can spend right now: money in the ledger, less what the open transaction takes, less
//! what is reserved in memory.
//!
//! One map under one lock, shared by the writer and by all who reserve. A reservation is no row: it
//! costs no disk, and a crash forgets it.
//!
//! Invariant, for every account but the operator's, whether the open transaction is committed or
//! rolled back: what is reserved is covered. So `reserved + in_use <= committed`, and
//! `reserved <= staged`.

use crate::{
    account::{Account, AccountId},
    credits::Credits,
    error::{LedgerError, Rejected, StoreError},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Accounts that nobody has reserved from stay in the map up to this number, about 10 MB. Those that
/// are dropped are read from the store when they are next asked for.
const ACCOUNTS_MAX: usize = 65_536;

/// Money of an account that nobody else can spend. Dropping it gives the money free; so does a crash.
pub struct Reservation {
    funds: Arc<Funds>,
    number: u64,
    account: AccountId,
    amount: Credits,
}

impl Reservation {
    /// Whose money.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// How much was reserved.
    pub fn amount(&self) -> Credits {
        self.amount
    }

    /// Its number among those of these funds; none among others'.
    pub(crate) fn number_in(&self, funds: &Arc<Funds>) -> Option<u64> {
        Arc::ptr_eq(&self.funds, funds).then_some(self.number)
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} of '{}')", self.amount, self.account)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.funds.lock().release(self.number);
    }
}

/// The map.
#[derive(Default)]
pub(crate) struct Funds(Mutex<State>);

/// All micro-credits here are `i128`: sums of any number of reservations fit.
#[derive(Default)]
pub(crate) struct State {
    accounts: HashMap<AccountId, Spendable>,
    reservations: HashMap<u64, Held>,
    next_number: u64,
    /// Accounts that the open transaction changes.
    touched: Vec<AccountId>,
    /// Reservations that the open transaction uses.
    used: Vec<u64>,
    /// The map is swept when it has grown to this.
    sweep_at: usize,
}

struct Spendable {
    unlimited: bool,
    /// Available by what is committed.
    committed: i128,
    /// Available when the open transaction is committed; none when it does not touch the account.
    staged: Option<i128>,
    /// Reserved, and not used by the open transaction.
    reserved: i128,
    /// Debits of the open transaction that come out of reservations.
    in_use: i128,
}

struct Held {
    account: AccountId,
    amount: i128,
    /// What the open transaction debits out of it; none when it does not use it.
    used: Option<i128>,
}

impl Funds {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves. `read` gives an account that is not in the map: under the lock, so that no commit
    /// comes between what it reads and the map.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        account: &AccountId,
        amount: Credits,
        read: impl FnOnce() -> Result<Option<Account>, StoreError>,
    ) -> Result<Reservation, LedgerError> {
        let mut state = self.lock();
        if !state.accounts.contains_key(account) {
            let found =
                read()?.ok_or_else(|| Rejected::UnknownAccount { account: account.clone() })?;
            let available = found.available();
            state.enter(&found, available);
        }
        let number = state.reserve(account, amount)?;
        let (funds, account) = (self.clone(), account.clone());
        Ok(Reservation { funds, number, account, amount })
    }
}

impl State {
    /// Makes an account known, if it is not.
    fn enter(&mut self, account: &Account, committed: i128) -> &mut Spendable {
        self.accounts.entry(account.id.clone()).or_insert_with(|| Spendable {
            unlimited: account.kind.may_go_negative(),
            committed,
            staged: None,
            reserved: 0,
            in_use: 0,
        })
    }

    fn reserve(&mut self, account: &AccountId, amount: Credits) -> Result<u64, Rejected> {
        let unknown = || Rejected::UnknownAccount { account: account.clone() };
        let spendable = self.accounts.get_mut(account).ok_or_else(unknown)?;
        let micros = i128::from(amount.micros());
        if !spendable.unlimited && spendable.free() < micros {
            return Err(insufficient(account, spendable.free(), amount));
        }
        spendable.reserved += micros;
        let number = self.next_number;
        self.next_number += 1;
        let held = Held { account: account.clone(), amount: micros, used: None };
        self.reservations.insert(number, held);
        Ok(number)
    }

    fn release(&mut self, number: u64) {
        let Some(held) = self.reservations.remove(&number) else { return };
        // One that is used is part of the open transaction, which no longer gives it back.
        if held.used.is_none()
            && let Some(spendable) = self.accounts.get_mut(&held.account)
        {
            spendable.reserved -= held.amount;
        }
    }

    /// What is reserved of an account.
    pub(crate) fn reserved(&self, account: &AccountId) -> i128 {
        self.accounts.get(account).map_or(0, |spendable| spendable.reserved)
    }

    /// What is left of a reservation.
    pub(crate) fn left(&self, number: u64) -> i128 {
        let unused = self.reservations.get(&number).filter(|held| held.used.is_none());
        unused.map_or(0, |held| held.amount)
    }

    /// The open transaction changes an account from what it was to what it is now.
    pub(crate) fn stage(&mut self, before: &Account, after: &Account) {
        let spendable = self.enter(after, before.available());
        if spendable.staged.replace(after.available()).is_none() {
            self.touched.push(after.id.clone());
        }
    }

    /// The open transaction uses a reservation for these debits. What is over is free at once.
    pub(crate) fn use_up(&mut self, number: u64, debits: i128) {
        let Some(held) = self.reservations.get_mut(&number) else { return };
        if held.used.is_some() {
            return;
        }
        held.used = Some(debits);
        self.used.push(number);
        if let Some(spendable) = self.accounts.get_mut(&held.account) {
            spendable.reserved -= held.amount;
            spendable.in_use += debits;
        }
    }

    /// The open transaction was committed.
    pub(crate) fn commit(&mut self) {
        for number in self.used.drain(..) {
            if let Some(held) = self.reservations.get_mut(&number) {
                (held.amount, held.used) = (0, None);
                if let Some(spendable) = self.accounts.get_mut(&held.account) {
                    spendable.in_use = 0;
                }
            }
        }
        for account in self.touched.drain(..) {
            if let Some(spendable) = self.accounts.get_mut(&account) {
                spendable.committed = spendable.staged.take().unwrap_or(spendable.committed);
                spendable.in_use = 0;
            }
        }
        self.sweep();
    }

    /// The open transaction was rolled back: reservations that it used are as good as before.
    pub(crate) fn roll_back(&mut self) {
        for account in &self.touched {
            if let Some(spendable) = self.accounts.get_mut(account) {
                (spendable.staged, spendable.in_use) = (None, 0);
            }
        }
        let used = std::mem::take(&mut self.used);
        // What was debited was kept for this case, so it is there. What was over has been free in the
        // meantime: as much of it comes back as nobody took.
        let mut over = Vec::new();
        for number in used {
            let Some(held) = self.reservations.get_mut(&number) else { continue };
            let debits = held.used.take().unwrap_or(0);
            over.push((number, held.amount - debits));
            held.amount = debits;
            if let Some(spendable) = self.accounts.get_mut(&held.account) {
                spendable.in_use = 0;
                spendable.reserved += debits;
            }
        }
        for (number, over) in over {
            let Some(held) = self.reservations.get_mut(&number) else { continue };
            let Some(spendable) = self.accounts.get_mut(&held.account) else { continue };
            let back = if spendable.unlimited { over } else { over.min(spendable.free()).max(0) };
            held.amount += back;
            spendable.reserved += back;
        }
        // The transaction may have made the account: then it is not there.
        for account in std::mem::take(&mut self.touched) {
            if self.accounts.get(&account).is_some_and(Spendable::idle) {
                self.accounts.remove(&account);
            }
        }
    }

    fn sweep(&mut self) {
        if self.accounts.len() > self.sweep_at.max(ACCOUNTS_MAX) {
            self.accounts.retain(|_, spendable| !spendable.idle());
            // However many are left, a sweep is paid by as many that came.
            self.sweep_at = self.accounts.len() * 2;
        }
    }
}

impl Spendable {
    /// What can be reserved: covered after a commit of the open transaction, and after a rollback.
    fn free(&self) -> i128 {
        let committed = self.committed - self.in_use;
        self.staged.map_or(committed, |staged| staged.min(committed)) - self.reserved
    }

    fn idle(&self) -> bool {
        self.reserved == 0 && self.in_use == 0 && self.staged.is_none()
    }
}

/// The sentence for an account that cannot pay.
pub(crate) fn insufficient(account: &AccountId, available: i128, needed: Credits) -> Rejected {
    let available = available.clamp(0, needed.micros().into());
    // Not above `needed`, which is an amount.
    let available =
        u64::try_from(available).ok().and_then(Credits::from_micros).unwrap_or_default();
    let shortfall = needed.checked_sub(available).unwrap_or_default();
    Rejected::InsufficientFunds { account: account.clone(), available, needed, shortfall }
}
