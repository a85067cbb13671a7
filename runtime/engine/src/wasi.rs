//! WASI preview 1 without a world: the calls that Rust's standard library needs, answered by
//! wasi-common with clocks that stand still, randomness from the job's seed, no arguments, no
//! environment, no files but the log.
//!
//! Every call charges fuel before it does anything, by its own arguments, so that the host's work is
//! paid for and counted the same everywhere. No call works for long without a look at the deadline.

use crate::{
    cost,
    limits::constants::{WASI_SLICE_BYTES, WASI_VECTORS_MAX},
    log::Log,
    meter::charge,
    sandbox::{State, memory},
};
use cap_std::time::{Duration, Instant, SystemClock, SystemTime};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use std::{
    any::Any,
    future::Future,
    io::IoSlice,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};
use wasi_common::{
    Error, ErrorExt, Table, WasiCtx,
    clocks::{WasiClocks, WasiMonotonicClock, WasiSystemClock},
    file::{FileType, WasiFile},
    sched::WasiSched,
    snapshots::preview_1::wasi_snapshot_preview1 as preview1,
};
use wasmtime::{Caller, Linker};
use wiggle::GuestMemory;

/// The module that these imports come from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What every wall clock shows: 2025-01-01T00:00:00Z, in seconds after 1970.
const WALL_CLOCK_SECONDS: u64 = 1_735_689_600;

/// `EINVAL` of WASI preview 1.
const ERRNO_INVALID: i32 = 28;

/// The guest ended itself with this code.
#[derive(Debug, thiserror::Error)]
#[error("the guest called proc_exit({0})")]
pub(crate) struct GuestExit(pub(crate) i32);

/// The guest called a function with what stops a program, such as a pointer outside of its memory. There
/// is nothing behind the calls that could fail by itself.
#[derive(Debug, thiserror::Error)]
#[error("WASI call {call}: {text}")]
pub(crate) struct Refused {
    call: &'static str,
    text: String,
}

/// What an error of a call is to the guest.
fn refused<E: std::fmt::Display>(call: &'static str) -> impl FnOnce(E) -> wasmtime::Error {
    move |error| Refused { call, text: format!("{error:#}") }.into()
}

/// What a job's WASI calls share. The context is made at the first call: most jobs make none.
pub(crate) struct WasiState {
    seed: u64,
    log: Arc<Mutex<Log>>,
    context: Option<WasiCtx>,
}

impl WasiState {
    pub(crate) fn new(seed: u64, log_bytes: usize) -> Self {
        Self { seed, log: Arc::new(Mutex::new(Log::new(log_bytes))), context: None }
    }

    /// Reads the log.
    pub(crate) fn log<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        read(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn context(&mut self) -> &mut WasiCtx {
        let (seed, log) = (self.seed, &self.log);
        self.context.get_or_insert_with(|| {
            let clocks = WasiClocks::new()
                .with_system(FixedClock)
                .with_monotonic(StoppedClock { now: Instant::from_std(std::time::Instant::now()) });
            // The key is the seed, little-endian, then zeros; the nonce is zero: anyone with a
            // ChaCha20 can compute the same bytes.
            let mut key = [0; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let random = Box::new(ChaCha20Rng::from_seed(key));
            let context = WasiCtx::new(random, clocks, Box::new(NoScheduler), Table::new());
            context.set_stdout(Box::new(LogFile(log.clone())));
            context.set_stderr(Box::new(LogFile(log.clone())));
            context
        })
    }
}

struct FixedClock;

impl WasiSystemClock for FixedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self, _: Duration) -> SystemTime {
        SystemClock::UNIX_EPOCH + Duration::from_secs(WALL_CLOCK_SECONDS)
    }
}

/// A monotonic clock that stands still. wasi-common shows the time since its own creation, so guests
/// read zero.
struct StoppedClock {
    now: Instant,
}

impl WasiMonotonicClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self, _: Duration) -> Instant {
        self.now
    }
}

/// There is no time to wait for.
struct NoScheduler;

