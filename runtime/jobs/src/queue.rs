//! The queue: jobs of many accounts wait for a worker, and accounts share the workers fairly.
//!
//! Each account has a *virtual time*: the fuel that it was given, of runs and of loads, and a fixed
//! amount for each job. The account with the least of it comes next; what its job is expected to burn is
//! added when it is taken, and corrected when the job is done. So an account with a thousand jobs and one with a single job get the same share while both
//! wait. An account that comes back starts where the others are: idle time is not saved up.
//!
//! Within an account, the higher priority comes first, then the earlier job.
//!
//! Jobs whose callers wait are taken in as long as they can begin soon: the fuel of those that wait is
//! bounded. Where it is used up, an account with less than its share of it may still bring a job, so
//! that nobody keeps the others out.

use crate::job::{JobId, Priority};
use fuelbox_ledger::AccountId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// What a job takes of a worker beside its fuel, in fuel, for its account's turn: 100 to 150 us go to its
/// checks, receipt and settlement, at the 0.2 ns that a unit takes. Without it, jobs that burn nothing
/// would leave their account the next to be served for ever.
const JOB_FUEL: u128 = 500_000;

/// What the queue knows of a job, beside the job itself.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) id: JobId,
    pub(crate) account: AccountId,
    pub(crate) priority: Priority,
    /// What its run will probably burn, and a load if it needs one.
    pub(crate) expected_fuel: u64,
    /// Memory that it takes while it waits.
    pub(crate) bytes: u64,
    /// Whether its caller waits for it.
    pub(crate) prompt: bool,
}

impl Ticket {
    /// What it adds to the fuel that callers wait for.
    fn prompt_fuel(&self) -> u64 {
        if self.prompt { self.expected_fuel } else { 0 }
    }
}

/// Why a job cannot wait here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Full {
    /// Too many.
    #[error("the queue is full: {jobs} jobs wait, allowed are {allowed}")]
    Jobs { jobs: usize, allowed: usize },
    /// Too large.
    #[error("the queue is full: jobs of {bytes} bytes would wait, allowed are {allowed}")]
    Bytes { bytes: u64, allowed: u64 },
    /// Too much for one account.
    #[error(
        "the account's share of the queue is full: {jobs} of its jobs wait, allowed are {allowed}"
    )]
    Account { jobs: usize, allowed: usize },
    /// Too long.
    #[error("the queue is full: jobs of {fuel} fuel would be waited for, allowed are {allowed}")]
    Work { fuel: u64, allowed: u64 },
    /// No more jobs are taken.
    #[error("the host is shutting down")]
    Closed,
}

/// What may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Jobs.
    pub jobs: usize,
    /// Jobs of one account.
    pub account_jobs: usize,
    /// Bytes of requests that wait in memory.
    pub bytes: u64,
    /// Fuel that jobs whose callers wait are expected to burn.
    pub prompt_fuel: u64,
}

impl Default for QueueLimits {
    /// 10,000 jobs, 5,000 of them one account's, with 1 GiB of requests. Callers wait for 10 G fuel at
    /// most, some five seconds of two cores: who would wait longer should hear so at once.
    fn default() -> Self {
        Self { jobs: 10_000, account_jobs: 5_000, bytes: 1 << 30, prompt_fuel: 10_000_000_000 }
    }
}

/// Jobs that wait, each with what the workers need for it.
pub(crate) struct Queue<T> {
    limits: QueueLimits,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    accounts: HashMap<AccountId, Account<T>>,
    /// Accounts with jobs that wait, by virtual time.
    turns: BTreeSet<(u128, AccountId)>,
    /// Where a job is.
    places: HashMap<JobId, (AccountId, Place)>,
    /// Virtual time of the account that was served last.
    now: u128,
    /// Arrivals so far.
    arrivals: u64,
    bytes: u64,
    prompt_fuel: u64,
    /// Jobs that workers have.
    running: usize,
    closed: bool,
}

/// Sorted as jobs of one account are served: high priorities first, then early arrivals.
type Place = (std::cmp::Reverse<Priority>, u64);

