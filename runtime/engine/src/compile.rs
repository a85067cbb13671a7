//! Compiling: a stranger's module becomes machine code and an initial memory, in a worker process.
//!
//! Neither a parser nor a compiler is a security boundary: a crafted module may take them any time and
//! memory, or find a bug in them. So all of the work is done by a child ([`worker_main`]) that can do
//! nothing else (`confine`), within limits on time and memory. However it dies, the upload is refused, and the
//! host goes on. What it makes is code that the host will run: that is trusted, as the compiler is.

use crate::{
    confine,
    frame::{self, Answer, AnswerLimits, Compiled},
    limits::constants::{INITIAL_BYTES_MAX, MODULE_BYTES_MAX},
    profile::{Codegen, Profile, config},
    split::{Split, split},
    validate::{check_size, validate},
};
use std::{
    ffi::OsString,
    io::{self, Read},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// From the end of a worker's output to its own, when it dies.
const LAST_BREATH: Duration = Duration::from_secs(1);
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
        /// When it is stopped.
        limits: WorkerLimits,
    },
}

/// What a compile worker may take, beside its limits on CPU time (600 s) and address space (8 GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// From its start to its end.
    pub time: Duration,
    /// Machine code that it may give, in bytes.
    pub artifact_bytes: u64,
}

impl Default for WorkerLimits {
    /// 300 s: the stock guest takes 7 to 10 s on two cores, a machine under load several times that.
    /// 1 GiB: machine code is three to five times the size of Wasm.
    fn default() -> Self {
        Self { time: Duration::from_secs(300), artifact_bytes: 1 << 30 }
    }
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompileError {
    /// The module is not allowed: everything that is wrong with it. The publisher's fault.
    #[error("{message}")]
    Invalid { message: String },
    /// The compiler refused the module. The publisher's fault.
    #[error("the compiler refused the module: {message}")]
    Refused { message: String },
    /// The worker took too long, too much memory, or crashed: the publisher's fault as far as one can
    /// tell.
    #[error(
        "the compiler was stopped: {reason}; allowed are {} s, {} s of CPU time and {} GiB",
        .limits.time.as_secs_f64(), confine::CPU_SECONDS_MAX, confine::ADDRESS_BYTES_MAX >> 30
    )]
    Stopped { reason: String, limits: WorkerLimits },
    /// The worker could not be started, talked to or confined. The host's fault.
    #[error("compile worker: {0}")]
    Worker(#[source] io::Error),
}

impl Compiler {
    /// Validates, splits and compiles a module.
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        codegen: Codegen,
        module: &[u8],
    ) -> Result<Compiled, CompileError> {
        // A worker takes no more, and would call it the host's fault.
        check_size(module)
            .map_err(|refused| CompileError::Invalid { message: refused.to_string() })?;
        let answer = match self {
            Self::InProcess => compile(engine, codegen, module),
            Self::Worker { program, arguments, limits } => {
                let mut command = Command::new(program);
                command.args(arguments).arg(codegen.name());
                run_worker(command, module, *limits)?
            }
        };
        match answer {
            Answer::Compiled(compiled) => Ok(compiled),
            Answer::Invalid(message) => Err(CompileError::Invalid { message: one_line(&message) }),
            Answer::Refused(message) => Err(CompileError::Refused { message: one_line(&message) }),
            Answer::Fault(message) => Err(CompileError::Worker(io::Error::other(message))),
        }
    }
}

/// What is done in a worker.
fn compile(engine: &wasmtime::Engine, codegen: Codegen, module: &[u8]) -> Answer {
    let valid = match validate(module) {
        Ok(valid) => valid,
        Err(refused) => return Answer::Invalid(refused.to_string()),
    };
    let Split { husk, initial } = match split(&valid, codegen.counts_fuel()) {
        Ok(split) => split,
        Err(error) => return Answer::Invalid(error.to_string()),
    };
    match engine.precompile_module(husk.bytes()) {
        Err(error) => Answer::Refused(format!("{error:#}")),
        Ok(artifact) => {
            let mutable_globals = husk.mutable_globals();
            Answer::Compiled(Compiled { artifact, mutable_globals, initial })
        }
    }
}

