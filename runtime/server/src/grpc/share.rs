//! What one call's messages take of the memory that all bodies share.

use crate::{refusal::Refusal, serve::BodyBudget};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedSemaphorePermit;

/// A call's share. It is given back when the last handle goes, or as soon as its messages have become
/// something else.
#[derive(Clone, Default)]
pub(super) struct Share(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    bytes: usize,
    part: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so many bytes more.
    pub(super) fn take(&self, budget: &BodyBudget, bytes: usize) -> Result<(), Refusal> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = held.bytes.saturating_add(bytes);
        budget.take(&mut held.part, total)?;
        held.bytes = total;
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn give_back(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Held::default();
    }
}
