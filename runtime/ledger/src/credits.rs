//! Amounts of money: whole micro-credits, and their decimal text.

use std::{fmt, str::FromStr};

/// An amount of money, counted in millionths of a credit.
///
/// At most [`Credits::MAX`]: the store keeps signed 64-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(u64);

/// Micro-credits in a credit.
const MICROS: u64 = 1_000_000;
/// Decimals of a credit: `MICROS` is ten to this power.
const DECIMALS: usize = 6;

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount: what an INTEGER column can hold.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// This many micro-credits; more than [`Credits::MAX`] is none.
    pub const fn from_micros(micros: u64) -> Option<Self> {
        if micros <= Self::MAX.0 { Some(Self(micros)) } else { None }
    }

    /// In micro-credits.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The sum, unless it is over [`Credits::MAX`].
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        // Two numbers of 63 bits do not overflow 64.
        Self::from_micros(self.0 + other.0)
    }

    /// The difference, unless it is below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// As the store keeps it.
    pub(crate) const fn stored(self) -> i64 {
        // At most `MAX`, which is `i64::MAX`.
        self.0 as i64
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / MICROS, self.0 % MICROS);
        if micros == 0 {
            return f.pad(&whole.to_string());
        }
        let decimals = format!("{micros:06}");
        f.pad(&format!("{whole}.{}", decimals.trim_end_matches('0')))
    }
}

/// The text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCreditsError {
    /// Neither digits nor digits with a point between them.
    #[error("amount '{found}', expected digits, and up to {DECIMALS} more behind a point")]
    Form {
        /// The text, cut and escaped.
        found: String,
    },
    /// More than the largest amount.
    #[error("amount '{found}' over the largest, {}", Credits::MAX)]
    TooLarge {
        /// The text, cut and escaped.
        found: String,
    },
}

impl FromStr for Credits {
    type Err = ParseCreditsError;

    fn from_str(text: &str) -> Result<Self, ParseCreditsError> {
        let form = || ParseCreditsError::Form { found: excerpt(text) };
        let (whole, decimals) = match text.split_once('.') {
            Some((_, "")) => return Err(form()),
            Some((whole, decimals)) => (whole, decimals),
            None => (text, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS {
            return Err(form());
        }
        let large = || ParseCreditsError::TooLarge { found: excerpt(text) };
        // Only digits are left, so a number that does not parse is too large.
        let whole: u64 = whole.parse().map_err(|_| large())?;
        let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().map_err(|_| form())?;
        whole
            .checked_mul(MICROS)
            .and_then(|micros| micros.checked_add(decimals))
            .and_then(Self::from_micros)
            .ok_or_else(large)
    }
}

/// The start of a stranger's text, without characters that move a cursor.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().take(EXCERPT_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// Longer than any id and any amount: one with a slip in it is shown whole.
const EXCERPT_CHARS: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_text_are_exact() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (10, "0.00001"),
            (1_000_000, "1"),
            (12_500_000, "12.5"),
            (1_000_001, "1.000001"),
            (Credits::MAX.micros(), "9223372036854.775807"),
        ] {
            let credits = Credits::from_micros(micros).unwrap();
            assert_eq!(credits.to_string(), text);
            assert_eq!(text.parse(), Ok(credits));
        }
        assert_eq!("007.50".parse(), Ok(Credits(7_500_000)));
        assert_eq!(Credits::from_micros(Credits::MAX.micros() + 1), None);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", ".5", "1.", "-1", "+1", " 1", "1,5", "1e3", "1.0000001", "1.2.3", "٣"]
        {
            let error = text.parse::<Credits>().unwrap_err();
            assert!(matches!(error, ParseCreditsError::Form { .. }), "{text}: {error}");
        }
        for text in ["9223372036854.775808", "18446744073709.551616", "99999999999999999999999"] {
            let error = text.parse::<Credits>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("amount '{text}' over the largest, 9223372036854.775807")
            );
        }
    }

    #[test]
    fn sums_and_differences_are_checked() {
        let one = Credits(1);
        assert_eq!(Credits::MAX.checked_add(one), None);
        assert_eq!(
            Credits::MAX.checked_sub(one).and_then(|x| x.checked_add(one)),
            Some(Credits::MAX)
        );
        assert_eq!(Credits::ZERO.checked_sub(one), None);
    }
}
