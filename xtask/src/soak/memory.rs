//! Whether the server's memory stays where it is.

use crate::{serving::memory, statistics::median, units::bytes};
use anyhow::Result;

/// Shorter runs are over before caches are full: they are shown, not judged.
const JUDGED_SECONDS: f64 = 120.0;
/// From the first third after the warm-up to the last: what samples differ by on a server that has settled.
const GROWTH: f64 = 1.02;
const SLACK_BYTES: f64 = 8e6;

/// Samples over a run.
pub(crate) struct Memory {
    warmup_s: f64,
    seconds: f64,
    /// When, resident, and the part that is in no file.
    samples: Vec<(f64, u64, u64)>,
}

impl Memory {
    pub(crate) fn new(warmup_s: f64, seconds: f64) -> Self {
        Self { warmup_s, seconds, samples: Vec::new() }
    }

    /// Takes a sample.
    pub(crate) fn look(&mut self, process: u32, at_s: f64) -> Result<()> {
        let (resident, anonymous) = memory(process)?;
        self.samples.push((at_s, resident, anonymous));
        Ok(())
    }

    /// Medians of the first third after the warm-up, and of the last: resident, and in no file.
    pub(crate) fn thirds(&self) -> Option<[(f64, f64); 2]> {
        let third = (self.seconds - self.warmup_s) / 3.0;
        let part = |from: f64| {
            let within = |at: f64| (from..=from + third).contains(&at);
            let samples = || self.samples.iter().filter(|(at, _, _)| within(*at));
            let resident: Vec<_> = samples().map(|sample| sample.1 as f64).collect();
            let anonymous: Vec<_> = samples().map(|sample| sample.2 as f64).collect();
            Some((median(&resident)?, median(&anonymous)?))
        };
        Some([part(self.warmup_s)?, part(self.seconds - third)?])
    }

    /// Whether the run was long enough to say.
    pub(crate) fn is_judged(&self) -> bool {
        self.seconds >= JUDGED_SECONDS
    }

    pub(crate) fn failures(&self) -> Option<String> {
        let Some([(first, _), (last, _)]) = self.thirds() else {
            return Some("memory was not looked at".into());
        };
        let allowed = first * GROWTH + SLACK_BYTES;
        let grows = self.is_judged() && last > allowed;
        let [first, last, allowed] = [first, last, allowed].map(|size| bytes(size as u64));
        grows.then(|| format!("memory grows: {first}, later {last}, allowed are {allowed}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(seconds: f64, size: impl Fn(f64) -> f64) -> Memory {
        let mut memory = Memory::new(60.0, seconds);
        let times = (0..seconds as u64).map(|at| at as f64);
        memory.samples = times.map(|at| (at, size(at) as u64, 0)).collect();
        memory
    }

    #[test]
    fn memory_that_grows_is_a_failure_and_warming_up_is_not() {
        let failures = |seconds, size: fn(f64) -> f64| memory(seconds, size).failures();
        assert_eq!(failures(600.0, |_| 2e8), None);
        assert_eq!(failures(600.0, |at| if at < 60.0 { 1e8 } else { 2e8 }), None);
        assert_eq!(failures(600.0, |at| if at < 300.0 { 2e8 } else { 2.1e8 }), None);
        assert_eq!(
            failures(600.0, |at| if at < 300.0 { 2e8 } else { 2.3e8 }).as_deref(),
            Some("memory grows: 200 MB, later 230 MB, allowed are 212 MB")
        );
        assert_eq!(failures(119.0, |at| at * 1e8), None);
        let unseen = Memory::new(60.0, 600.0).failures();
        assert_eq!(unseen.as_deref(), Some("memory was not looked at"));
    }
}
