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
        let held = (case.attack)(&mut attempt).and_then(|detail| {
            self.is_well()?;
            Ok(detail)
        });
        let paid = before.and_then(|before| {
            let after = self.target.paid_micro()?;
            // The honest job's part is in it: some millionths.
            Ok(after.saturating_sub(before))
        });
        let (held, credits_micro) = match paid {
            Ok(paid) => (held, paid),
            Err(broken) => (held.and(Err(broken)), 0),
        };
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