struct Account<T> {
    time: u128,
    waiting: BTreeMap<Place, (Ticket, T)>,
    /// Of the jobs that wait.
    prompt_fuel: u64,
    /// Jobs that workers have.
    running: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        let state = State {
            accounts: HashMap::new(),
            turns: BTreeSet::new(),
            places: HashMap::new(),
            now: 0,
            arrivals: 0,
            bytes: 0,
            prompt_fuel: 0,
            running: 0,
            closed: false,
        };
        Self { limits, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// No code that can panic runs while the lock is held, so it is never poisoned half-way.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more job may wait. Only a look: the answer may change.
    pub(crate) fn room(&self, ticket: &Ticket) -> Result<(), Full> {
        self.lock().room(self.limits, ticket)
    }

    /// Whether it takes jobs at all.
    pub(crate) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Whether it could take a job of a new account.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        !state.closed && state.places.len() < self.limits.jobs
    }

    /// Lets a job wait.
    pub(crate) fn push(&self, ticket: Ticket, job: T) -> Result<(), Full> {
        let mut state = self.lock();
        state.room(self.limits, &ticket)?;
        state.push(ticket, job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets a job wait that was promised a place: one that was there before a restart, or whose hold
    /// is committed.
    pub(crate) fn push_promised(&self, ticket: Ticket, job: T) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        state.push(ticket, job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; none when the queue is closed. Waits for one.
    pub(crate) fn pop(&self) -> Option<(Ticket, T)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.pop() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that a worker is done with a job, and what it burned: its run, and a load, whoever paid for
    /// it.
    pub(crate) fn done(&self, ticket: &Ticket, fuel: u64) {
        self.lock().done(ticket, fuel);
    }

    /// Takes a waiting job out of the queue.
    pub(crate) fn remove(&self, id: &JobId) -> Option<(Ticket, T)> {
        self.lock().remove(id)
    }

    /// Takes those waiting jobs out of the queue that are to go.
    pub(crate) fn remove_where(&self, is_to_go: impl Fn(&T) -> bool) -> Vec<(Ticket, T)> {
        let mut state = self.lock();
        let waiting = state.accounts.values().flat_map(|account| account.waiting.values());
        let ids: Vec<_> =
            waiting.filter(|(_, job)| is_to_go(job)).map(|(ticket, _)| ticket.id).collect();
        ids.iter().filter_map(|id| state.remove(id)).collect()
    }

    /// How many jobs wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().places.len()
    }

    /// How many jobs workers have: those that were taken, and that nobody is done with.
    pub(crate) fn running(&self) -> usize {
        self.lock().running
    }

    /// The least of what `key` says of the jobs that wait. Looks at all of them.
    pub(crate) fn earliest<K: Ord>(&self, key: impl Fn(&T) -> K) -> Option<K> {
        let state = self.lock();
        let jobs = state.accounts.values().flat_map(|account| account.waiting.values());
        jobs.map(|(_, job)| key(job)).min()
    }

    /// Takes no more jobs and gives none; those that wait are given back.
    pub(crate) fn close(&self) -> Vec<(Ticket, T)> {
        let mut state = self.lock();
        state.closed = true;
        let ids: Vec<_> = state.places.keys().copied().collect();
        let left = ids.iter().filter_map(|id| state.remove(id)).collect();
        drop(state);
        self.changed.notify_all();
        left
    }
}

/// What a job of this fuel adds to its account's time.
fn turn(fuel: u64) -> u128 {
    u128::from(fuel).saturating_add(JOB_FUEL)
}

impl<T> State<T> {
    fn room(&self, limits: QueueLimits, ticket: &Ticket) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        let jobs = self.places.len();
        if jobs >= limits.jobs {
            return Err(Full::Jobs { jobs, allowed: limits.jobs });
        }
        let bytes = self.bytes.saturating_add(ticket.bytes);
        if bytes > limits.bytes {
            return Err(Full::Bytes { bytes, allowed: limits.bytes });
        }
        let account = self.accounts.get(&ticket.account);
        let own_jobs = account.map_or(0, |account| account.waiting.len());
        if own_jobs >= limits.account_jobs {
            return Err(Full::Account { jobs: own_jobs, allowed: limits.account_jobs });
        }
        if !ticket.prompt || self.prompt_fuel == 0 {
            return Ok(());
        }
        let fuel = self.prompt_fuel.saturating_add(ticket.expected_fuel);
        let own = account.map_or(0, |account| account.prompt_fuel);
        let others = self.turns.len() as u64 - u64::from(own_jobs > 0);
        let share = limits.prompt_fuel / (others + 1);
        if fuel > limits.prompt_fuel && own.saturating_add(ticket.expected_fuel) > share {
            return Err(Full::Work { fuel, allowed: limits.prompt_fuel });
        }
        Ok(())
    }

    fn push(&mut self, ticket: Ticket, job: T) {
        let now = self.now;
        let place = (std::cmp::Reverse(ticket.priority), self.arrivals);
        self.arrivals += 1;
        self.bytes = self.bytes.saturating_add(ticket.bytes);
        self.places.insert(ticket.id, (ticket.account.clone(), place));
        let account = self.accounts.entry(ticket.account.clone()).or_insert_with(|| Account {
            time: now,
            waiting: BTreeMap::new(),
            prompt_fuel: 0,
            running: 0,
        });
        if account.waiting.is_empty() {
            account.time = account.time.max(now);
            self.turns.insert((account.time, ticket.account.clone()));
        }
        self.prompt_fuel = self.prompt_fuel.saturating_add(ticket.prompt_fuel());
        account.prompt_fuel = account.prompt_fuel.saturating_add(ticket.prompt_fuel());
        account.waiting.insert(place, (ticket, job));
    }

    fn pop(&mut self) -> Option<(Ticket, T)> {
        let (time, id) = self.turns.pop_first()?;
        let account = self.accounts.get_mut(&id)?;
        let (_, (ticket, job)) = account.waiting.pop_first()?;
        self.now = time;
        account.time = time.saturating_add(turn(ticket.expected_fuel));
        account.running += 1;
        self.running += 1;
        account.prompt_fuel = account.prompt_fuel.saturating_sub(ticket.prompt_fuel());
        self.prompt_fuel = self.prompt_fuel.saturating_sub(ticket.prompt_fuel());
        if !account.waiting.is_empty() {
            self.turns.insert((account.time, id));
        }
        self.places.remove(&ticket.id);
        self.bytes = self.bytes.saturating_sub(ticket.bytes);
        Some((ticket, job))
    }

    fn done(&mut self, ticket: &Ticket, fuel: u64) {
        self.running = self.running.saturating_sub(1);
        let Some(account) = self.accounts.get_mut(&ticket.account) else {
            return;
        };
        account.running = account.running.saturating_sub(1);
        let time = account.time.saturating_sub(turn(ticket.expected_fuel));
        let time = time.saturating_add(turn(fuel));
        if self.turns.remove(&(account.time, ticket.account.clone())) {
            self.turns.insert((time, ticket.account.clone()));
        }
        account.time = time;
        self.forget(&ticket.account);
    }

    fn remove(&mut self, id: &JobId) -> Option<(Ticket, T)> {
        let (account_id, place) = self.places.remove(id)?;
        let account = self.accounts.get_mut(&account_id)?;
        let (ticket, job) = account.waiting.remove(&place)?;
        account.prompt_fuel = account.prompt_fuel.saturating_sub(ticket.prompt_fuel());
        self.prompt_fuel = self.prompt_fuel.saturating_sub(ticket.prompt_fuel());
        self.bytes = self.bytes.saturating_sub(ticket.bytes);
        if account.waiting.is_empty() {
            self.turns.remove(&(account.time, account_id.clone()));
            self.forget(&account_id);
        }
        Some((ticket, job))
    }

    /// An account without jobs that is not ahead of the others needs no memory of its own. Those that are
    /// ahead are remembered, but not more and more of them: when many have left, all are forgotten, and
    /// who comes back is no worse off than who is new.
    fn forget(&mut self, id: &AccountId) {
        let idle = |account: &Account<T>| account.waiting.is_empty() && account.running == 0;
        let now = self.now;
        if self.accounts.get(id).is_some_and(|account| idle(account) && account.time <= now) {
            self.accounts.remove(id);
        }
        if self.accounts.len() > self.turns.len() + ACCOUNTS_KEPT {
            self.accounts.retain(|_, account| !idle(account));
        }
    }
}

/// Accounts beside those that wait that are remembered: a hundred kilobytes.
const ACCOUNTS_KEPT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(account: &str, priority: u8, fuel: u64) -> Ticket {
        Ticket {
            id: JobId::new(),
            account: account.parse().expect("an account"),
            priority: Priority::new(priority).expect("a priority"),
            expected_fuel: fuel,
            bytes: 10,
            prompt: true,
        }
    }

