//! What one call's messages take of the memory that all bodies share.

use crate::{refusal::Refusal, serve::Part};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call's share. It is given back when the last handle goes, or as soon as its messages have become
/// something else. A call without a key has none: its messages are smaller than what counts.
#[derive(Clone, Default)]
pub(super) struct Share(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    bytes: usize,
    part: Option<Part>,
}

impl Share {
    /// The share of a call that somebody makes.
    pub(super) fn of(part: Part) -> Self {
        Self(Arc::new(Mutex::new(Held { bytes: 0, part: Some(part) })))
    }

    /// Says that a message of so many bytes begins, or has ended with 0.
    pub(super) fn announce(&self, bytes: usize) -> Result<(), Refusal> {
        self.lock().part.as_mut().map_or(Ok(()), |part| part.announce(bytes))
    }

    /// Takes so many bytes more.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Refusal> {
        let mut held = self.lock();
        let total = held.bytes.saturating_add(bytes);
        if let Some(part) = &mut held.part {
            part.take(total)?;
        }
        held.bytes = total;
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn give_back(&self) {
        let mut held = self.lock();
        held.bytes = 0;
        if let Some(part) = &mut held.part {
            part.give_back();
        }
    }

    /// Held for a few instructions: never across an await.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
