//! The meter: takes fuel from a guest for work that the host is about to do, and looks at the job's
//! deadline while it does.
//!
//! wasmtime asks a guest to give way when it has run for some fuel since the last `set_fuel`. Each
//! charge is such a `set_fuel`: a guest that calls the host often would never be asked. So its charges
//! look instead, after as much fuel.

use crate::{
    limits::constants::CANCEL_INTERVAL_FUEL,
    sandbox::{Cancel, State},
};
use wasmtime::{AsContext, Caller, Trap};

/// When a job's host calls look at its deadline.
pub(crate) struct Meter {
    cancel: Cancel,
    /// What was left when a host call looked last.
    looked_at_fuel: u64,
}

/// The job was cancelled, or its deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("the job is to stop")]
pub(crate) struct Stopped;

impl Meter {
    /// A meter for a job that may use so much fuel.
    pub(crate) fn new(fuel: u64) -> Self {
        Self { cancel: Cancel::default(), looked_at_fuel: fuel }
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
}

/// Whether the code of this store counts fuel: all code does, but for `Codegen::Unmetered` of benches.
pub(crate) fn is_metered(store: impl AsContext) -> bool {
    !cfg!(feature = "unmetered") || store.as_context().get_fuel().is_ok()
}

/// Takes fuel from the guest for work that the host is about to do. What the guest cannot pay for is
/// not done: it ends out of fuel. Neither is what nobody waits for: it ends with [`Stopped`].
pub(crate) fn charge(caller: &mut Caller<'_, State>, fuel: u64) -> wasmtime::Result<()> {
    if !is_metered(&*caller) {
        return Ok(());
    }
    let left = caller.get_fuel()?;
    caller.data_mut().meter.look(left)?;
    let left = left.checked_sub(fuel);
    caller.set_fuel(left.unwrap_or(0))?;
    if left.is_some() { Ok(()) } else { Err(Trap::OutOfFuel.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_comes_once_an_interval() {
        let cancel = Cancel::default();
        cancel.cancel();
        let mut meter = Meter::new(3 * CANCEL_INTERVAL_FUEL);
        meter.watch(&cancel);
        assert!(meter.look(2 * CANCEL_INTERVAL_FUEL + 1).is_ok());
        assert!(meter.look(2 * CANCEL_INTERVAL_FUEL).is_err());
        assert!(meter.look(CANCEL_INTERVAL_FUEL + 1).is_ok());
        assert!(meter.look(0).is_err());
    }
}
