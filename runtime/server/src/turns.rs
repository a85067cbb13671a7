//! Turns: work of many accounts for one pair of hands, and whose is next.
//!
//! Invariants: no account has more than its share of the places; one whose work was just done comes
//! after all others that wait. Knows nothing of what the work is.

use fuelbox_ledger::AccountId;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Accounts that share the places at least: none has more than this part of them, so that three others
/// find room beside one that takes all it can get.
const ACCOUNTS_MIN: usize = 4;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The account has its share already: what waits, and what is being done.
    Account { allowed: usize },
    /// All places are taken.
    All { allowed: usize },
    /// Nothing is taken any more.
    Closed,
}

/// What waits for its turn.
pub(crate) struct Turns<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    allowed: usize,
    /// Whether nobody wants it any more: then it has no place.
    is_gone: fn(&T) -> bool,
}

/// Invariant: an account is in `next` once if it has work that waits and none that is being done, and
/// not otherwise.
struct State<T> {
    waiting: BTreeMap<AccountId, VecDeque<T>>,
    next: VecDeque<AccountId>,
    /// Whose work is being done.
    served: Option<AccountId>,
    is_open: bool,
}

impl<T> Turns<T> {
    /// Places for so much work that waits.
    pub(crate) fn new(allowed: usize, is_gone: fn(&T) -> bool) -> Self {
        let state =
            State { waiting: BTreeMap::new(), next: VecDeque::new(), served: None, is_open: true };
        Self { state: Mutex::new(state), came: Condvar::new(), allowed: allowed.max(1), is_gone }
    }

    /// Puts work behind what its account has already.
    pub(crate) fn push(&self, account: &AccountId, work: T) -> Result<(), NoPlace> {
        let mut state = self.state();
        if !state.is_open {
            return Err(NoPlace::Closed);
        }
        state.forget(self.is_gone);
        let share = (self.allowed / ACCOUNTS_MIN).max(1);
        let is_served = state.served.as_ref() == Some(account);
        let own = state.waiting.get(account).map_or(0, VecDeque::len);
        if own + usize::from(is_served) >= share {
            return Err(NoPlace::Account { allowed: share });
        }
        if state.len() >= self.allowed {
            return Err(NoPlace::All { allowed: self.allowed });
        }
        state.waiting.entry(account.clone()).or_default().push_back(work);
        if own == 0 && !is_served {
            state.next.push_back(account.clone());
        }
        drop(state);
        self.came.notify_one();
        Ok(())
    }

    /// The work whose turn it is, when there is some; none when there will be none. Whoever asks is done
    /// with what he got before.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.state();
        if let Some(account) = state.served.take()
            && state.waiting.contains_key(&account)
        {
            state.next.push_back(account);
        }
        loop {
            if !state.is_open {
                return None;
            }
            if let Some(work) = state.take() {
                return Some(work);
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Work that waits or is being done.
    pub(crate) fn len(&self) -> usize {
        let state = self.state();
        state.len() + usize::from(state.served.is_some())
    }

    /// Takes no more, and drops what waits.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_open = false;
        state.next.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.came.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn forget(&mut self, is_gone: fn(&T) -> bool) {
        self.waiting.retain(|_, own| {
            own.retain(|work| !is_gone(work));
            !own.is_empty()
        });
        self.next.retain(|account| self.waiting.contains_key(account));
    }

    fn take(&mut self) -> Option<T> {
        let account = self.next.pop_front()?;
        let own = self.waiting.get_mut(&account)?;
        let work = own.pop_front()?;
        if own.is_empty() {
            self.waiting.remove(&account);
        }
        self.served = Some(account);
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, atomic::AtomicBool, atomic::Ordering},
        thread,
    };

    fn account(name: &str) -> AccountId {
        name.parse().expect("an account")
    }

    #[test]
    fn an_account_has_its_share_and_others_still_get_in() {
        let turns = Turns::new(8, |_: &u32| false);
        let push = |name: &str| turns.push(&account(name), 0);
        assert_eq!((push("pat"), push("pat")), (Ok(()), Ok(())));
        assert_eq!(push("pat"), Err(NoPlace::Account { allowed: 2 }));
        // What is being done counts as well: the place is not free yet.
        assert_eq!(turns.next(), Some(0));
        assert_eq!(push("pat"), Err(NoPlace::Account { allowed: 2 }));
        assert_eq!(turns.next(), Some(0));
        assert_eq!(push("pat"), Ok(()));
        for name in ["eve", "kim", "lea"] {
            assert_eq!((push(name), push(name)), (Ok(()), Ok(())), "{name}");
        }
        // Seven wait, and one is being done.
        assert_eq!((turns.len(), push("sam")), (8, Ok(())));
        assert_eq!(push("sam"), Err(NoPlace::All { allowed: 8 }));
    }

    #[test]
    fn accounts_take_turns() {
        let turns = Turns::new(16, |_: &&str| false);
        let push = |name: &str, work| turns.push(&account(name), work).expect("a place");
        push("pat", "pat 1");
        push("pat", "pat 2");
        push("pat", "pat 3");
        assert_eq!(turns.next(), Some("pat 1"));
        // It comes while the first of all is being done, behind two that wait.
        push("eve", "eve 1");
        push("eve", "eve 2");
        let order: Vec<_> = (0..4).filter_map(|_| turns.next()).collect();
        assert_eq!(order, ["eve 1", "pat 2", "eve 2", "pat 3"]);
    }

    #[test]
    fn who_went_away_has_no_place() {
        let turns = Turns::new(4, |gone: &Arc<AtomicBool>| gone.load(Ordering::Relaxed));
        let (first, other) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let push = |work: &Arc<AtomicBool>| turns.push(&account("pat"), work.clone());
        assert_eq!(push(&first), Ok(()));
        assert_eq!(push(&other), Err(NoPlace::Account { allowed: 1 }));
        first.store(true, Ordering::Relaxed);
        assert_eq!(push(&other), Ok(()));
        assert!(turns.next().is_some_and(|work| Arc::ptr_eq(&work, &other)));
        assert_eq!(turns.len(), 1);
    }

    #[test]
    fn what_waits_is_dropped_when_nothing_is_taken_any_more() {
        let turns = Turns::new(4, |_: &Arc<()>| false);
        let work = Arc::new(());
        thread::scope(|scope| {
            let waits = scope.spawn(|| turns.next());
            turns.push(&account("pat"), work.clone()).expect("a place");
            assert!(waits.join().expect("a thread").is_some());
        });
        turns.push(&account("eve"), work.clone()).expect("a place");
        turns.close();
        assert_eq!(Arc::strong_count(&work), 1);
        assert_eq!(turns.push(&account("pat"), work.clone()), Err(NoPlace::Closed));
        assert!(turns.next().is_none());
    }
}
