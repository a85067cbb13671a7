//! Moments as people write them: UTC, to the second. The only place that knows the calendar.

use crate::units;
use std::time::{Duration, SystemTime};

const DAY_SECONDS: u64 = 24 * 3_600;

/// Milliseconds since 1970 in UTC.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `2026-11-01 07:05:09`.
pub(crate) fn show_time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let rest = seconds % DAY_SECONDS;
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// From when on: so long ago, or a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Before now.
    Ago(Duration),
    /// The start of a day in UTC.
    Day { unix_ms: u64 },
}

impl Since {
    /// `24h`, `7d` or `2026-11-01`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(days) = day(text) {
            return Ok(Self::Day { unix_ms: days * DAY_SECONDS * 1_000 });
        }
        let days = text.strip_suffix(['d', 'D']).and_then(|days| days.parse::<u64>().ok());
        if let Some(seconds) = days.and_then(|days| days.checked_mul(DAY_SECONDS)) {
            return Ok(Self::Ago(Duration::from_secs(seconds)));
        }
        let expected =
            |_| format!("'{text}', expected a time like 24h or 7d, or a day like 2026-11-01");
        units::duration(text).map(Self::Ago).map_err(expected)
    }

    pub(crate) fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self {
            Self::Ago(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                now_unix_ms.saturating_sub(ms)
            }
            Self::Day { unix_ms } => unix_ms,
        }
    }
}

/// Until when: so long from now, or a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Until(Since);

impl Until {
    /// `24h`, `30d` or `2030-01-01`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Since::parse(text).map(Self)
    }

    pub(crate) fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self.0 {
            Since::Ago(time) => {
                now_unix_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            }
            Since::Day { unix_ms } => unix_ms,
        }
    }
}

/// Days since 1970 of `2026-11-01`; none when there is no such day.
fn day(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
    };
    let wanted = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || wanted.0 < 1970 {
        return None;
    }
    // Years have 365 days or more, so the day is at or behind this one, and never more than the leap
    // days and this year's days behind it.
    let first = (wanted.0 - 1970) * 365;
    (first..first + 3_000).find(|days| date(*days) == wanted)
}

/// Year, month and day of a day since 1970, in the calendar that has been in use since then.
fn date(mut days: u64) -> (u64, u64, u64) {
    // All years repeat after 400.
    const CYCLE_DAYS: u64 = 146_097;
    let mut year = 1970 + days / CYCLE_DAYS * 400;
    days %= CYCLE_DAYS;
    loop {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let february = if leap { 29 } else { 28 };
        for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
        year += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_those_of_the_calendar() {
        for (unix_ms, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_999, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (951_868_800_000, "2000-03-01 00:00:00"),
            (1_793_516_709_000, "2026-11-01 07:05:09"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(show_time(unix_ms), expected);
            let start = unix_ms / 86_400_000 * 86_400_000;
            assert_eq!(Since::parse(&expected[..10]), Ok(Since::Day { unix_ms: start }));
        }
    }

    #[test]
    fn spans_are_counted_back_from_now() {
        for (text, expected) in
            [("24h", 86_400_000), ("7d", 604_800_000), ("500ms", 500), ("2026-11-01", 0)]
        {
            let since = Since::parse(text).expect(text);
            let now = 1_793_491_200_000;
            assert_eq!(now - since.unix_ms(now), expected, "{text}");
            let until = Until::parse(text).expect(text).unix_ms(now);
            assert_eq!(until - now.min(until), expected, "{text}");
        }
        for text in ["", "7", "d", "2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "soon"] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
    }
}