fn run_worker(
    mut command: Command,
    module: &[u8],
    limits: WorkerLimits,
) -> Result<Answer, CompileError> {
    let stopped = |reason| CompileError::Stopped { reason, limits };
    let mut child = command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CompileError::Worker)?;
    let said = hear(&mut child, module, limits)?;
    let words = one_line(&String::from_utf8_lossy(&said.words));
    match said.answer {
        _ if said.late => Err(stopped("time ran out".into())),
        Ok(answer) => Ok(answer),
        // What it said was no answer; or it ended well, and had said nothing.
        Err(error)
            if error.kind() == io::ErrorKind::InvalidData
                || said.lives
                || said.status.success() =>
        {
            Err(stopped(format!("no answer: {error}")))
        }
        Err(_) if words.is_empty() => Err(stopped(said.status.to_string())),
        Err(_) => Err(stopped(format!("{}: {words}", said.status))),
    }
}

/// All that a worker said until it ended.
struct Said {
    answer: io::Result<Answer>,
    words: Vec<u8>,
    status: ExitStatus,
    /// Whether it was stopped because its time had run out.
    late: bool,
    /// Whether it was stopped when it had said what it had to say.
    lives: bool,
}

/// Talks to a worker until it ends, or its time does.
fn hear(child: &mut Child, module: &[u8], limits: WorkerLimits) -> Result<Said, CompileError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(CompileError::Worker(io::Error::other("a worker without pipes")));
    };
    let answer_limits =
        AnswerLimits { artifact_bytes: limits.artifact_bytes, initial_bytes: INITIAL_BYTES_MAX };
    thread::scope(|scope| {
        // A worker that stops reading says why in its answer, or on stderr.
        scope.spawn(move || drop(frame::write_question(&mut stdin, module)));
        let words = scope.spawn(move || {
            let mut words = Vec::new();
            let mut stderr = stderr;
            // What is behind the limit is read and dropped: a worker that talks does not hang.
            let kept = stderr.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut words);
            drop(kept.and_then(|_| io::copy(&mut stderr, &mut io::sink())));
            words
        });
        let (tell, heard) = mpsc::channel::<()>();
        let answer = scope.spawn(move || {
            let answer = frame::read_answer(&mut stdout, answer_limits);
            drop(tell);
            answer
        });
        let late = heard.recv_timeout(limits.time) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = child.kill(); // ends what the reader waits for
        }
        let broken = |_| io::Error::other("a reader panicked");
        let answer = answer.join().map_err(broken).and_then(|answer| answer);
        // One without an answer may be on its way out, with a status that says why.
        let patience = if answer.is_ok() { Duration::ZERO } else { LAST_BREATH };
        let lives = !ends_within(child, patience).map_err(CompileError::Worker)?;
        if lives {
            // Heard out, or not able to answer any more: nothing is left for it to do.
            let _ = child.kill();
        }
        let status = child.wait().map_err(CompileError::Worker)?;
        let words = words.join().unwrap_or_default();
        Ok(Said { answer, words, status, late, lives })
    })
}

/// Whether a child ends in so much time.
fn ends_within(child: &mut Child, time: Duration) -> io::Result<bool> {
    let until = Instant::now() + time;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The compile worker: shuts itself in, reads a module from stdin, writes what became of it to stdout.
/// Everything that it needs is in its one argument, the name of the codegen.
///
/// It closes all descriptors but the first three: a process calls this before it opens anything.
pub fn worker_main(codegen: &str) -> ExitCode {
    let answer = work(codegen).unwrap_or_else(|error| Answer::Fault(error.to_string()));
    match frame::write_answer(&mut io::stdout().lock(), &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody listens
    }
}

fn work(codegen: &str) -> wasmtime::Result<Answer> {
    confine::close_inherited()?;
    let codegen = Codegen::from_name(codegen)
        .ok_or_else(|| wasmtime::format_err!("unknown codegen '{codegen}'"))?;
    let engine = wasmtime::Engine::new(&config(&Profile::current(), codegen)?)?;
    confine::enter()?;
    let module = frame::read_question(&mut io::stdin().lock(), MODULE_BYTES_MAX)?;
    Ok(compile(&engine, codegen, &module))
}

fn one_line(text: &str) -> String {
    crate::log::excerpt(text.trim().as_bytes(), 4_000)
}
