//! Who sends what, and when: one sequence of turns that all connections take from.

use crate::plan::{Pace, Plan};
use anyhow::{Result, ensure};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How long a request of an open loop waits for a free connection.
const PATIENCE: Duration = Duration::from_millis(100);
/// Seconds of a run: a plan with a slip in it should not run for days.
const SECONDS_MAX: f64 = 24.0 * 3_600.0;
const CONNECTIONS_MAX: usize = 4_096;

/// A request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Turn {
    /// When; not before.
    pub(crate) due: Instant,
    /// No two turns have the same. 0 is left for the request before all others.
    pub(crate) number: u64,
    /// An index into the plan's traffic.
    pub(crate) traffic: usize,
    /// How long its sender waits for the answer, when it is one that goes away.
    pub(crate) leaves_after: Option<Duration>,
}

/// The sequence.
#[derive(Debug)]
pub(crate) struct Turns {
    start: Instant,
    end: Instant,
    /// Between two turns; none in a closed loop.
    interval: Option<Duration>,
    /// Share and leavers of each traffic.
    mix: Vec<(u64, u64)>,
    next: Cell<u64>,
    unsent: Cell<u64>,
}

impl Turns {
    pub(crate) fn new(plan: &Plan, start: Instant) -> Result<Self> {
        let seconds = plan.warmup_s + plan.measured_s;
        ensure!(plan.warmup_s >= 0.0 && plan.measured_s > 0.0, "the plan has no time");
        ensure!(seconds <= SECONDS_MAX, "{seconds} s, at most {SECONDS_MAX}");
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&plan.connections),
            "{} connections, allowed are 1 to {CONNECTIONS_MAX}",
            plan.connections
        );
        let mix: Vec<_> = plan
            .traffic
            .iter()
            .map(|traffic| (traffic.share.into(), traffic.leaves_per_1000.into()))
            .collect();
        ensure!(mix.iter().any(|(share, _)| *share > 0), "the plan has no traffic");
        let interval = match plan.pace {
            Pace::Closed => None,
            Pace::Open { requests_per_s } => {
                ensure!((0.001..=1e6).contains(&requests_per_s), "{requests_per_s} requests/s");
                Some(Duration::from_secs_f64(1.0 / requests_per_s))
            }
        };
        let end = start + Duration::from_secs_f64(seconds);
        Ok(Self { start, end, interval, mix, next: Cell::new(0), unsent: Cell::new(0) })
    }

    /// The next turn; none when the time is over.
    pub(crate) fn next(&self, now: Instant) -> Option<Turn> {
        loop {
            let at = self.next.get();
            let due = match self.interval {
                None => now,
                // Not `interval * at`: that ends at 2^32.
                Some(interval) => {
                    self.start + Duration::from_secs_f64(interval.as_secs_f64() * at as f64)
                }
            };
            if due >= self.end {
                return None;
            }
            self.next.set(at + 1);
            if self.interval.is_some() && due + PATIENCE < now {
                self.unsent.set(self.unsent.get() + 1);
                continue;
            }
            return Some(self.turn(due, at + 1));
        }
    }

    /// Turns that came too late for all connections.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.get()
    }

    fn turn(&self, due: Instant, number: u64) -> Turn {
        let mut random = Random(number);
        let all: u64 = self.mix.iter().map(|(share, _)| share).sum();
        let mut draw = random.below(all);
        let mut traffic = 0;
        for (at, (share, _)) in self.mix.iter().enumerate() {
            traffic = at;
            match draw.checked_sub(*share) {
                Some(rest) => draw = rest,
                None => break,
            }
        }
        let leaves = random.below(1_000) < self.mix[traffic].1;
        let leaves_after = leaves.then(|| Duration::from_micros(random.below(LEAVES_US)));
        Turn { due, number, traffic, leaves_after }
    }
}

/// Those that go away do so within this time: around what a small model takes on a busy server.
const LEAVES_US: u64 = 20_000;

