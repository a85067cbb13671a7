//! How a job ended, what it used, and what of that is billed.

use crate::{
    limits::JobLimits,
    tensor::{OwnedParameter, Tensor},
};
use fuelbox_abi::Status;

/// How the guest's part of a job ended. The host's own failures are not here: they are
/// [`HostFault`](crate::HostFault) errors, and are not billed.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The model answered.
    Completed {
        /// Its outputs, in its order.
        outputs: Vec<Tensor>,
        /// Settings beside them.
        parameters: Vec<OwnedParameter>,
    },
    /// The model said that it failed.
    GuestError {
        /// Its kind of failure.
        status: Status,
        /// Its words, bounded and escaped.
        detail: String,
    },
    /// The guest was stopped in the act.
    Trap {
        /// By what.
        kind: TrapKind,
        /// The trap, and the guest's last words when it panicked.
        detail: String,
    },
    /// The guest used all the fuel that it was given.
    OutOfFuel,
    /// The guest answered with something that is no answer, or with too much.
    BadOutput {
        /// What is wrong with it.
        detail: String,
    },
    /// The host stopped the job: the caller went away, or its deadline passed. Depends on a clock,
    /// so it can never be replayed.
    Cancelled,
}

/// What stopped a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrapKind {
    /// An `unreachable` instruction: what a panic ends in.
    Unreachable,
    /// The guest called `proc_exit`.
    Exit,
    /// An access outside of linear memory.
    MemoryOutOfBounds,
    /// An indirect call outside of the table, to nothing, or to a function of another type.
    BadCall,
    /// Division by zero, or a number that does not fit its type.
    Arithmetic,
    /// A host kernel was called with a block that it refuses.
    Kernel,
    /// A WASI call was made with a pointer outside of linear memory, or at an odd place.
    Wasi,
    /// The native stack is full. Frame sizes differ between compilers, so this is not replayable.
    StackOverflow,
    /// A trap that this version of fuelbox has no name for.
    Other,
}

impl TrapKind {
    /// Whether the fuel counter is exact when this trap ends a guest. Elsewhere wasmtime's counter
    /// is a lower bound (wasmtime#13802): a guest could burn a loop and end in an out-of-bounds load.
    pub fn counts_fuel_exactly(self) -> bool {
        match self {
            Self::Unreachable | Self::Exit | Self::Kernel | Self::Wasi => true,
            Self::MemoryOutOfBounds
            | Self::BadCall
            | Self::Arithmetic
            | Self::StackOverflow
            | Self::Other => false,
        }
    }

    /// The name in JSON and receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Exit => "exit",
            Self::MemoryOutOfBounds => "memory_out_of_bounds",
            Self::BadCall => "bad_call",
            Self::Arithmetic => "arithmetic",
            Self::Kernel => "kernel",
            Self::Wasi => "wasi",
            Self::StackOverflow => "stack_overflow",
            Self::Other => "other",
        }
    }

    /// Sorts wasmtime's traps; `None` for the one that is a verdict of its own, out of fuel.
    pub(crate) fn classify(trap: wasmtime::Trap) -> Option<Self> {
        use wasmtime::Trap as T;
        match trap {
            T::OutOfFuel => None,
            T::UnreachableCodeReached => Some(Self::Unreachable),
            T::StackOverflow => Some(Self::StackOverflow),
            T::MemoryOutOfBounds | T::HeapMisaligned => Some(Self::MemoryOutOfBounds),
            T::TableOutOfBounds | T::IndirectCallToNull | T::BadSignature | T::NullReference => {
                Some(Self::BadCall)
            }
            T::IntegerOverflow | T::IntegerDivisionByZero | T::BadConversionToInteger => {
                Some(Self::Arithmetic)
            }
            // wasmtime's enum is open. The rest belongs to features that the profile switches off;
            // a new trap is billed as the limit, like all whose fuel is not exact.
            _ => Some(Self::Other),
        }
    }
}

