//! What is attacked: something that packages go to, and jobs.

use fuelbox_engine::Tensor;
use std::fmt;

/// A host, as publishers and callers have it.
pub trait Target {
    /// Uploads a package and publishes it.
    ///
    /// # Errors
    /// When the host fails at it, instead of publishing or refusing it.
    fn publish(&self, package: &[u8]) -> Result<Upload, Broken>;

    /// Runs a job and waits for its end.
    ///
    /// # Errors
    /// When the host fails at it, instead of running or refusing it.
    fn run(&self, job: &Job<'_>) -> Result<Ran, Broken>;

    /// Sends a job of a package with a body that comes a byte at a time and has no end, until the host lets
    /// go of it.
    ///
    /// # Errors
    /// When the host takes it for good, or fails.
    fn drip(&self, model: &str) -> Result<Dripped, Broken>;

    /// What was paid so far, by publisher and caller, in millionths of a credit.
    ///
    /// # Errors
    /// When the host does not say.
    fn paid_micro(&self) -> Result<u64, Broken>;

    /// The least that work costs by the host's published prices, in millionths of a credit.
    ///
    /// # Errors
    /// When it is no amount.
    fn price_micro(&self, work: Work) -> Result<u64, Broken>;

    /// All that the program prints when it runs a package by itself, on this machine.
    ///
    /// # Errors
    /// When it cannot be run.
    fn printed(&self, package: &[u8]) -> Result<Vec<u8>, Broken>;
}

/// Work that is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The load of a package.
    Load {
        /// That it burned.
        fuel: u64,
    },
    /// A job of a package of the same account, which gets its part as the publisher when it completes.
    Run {
        /// That it burned.
        fuel: u64,
        /// Whether it completed.
        completed: bool,
    },
}

/// What became of an upload.
#[derive(Clone, Debug)]
pub enum Upload {
    /// Jobs can name it.
    Published(Published),
    /// The host does not want it.
    Refused(Refusal),
}

/// A package that jobs can name.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// Fuel of its load.
    pub fuel: u64,
}

/// What a host says when it does not want something.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The documented one.
    pub code: String,
    /// The sentence.
    pub text: String,
}

/// A job.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// A published package.
    pub model: &'a str,
    /// What it is given.
    pub inputs: &'a [Tensor],
    /// Most fuel of the run.
    pub fuel: u64,
    /// Most memory, in bytes; the package's own when not given.
    pub memory_bytes: Option<u64>,
    /// Of its randomness.
    pub seed: u64,
    /// Most time, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// What became of a job.
#[derive(Clone, Debug)]
pub enum Ran {
    /// It ran, and was billed.
    Ended(End),
    /// The host did not take it: nothing was billed.
    Refused(Refusal),
}

/// What became of a body that came too slowly.
#[derive(Clone, Debug)]
pub enum Dripped {
    /// The host said no.
    Refused(Refusal),
    /// The host closed the connection, and whatever it said did not get here.
    Closed,
}

/// The end of a job that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// `completed`, `trap`, `out_of_fuel`, ...
    pub verdict: String,
    /// In words, for one that did not complete; empty otherwise.
    pub detail: String,
    /// Of the run.
    pub fuel: u64,
    /// Whether there is a bill.
    pub billed: bool,
    /// Of one that completed.
    pub outputs: Vec<Tensor>,
}

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl Broken {
    /// With these words.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}