/// SplitMix64: the same turns in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Protocol, Traffic};

    fn plan(pace: Pace, shares: &[(u32, u32)]) -> Plan {
        let traffic = shares.iter().map(|(share, leaves)| Traffic {
            name: String::new(),
            model: String::new(),
            key: None,
            input: String::new(),
            shape: vec![2],
            share: *share,
            leaves_per_1000: *leaves,
        });
        Plan {
            protocol: Protocol::Grpc,
            address: "127.0.0.1:1".parse().expect("an address"),
            connections: 1,
            pace,
            warmup_s: 0.5,
            measured_s: 0.5,
            bills: false,
            traffic: traffic.collect(),
        }
    }

    #[test]
    fn turns_of_an_open_loop_come_at_their_rate_and_lapse_when_nobody_takes_them() {
        let start = Instant::now();
        let open = Pace::Open { requests_per_s: 100.0 };
        let turns = Turns::new(&plan(open, &[(1, 0)]), start).expect("a plan");
        let at = |ms| start + Duration::from_millis(ms);
        let due = |turn: Option<Turn>| turn.map(|turn| (turn.due - start).as_millis());
        assert_eq!(due(turns.next(start)), Some(0));
        assert_eq!(due(turns.next(start)), Some(10));
        // At 125 ms the turn of 20 ms is 105 ms late, that of 30 ms is not.
        assert_eq!(due(turns.next(at(125))), Some(30));
        assert_eq!(turns.unsent(), 1);
        // 100 turns in a second; those up to 890 ms lapse at 1,000.
        assert_eq!(due(turns.next(at(1_000))), Some(900));
        let rest = std::iter::from_fn(|| turns.next(at(1_000))).count();
        assert_eq!((rest, turns.unsent()), (9, 1 + 86));
    }

    #[test]
    fn turns_of_a_closed_loop_are_due_at_once_until_the_end() {
        let start = Instant::now();
        let turns = Turns::new(&plan(Pace::Closed, &[(1, 0)]), start).expect("a plan");
        let later = start + Duration::from_millis(999);
        assert_eq!(turns.next(later).map(|turn| (turn.due, turn.number)), Some((later, 1)));
        assert_eq!(turns.next(start + Duration::from_secs(1)), None);
        assert_eq!(turns.unsent(), 0);
    }

    #[test]
    fn traffic_is_mixed_by_share_and_some_of_it_leaves() {
        let start = Instant::now();
        let mix = [(3, 0), (0, 0), (1, 500)];
        let turns = Turns::new(&plan(Pace::Closed, &mix), start).expect("a plan");
        let mut counts = [[0; 2]; 3];
        for _ in 0..8_000 {
            let turn = turns.next(start).expect("time");
            counts[turn.traffic][usize::from(turn.leaves_after.is_some())] += 1;
        }
        let near = |found: i32, expected: i32| (found - expected).abs() < 200;
        assert!(near(counts[0][0], 6_000) && counts[0][1] == 0, "{counts:?}");
        assert!(counts[1] == [0, 0], "{counts:?}");
        assert!(near(counts[2][0], 1_000) && near(counts[2][1], 1_000), "{counts:?}");
    }

    #[test]
    fn a_plan_out_of_bounds_is_refused() {
        let good = plan(Pace::Closed, &[(1, 0)]);
        let error =
            |plan: &Plan| Turns::new(plan, Instant::now()).err().map(|error| error.to_string());
        assert_eq!(error(&good), None);
        let slow = Pace::Open { requests_per_s: 0.0 };
        for (bad, expected) in [
            (Plan { measured_s: 0.0, ..good.clone() }, "the plan has no time"),
            (Plan { measured_s: 1e9, ..good.clone() }, "1000000000.5 s, at most 86400"),
            (Plan { connections: 0, ..good.clone() }, "0 connections, allowed are 1 to 4096"),
            (plan(slow, &[(1, 0)]), "0 requests/s"),
            (plan(Pace::Closed, &[(0, 0)]), "the plan has no traffic"),
        ] {
            assert_eq!(error(&bad).as_deref(), Some(expected));
        }
    }
}
