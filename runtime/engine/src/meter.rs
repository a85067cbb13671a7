//! The meter: takes fuel from a guest for what wasmtime's counter does not know (the host's work, pages,
//! the distance of memory), and looks at the job's deadline while it does.
//!
//! wasmtime counts a guest's own fuel from one *settlement* to the next: host calls, and the ends of calls
//! into the guest. There the meter adds what is due for it by the size of memory, and takes it from what is
//! left. Growth is paid for when it is asked for, out of what was left at the last settlement, so
//! a guest never has pages that it cannot pay. Between settlements a guest could run on fuel that is due
//! already; so it is looked at every [`CANCEL_INTERVAL_FUEL`], when it gives way, and ends there. All of
//! these places are the same in every run, and so is the fuel.
//!
//! wasmtime's counter ends at zero: it does not say by how much a guest went beyond it, which it does between
//! two looks (`fuel_checks`). So the counter has one unit more than the guest may use: zero is too much.
//!
//! wasmtime asks a guest to give way when it has run for some fuel since the last `set_fuel`. Each
//! charge is such a `set_fuel`: a guest that calls the host often would never be asked. So its charges
//! look instead, after as much fuel.

use crate::{
    cost::{distance_fuel, pages_fuel},
    limits::constants::{CANCEL_INTERVAL_FUEL, WASM_PAGE_BYTES},
    sandbox::{Cancel, State},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use wasmtime::{AsContext, AsContextMut, Caller, Trap};

/// What a job's fuel goes for beside its own operators.
pub(crate) struct Meter {
    cancel: Cancel,
    /// What was left when a host call looked last.
    looked_at_fuel: u64,
    pace: Arc<Pace>,
    /// For pages that were asked for since the last settlement; not taken from the counter yet.
    owed: u64,
}

/// How a guest stands, for who polls it: the meter itself is in the store, which the guest has meanwhile.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Whether a large memory makes the guest's own fuel dearer.
    by_distance: bool,
    /// Pages of memory.
    pages: AtomicU64,
    /// What was left at the last settlement, without what is owed.
    left: AtomicU64,
    /// How often the guest gave way since.
    intervals: AtomicU64,
}

/// The job was cancelled, or its deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("the job is to stop")]
pub(crate) struct Stopped;

/// More is due than is left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overdrawn;

impl Meter {
    /// A meter for a guest with a memory of so many bytes. It counts from [`Meter::start`].
    ///
    /// `by_distance`: a large memory makes the guest's own fuel dearer. So it is in runs; a load is all the
    /// guest's own work, and most of it goes through memory in order.
    pub(crate) fn new(memory_bytes: u64, by_distance: bool) -> Self {
        let pace = Pace {
            by_distance,
            pages: (memory_bytes / WASM_PAGE_BYTES).into(),
            left: 0.into(),
            intervals: 0.into(),
        };
        Self { cancel: Cancel::default(), looked_at_fuel: 0, pace: Arc::new(pace), owed: 0 }
    }

    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// What is left at first of so much fuel: the pages that are there are paid for. None where it is not
    /// enough for them.
    fn start(&mut self, fuel: u64) -> Result<u64, Overdrawn> {
        self.owed = 0;
        let left = fuel.checked_sub(pages_fuel(self.pace.pages.load(Relaxed))).ok_or(Overdrawn);
        let at_most = left.as_ref().copied().unwrap_or(0);
        self.looked_at_fuel = at_most;
        self.pace.settled(at_most);
        left
    }

    /// Looks at this from now on.
    pub(crate) fn watch(&mut self, cancel: &Cancel) {
        self.cancel.clone_from(cancel);
    }

    fn look(&mut self, fuel_left: u64) -> Result<(), Stopped> {
        // More is left than at the last look only when an instance is used again, which benches do.
        if self.looked_at_fuel.abs_diff(fuel_left) < CANCEL_INTERVAL_FUEL {
            return Ok(());
        }
        self.looked_at_fuel = fuel_left;
        if self.cancel.is_due() { Err(Stopped) } else { Ok(()) }
    }

    /// The guest asks for a memory of so many bytes in all.
    pub(crate) fn grow(&mut self, memory_bytes: u64) -> Result<(), Overdrawn> {
        let pages = memory_bytes / WASM_PAGE_BYTES;
        let fuel = pages_fuel(pages).saturating_sub(pages_fuel(self.pace.pages.load(Relaxed)));
        let left = self.pace.left.load(Relaxed).checked_sub(fuel).ok_or(Overdrawn)?;
        self.pace.left.store(left, Relaxed);
        self.pace.pages.fetch_max(pages, Relaxed);
        self.owed += fuel;
        Ok(())
    }