impl Verdict {
    /// The name in JSON and receipts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::GuestError { .. } => "guest_error",
            Self::Trap { .. } => "trap",
            Self::OutOfFuel => "out_of_fuel",
            Self::BadOutput { .. } => "bad_output",
            Self::Cancelled => "cancelled",
        }
    }

    /// What went wrong, for people; none when nothing did.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Completed { .. } => None,
            Self::GuestError { detail, .. }
            | Self::Trap { detail, .. }
            | Self::BadOutput { detail } => Some(detail.clone()),
            Self::OutOfFuel => Some("all fuel was used".into()),
            Self::Cancelled => Some("the job was cancelled or its deadline passed".into()),
        }
    }

    /// Whether the same job ends the same way on every host of the same profile.
    pub fn replayable(&self) -> bool {
        match self {
            Self::Completed { .. }
            | Self::GuestError { .. }
            | Self::OutOfFuel
            | Self::BadOutput { .. } => true,
            Self::Trap { kind, .. } => !matches!(kind, TrapKind::StackOverflow | TrapKind::Other),
            Self::Cancelled => false,
        }
    }

    /// The fuel that is billed: what the counter says where it is exact, the limit where it is not.
    /// A cancelled job is billed what it had used when it was stopped.
    pub(crate) fn billed_fuel(&self, counted: u64, limits: &JobLimits) -> u64 {
        match self {
            Self::Completed { .. }
            | Self::GuestError { .. }
            | Self::BadOutput { .. }
            | Self::Cancelled => counted,
            Self::Trap { kind, .. } if kind.counts_fuel_exactly() => counted,
            Self::Trap { .. } | Self::OutOfFuel => limits.fuel,
        }
    }
}

/// What a job used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Fuel to bill: see the table in ARCHITECTURE.md.
    pub fuel: u64,
    /// Linear memory at its largest, the model's image included.
    pub memory_bytes_peak: u64,
}

/// A job that the guest's side brought to an end.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What it used.
    pub usage: Usage,
    /// What the guest printed, bounded and escaped.
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_of_the_engine_is_sorted() {
        // The numbers of wasmtime's traps that our features can raise. When an upgrade adds one,
        // the count changes, and someone has to decide what it bills.
        let all = (0..=u8::MAX).filter_map(wasmtime::Trap::from_u8);
        let named = all.clone().filter(|trap| TrapKind::classify(*trap) != Some(TrapKind::Other));
        assert_eq!(named.count(), 12);
        assert_eq!(all.count(), 50);
    }

    #[test]
    fn bills_follow_the_table() {
        let limits = JobLimits { fuel: 100, ..JobLimits::default() };
        let trap = |kind| Verdict::Trap { kind, detail: String::new() };
        let bill = |verdict: Verdict| verdict.billed_fuel(7, &limits);
        assert_eq!(bill(Verdict::Completed { outputs: vec![], parameters: vec![] }), 7);
        assert_eq!(bill(Verdict::GuestError { status: Status::Failed, detail: String::new() }), 7);
        assert_eq!(bill(Verdict::BadOutput { detail: String::new() }), 7);
        assert_eq!(bill(Verdict::Cancelled), 7);
        assert_eq!(bill(trap(TrapKind::Unreachable)), 7);
        assert_eq!(bill(trap(TrapKind::Exit)), 7);
        assert_eq!(bill(trap(TrapKind::Kernel)), 7);
        assert_eq!(bill(trap(TrapKind::Wasi)), 7);
        assert_eq!(bill(Verdict::OutOfFuel), 100);
        for kind in [
            TrapKind::MemoryOutOfBounds,
            TrapKind::BadCall,
            TrapKind::Arithmetic,
            TrapKind::StackOverflow,
            TrapKind::Other,
        ] {
            assert_eq!(bill(trap(kind)), 100);
        }
    }
}
