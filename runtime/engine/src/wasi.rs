//! WASI preview 1 without a world: the calls that Rust's standard library needs, answered by
//! wasi-common with clocks that stand still, randomness from the job's seed, no arguments, no
//! environment, no files but the log.
//!
//! Every call charges fuel before it does anything, by its own arguments, so that the host's work is
//! paid for and counted the same everywhere.

use crate::{cost, limits::constants::WASI_VECTORS_MAX, log::Log, sandbox::State};
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
use wasmtime::{Caller, Linker, Trap};
use wiggle::GuestMemory;

/// The module that all allowed imports come from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What every wall clock shows: 2025-01-01T00:00:00Z, in seconds after 1970.
const WALL_CLOCK_SECONDS: u64 = 1_735_689_600;

/// `EINVAL` of WASI preview 1.
const ERRNO_INVALID: i32 = 28;

/// The guest ended itself with this code.
#[derive(Debug, thiserror::Error)]
#[error("the guest called proc_exit({0})")]
pub(crate) struct GuestExit(pub(crate) i32);

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

    async fn write_vectored<'a>(&self, slices: &[IoSlice<'a>]) -> Result<u64, Error> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slices.iter().for_each(|slice| log.write(slice));
        Ok(slices.iter().map(|slice| slice.len() as u64).sum())
    }
}

/// Takes fuel from the guest for work that the host is about to do. What the guest cannot pay for is
/// not done: it ends out of fuel.
pub(crate) fn charge(caller: &mut Caller<'_, State>, fuel: u64) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?.checked_sub(fuel);
    caller.set_fuel(left.unwrap_or(0))?;
    if left.is_some() { Ok(()) } else { Err(Trap::OutOfFuel.into()) }
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
    /// The bytes of `count` vectors (pointer and length, each 4 bytes) at a pointer.
    Vectors(i32, i32),
    /// As many random bytes.
    Random(i32),
}

/// Charges for a call. `false`: the arguments are beyond what any call may ask.
fn charge_call(caller: &mut Caller<'_, State>, work: Work) -> wasmtime::Result<bool> {
    charge(caller, cost::WASI_CALL)?;
    match work {
        Work::Flat => {}
        Work::Random(bytes) => charge(caller, u64::from(bytes as u32) * cost::RANDOM_BYTE)?,
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
            charge(caller, bytes * cost::WASI_BYTE)?;
        }
    }
    Ok(true)
}

fn memory<'a>(
    caller: &'a mut Caller<'_, State>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut State)> {
    let memory =
        caller.get_export(fuelbox_abi::export::MEMORY).and_then(|memory| memory.into_memory());
    let memory = memory.ok_or_else(|| wasmtime::format_err!("the guest has no memory"))?;
    Ok(memory.data_and_store_mut(caller))
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
                        .map_err(|error| wasmtime::format_err!("{}: {error:#}", stringify!($name)))
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
    path_create_directory(a: i32, b: i32, c: i32) Work::Flat;
    path_filestat_get(a: i32, b: i32, c: i32, d: i32, e: i32) Work::Flat;
    path_open(a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32) Work::Flat;
    path_readlink(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) Work::Flat;
    path_remove_directory(a: i32, b: i32, c: i32) Work::Flat;
    path_rename(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32) Work::Flat;
    path_unlink_file(a: i32, b: i32, c: i32) Work::Flat;
    random_get(a: i32, bytes: i32) Work::Random(bytes);
    sched_yield() Work::Flat;
}

/// Not in the table: it does not return.
const PROC_EXIT: &str = "proc_exit";

/// Whether a guest may import this function.
pub(crate) fn is_allowed(name: &str) -> bool {
    allowed_names().any(|allowed| allowed == name)
}

/// The functions that a guest may import.
pub(crate) fn allowed_names() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name).chain([PROC_EXIT])
}

/// The type of an allowed function, as text.
pub(crate) fn type_of(name: &str) -> Option<String> {
    if name == PROC_EXIT {
        return Some("(i32) -> ()".into());
    }
    let (_, arguments) = CALLS.iter().find(|(allowed, _)| *allowed == name)?;
    Some(format!("({}) -> (i32)", arguments.join(", ")))
}

/// Offers the calls to guests.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_calls(linker)?;
    linker.func_wrap(
        MODULE,
        PROC_EXIT,
        |_: Caller<'_, State>, code: i32| -> wasmtime::Result<()> { Err(GuestExit(code).into()) },
    )?;
    Ok(())
}
