//! Claims: content that is on its way into the store. A file is there before the row that names it, and
//! while it is claimed, nobody removes it for want of one.

use fuelbox_digest::Digest;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

/// How many claim each content.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
}

/// Taken before content is stored, and dropped when its row is committed, or never will be.
pub(crate) struct Claim {
    claims: Claims,
    digest: Digest,
}

impl Claims {
    pub(crate) fn claim(&self, digest: &Digest) -> Claim {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(*digest).or_default() += 1;
        Claim { claims: self.clone(), digest: *digest }
    }

    /// Does something with content that nobody claims, before anybody can; none when somebody does.
    /// Whoever looks for rows in here sees those of all claims that were dropped.
    pub(crate) fn unclaimed<R>(&self, digest: &Digest, work: impl FnOnce() -> R) -> Option<R> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (!held.contains_key(digest)).then(work)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.claims.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = held.entry(self.digest) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_free_when_its_last_claim_is_dropped() {
        let claims = Claims::default();
        let (ours, other) = (Digest::of(b"ours"), Digest::of(b"other"));
        let (first, second) = (claims.claim(&ours), claims.claim(&ours));
        assert_eq!(claims.unclaimed(&other, || 1), Some(1));
        assert_eq!(claims.unclaimed(&ours, || 1), None);
        drop(first);
        assert_eq!(claims.unclaimed(&ours, || 1), None);
        drop(second);
        assert_eq!(claims.unclaimed(&ours, || 1), Some(1));
        assert!(claims.held.lock().expect("a lock").is_empty());
    }

    #[test]
    fn nobody_claims_what_is_being_removed() {
        let (claims, ours) = (Claims::default(), Digest::of(b"ours"));
        let (started, claimed) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let other = claims.clone();
            claims.unclaimed(&ours, || {
                scope.spawn(move || {
                    let claim = other.claim(&ours);
                    started.send(()).expect("a listener");
                    claim
                });
                let early = claimed.recv_timeout(std::time::Duration::from_millis(50));
                assert!(early.is_err(), "claimed under the remover's hands");
            });
            claimed.recv().expect("claimed afterwards");
        });
    }
}