    /// The counter stands at `left`: takes from it what is due, and `more`.
    fn settle(&mut self, left: u64, more: u64) -> Result<u64, Overdrawn> {
        let own = (self.pace.left.load(Relaxed) + self.owed).saturating_sub(left);
        let due = self.owed.saturating_add(self.pace.distance(own)).saturating_add(more);
        let settled = left.checked_sub(due);
        self.owed = 0;
        self.pace.settled(settled.unwrap_or(0));
        settled.ok_or(Overdrawn)
    }

    /// More was used than there was.
    fn empty(&mut self) {
        self.owed = 0;
        self.pace.settled(0);
    }
}

impl Pace {
    fn distance(&self, own: u64) -> u64 {
        if self.by_distance { distance_fuel(own, self.pages.load(Relaxed)) } else { 0 }
    }

    fn settled(&self, left: u64) {
        self.left.store(left, Relaxed);
        self.intervals.store(0, Relaxed);
    }

    /// The guest gave way. Whether what is due for its own fuel so far is there, so that it may go on.
    pub(crate) fn interval(&self) -> Result<(), Overdrawn> {
        let own = (self.intervals.fetch_add(1, Relaxed) + 1).saturating_mul(CANCEL_INTERVAL_FUEL);
        let due = own.saturating_add(self.distance(own));
        if due > self.left.load(Relaxed) { Err(Overdrawn) } else { Ok(()) }
    }
}

/// Whether the code of this store counts fuel: all code does, but for `Codegen::Unmetered` of benches.
pub(crate) fn is_metered(store: impl AsContext) -> bool {
    !cfg!(feature = "unmetered") || store.as_context().get_fuel().is_ok()
}

/// Starts the counter of a job that may use so much fuel.
pub(crate) fn start(
    store: &mut impl AsContextMut<Data = State>,
    fuel: u64,
) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let left = store.data_mut().meter.start(fuel);
    store.set_fuel(counter(&left))
}

/// What the guest may still use; nothing where it has used more than it had.
pub(crate) fn left(store: impl AsContext) -> wasmtime::Result<Result<u64, Overdrawn>> {
    Ok(store.as_context().get_fuel()?.checked_sub(1).ok_or(Overdrawn))
}

/// How wasmtime's counter says so.
fn counter(left: &Result<u64, Overdrawn>) -> u64 {
    left.as_ref().map_or(0, |left| left.saturating_add(1))
}

/// Takes fuel from the guest for work that the host is about to do. What the guest cannot pay for is
/// not done: it ends out of fuel. Neither is what nobody waits for: it ends with [`Stopped`].
pub(crate) fn charge(caller: &mut Caller<'_, State>, fuel: u64) -> wasmtime::Result<()> {
    if !is_metered(&*caller) {
        return Ok(());
    }
    if let Ok(left) = left(&*caller)? {
        caller.data_mut().meter.look(left)?;
    }
    take(caller, fuel)?.map_err(|Overdrawn| Trap::OutOfFuel.into())
}

/// Takes what is due from a guest that has come back, and `more` for what the host is about to do.
pub(crate) fn settle(
    store: &mut impl AsContextMut<Data = State>,
    more: u64,
) -> wasmtime::Result<Result<(), Overdrawn>> {
    if is_metered(&*store) { take(store, more) } else { Ok(Ok(())) }
}

