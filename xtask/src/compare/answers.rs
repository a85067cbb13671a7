//! Whether two peers agree on a model's outputs, and whether these are worth comparing.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::{fs, path::Path};

/// Largest allowed difference, as a part of the spread of the reference's outputs. Sums of some
/// thousand FP32 products in another order differ by about 1e-6 of it, over fifty layers by 1e-5; an
/// operator that is done wrong differs by far more than this.
pub(super) const TOLERANCE: f64 = 1e-3;

/// Most that a softmax over logits may be sure of itself or not, as a part of the largest entropy: a
/// result at an end hides errors.
const ENTROPY: std::ops::Range<f64> = 0.05..0.9999;

/// How far an answer is from the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) absolute_max: f64,
    /// The former as a part of the reference's spread.
    pub(super) relative_max: f64,
}

/// What the reference's outputs are like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Character {
    pub(super) elements: usize,
    /// Largest less smallest.
    pub(super) spread: f64,
    /// Median over rows of the entropy of the softmax, as a part of the largest one; of logits only.
    pub(super) entropy: Option<f64>,
}

/// Reads a file of FP32 elements.
pub(super) fn read(file: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    ensure!(bytes.len().is_multiple_of(4), "{}: {} bytes", file.display(), bytes.len());
    let elements = bytes.chunks_exact(4).map(|bytes| {
        let mut element = [0; 4];
        element.copy_from_slice(bytes);
        f32::from_le_bytes(element)
    });
    Ok(elements.collect())
}

/// Compares an answer with the reference's.
pub(super) fn compare(answer: &[f32], reference: &[f32]) -> Result<Difference> {
    let (found, expected) = (answer.len(), reference.len());
    ensure!(found == expected, "{found} elements, the reference has {expected}");
    ensure!(answer.iter().all(|value| value.is_finite()), "an element is not finite");
    let pairs = answer.iter().zip(reference);
    let differences = pairs.map(|(&one, &other)| (f64::from(one) - f64::from(other)).abs());
    let absolute_max = differences.fold(0.0, f64::max);
    let relative_max = absolute_max / spread(reference);
    ensure!(
        relative_max <= TOLERANCE,
        "outputs differ by {absolute_max:.2e}, {relative_max:.2e} of their spread, allowed are \
         {TOLERANCE:.0e}"
    );
    Ok(Difference { absolute_max, relative_max })
}

/// Looks at the reference's outputs, of which `logits` come in rows of `classes`.
pub(super) fn character(reference: &[f32], logits: bool, classes: usize) -> Result<Character> {
    ensure!(reference.iter().all(|value| value.is_finite()), "an element is not finite");
    let spread = spread(reference);
    ensure!(spread > 1e-3, "outputs hardly vary: they spread over {spread:.1e}");
    let entropy = if logits && classes > 1 {
        let rows: Vec<_> = reference.chunks_exact(classes).map(entropy).collect();
        let median = super::statistics::median(&rows).context("no rows")?;
        ensure!(
            ENTROPY.contains(&median),
            "logits are saturated or flat: the entropy of their softmax is {median:.5} of the \
             largest, expected within {ENTROPY:?}"
        );
        Some(median)
    } else {
        None
    };
    Ok(Character { elements: reference.len(), spread, entropy })
}

fn spread(values: &[f32]) -> f64 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let smallest = values.iter().copied().fold(f32::INFINITY, f32::min);
    f64::from(largest) - f64::from(smallest)
}

/// Of the softmax over a row, as a part of that of equal shares.
fn entropy(row: &[f32]) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<_> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    let terms = shares.iter().map(|share| share / sum).filter(|&p| p > 0.0).map(|p| -p * p.ln());
    terms.sum::<f64>() / (row.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_agree_up_to_the_tolerance() {
        let reference = [-50.0, 0.0, 50.0];
        for (answer, agrees) in [
            (vec![-50.0, 0.0, 50.0], true),
            (vec![-50.0, 0.099, 50.0], true),
            (vec![-50.0, 0.101, 50.0], false),
            (vec![-50.0, -0.101, 50.0], false),
            (vec![-50.0, f32::NAN, 50.0], false),
            (vec![-50.0, 0.0], false),
        ] {
            assert_eq!(compare(&answer, &reference).is_ok(), agrees, "{answer:?}");
        }
        let difference = compare(&[-50.0, 0.0625, 50.0], &reference).expect("agree");
        assert_eq!(difference, Difference { absolute_max: 0.0625, relative_max: 0.000625 });
    }

    #[test]
    fn saturated_flat_and_broken_references_are_refused() {
        let logits = |row: &[f32]| character(row, true, row.len());
        assert!(logits(&[0.0, 1.0, 2.0]).is_ok());
        assert!(logits(&[0.0, 0.0, 90.0]).is_err(), "one class has it all");
        assert!(logits(&[0.0, 0.001, 0.002]).is_err(), "flat");
        assert!(logits(&[0.0, f32::INFINITY]).is_err());
        assert!(character(&[0.5; 9], false, 3).is_err(), "constant");
        let found = character(&[0.0, 2.0, 0.0, 2.0], false, 2).expect("varies");
        assert_eq!(found, Character { elements: 4, spread: 2.0, entropy: None });
    }

    #[test]
    fn entropy_is_a_part_of_the_largest() {
        assert!((entropy(&[3.0; 7]) - 1.0).abs() < 1e-12);
        assert!(entropy(&[0.0, 1000.0]).abs() < 1e-12);
    }
}
