//! Values as the API writes them: moments, amounts, digests. What enters is checked, what leaves has one
//! form.

use fuelbox_digest::Digest;
use fuelbox_ledger::Credits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{borrow::Cow, fmt};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Type,
        schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat},
    },
};

/// A moment in UTC, in milliseconds since 1970. As text, RFC 3339: `2026-11-01T07:05:09.120Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

const DAY_MS: u64 = 24 * 3_600_000;

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Four digits of year are all that the form has.
        let ms = self.0.min(LAST_MS);
        let (year, month, day) = date(ms / DAY_MS);
        let (seconds, millis) = (ms % DAY_MS / 1_000, ms % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The last millisecond of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

impl Moment {
    /// Reads RFC 3339 with any offset. Moments before 1970 are 1970; parts of a millisecond are dropped.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let bytes = text.as_bytes();
        let sign = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|it| allowed.contains(it));
        if !(sign(4, b"-") && sign(7, b"-") && sign(10, b"Tt ") && sign(13, b":") && sign(16, b":"))
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        // 60 is a leap second.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let rest = text.get(19..)?;
        let (millis, rest) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(rest) => {
                let end = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
                let digits = format!("{:0<3}", rest.get(..end).filter(|it| !it.is_empty())?);
                (digits.get(..3)?.parse::<i64>().ok()?, rest.get(end..)?)
            }
        };
        let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
        let ms = (seconds - offset_s(rest)?) * 1_000 + millis;
        Some(Self(u64::try_from(ms).unwrap_or(0)))
    }
}

/// `Z`, `+01:00`.
fn offset_s(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str, most: i64| -> Option<i64> {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse().ok())?.filter(|number| *number <= most)
    };
    Some(sign * (two(hours, 23)? * 3_600 + two(minutes, 59)? * 60))
}

/// Days from 1970 to a day of the calendar; none when there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - EPOCH_DAYS)
}

/// Days from the first of March of the year 0 to 1970.
const EPOCH_DAYS: i64 = 719_468;

/// Year, month and day, so many days after 1970 began.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS.cast_unsigned();
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next, month, day)
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            let found = crate::refusal::excerpt(&text);
            D::Error::custom(format_args!(
                "time '{found}', expected RFC 3339 like 2026-11-01T07:05:09Z"
            ))
        })
    }
}

/// An amount of credits as text: digits, and up to six behind a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) Credits);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl From<Credits> for Amount {
    fn from(credits: Credits) -> Self {
        Self(credits)
    }
}

/// An amount that may be below zero, in micro-credits. As text like an [`Amount`], with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Balance(pub(crate) i128);

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (micros, million) = (self.0.unsigned_abs(), 1_000_000);
        let (whole, rest) = (micros / million, micros % million);
        if rest == 0 {
            return to.collect_str(&format_args!("{sign}{whole}"));
        }
        let decimals = format!("{rest:06}");
        to.collect_str(&format_args!("{sign}{whole}.{}", decimals.trim_end_matches('0')))
    }
}

/// A digest as text: `sha256:` and 64 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sha256(pub(crate) Digest);

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl From<Digest> for Sha256 {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

fn text(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .examples([serde_json::Value::from(example)])
}

macro_rules! schema {
    ($name:ident, $schema:expr) => {
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

schema!(
    Moment,
    text(
        "A moment, in RFC 3339. The server writes UTC with milliseconds.",
        "2026-11-01T07:05:09.120Z"
    )
    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);
schema!(
    Amount,
    text("Credits, with up to six decimals.", "12.5")
        .pattern(Some(r"^[0-9]{1,13}(\.[0-9]{1,6})?$"))
);
schema!(
    Balance,
    text("Credits, with up to six decimals; may be below zero.", "-0.25")
        .pattern(Some(r"^-?[0-9]{1,20}(\.[0-9]{1,6})?$"))
);
schema!(
    Sha256,
    text("A SHA-256.", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        .pattern(Some("^sha256:[0-9a-f]{64}$"))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_in_one_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_793_516_709_120, "2026-11-01T07:05:09.120Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Moment(ms).to_string(), text);
            assert_eq!(Moment::parse(text), Some(Moment(ms)));
        }
        // Each day of four centuries has the day before it as its yesterday.
        for day in 0..146_097 {
            let text = Moment(day * DAY_MS).to_string();
            assert_eq!(Moment::parse(&text), Some(Moment(day * DAY_MS)), "{text}");
        }
        let same = Moment(1_793_516_709_120);
        for text in [
            "2026-11-01T08:05:09.12+01:00",
            "2026-11-01t07:05:09.120999z",
            "2026-10-31 23:35:09.120-07:30",
        ] {
            assert_eq!(Moment::parse(text), Some(same), "{text}");
        }
        assert_eq!(Moment::parse("1969-12-31T23:59:59Z"), Some(Moment(0)));
        assert_eq!(Moment(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026-11-01",
            "2026-11-01T07:05:09",
            "2026-11-01T07:05:09.Z",
            "2026-11-01T07:05:09.5",
            "2026-11-01T07:05Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+1:00",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Zä",
            "20ä6-01-01T00:00:00Z",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn balances_are_exact_on_both_sides_of_zero() {
        for (micros, text) in [
            (0, "\"0\""),
            (-1, "\"-0.000001\""),
            (12_500_000, "\"12.5\""),
            (-3_000_000, "\"-3\""),
            (i128::from(i64::MIN), "\"-9223372036854.775808\""),
        ] {
            assert_eq!(serde_json::to_string(&Balance(micros)).expect("text"), text);
        }
    }
}
