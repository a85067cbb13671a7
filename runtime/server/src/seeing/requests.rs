//! Requests by route and status, and refusals by code.

use super::{
    exposition::{Exposition, Kind},
    histogram::Histogram,
};
use crate::refusal::Code;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Http(u16),
    /// The number of a `grpc-status`.
    Grpc(u8),
    /// The client went away.
    Gone,
}

/// The names of gRPC's statuses, by number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Status {
    /// For labels and logs: `200`, `NOT_FOUND`, `gone`.
    pub(super) fn text(self) -> Cow<'static, str> {
        match self {
            Self::Http(status) => Cow::Owned(status.to_string()),
            Self::Grpc(number) => {
                Cow::Borrowed(GRPC.get(usize::from(number)).copied().unwrap_or("UNKNOWN"))
            }
            Self::Gone => Cow::Borrowed("gone"),
        }
    }

    /// Whether it is the server's matter: 500 and above, and what gRPC has for them.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::Http(status) => status >= 500,
            Self::Grpc(number) => matches!(number, 2 | 4 | 12 | 13 | 14 | 15 | 17..),
            Self::Gone => false,
        }
    }
}

/// All requests.
pub(crate) struct Requests {
    /// By route, then status. Routes are the server's own, so there are few.
    seen: RwLock<BTreeMap<String, BTreeMap<Status, Histogram>>>,
    refusals: [AtomicU64; Code::ALL.len()],
}

impl Default for Requests {
    fn default() -> Self {
        let refusals = std::array::from_fn(|_| AtomicU64::new(0));
        Self { seen: RwLock::default(), refusals }
    }
}

impl Requests {
    /// Counts a request.
    pub(super) fn ended(&self, route: &str, status: Status, took: Duration) {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = seen.get(route).and_then(|by_status| by_status.get(&status)) {
            return times.add(took);
        }
        drop(seen);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.entry(route.to_owned()).or_default().entry(status).or_default().add(took);
    }

    /// Counts a refusal, by its name on the wire.
    pub(super) fn refused(&self, code: &str) {
        let place = Code::ALL.iter().position(|known| known.name() == code);
        if let Some(place) = place {
            self.refusals[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what was counted.
    pub(super) fn write(&self, text: &mut Exposition) {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let help = "Time of requests to their answer, by route and status.";
        let mut family = text.family("fuelbox_request_seconds", Kind::Histogram, help);
        for (route, by_status) in seen.iter() {
            for (status, times) in by_status {
                family.histogram(&[("route", route), ("status", &status.text())], times);
            }
        }
        drop(seen);
        let mut family =
            text.family("fuelbox_refusals_total", Kind::Counter, "Refusals, by their code.");
        for (code, count) in Code::ALL.iter().zip(&self.refusals) {
            family.sample(&[("code", code.name())], count.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_those_of_the_server() {
        let grpc = |name: &str| {
            let number = GRPC.iter().position(|known| *known == name).expect("a status");
            Status::Grpc(u8::try_from(number).expect("small"))
        };
        for status in [Status::Http(500), Status::Http(503), grpc("INTERNAL"), grpc("UNAVAILABLE")]
        {
            assert!(status.is_failure(), "{status:?}");
        }
        for status in [Status::Http(499), Status::Http(200), Status::Gone, grpc("OK")] {
            assert!(!status.is_failure(), "{status:?}");
        }
        assert!(!grpc("UNAUTHENTICATED").is_failure());
        assert_eq!(Status::Grpc(99).text(), "UNKNOWN");
        assert_eq!(grpc("NOT_FOUND").text(), "NOT_FOUND");
    }

    #[test]
    fn refusals_are_counted_by_code_and_nothing_else_is() {
        let requests = Requests::default();
        requests.refused("busy");
        requests.refused("a client's own word");
        let mut text = Exposition::default();
        requests.write(&mut text);
        let text = text.finish();
        assert!(text.contains("fuelbox_refusals_total{code=\"busy\"} 1\n"), "{text}");
        assert!(!text.contains("own word"));
    }
}
