//! How the program ends: an exit code for each kind of end, and the one place where errors are printed.

mod jobs;
mod proof;

use crate::{file::TooLarge, output::text::escaped};
use fuelbox_engine::{
    ArchiveError, CacheError, EngineError, HostFault, ManifestError, ModelError, Verdict,
};
use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
};

/// The exit codes. The number is part of the interface and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The job answered, or the command did what it was asked.
    Completed = 0,
    /// Wrong arguments. (clap ends the program with this code on its own.)
    Usage = 2,
    /// A file, package, model or tensor that was refused before anything ran.
    BadInput = 3,
    /// The guest failed.
    Guest = 4,
    /// A limit was reached.
    Limit = 5,
    /// The host failed.
    Host = 6,
    /// An account has less than is needed.
    Payment = 7,
    /// A signature, receipt, log or replay does not hold.
    Proof = 8,
}

impl Exit {
    const ALL: [Self; 8] = [
        Self::Completed,
        Self::Usage,
        Self::BadInput,
        Self::Guest,
        Self::Limit,
        Self::Host,
        Self::Payment,
        Self::Proof,
    ];

    fn meaning(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Usage => "bad usage: the arguments are wrong",
            Self::BadInput => {
                "bad input: a file, package, model or tensor was refused before it ran"
            }
            Self::Guest => "guest failure: guest_error, trap or bad_output; also while loading",
            Self::Limit => {
                "a limit: out_of_fuel, cancelled (deadline), memory, input or package size, a full queue"
            }
            Self::Host => {
                "host fault: the machine, the cache, the data folder or fuelbox itself failed"
            }
            Self::Payment => "payment: not enough credits",
            Self::Proof => "proof: a signature, receipt, log or replay does not hold",
        }
    }

    /// What a job's end means for the program.
    pub(crate) fn of_verdict(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Completed { .. } => Self::Completed,
            Verdict::GuestError { .. } | Verdict::Trap { .. } | Verdict::BadOutput { .. } => {
                Self::Guest
            }
            Verdict::OutOfFuel | Verdict::Cancelled => Self::Limit,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table of exit codes for `--help` and the man page.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {}  {}", exit as u8, exit.meaning());
    }
    text
}

/// An error that ends the program.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// An error in words.
    pub(crate) fn message(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}") }
    }

    /// The same failure with another exit code.
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same failure, with what it happened to in front.
    pub(crate) fn of(self, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { exit: self.exit, error: self.error.context(what) }
    }

    /// Prints the error.
    pub(crate) fn report(self) -> ExitCode {
        print_error(&self.to_string());
        self.exit.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// An error with its causes, each said once: many errors have their cause in their own words.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// The one way in which errors are shown.
pub(crate) fn print_error(message: &str) {
    // When stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "error: {}", escaped(message));
}

/// Gives an error the exit code that it means here.
pub(crate) trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for std::result::Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            // Whatever it is that was read: its size is a limit.
            let exit = if error.is::<TooLarge>() { Exit::Limit } else { exit };
            Failure { exit, error }
        })
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let exit = match &error {
            ModelError::Engine(error) if error.is_host_fault() => Exit::Host,
            ModelError::Engine(_) => Exit::BadInput,
            ModelError::Load(outcome) => Exit::of_verdict(&outcome.verdict),
            ModelError::Input(_) | ModelError::Request(_) => Exit::BadInput,
            ModelError::InputTooLarge { .. } | ModelError::MemoryLimit { .. } => Exit::Limit,
            ModelError::Fault(_) | ModelError::Cache(_) | ModelError::Package(_) => Exit::Host,
        };
        Self::new(exit, error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        ModelError::from(error).into()
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::new(Exit::Host, error)
    }
}

impl From<HostFault> for Failure {
    fn from(error: HostFault) -> Self {
        Self::new(Exit::Host, error)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let exit = match &error {
            ArchiveError::TooLarge { .. } => Exit::Limit,
            ArchiveError::Magic { .. }
            | ArchiveError::Version { .. }
            | ArchiveError::Damaged { .. }
            | ArchiveError::Entry { .. }
            | ArchiveError::NoManifest { .. }
            | ArchiveError::ManifestSize { .. }
            | ArchiveError::Manifest(_)
            | ArchiveError::PartSize { .. }
            | ArchiveError::PartDigest { .. }
            | ArchiveError::PartMissing { .. } => Exit::BadInput,
        };
        Self::new(exit, error)
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(Exit::BadInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_engine::{JobLimits, Outcome, TrapKind, Usage};

    #[test]
    fn every_verdict_has_its_code() {
        let detail = String::new;
        for (verdict, code) in [
            (Verdict::Completed { outputs: vec![], parameters: vec![] }, 0),
            (Verdict::GuestError { status: fuelbox_abi::Status::Failed, detail: detail() }, 4),
            (Verdict::Trap { kind: TrapKind::Unreachable, detail: detail() }, 4),
            (Verdict::BadOutput { detail: detail() }, 4),
            (Verdict::OutOfFuel, 5),
            (Verdict::Cancelled, 5),
        ] {
            assert_eq!(Exit::of_verdict(&verdict) as u8, code, "{verdict:?}");
            let outcome = Outcome { verdict, usage: Usage::default(), log: String::new() };
            assert_eq!(Failure::from(ModelError::Load(Box::new(outcome))).exit as u8, code);
        }
    }

    #[test]
    fn errors_have_their_codes() {
        let allowed = JobLimits::default().input_bytes;
        let memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        for (failure, code) in [
            (Failure::from(ModelError::InputTooLarge { found: allowed + 1, allowed }), 5),
            (ModelError::MemoryLimit { found: 2, allowed: 1 }.into(), 5),
            (ModelError::Fault(HostFault::Growth).into(), 6),
            (HostFault::Memory(memory()).into(), 6),
            (EngineError::Module("no bytes".into()).into(), 3),
            (ArchiveError::TooLarge { state: "unpacked" }.into(), 5),
            (ArchiveError::Damaged { message: String::new() }.into(), 3),
            (ManifestError::NotCanonical.into(), 3),
        ] {
            assert_eq!(failure.exit as u8, code, "{failure:?}");
        }
    }

    #[test]
    fn size_is_a_limit_whatever_was_read() {
        let error = || anyhow::Error::new(TooLarge { what: "file", found: 2, allowed: 1 });
        for error in [error(), error().context("a.npz"), error().context("array").context("a.npz")]
        {
            let failure = Err::<(), _>(error).or_exit(Exit::BadInput).expect_err("failure");
            assert_eq!(failure.exit, Exit::Limit);
        }
    }

    #[test]
    fn help_has_every_code() {
        let help = help();
        for exit in Exit::ALL {
            assert!(help.contains(&format!("\n  {}  ", exit as u8)), "{help}");
        }
    }
}