#[async_trait::async_trait]
impl WasiSched for NoScheduler {
    async fn poll_oneoff<'a>(&self, _: &mut wasi_common::sched::Poll<'a>) -> Result<(), Error> {
        Err(Error::not_supported())
    }

    async fn sched_yield(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn sleep(&self, _: std::time::Duration) -> Result<(), Error> {
        Err(Error::not_supported())
    }
}

/// Standard output and standard error, both.
struct LogFile(Arc<Mutex<Log>>);

#[async_trait::async_trait]
impl WasiFile for LogFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(FileType::CharacterDevice)
    }

    /// Takes what was paid for: the first [`WASI_SLICE_BYTES`]. Callers write the rest with more calls.
    async fn write_vectored<'a>(&self, slices: &[IoSlice<'a>]) -> Result<u64, Error> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = WASI_SLICE_BYTES as usize;
        for slice in slices {
            let taken = slice.len().min(room);
            log.write(&slice[..taken]);
            room -= taken;
        }
        Ok(WASI_SLICE_BYTES - room as u64)
    }
}

/// wasi-common's functions are `async` and done at once.
fn now<F: Future>(future: F) -> wasmtime::Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(wasmtime::format_err!("a WASI call did not finish at once")),
    }
}

/// What a call costs beyond the flat fee.
enum Work {
    Flat,
    /// A path is looked for.
    Path,
    /// The bytes of `count` vectors (pointer and length, each 4 bytes) at a pointer.
    Vectors(i32, i32),
}

/// Charges for a call. `false`: the arguments are beyond what any call may ask.
fn charge_call(caller: &mut Caller<'_, State>, work: Work) -> wasmtime::Result<bool> {
    charge(caller, cost::WASI_CALL)?;
    match work {
        Work::Flat => {}
        Work::Path => charge(caller, cost::WASI_PATH)?,
        Work::Vectors(start, count) => {
            let (start, count) = (start as u32 as usize, count as u32);
            if count > WASI_VECTORS_MAX {
                return Ok(false);
            }
            charge(caller, u64::from(count) * cost::WASI_VECTOR)?;
            let (memory, _) = memory(caller)?;
            let vectors = memory.get(start..).unwrap_or_default().chunks_exact(8);
            // A vector that is cut off by the end of memory is an error of the call itself.
            let bytes = vectors
                .take(count as usize)
                .map(|vector| {
                    u64::from(u32::from_le_bytes([vector[4], vector[5], vector[6], vector[7]]))
                })
                .sum::<u64>();
            charge(caller, bytes.min(WASI_SLICE_BYTES) * cost::WASI_BYTE)?;
        }
    }
    Ok(true)
}

/// Makes the table of allowed calls: name, arguments, what is charged.
macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) $work:expr;)*) => {
        /// The allowed calls with their types.
        const CALLS: &[(&str, &[&str])] = &[$((stringify!($name), &[$(stringify!($type)),*])),*];

        fn link_calls(linker: &mut Linker<State>) -> wasmtime::Result<()> {
            $(linker.func_wrap(
                MODULE,
                stringify!($name),
                |mut caller: Caller<'_, State>, $($argument: $type),*| -> wasmtime::Result<i32> {
                    if !charge_call(&mut caller, $work)? {
                        return Ok(ERRNO_INVALID);
                    }
                    let (memory, state) = memory(&mut caller)?;
                    let mut memory = GuestMemory::Unshared(memory);
                    let context = state.wasi.context();
                    now(preview1::$name(context, &mut memory, $($argument),*))?
                        .map_err(refused(stringify!($name)))
                },
            )?;)*
            Ok(())
        }
    };
}

