//! The suite: every case in turn, and after each one an honest job that must come out as before.

use crate::{
    attempt::{Attempt, Held, ended, ensure},
    guest::Guest,
    target::{Broken, End, Published, Target},
};
use serde::Serialize;
use std::{fmt, time::Instant};

/// What an attack is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Out of the sandbox.
    Escape,
    /// The host's time and memory, so that others get none.
    Denial,
    /// Work without a bill.
    FreeRide,
    /// What others left, or what the host knows.
    Leak,
    /// Something that is not so, believed.
    Lie,
    /// All of it, by way of a model file.
    Model,
}

impl Group {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 6] =
        [Self::Escape, Self::Denial, Self::FreeRide, Self::Leak, Self::Lie, Self::Model];

    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Escape => "escape",
            Self::Denial => "denial",
            Self::FreeRide => "free_ride",
            Self::Leak => "leak",
            Self::Lie => "lie",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One attack.
pub struct Case {
    /// What is tried, in a few words: unique.
    pub name: String,
    /// What it is after.
    pub group: Group,
    pub(crate) attack: Attack,
}

/// Tries something, and says what the host made of it.
pub(crate) type Attack = Box<dyn Fn(&mut Attempt<'_>) -> Held>;

impl Case {
    pub(crate) fn new(
        group: Group,
        name: impl Into<String>,
        attack: impl Fn(&mut Attempt<'_>) -> Held + 'static,
    ) -> Self {
        Self { name: name.into(), group, attack: Box::new(attack) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.group, self.name)
    }
}

/// What became of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of the case.
    pub name: String,
    /// Of the case.
    pub group: Group,
    /// Whether the host held.
    pub held: bool,
    /// What the host made of it, or what broke.
    pub detail: String,
    /// That was burned and billed: of loads and runs.
    pub fuel: u64,
    /// All that was paid, refused uploads included, in millionths of a credit.
    pub credits_micro: u64,
    /// Packages that were uploaded.
    pub uploads: u32,
    /// Jobs that were run.
    pub jobs: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// All cases, by group. `stock_guest` is the module that runs ONNX files.
pub fn cases(stock_guest: &[u8]) -> Vec<Case> {
    crate::cases::all(stock_guest)
}

/// The attacks on one target.
pub struct Suite<'a> {
    target: &'a dyn Target,
    /// What the suite's packages are called before a number.
    prefix: String,
    honest: Published,
    /// What the honest job came to the first time.
    expected: End,
}

impl<'a> Suite<'a> {
    /// Publishes the honest package, and runs it. Names begin with `prefix`.
    ///
    /// # Errors
    /// When the target does not even do that.
    pub fn start(target: &'a dyn Target, prefix: &str) -> Result<Self, Broken> {
        let mut attempt = Attempt::new(target, format!("{prefix}-honest"));
        let honest = attempt.open(&Guest::default())?;
        let expected = attempt.run_plain(&honest, 1_000)?;
        ended(&expected, "completed", "")?;
        Ok(Self { target, prefix: prefix.into(), honest, expected })
    }

    /// Tries one case.
    pub fn attack(&self, number: usize, case: &Case) -> Report {
        let started = Instant::now();
        let mut attempt = Attempt::new(self.target, format!("{}-{number}", self.prefix));
        let before = self.target.paid_micro();
        let held = (case.attack)(&mut attempt);
        // Before the honest job, whose price is no attacker's.
        let paid = before.and_then(|before| Ok(self.target.paid_micro()?.saturating_sub(before)));
        let credits_micro = *paid.as_ref().unwrap_or(&0);
        let held = held.and_then(|detail| {
            is_paid(paid?, &attempt)?;
            self.is_well()?;
            Ok(detail)
        });
        let (is_held, detail) = match held {
            Ok(detail) => (true, detail),
            Err(Broken(detail)) => (false, detail),
        };
        Report {
            name: case.name.clone(),
            group: case.group,
            held: is_held,
            detail,
            fuel: attempt.fuel,
            credits_micro,
            uploads: attempt.uploads,
            jobs: attempt.jobs,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether an honest job comes out as it did at the start.
    fn is_well(&self) -> Result<(), Broken> {
        let mut attempt = Attempt::new(self.target, String::new());
        let end = attempt.run_plain(&self.honest, 1_000)?;
        ensure(end == self.expected, || {
            format!("afterwards an honest job came to {end:?}, before to {:?}", self.expected)
        })
    }
}

/// Whether all that was burned was paid for. More is: what burned in loads that failed is not known.
fn is_paid(paid_micro: u64, attempt: &Attempt<'_>) -> Result<(), Broken> {
    let (fuel, price) = (attempt.fuel, attempt.price_micro);
    ensure(paid_micro >= price, || {
        format!("{paid_micro} millionths of a credit paid for {fuel} fuel, which costs {price}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Dripped, Job, Ran, Upload, Work};
    use std::cell::Cell;

    /// A host whose price for a job is 10, and what it takes for one.
    struct Host {
        takes_micro: u64,
        paid_micro: Cell<u64>,
    }

    impl Target for Host {
        fn publish(&self, _: &[u8]) -> Result<Upload, Broken> {
            Ok(Upload::Published(Published { name: "model".into(), fuel: 0 }))
        }

        fn run(&self, job: &Job<'_>) -> Result<Ran, Broken> {
            self.paid_micro.set(self.paid_micro.get() + self.takes_micro);
            let (verdict, fuel) = ("completed".into(), job.fuel);
            let outputs = Vec::new();
            Ok(Ran::Ended(End { verdict, detail: String::new(), fuel, billed: true, outputs }))
        }

        fn drip(&self, _: &str) -> Result<Dripped, Broken> {
            Ok(Dripped::Closed)
        }

        fn paid_micro(&self) -> Result<u64, Broken> {
            Ok(self.paid_micro.get())
        }

        fn price_micro(&self, work: Work) -> Result<u64, Broken> {
            Ok(if let Work::Run { .. } = work { 10 } else { 0 })
        }

        fn printed(&self, _: &[u8]) -> Result<Vec<u8>, Broken> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn work_that_is_not_paid_for_breaks_a_case() {
        for (takes_micro, held) in [(11, true), (10, true), (9, false), (0, false)] {
            let host = Host { takes_micro, paid_micro: Cell::new(0) };
            let suite = Suite::start(&host, "test").expect("an honest job");
            let case = Case::new(Group::FreeRide, "two jobs", |attempt| {
                let model = attempt.open(&Guest::default())?;
                attempt.run_plain(&model, 500)?;
                attempt.run_plain(&model, 500)?;
                Ok("held".into())
            });
            let report = suite.attack(0, &case);
            assert_eq!(report.held, held, "{report:?}");
            // The honest job is not in it.
            assert_eq!((report.fuel, report.credits_micro), (1_000, 2 * takes_micro));
        }
    }
}
