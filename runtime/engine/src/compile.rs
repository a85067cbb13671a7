//! Compiling: a husk becomes machine code, in a worker process that can be stopped.
//!
//! A compiler is no security boundary: a crafted module may take it any time and memory. So the work
//! is done by a child with limits on both ([`worker_main`]); what it breaks is its own.

use crate::{
    profile::{Codegen, Profile, config},
    split::Husk,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longest time a worker may take. The stock guest takes 7 to 10 s on two cores; a machine under
/// load several times that.
const WALL_MAX: Duration = Duration::from_secs(300);
/// Processor seconds, of all its threads together.
const CPU_SECONDS_MAX: u64 = 600;
/// Address space: the stock guest's compilation peaks at a quarter of this.
const ADDRESS_BYTES_MAX: u64 = 8 << 30;
/// Largest artifact; machine code is three to five times the size of Wasm.
const ARTIFACT_BYTES_MAX: u64 = 1 << 30;
/// What is kept of a worker's last words.
const STDERR_BYTES_MAX: u64 = 4096;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process: for tests, and for modules that one trusts.
    InProcess,
    /// A child per module: this program with these arguments, followed by the name of the codegen.
    /// It has to call [`worker_main`] with that name.
    Worker {
        /// Usually the program itself.
        program: PathBuf,
        /// Usually the name of a hidden command.
        arguments: Vec<OsString>,
    },
}

/// Machine code that this host made.
#[derive(Debug)]
pub(crate) struct Artifact {
    bytes: Vec<u8>,
}

impl Artifact {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompileError {
    /// The compiler refused the module. The publisher's fault.
    #[error("the compiler refused the module: {message}")]
    Refused { message: String },
    /// The worker took too long, too much memory, or crashed: the publisher's fault as far as one can
    /// tell.
    #[error("the compiler was stopped: {reason}; allowed are {} s and {} GiB", WALL_MAX.as_secs(), ADDRESS_BYTES_MAX >> 30)]
    Stopped { reason: String },
    /// The worker could not be started or talked to. The host's fault.
    #[error("compile worker: {0}")]
    Worker(#[source] io::Error),
}

impl Compiler {
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        codegen: Codegen,
        husk: &Husk,
    ) -> Result<Artifact, CompileError> {
        let bytes = match self {
            Self::InProcess => engine.precompile_module(husk.bytes()).map_err(|error| {
                CompileError::Refused { message: one_line(&format!("{error:#}")) }
            })?,
            Self::Worker { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).arg(codegen.name());
                run_worker(command, husk.bytes())?
            }
        };
        Ok(Artifact { bytes })
    }
}

/// Exit code of a worker whose compiler refused the module.
const EXIT_REFUSED: u8 = 3;

fn run_worker(mut command: Command, husk: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CompileError::Worker)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (artifact, words, timed_out) = thread::scope(|scope| {
        let feed = move || drop(stdin.map(|mut stdin| stdin.write_all(husk)));
        scope.spawn(feed); // a worker that stops reading says why on stderr
        let words = scope.spawn(|| read_up_to(stderr, STDERR_BYTES_MAX));
        let (done, waiting) = mpsc::channel::<()>();
        let artifact = scope.spawn(move || {
            let bytes = read_up_to(stdout, ARTIFACT_BYTES_MAX);
            drop(done);
            bytes
        });
        // The worker closes its stdout when it ends, however it ends.
        let timed_out = waiting.recv_timeout(WALL_MAX) == Err(mpsc::RecvTimeoutError::Timeout);
        if timed_out {
            let _ = child.kill();
        }
        let broken = |_| io::Error::other("a reader panicked");
        let artifact = artifact.join().map_err(broken).and_then(|bytes| bytes);
        (artifact, words.join().ok().and_then(Result::ok).unwrap_or_default(), timed_out)
    });
    let status = child.wait().map_err(CompileError::Worker)?;
    let message = one_line(&String::from_utf8_lossy(&words));
    if timed_out {
        return Err(CompileError::Stopped { reason: "time ran out".into() });
    }
    match status.code() {
        Some(0) => artifact.map_err(CompileError::Worker),
        Some(code) if code == i32::from(EXIT_REFUSED) => Err(CompileError::Refused { message }),
        _ => Err(CompileError::Stopped { reason: format!("{status}: {message}") }),
    }
}

fn read_up_to(from: Option<impl Read>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(bytes_max + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("the worker wrote more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The compile worker: limits itself, reads a husk from stdin, writes the artifact to stdout.
/// Everything that it needs is in its one argument, the name of the codegen.
pub fn worker_main(codegen: &str) -> ExitCode {
    match work(codegen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn work(codegen: &str) -> wasmtime::Result<()> {
    let codegen = Codegen::from_name(codegen)
        .ok_or_else(|| wasmtime::format_err!("unknown codegen '{codegen}'"))?;
    let mut husk = Vec::new();
    io::stdin().lock().take(crate::limits::constants::MODULE_BYTES_MAX).read_to_end(&mut husk)?;
    confine()?;
    let engine = wasmtime::Engine::new(&config(&Profile::current(), codegen)?)?;
    let artifact = engine.precompile_module(&husk)?;
    io::stdout().lock().write_all(&artifact)?;
    Ok(())
}

/// Sets this process' limits, for good.
fn confine() -> io::Result<()> {
    let at_most = |max: u64| Rlimit { current: Some(max), maximum: Some(max) };
    setrlimit(Resource::As, at_most(ADDRESS_BYTES_MAX))?;
    setrlimit(Resource::Cpu, at_most(CPU_SECONDS_MAX))?;
    setrlimit(Resource::Fsize, at_most(0))?; // no files; stdout is a pipe
    setrlimit(Resource::Core, at_most(0))?;
    // A host that is killed takes its workers along.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn one_line(text: &str) -> String {
    crate::log::excerpt(text.trim().as_bytes(), 500)
}
