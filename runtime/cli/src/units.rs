//! Amounts as people write them: `500M` of fuel, `2GiB` of memory, `500ms`.
//!
//! Exact: an amount that is no whole number of its base unit is refused, not rounded.

use std::time::Duration;

const FUEL: &[(&str, u64)] =
    &[("", 1), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)];

const BYTES: &[(&str, u64)] = &[
    ("", 1),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const TIMES: &[(&str, u64)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units of fuel: `250000`, `500M`, `1.5G`.
pub(crate) fn fuel(text: &str) -> Result<u64, String> {
    amount(text, FUEL)
}

/// Bytes: `65536`, `500M` (decimal), `2GiB` (binary).
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    amount(text, BYTES)
}

/// A span of time: `5s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    amount(text, TIMES).map(Duration::from_nanos)
}

/// A share in millionths: `5%`, `0.1%`, at most `100%`.
pub(crate) fn share_ppm(text: &str) -> Result<u64, String> {
    let expected = || format!("'{text}', expected a share like 5% or 0.01%, at most 100%");
    let number = text.strip_suffix('%').ok_or_else(expected)?;
    amount(number, &[("", 10_000)]).ok().filter(|ppm| *ppm <= 1_000_000).ok_or_else(expected)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
    let Some((_, factor)) = factor else {
        let mut allowed = units.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        allowed.retain(|name| !name.is_empty());
        return Err(format!("unit '{unit}', allowed are {}", allowed.join(", ")));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err("a number was expected".into());
    }
    scaled(whole, fraction, *factor)
        .ok_or_else(|| format!("no whole number below 2^64: {number} times {factor}"))
}

/// `whole.fraction * factor`; none when it is no whole number or too large.
fn scaled(whole: &str, fraction: &str, factor: u64) -> Option<u64> {
    let digits = |text: &str| {
        if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() }
    };
    let fraction = fraction.trim_end_matches('0');
    let divisor = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = u128::from(digits(fraction)?) * u128::from(factor);
    if !parts.is_multiple_of(divisor) {
        return None;
    }
    let whole = u128::from(digits(whole)?) * u128::from(factor);
    u64::try_from(whole + parts / divisor).ok()
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount in micro-credits that may be below zero, as credits.
pub(crate) fn show_micros(micros: i128) -> String {
    let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let decimals = format!("{:06}", micros % 1_000_000);
    let text = format!("{sign}{}.{decimals}", micros / 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `19.2 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size {
            return format!("{:.1} {unit}", bytes as f64 / size as f64);
        }
    }
    format!("{bytes} bytes")
}

/// `46 us`, `31.2 ms`, `12.3 s`.
pub(crate) fn show_duration(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        us => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("250000", Ok(250_000)),
            ("500M", Ok(500_000_000)),
            ("500m", Ok(500_000_000)),
            ("2G", Ok(2_000_000_000)),
            ("1.5G", Ok(1_500_000_000)),
            ("0.0010K", Ok(1)),
            ("18446744073709551615", Ok(u64::MAX)),
            (
                "18446744073709551616",
                Err("no whole number below 2^64: 18446744073709551616 times 1"),
            ),
            ("0.5", Err("no whole number below 2^64: 0.5 times 1")),
            ("99999999999T", Err("no whole number below 2^64: 99999999999 times 1000000000000")),
            ("1.2.3", Err("no whole number below 2^64: 1.2.3 times 1")),
            ("", Err("a number was expected")),
            (".", Err("a number was expected")),
            ("G", Err("a number was expected")),
            ("-1", Err("unit '-1', allowed are K, M, G, T")),
            ("2GiB", Err("unit 'GiB', allowed are K, M, G, T")),
        ] {
            assert_eq!(fuel(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn bytes_are_decimal_or_binary_as_their_unit_says() {
        for (text, expected) in [
            ("65536", 65_536),
            ("2G", 2_000_000_000),
            ("2GB", 2_000_000_000),
            ("2GiB", 2 << 30),
            ("1.5MiB", 3 << 19),
            ("64 KiB", 64 << 10),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, expected) in [
            ("5s", Ok(Duration::from_secs(5))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1.5m", Ok(Duration::from_secs(90))),
            ("5", Err("unit '', allowed are us, ms, s, m, h".to_owned())),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn shares_are_whole_millionths() {
        for (text, expected) in [
            ("5%", Some(50_000)),
            ("0.0001%", Some(1)),
            ("100%", Some(1_000_000)),
            ("0%", Some(0)),
            ("100.0001%", None),
            ("0.00001%", None),
            ("5", None),
            ("%", None),
            ("-1%", None),
        ] {
            assert_eq!(share_ppm(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn balances_have_a_sign_and_no_zeros_behind() {
        for (micros, expected) in [
            (0, "0"),
            (1, "0.000001"),
            (-12_500_000, "-12.5"),
            (-10_000_000, "-10"),
            (i128::from(u64::MAX), "18446744073709.551615"),
        ] {
            assert_eq!(show_micros(micros), expected);
        }
    }

    #[test]
    fn amounts_are_shown_short() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
        for (bytes, expected) in [(7, "7 bytes"), (1 << 10, "1.0 KiB"), (20_132_659, "19.2 MiB")] {
            assert_eq!(show_bytes(bytes), expected);
        }
        for (us, expected) in [(46, "46 us"), (31_200, "31.2 ms"), (12_300_000, "12.3 s")] {
            assert_eq!(show_duration(Duration::from_micros(us)), expected);
        }
    }
}