// What Rust's standard library for wasm32-wasip1 can ask for. There are no directories, so calls that
// take a path find none, and calls on descriptors other than 0, 1 and 2 fail.
calls! {
    args_get(a: i32, b: i32) Work::Flat;
    args_sizes_get(a: i32, b: i32) Work::Flat;
    environ_get(a: i32, b: i32) Work::Flat;
    environ_sizes_get(a: i32, b: i32) Work::Flat;
    clock_res_get(a: i32, b: i32) Work::Flat;
    clock_time_get(a: i32, b: i64, c: i32) Work::Flat;
    fd_close(a: i32) Work::Flat;
    fd_fdstat_get(a: i32, b: i32) Work::Flat;
    fd_fdstat_set_flags(a: i32, b: i32) Work::Flat;
    fd_filestat_get(a: i32, b: i32) Work::Flat;
    fd_filestat_set_size(a: i32, b: i64) Work::Flat;
    fd_prestat_get(a: i32, b: i32) Work::Flat;
    fd_prestat_dir_name(a: i32, b: i32, c: i32) Work::Flat;
    fd_read(a: i32, vectors: i32, count: i32, b: i32) Work::Vectors(vectors, count);
    fd_readdir(a: i32, b: i32, c: i32, d: i64, e: i32) Work::Flat;
    fd_seek(a: i32, b: i64, c: i32, d: i32) Work::Flat;
    fd_tell(a: i32, b: i32) Work::Flat;
    fd_write(a: i32, vectors: i32, count: i32, b: i32) Work::Vectors(vectors, count);
    path_create_directory(a: i32, b: i32, c: i32) Work::Path;
    path_filestat_get(a: i32, b: i32, c: i32, d: i32, e: i32) Work::Path;
    path_open(a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32) Work::Path;
    path_readlink(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) Work::Path;
    path_remove_directory(a: i32, b: i32, c: i32) Work::Path;
    path_rename(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) Work::Path;
    path_unlink_file(a: i32, b: i32, c: i32) Work::Path;
    sched_yield() Work::Flat;
}

/// Not in the table: it works in slices.
const RANDOM_GET: &str = "random_get";
/// Not in the table: it does not return.
const PROC_EXIT: &str = "proc_exit";

/// The functions that a guest may import.
pub(crate) fn allowed_names() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name).chain([RANDOM_GET, PROC_EXIT])
}

/// The type of an allowed function, as text; none if it is not allowed.
pub(crate) fn type_of(name: &str) -> Option<String> {
    match name {
        RANDOM_GET => return Some("(i32, i32) -> (i32)".into()),
        PROC_EXIT => return Some("(i32) -> ()".into()),
        _ => {} // in the table, or nowhere
    }
    let (_, arguments) = CALLS.iter().find(|(allowed, _)| *allowed == name)?;
    Some(format!("({}) -> (i32)", arguments.join(", ")))
}

/// Offers the calls to guests.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_calls(linker)?;
    linker.func_wrap(MODULE, RANDOM_GET, random_get)?;
    linker.func_wrap(
        MODULE,
        PROC_EXIT,
        |_: Caller<'_, State>, code: i32| -> wasmtime::Result<()> { Err(GuestExit(code).into()) },
    )?;
    Ok(())
}

/// Gives randomness a slice at a time, each paid for before it is made. The bytes are those of one go,
/// as a slice is whole words of the generator.
fn random_get(mut caller: Caller<'_, State>, start: i32, bytes: i32) -> wasmtime::Result<i32> {
    charge(&mut caller, cost::WASI_CALL)?;
    let (mut start, bytes) = (u64::from(start as u32), u64::from(bytes as u32));
    let end = start + bytes;
    if end > memory(&mut caller)?.0.len() as u64 {
        // An error, which it finds before it does anything.
        return randomise(&mut caller, start, bytes);
    }
    while start < end {
        let bytes = WASI_SLICE_BYTES.min(end - start);
        charge(&mut caller, bytes * cost::RANDOM_BYTE)?;
        let errno = randomise(&mut caller, start, bytes)?;
        if errno != 0 {
            return Ok(errno);
        }
        start += bytes;
    }
    Ok(0)
}

/// Both numbers have 32 bits: they come from the guest.
fn randomise(caller: &mut Caller<'_, State>, start: u64, bytes: u64) -> wasmtime::Result<i32> {
    let (memory, state) = memory(caller)?;
    let mut memory = GuestMemory::Unshared(memory);
    let context = state.wasi.context();
    now(preview1::random_get(context, &mut memory, start as u32 as i32, bytes as u32 as i32))?
        .map_err(refused(RANDOM_GET))
}
