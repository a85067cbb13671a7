//! Context: how a request is called, here and by those whom it came through.
//!
//! What a client says is taken when it is well-formed, and made here otherwise. It is shown in logs and
//! sent back, so it is bounded and printable, and no access key.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// A client's or a proxy's name for a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Enough for a UUID, a ULID or a trace id with something before it.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// How keys begin. One that was sent in the wrong header must not be shown.
const KEY_PREFIX: &str = "fbx_";

/// Which trace a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) id: u128,
    /// The caller's span; none when the trace begins here.
    pub(super) parent: Option<u64>,
    /// What whoever began the trace decided; none when nobody did.
    pub(super) sampled: Option<bool>,
}

/// A request's name: the client's, or that of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// For the answer.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Makes names that no other request has.
pub(super) struct Ids {
    seed: u64,
    made: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        // A system without randomness gives names that are new to this process all the same.
        Self { seed: getrandom::u64().unwrap_or_default(), made: AtomicU64::new(0) }
    }

    /// A number that looks random and comes once: a counter, mixed by splitmix64. Traces are sampled by
    /// it, and nothing is kept secret by it.
    pub(super) fn next(&self) -> u64 {
        let step = self.made.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut x = self.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Zero means none in a trace.
        (x ^ (x >> 31)).max(1)
    }

    /// The names of a request with these headers.
    pub(super) fn read(&self, headers: &HeaderMap) -> (Trace, RequestId) {
        let trace = one(headers, &TRACEPARENT).and_then(|value| traceparent(value.as_bytes()));
        let trace = trace.unwrap_or_else(|| Trace {
            id: u128::from(self.next()) << 64 | u128::from(self.next()),
            parent: None,
            sampled: None,
        });
        let id = one(headers, &REQUEST_ID).filter(|value| is_request_id(value.as_bytes()));
        let id = id.cloned().unwrap_or_else(|| {
            // 32 hexadecimal digits are a header's value.
            HeaderValue::try_from(format!("{:032x}", trace.id))
                .unwrap_or(HeaderValue::from_static("none"))
        });
        (trace, RequestId(id))
    }
}

/// The one value of a header; none when there are two.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_request_id(bytes: &[u8]) -> bool {
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len());
    let shown = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let prefix = KEY_PREFIX.as_bytes();
    let has_key = || bytes.windows(prefix.len()).any(|part| part.eq_ignore_ascii_case(prefix));
    fits && bytes.iter().all(shown) && !has_key()
}

/// `VERSION-TRACE-SPAN-FLAGS`, lower case. Later versions may have more behind the flags.
fn traceparent(bytes: &[u8]) -> Option<Trace> {
    let text = str::from_utf8(bytes).ok().filter(|text| text.is_ascii() && text.len() >= 55)?;
    let (text, rest) = text.split_at(55);
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.bytes().all(lower).then(|| u128::from_str_radix(part, 16).ok())?
    };
    let (version, id, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let longer = version == 0 && !rest.is_empty() || !(rest.is_empty() || rest.starts_with('-'));
    if version == 0xff || longer || id == 0 || span == 0 {
        return None;
    }
    let parent = u64::try_from(span).ok()?;
    Some(Trace { id, parent: Some(parent), sampled: Some(flags & 1 == 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
        all.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn a_trace_is_taken_when_it_is_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace {
            id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            parent: Some(0x00f0_67aa_0ba9_02b7),
            sampled: Some(true),
        };
        assert_eq!(traceparent(good.as_bytes()), Some(trace));
        let unsampled = traceparent(good.replace("-01", "-02").as_bytes());
        assert_eq!(unsampled, Some(Trace { sampled: Some(false), ..trace }));
        let later = good.replacen("00", "7a", 1) + "-more";
        assert_eq!(traceparent(later.as_bytes()), Some(trace));
        for bad in [
            "",
            &good[..54],
            &(good.to_owned() + "-more"),
            &(later.replace("-more", "more")),
            &good.replacen("00", "ff", 1),
            &good.to_uppercase(),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace("-01", "-0x"),
            &good.replace("4bf9", "+bf9"),
            &good.replace("-01", "+01"),
        ] {
            assert_eq!(traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_taken_when_it_can_be_shown() {
        let ids = Ids::new();
        let long = "x".repeat(REQUEST_ID_BYTES_MAX);
        for good in ["7", "a-b_c.d:e/f=", &long] {
            let (_, id) = ids.read(&headers(&[(REQUEST_ID, good)]));
            assert_eq!(id.to_string(), good);
        }
        let longer = long.clone() + "x";
        for bad in ["", "a b", "a\tb", "\u{e9}", "a\"b", "a\\b", &longer, "fbx_abc", "x-FBX_abc"] {
            let (trace, id) = ids.read(&headers(&[(REQUEST_ID, bad)]));
            assert_eq!(id.to_string(), format!("{:032x}", trace.id), "{bad}");
        }
        let mut two = headers(&[(REQUEST_ID, "a")]);
        two.append(REQUEST_ID, HeaderValue::from_static("b"));
        assert_ne!(ids.read(&two).1.to_string(), "a");
    }

    #[test]
    fn names_that_are_made_here_come_once() {
        let ids = Ids::new();
        let mut all: Vec<_> = (0..10_000).map(|_| ids.next()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
    }
}
