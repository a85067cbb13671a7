//! Figures from samples.

use serde::Serialize;

/// A median with the spread around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) p10: f64,
    pub(crate) median: f64,
    pub(crate) p90: f64,
}

impl Summary {
    /// None of no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        Some(Self {
            p10: percentile(samples, 0.1)?,
            median: percentile(samples, 0.5)?,
            p90: percentile(samples, 0.9)?,
        })
    }
}

/// The value below which this part of the samples lies, between two samples by linear interpolation.
pub(crate) fn percentile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = part.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
    Some(below + (above - below) * at.fract())
}

/// See [`percentile`].
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 0.5)
}

/// The mean of ratios: that of `a / b` is the inverse of that of `b / a`.
pub(crate) fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    if ratios.is_empty() || ratios.iter().any(|ratio| ratio.is_nan() || *ratio <= 0.0) {
        return None;
    }
    Some((ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp())
}

/// How much longer one took than the other: the ratio of each round, whose two halves saw the same
/// machine, summed up over rounds.
pub(crate) fn ratio(rounds: &[f64], other: &[f64]) -> Option<Summary> {
    let ratios: Vec<_> = rounds.iter().zip(other).map(|(one, other)| one / other).collect();
    Summary::of(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_samples() {
        for (samples, part, expected) in [
            (&[][..], 0.5, None),
            (&[4.0], 0.9, Some(4.0)),
            (&[3.0, 1.0, 2.0], 0.5, Some(2.0)),
            (&[4.0, 1.0, 3.0, 2.0], 0.5, Some(2.5)),
            (&[10.0, 0.0], 0.1, Some(1.0)),
            (&[10.0, 0.0], 0.9, Some(9.0)),
            (&[1.0, 2.0, 3.0], 1.0, Some(3.0)),
            (&[1.0, 2.0, 3.0], 0.0, Some(1.0)),
        ] {
            assert_eq!(percentile(samples, part), expected, "{samples:?} {part}");
        }
        let samples: Vec<_> = (0..=100).rev().map(f64::from).collect();
        let summary = Summary { p10: 10.0, median: 50.0, p90: 90.0 };
        assert_eq!(Summary::of(&samples), Some(summary));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn geometric_means_are_of_positive_ratios() {
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.expect("a mean") - expected).abs() < 1e-12, "{found:?}, {expected}");
        };
        close(geometric_mean(&[0.5, 2.0]), 1.0);
        close(geometric_mean(&[1.0, 4.0, 16.0]), 4.0);
        close(geometric_mean(&[3.0]), 3.0);
        for nothing in [&[][..], &[1.0, 0.0], &[1.0, -1.0], &[f64::NAN]] {
            assert_eq!(geometric_mean(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine is twice as slow in the second round: the ratio does not see it.
        let summary = ratio(&[2.0, 4.0, 2.0], &[1.0, 2.0, 1.0]).expect("rounds");
        assert_eq!(summary, Summary { p10: 2.0, median: 2.0, p90: 2.0 });
    }
}
