//! The shapes that a package is loaded for, and whether their load is paid for.
//!
//! Invariants:
//! - At most [`SHAPE_IMAGES_MAX`] are known, the one used last at the end: the order in which the engine
//!   keeps its images. So whoever makes it load anew has paid for that.
//! - Shapes are paid for by a job that was settled, never by one that has only begun.
//!
//! Knows nothing of fuel or credits.

use fuelbox_digest::Digest;
use fuelbox_engine::constants::SHAPE_IMAGES_MAX;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The known shapes of one package.
#[derive(Clone)]
pub(crate) struct Shapes {
    list: Arc<Mutex<List>>,
}

struct List {
    known: Vec<Known>,
    /// Claims that were ever made: the number of the next one.
    claims: u64,
}

#[derive(Clone, Copy)]
struct Known {
    shapes: Digest,
    /// The claim that they are known by; none when they are paid for.
    claim: Option<u64>,
}

/// What a job that starts has to do with the load for its shapes.
pub(crate) enum Use {
    /// They are paid for.
    Paid,
    /// It is the first to bring them, and pays.
    First(Claim),
    /// Another one is the first, and has not paid yet.
    Beside,
    /// They are not paid for, and the job holds nothing for it.
    NothingHeld,
}

impl Shapes {
    /// Shapes that were paid for, the one used last at the end.
    pub(crate) fn new(paid: Vec<Digest>) -> Self {
        let known = paid.into_iter().map(|shapes| Known { shapes, claim: None }).collect();
        Self { list: Arc::new(Mutex::new(List { known, claims: 0 })) }
    }

    /// Whether somebody paid for them, and they were not forgotten since.
    pub(crate) fn is_paid(&self, shapes: &Digest) -> bool {
        self.lock().known.iter().any(|known| known.shapes == *shapes && known.claim.is_none())
    }

    /// Notes that a job with these shapes starts. `holds`: it can pay for a load.
    pub(crate) fn start(&self, shapes: &Digest, holds: bool) -> Use {
        let mut list = self.lock();
        if let Some(at) = list.known.iter().position(|known| known.shapes == *shapes) {
            let known = list.known.remove(at);
            list.known.push(known);
            return match known.claim {
                None => Use::Paid,
                Some(_) if holds => Use::Beside,
                Some(_) => Use::NothingHeld,
            };
        }
        if !holds {
            return Use::NothingHeld;
        }
        let number = list.claims;
        list.claims += 1;
        list.known.push(Known { shapes: *shapes, claim: Some(number) });
        let full = list.known.len() > SHAPE_IMAGES_MAX;
        let evicted = full.then(|| list.known.remove(0));
        drop(list);
        // An entry of another claim is that claim's: it may be gone by the time this one is.
        let evicted = evicted.filter(|known| known.claim.is_none());
        Use::First(Claim { of: self.clone(), shapes: *shapes, number, evicted, paid: false })
    }

    /// No code that can panic runs while the lock is held.
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shapes that a job is the first to bring. Unless it pays for them, they are new to the next one.
pub(crate) struct Claim {
    of: Shapes,
    pub(crate) shapes: Digest,
    number: u64,
    /// Paid shapes that made room.
    evicted: Option<Known>,
    paid: bool,
}

impl Claim {
    /// They are prepared, and paid for.
    pub(crate) fn paid(mut self) {
        self.paid = true;
        let mut list = self.of.lock();
        // Forgotten meanwhile, they stay so.
        if let Some(known) = list.known.iter_mut().find(|known| known.shapes == self.shapes) {
            known.claim = None;
        }
        drop(list);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.paid {
            return;
        }
        let mut list = self.of.lock();
        let own = Some(self.number);
        list.known.retain(|known| known.claim != own);
        // The engine kept the image of what made room, unless a later claim made it load. Then whoever
        // comes with those shapes pays again: for the host it would be a load for nothing.
        let last = list.claims == self.number + 1;
        if let Some(evicted) = self.evicted.filter(|_| last) {
            list.known.insert(0, evicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    /// Shapes of these numbers, all paid for.
    fn paid(numbers: std::ops::Range<usize>) -> Shapes {
        Shapes::new(numbers.map(digest).collect())
    }

    fn claim(shapes: &Shapes, number: usize) -> Claim {
        match shapes.start(&digest(number), true) {
            Use::First(claim) => claim,
            Use::Paid | Use::Beside | Use::NothingHeld => panic!("{number} is known"),
        }
    }

    fn word(shapes: &Shapes, number: usize, holds: bool) -> &'static str {
        match shapes.start(&digest(number), holds) {
            Use::Paid => "paid",
            Use::First(_) => "first",
            Use::Beside => "beside",
            Use::NothingHeld => "nothing held",
        }
    }

    #[test]
    fn shapes_are_new_until_their_claim_is_paid() {
        let shapes = paid(0..1);
        assert!(shapes.is_paid(&digest(0)) && !shapes.is_paid(&digest(1)));
        assert_eq!(word(&shapes, 1, false), "nothing held");
        let first = claim(&shapes, 1);
        assert!(!shapes.is_paid(&digest(1)));
        assert_eq!(word(&shapes, 1, true), "beside");
        assert_eq!(word(&shapes, 1, false), "nothing held");
        drop(first);
        let second = claim(&shapes, 1);
        second.paid();
        assert!(shapes.is_paid(&digest(1)));
        assert_eq!(word(&shapes, 1, false), "paid");
    }

    #[test]
    fn a_claim_that_is_not_paid_gives_back_what_it_took() {
        let shapes = paid(0..SHAPE_IMAGES_MAX);
        drop(claim(&shapes, 100));
        assert!((0..SHAPE_IMAGES_MAX).all(|number| shapes.is_paid(&digest(number))));
        // In its old place: it is the next to make room.
        claim(&shapes, 101).paid();
        assert!(!shapes.is_paid(&digest(0)) && shapes.is_paid(&digest(1)));
        // The engine may have lost it since another claim was made.
        let failing = claim(&shapes, 102);
        claim(&shapes, 103).paid();
        drop(failing);
        assert!(!shapes.is_paid(&digest(1)) && !shapes.is_paid(&digest(2)));
        assert!(shapes.lock().known.len() < SHAPE_IMAGES_MAX);
    }

    #[test]
    fn a_claim_leaves_those_of_others_alone() {
        let shapes = paid(0..0);
        let forgotten = claim(&shapes, 0);
        let others: Vec<_> = (1..=SHAPE_IMAGES_MAX).map(|number| claim(&shapes, number)).collect();
        // Forgotten before it was paid: another one claims the same.
        let again = claim(&shapes, 0);
        drop(forgotten);
        assert_eq!(word(&shapes, 0, true), "beside");
        again.paid();
        drop(others);
        assert!(shapes.is_paid(&digest(0)));
        assert_eq!(shapes.lock().known.len(), 1);
        // What made room was another one's claim, which ended meanwhile: it does not come back.
        let mut others: Vec<_> =
            (1..=SHAPE_IMAGES_MAX).map(|number| claim(&shapes, number)).collect();
        let last = claim(&shapes, 100);
        drop(others.remove(0));
        drop(last);
        assert_eq!(word(&shapes, 1, true), "first");
    }
}
