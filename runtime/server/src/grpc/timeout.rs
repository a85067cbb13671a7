//! How long a client waits: `grpc-timeout`, at most eight digits and a unit.

use crate::refusal::{Code, Refusal, excerpt};
use axum::http::HeaderMap;
use std::time::{Duration, Instant};

/// Longer than any job may have.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// When the client goes away; none when it did not say.
pub(super) fn deadline(headers: &HeaderMap, received: Instant) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(parse);
    let timeout = timeout.ok_or_else(|| {
        let found = excerpt(&String::from_utf8_lossy(value.as_bytes()));
        Refusal::bad(format!(
            "header grpc-timeout: found '{found}', expected up to eight digits and one of H, M, S, m, u, n"
        ))
    })?;
    // A day and more is no deadline: jobs are given up before.
    Ok(Some(timeout).filter(|timeout| *timeout < LONGEST).map(|timeout| received + timeout))
}

/// What is left until then, as the deadline of a job that may have one of its own.
pub(super) fn shorter(
    own: Option<Duration>,
    client: Option<Instant>,
) -> Result<Option<Duration>, Refusal> {
    let Some(client) = client else {
        return Ok(own);
    };
    let left = client.saturating_duration_since(Instant::now());
    if left.is_zero() {
        let sentence = "the deadline of the call passed before its job was there";
        return Err(Refusal::new(Code::Deadline, sentence));
    }
    Ok(Some(own.map_or(left, |own| own.min(left))))
}

fn parse(text: &str) -> Option<Duration> {
    let (unit, digits) = text.as_bytes().split_last()?;
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("+1S", None),
            ("1s", None),
            ("1", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_shorter_deadline_holds() {
        let now = Instant::now();
        let far = now + Duration::from_secs(1_000);
        let second = Duration::from_secs(1);
        assert_eq!(shorter(Some(second), Some(far)).expect("left"), Some(second));
        assert_eq!(shorter(Some(second), None).expect("left"), Some(second));
        assert_eq!(shorter(None, None).expect("left"), None);
        assert!(shorter(None, Some(far)).expect("left") > Some(second));
        assert!(shorter(Some(second * 2_000), Some(far)).expect("left") < Some(second * 1_001));
        assert_eq!(shorter(Some(second), Some(now)).expect_err("passed").code, Code::Deadline);
    }
}
