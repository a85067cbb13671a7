//! What may be sent again, and when: a server that is busy says when to come back, a connection that
//! broke is tried again after growing pauses. All of it is bounded.

use super::refused::Refused;
use crate::exit::{Exit, Failure};
use std::{
    error::Error,
    fmt, io,
    time::{Duration, Instant},
};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server said no.
    Refused(Box<Refused>),
    /// Nobody answered, or the connection broke.
    Lost(reqwest::Error),
    /// The connection broke within the answer.
    Cut(io::Error),
    /// The request could not be made, or its answer not be taken.
    Own(Failure),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        // Addresses are known to whoever asked.
        Self::Lost(error.without_url())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Lost(error) => write!(f, "no answer: {}", words(error)),
            Self::Cut(error) => write!(f, "the answer was cut off: {}", words(error)),
            Self::Own(failure) => failure.fmt(f),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(refused) => Self::message(refused.exit(), refused),
            Trouble::Lost(_) | Trouble::Cut(_) => Self::message(Exit::Host, trouble),
            Trouble::Own(failure) => failure,
        }
    }
}

impl Trouble {
    /// The refusal with this code, if it is that.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refused) if refused.code == code)
    }

    /// Whether the same request may be answered another time.
    fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_passing(),
            Self::Lost(error) => {
                // A name that is not known and a certificate that is not trusted stay so.
                !error.is_builder() && !error.is_dns() && !is_tls(error)
            }
            Self::Cut(_) => true,
            Self::Own(_) => false,
        }
    }
}

/// Whether a certificate, or what else TLS is about, was the trouble.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // Errors of the system hide what they were made of.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| is_tls(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with its causes, each said once.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

/// How long somebody goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Requests after the first.
    pub(super) retries: u32,
    /// How long an earlier request of the same key is waited for: as long as for any answer.
    pub(super) in_flight: Duration,
}

/// One request's patience.
pub(super) struct Waits {
    patience: Patience,
    started: Instant,
    /// Requests after the first.
    again: u32,
    /// Looks for an earlier request's end.
    looks: u32,
}

/// The first pause when a server does not say how long.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest one of these.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The longest one that a server can ask for; whoever wants more is to be asked by people.
const ASKED_MAX: Duration = Duration::from_secs(60);

impl Patience {
    pub(super) fn start(self) -> Waits {
        Waits { patience: self, started: Instant::now(), again: 0, looks: 0 }
    }
}

impl Waits {
    /// The pause before the request is sent again; none when it is not.
    pub(super) fn next(&mut self, trouble: &Trouble) -> Option<Duration> {
        if !trouble.is_passing() {
            return None;
        }
        let asked = match trouble {
            Trouble::Refused(refused) => refused.retry_after,
            Trouble::Lost(_) | Trouble::Cut(_) | Trouble::Own(_) => None,
        };
        if asked.is_some_and(|asked| asked > ASKED_MAX) {
            return None;
        }
        let round = if trouble.is("in_flight") {
            // The job is under way, and so is its answer: that is waiting, not trying.
            if self.started.elapsed() >= self.patience.in_flight {
                return None;
            }
            self.looks += 1;
            self.looks
        } else {
            if self.again >= self.patience.retries {
                return None;
            }
            self.again += 1;
            self.again
        };
        Some(pause(round, asked, spread()))
    }
}

/// The pause before round 1, 2 and so on. `spread` is anywhere in 0 to 1, so that clients who were sent
/// away together do not come back together.
fn pause(round: u32, asked: Option<Duration>, spread: f64) -> Duration {
    let growing = PAUSE.saturating_mul(1 << (round - 1).min(16)).min(PAUSE_MAX);
    match asked {
        // Not earlier than asked, and a quarter later at most.
        Some(asked) => asked.max(PAUSE).mul_f64(1.0 + spread / 4.0),
        None => growing.mul_f64(0.5 + spread / 2.0),
    }
}

fn spread() -> f64 {
    // Without randomness all come back at the same time, which is no reason to fail.
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::{
        StatusCode,
        header::{HeaderMap, HeaderValue},
    };

    #[test]
    fn pauses_grow_spread_and_end() {
        let ms = Duration::from_millis;
        for (round, asked, least, most) in [
            (1, None, ms(100), ms(200)),
            (2, None, ms(200), ms(400)),
            (5, None, ms(1_600), ms(3_200)),
            (7, None, ms(5_000), ms(10_000)),
            (99, None, ms(5_000), ms(10_000)),
            (1, Some(ms(1_000)), ms(1_000), ms(1_250)),
            (9, Some(ms(1_000)), ms(1_000), ms(1_250)),
            (1, Some(ms(0)), ms(200), ms(250)),
        ] {
            assert_eq!(pause(round, asked, 0.0), least, "{round} {asked:?}");
            assert_eq!(pause(round, asked, 1.0), most, "{round} {asked:?}");
        }
    }

    fn refused(status: u16, retry_after: Option<&'static str>, body: &str) -> Trouble {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert("retry-after", HeaderValue::from_static(after));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Trouble::Refused(Box::new(Refused::read(status, headers, body.as_bytes())))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_only_that() {
        let tries = |retries: u32, trouble: &Trouble| {
            let mut waits = Patience { retries, in_flight: Duration::ZERO }.start();
            let mut count = 0;
            while waits.next(trouble).is_some() {
                count += 1;
            }
            count
        };
        assert_eq!(tries(3, &refused(429, Some("1"), "{}")), 3);
        assert_eq!(tries(3, &refused(503, Some("1"), "{}")), 3);
        assert_eq!(tries(0, &refused(503, Some("1"), "{}")), 0);
        assert_eq!(tries(3, &Trouble::Cut(io::ErrorKind::ConnectionReset.into())), 3);
        // Nobody says that it passes, or not soon.
        assert_eq!(tries(3, &refused(503, None, "{}")), 0);
        assert_eq!(tries(3, &refused(503, Some("61"), "{}")), 0);
        for status in [400, 401, 402, 403, 404, 409, 413, 422, 500, 504] {
            assert_eq!(tries(3, &refused(status, None, "{}")), 0, "{status}");
        }
    }

    #[test]
    fn a_job_under_way_is_waited_for_as_long_as_an_answer() {
        let trouble = refused(409, Some("1"), r#"{"code":"in_flight"}"#);
        let long = Patience { retries: 0, in_flight: Duration::from_secs(3_600) };
        assert!(long.start().next(&trouble).is_some());
        let short = Patience { retries: 9, in_flight: Duration::ZERO };
        assert!(short.start().next(&trouble).is_none());
    }
}
