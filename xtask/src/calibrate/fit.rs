//! Least squares.

/// Times of one, none below zero, so that the products of `counts` with them are as near to `found` as they can be:
/// the sum of squares of the differences is the least. By coordinates, one after the other, until nothing
/// changes any more; the sum is convex, so that this is the end.
pub(super) fn non_negative(counts: &[Vec<f64>], found: &[f64]) -> Vec<f64> {
    const SWEEPS: usize = 20_000;
    /// Relative change of a sweep that counts as none.
    const STILL: f64 = 1e-12;
    let columns = counts.first().map_or(0, Vec::len);
    let mut times = vec![0.0; columns];
    // What is left of each row.
    let mut rest = found.to_vec();
    for _ in 0..SWEEPS {
        let mut change = 0.0f64;
        for column in 0..columns {
            let square: f64 = counts.iter().map(|row| row[column] * row[column]).sum();
            if square == 0.0 {
                continue;
            }
            let slope: f64 = counts.iter().zip(&rest).map(|(row, rest)| row[column] * rest).sum();
            let step = (slope / square).max(-times[column]);
            times[column] += step;
            for (row, rest) in counts.iter().zip(&mut rest) {
                *rest -= row[column] * step;
            }
            change = change.max(step.abs() * square.sqrt());
        }
        if change < STILL {
            break;
        }
    }
    times
}

/// The coefficient of determination of `expected` for `found`: 1 is all of it, 0 what the mean alone would
/// give.
pub(super) fn determination(expected: &[f64], found: &[f64]) -> f64 {
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let spread: f64 = found.iter().map(|found| (found - mean).powi(2)).sum();
    let left: f64 =
        expected.iter().zip(found).map(|(expected, found)| (found - expected).powi(2)).sum();
    1.0 - left / spread
}

/// The same of their logarithms: where sizes differ by thousands, a tenth too much is the same mistake
/// everywhere.
pub(super) fn determination_of_logarithms(expected: &[f64], found: &[f64]) -> f64 {
    let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
    determination(&logarithms(expected), &logarithms(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_found() {
        let counts = [[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [5.0, 1.0, 0.0], [2.0, 2.0, 2.0]];
        let counts: Vec<Vec<f64>> = counts.iter().map(|row| row.to_vec()).collect();
        let times = [0.5, 40.0, 7.0];
        let product =
            |row: &Vec<f64>| row.iter().zip(times).map(|(count, time)| count * time).sum::<f64>();
        let found: Vec<f64> = counts.iter().map(product).collect();
        for (found, time) in non_negative(&counts, &found).iter().zip(times) {
            assert!((found / time - 1.0).abs() < 1e-6, "{found} {time}");
        }
    }

    #[test]
    fn no_time_is_below_zero() {
        // The second one would have to be -1.
        let counts = vec![vec![1.0, 0.0], vec![1.0, 1.0]];
        let times = non_negative(&counts, &[3.0, 2.0]);
        assert_eq!(times[1], 0.0);
        assert!(times[0] > 2.0 && times[0] < 3.0, "{times:?}");
    }

    #[test]
    fn determination_is_one_for_what_fits_and_none_for_the_mean() {
        assert_eq!(determination(&[1.0, 10.0], &[1.0, 10.0]), 1.0);
        assert!(determination(&[5.5, 5.5], &[1.0, 10.0]).abs() < 1e-12);
        assert!(determination_of_logarithms(&[10.0, 10.0], &[1.0, 100.0]).abs() < 1e-12);
        assert!(determination_of_logarithms(&[1.1, 90.0, 1_000.0], &[1.0, 100.0, 1_000.0]) > 0.99);
    }
}