fn take(
    store: &mut impl AsContextMut<Data = State>,
    more: u64,
) -> wasmtime::Result<Result<(), Overdrawn>> {
    let left = left(&*store)?;
    let mut store = store.as_context_mut();
    let meter = &mut store.data_mut().meter;
    let settled = match left {
        Ok(left) => meter.settle(left, more),
        Err(Overdrawn) => {
            meter.empty();
            Err(Overdrawn)
        }
    };
    store.set_fuel(counter(&settled))?;
    Ok(settled.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{DISTANCE_PAGES, PAGE_FUEL, PAGES_FREE};

    /// A memory in which a guest's own fuel counts twice.
    const DOUBLE_PAGES: u64 = PAGES_FREE + DISTANCE_PAGES;

    /// A meter that has started, with so many pages.
    fn meter(pages: u64, by_distance: bool, fuel: u64) -> Meter {
        let mut meter = Meter::new(pages * WASM_PAGE_BYTES, by_distance);
        let _ = meter.start(fuel);
        meter
    }

    #[test]
    fn a_look_comes_once_an_interval() {
        let cancel = Cancel::default();
        cancel.cancel();
        let mut meter = meter(0, true, 3 * CANCEL_INTERVAL_FUEL);
        meter.watch(&cancel);
        assert!(meter.look(2 * CANCEL_INTERVAL_FUEL + 1).is_ok());
        assert!(meter.look(2 * CANCEL_INTERVAL_FUEL).is_err());
        assert!(meter.look(CANCEL_INTERVAL_FUEL + 1).is_ok());
        assert!(meter.look(0).is_err());
    }

    #[test]
    fn pages_that_are_there_are_paid_for_first() {
        let mut meter = Meter::new((PAGES_FREE + 2) * WASM_PAGE_BYTES, true);
        assert_eq!(meter.start(2 * PAGE_FUEL + 7), Ok(7));
        assert_eq!(meter.start(2 * PAGE_FUEL), Ok(0));
        assert_eq!(meter.start(2 * PAGE_FUEL - 1), Err(Overdrawn));
    }

    #[test]
    fn a_counter_at_zero_is_overdrawn() {
        assert_eq!((counter(&Err(Overdrawn)), counter(&Ok(0)), counter(&Ok(7))), (0, 1, 8));
        assert_eq!(counter(&Ok(u64::MAX)), u64::MAX);
    }

    #[test]
    fn growth_is_paid_for_when_it_is_asked_for() {
        let mut meter = meter(PAGES_FREE, false, 3 * PAGE_FUEL);
        let grow =
            |meter: &mut Meter, pages: u64| meter.grow((PAGES_FREE + pages) * WASM_PAGE_BYTES);
        assert_eq!(grow(&mut meter, 1), Ok(()));
        assert_eq!(grow(&mut meter, 3), Ok(()));
        assert_eq!(grow(&mut meter, 4), Err(Overdrawn));
        // The counter went down by 10 for the guest's own work meanwhile: that is too much now.
        assert_eq!(meter.settle(3 * PAGE_FUEL - 10, 0), Err(Overdrawn));

        let mut meter = self::meter(PAGES_FREE, false, 3 * PAGE_FUEL);
        assert_eq!(grow(&mut meter, 2), Ok(()));
        assert_eq!(meter.settle(3 * PAGE_FUEL - 10, 5), Ok(PAGE_FUEL - 15));
        assert_eq!(grow(&mut meter, 3), Err(Overdrawn));
        assert_eq!(meter.settle(PAGE_FUEL - 20, 0), Ok(PAGE_FUEL - 20));
    }

    #[test]
    fn own_fuel_weighs_by_the_memory_at_the_settlement() {
        let mut meter = meter(DOUBLE_PAGES, true, DISTANCE_PAGES * PAGE_FUEL + 1_000);
        assert_eq!(meter.settle(900, 0), Ok(800), "100 of its own weigh 200");
        assert_eq!(meter.settle(800, 50), Ok(750), "the host's work weighs what it weighs");
        assert_eq!(meter.settle(375, 0), Ok(0));
        assert_eq!(meter.settle(0, 0), Ok(0));
        let mut meter = self::meter(DOUBLE_PAGES, true, DISTANCE_PAGES * PAGE_FUEL + 1_000);
        assert_eq!(meter.settle(499, 0), Err(Overdrawn));
        let mut load = self::meter(DOUBLE_PAGES, false, DISTANCE_PAGES * PAGE_FUEL + 1_000);
        assert_eq!(load.settle(499, 0), Ok(499));
    }

    #[test]
    fn who_gives_way_goes_on_while_it_can_pay() {
        let fuel = DISTANCE_PAGES * PAGE_FUEL + 4 * CANCEL_INTERVAL_FUEL;
        let mut meter = meter(DOUBLE_PAGES, true, fuel);
        let pace = meter.pace().clone();
        assert_eq!((pace.interval(), pace.interval()), (Ok(()), Ok(())));
        assert_eq!(pace.interval(), Err(Overdrawn));
        // A settlement begins anew, with what is left.
        let left = 4 * CANCEL_INTERVAL_FUEL - 10;
        assert_eq!(meter.settle(left, 0), Ok(left - 10));
        assert_eq!((pace.interval(), pace.interval()), (Ok(()), Err(Overdrawn)));
    }

    /// No order of growth, work and settlements makes fuel out of nothing or counts it twice.
    #[test]
    fn what_is_taken_adds_up() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..2_000 {
            let (mut pages, fuel) = (next(200), 400 * PAGE_FUEL);
            let mut meter = meter(pages, true, fuel);
            let (mut counter, mut own) = (fuel - pages_fuel(pages), 0);
            let mut taken = pages_fuel(pages);
            for _ in 0..next(20) {
                match next(3) {
                    0 => {
                        let more = next(20);
                        if meter.grow((pages + more) * WASM_PAGE_BYTES).is_ok() {
                            taken += pages_fuel(pages + more) - pages_fuel(pages);
                            pages += more;
                        }
                    }
                    1 => {
                        let work = next(10_000);
                        counter -= work;
                        own += work;
                    }
                    _ => {
                        let more = next(1_000);
                        taken += own + distance_fuel(own, pages) + more;
                        own = 0;
                        counter = meter.settle(counter, more).expect("enough");
                        assert_eq!(fuel - counter, taken);
                    }
                }
            }
        }
    }
}
