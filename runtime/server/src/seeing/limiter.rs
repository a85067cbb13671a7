//! How many lines a second are said: a busy server has better things to do than to talk.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// Lines of requests a second. A line costs some 5 us of a core, its writing included, so these cost 0.05% of
/// one; a line for each of 8,000 requests would cost 4%. The rest of the layer costs about 0.5 us a request
/// (optimised, two cores, JSON to nowhere).
const LINES_S: u64 = 100;

/// Failures have as many of their own, so that they are not lost among the others.
const KINDS: usize = 2;

/// Counts lines by the second.
pub(super) struct Limiter {
    started: Instant,
    /// For each kind: the second in the upper half, the lines of it in the lower.
    said: [AtomicU64; KINDS],
    left_out: AtomicU64,
}

impl Limiter {
    pub(super) fn new() -> Self {
        let said = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { started: Instant::now(), said, left_out: AtomicU64::new(0) }
    }

    /// Whether one more line may be said.
    pub(super) fn allow(&self, failure: bool) -> bool {
        self.allow_at(self.started.elapsed().as_secs(), failure)
    }

    fn allow_at(&self, second: u64, failure: bool) -> bool {
        let said = &self.said[usize::from(failure)];
        let mut old = said.load(Ordering::Relaxed);
        loop {
            let lines = if old >> 32 == second { old & u64::from(u32::MAX) } else { 0 };
            if lines >= LINES_S {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            let new = second << 32 | (lines + 1);
            match said.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => old = other,
            }
        }
    }

    /// Lines that were not said.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_lines_and_failures_have_their_own() {
        let limiter = Limiter::new();
        let said = |second, failure| {
            (0..LINES_S * 3).filter(|_| limiter.allow_at(second, failure)).count() as u64
        };
        assert_eq!(said(7, false), LINES_S);
        assert_eq!(said(7, true), LINES_S);
        assert_eq!(said(8, false), LINES_S);
        assert_eq!(limiter.left_out(), LINES_S * 6);
    }
}