    /// A million fuel: more than the fixed part of a turn.
    const M: u64 = 1_000_000;

    fn queue(jobs: usize, bytes: u64) -> Queue<&'static str> {
        Queue::new(QueueLimits { jobs, bytes, account_jobs: jobs, prompt_fuel: 1_000_000 * M })
    }

    /// Pops what waits, in order, each job done before the next.
    fn drain(queue: &Queue<&'static str>) -> Vec<&'static str> {
        let mut order = Vec::new();
        while queue.len() > 0 {
            let (ticket, job) = queue.pop().expect("open");
            queue.done(&ticket, ticket.expected_fuel);
            order.push(job);
        }
        order
    }

    #[test]
    fn accounts_take_turns_by_fuel() {
        let queue = queue(100, 1_000);
        let small = 100 * M;
        // Its turn is as long as two small ones.
        let large = 2 * small + JOB_FUEL as u64;
        for job in ["a1", "a2", "a3", "a4"] {
            queue.push(ticket("a", 5, small), job).expect("room");
        }
        queue.push(ticket("b", 5, large), "b1").expect("room");
        queue.push(ticket("b", 5, large), "b2").expect("room");
        assert_eq!(drain(&queue), ["a1", "b1", "a2", "a3", "b2", "a4"]);
    }

    #[test]
    fn jobs_without_fuel_take_turns_as_well() {
        let queue = queue(100, 1_000);
        for job in ["a1", "a2", "a3"] {
            queue.push(ticket("a", 5, 0), job).expect("room");
        }
        for job in ["b1", "b2"] {
            queue.push(ticket("b", 5, 0), job).expect("room");
        }
        // Expected to burn much, they burn nothing: that is no way to the front either.
        for job in ["c1", "c2"] {
            queue.push(ticket("c", 5, M), job).expect("room");
        }
        let order: Vec<_> = std::iter::from_fn(|| {
            let (ticket, job) = (queue.len() > 0).then(|| queue.pop())??;
            queue.done(&ticket, 0);
            Some(job)
        })
        .collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "c2", "a3"]);
    }

    #[test]
    fn priorities_count_within_an_account_only() {
        let queue = queue(100, 1_000);
        for (priority, job) in [(5, "a5"), (0, "a0"), (9, "a9"), (5, "a5 later")] {
            queue.push(ticket("a", priority, 100 * M), job).expect("room");
        }
        queue.push(ticket("b", 0, 100 * M), "b0").expect("room");
        assert_eq!(drain(&queue), ["a9", "b0", "a5", "a5 later", "a0"]);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let queue = queue(100, 1_000);
        for job in ["a1", "a2"] {
            queue.push(ticket("a", 5, 1_000 * M), job).expect("room");
        }
        assert_eq!(drain(&queue), ["a1", "a2"]);
        // `b` was not there; it does not get 2,000 M fuel in advance.
        for job in ["b1", "b2", "b3"] {
            queue.push(ticket("b", 5, 1_000 * M), job).expect("room");
        }
        queue.push(ticket("a", 5, 1_000 * M), "a3").expect("room");
        assert_eq!(drain(&queue), ["b1", "a3", "b2", "b3"]);
    }

    #[test]
    fn what_a_job_really_burned_counts() {
        let queue = queue(100, 1_000);
        for job in ["a1", "a2"] {
            queue.push(ticket("a", 5, 1_000 * M), job).expect("room");
        }
        queue.push(ticket("b", 5, 500 * M), "b1").expect("room");
        let (first, job) = queue.pop().expect("open");
        assert_eq!(job, "a1");
        assert_eq!((queue.running(), queue.len()), (1, 2));
        queue.done(&first, 1); // it failed at once
        assert_eq!((queue.running(), queue.len()), (0, 2));
        let order: Vec<_> = (0..2).filter_map(|_| queue.pop()).map(|(_, job)| job).collect();
        assert_eq!(order, ["b1", "a2"]);
    }

    #[test]
    fn the_queue_is_bounded_and_closes() {
        let queue = queue(2, 25);
        let first = ticket("a", 5, 1);
        queue.push(first.clone(), "1").expect("room");
        let large = Ticket { bytes: 16, ..ticket("a", 5, 1) };
        let full = Full::Bytes { bytes: 26, allowed: 25 };
        assert_eq!(queue.push(large.clone(), "2"), Err(full));
        queue.push(Ticket { bytes: 15, ..large }, "2").expect("room");
        let full = Full::Jobs { jobs: 2, allowed: 2 };
        assert_eq!(queue.push(ticket("b", 5, 1), "3"), Err(full.clone()));
        assert_eq!(queue.room(&ticket("b", 5, 1)), Err(full));
        queue.push_promised(ticket("b", 5, 1), "3").expect("promised");
        assert_eq!(queue.remove(&first.id).map(|(_, job)| job), Some("1"));
        assert!(queue.remove(&first.id).is_none());
        let mut left: Vec<_> = queue.close().into_iter().map(|(_, job)| job).collect();
        left.sort_unstable();
        assert_eq!(left, ["2", "3"]);
        assert!(queue.pop().is_none());
        assert_eq!(queue.push(ticket("a", 5, 1), "4"), Err(Full::Closed));
    }

    #[test]
    fn callers_wait_for_so_much_fuel_and_each_account_has_its_share_of_it() {
        let limits = QueueLimits { jobs: 100, account_jobs: 3, bytes: 1_000, prompt_fuel: 100 };
        let queue = Queue::new(limits);
        // Alone, a job may be larger than all that may wait.
        queue.push(ticket("a", 5, 500), "large").expect("room");
        queue.pop().expect("open");
        queue.push(ticket("a", 5, 60), "1").expect("room");
        let full = Full::Work { fuel: 101, allowed: 100 };
        assert_eq!(queue.push(ticket("a", 5, 41), "2"), Err(full));
        queue.push(ticket("a", 5, 40), "2").expect("room");
        // Another one has half of it, the third a third.
        queue.push(ticket("b", 5, 50), "3").expect("room");
        assert_eq!(queue.push(ticket("b", 5, 1), "4"), Err(Full::Work { fuel: 151, allowed: 100 }));
        queue.push(ticket("c", 5, 33), "4").expect("room");
        assert!(queue.push(ticket("d", 5, 26), "5").is_err());
        // Those whose callers do not wait are counted, not weighed.
        queue.push(Ticket { prompt: false, ..ticket("a", 5, 1 << 40) }, "5").expect("room");
        let full = Full::Account { jobs: 3, allowed: 3 };
        assert_eq!(queue.push(Ticket { prompt: false, ..ticket("a", 5, 1) }, "6"), Err(full));
        while queue.len() > 0 {
            let (ticket, _) = queue.pop().expect("open");
            queue.done(&ticket, 1);
        }
        assert_eq!(queue.lock().prompt_fuel, 0);
        queue.push(ticket("a", 5, 100), "7").expect("room");
    }

    #[test]
    fn accounts_that_left_are_forgotten() {
        let queue = queue(100, 1_000);
        for account in 0..10_000 {
            queue.push(ticket(&format!("a{account}"), 5, 7), "job").expect("room");
            assert_eq!(drain(&queue), ["job"]);
        }
        let kept = queue.lock().accounts.len();
        assert!(kept <= ACCOUNTS_KEPT + 1, "{kept} accounts");
    }
}
