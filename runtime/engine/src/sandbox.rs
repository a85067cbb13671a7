//! The sandbox: a model image in a slot, with fuel and limits, used for one job and gone.
//!
//! Invariant: a sandbox starts from exactly the image, and [`Sandbox::run`] consumes it.

use crate::{
    cost::{MESSAGE_BYTE, REPLY_BYTE},
    engine::Code,
    image::{GlobalValue, ModelImage},
    kernels,
    limits::{JobLimits, constants::CANCEL_INTERVAL_FUEL},
    log::excerpt,
    meter::{self, Meter, Overdrawn, Pace, Stopped, is_metered},
    shelf::thread_number,
    signature::Signature,
    slot::{self, SlotPool},
    tensor::{OwnedParameter, Tensor},
    verdict::{Outcome, TrapKind, Usage, Verdict},
    wasi::{self, GuestExit, WasiState},
};
use fuelbox_abi::{
    ALIGNMENT_BYTES, EncodeError, Encoded, Envelope, Kind, Message, TensorView, unpack_reply,
};
use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};
use wasmtime::{Caller, Instance, Memory, ResourceLimiter, Store, TypedFunc};

/// What a store carries for its host functions.
pub(crate) struct State {
    pub(crate) wasi: WasiState,
    pub(crate) meter: Meter,
    /// The guest's memory, once there is an instance. Kept here because looking an export up by its
    /// name takes longer than a small host call.
    memory: Option<Memory>,
    memory_bytes_max: u64,
    is_metered: bool,
}

/// The memory of a guest that calls the host, and what its store carries.
pub(crate) fn memory<'a>(
    caller: &'a mut Caller<'_, State>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut State)> {
    let memory = caller.data().memory;
    let memory = memory.ok_or_else(|| wasmtime::format_err!("the guest has no memory yet"))?;
    Ok(memory.data_and_store_mut(caller))
}

impl ResourceLimiter for State {
    /// A growth over the limit fails as the guest's own `memory.grow`, one that it cannot pay ends it; both
    /// the same on every host.
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The engine looks at the module's own maximum only after this.
        let within = desired as u64 <= self.memory_bytes_max
            && maximum.is_none_or(|maximum| desired <= maximum);
        // Before there is an instance, it is the engine that asks.
        if within && self.memory.is_some() && self.is_metered {
            self.meter.grow(desired as u64).map_err(|Overdrawn| wasmtime::Trap::OutOfFuel)?;
        }
        Ok(within)
    }

    /// Tables cannot grow: validation lets no instruction through that does.
    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// The host's own failure. Never billed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostFault {
    /// No address space, or no memory.
    #[error("memory for a job: {0}")]
    Memory(#[source] io::Error),
    /// The kernel refused to grow a job's memory within its limit.
    #[error("a job's memory could not grow within its limit")]
    Growth,
    /// wasmtime failed in a way that no guest can cause.
    #[error("wasm engine: {0:#}")]
    Engine(wasmtime::Error),
}

/// Says when a job is to stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// Stops a job at this time, and before when [`Cancel::cancel`] is called.
    pub fn at(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..Self::default() }
    }

    /// Stops the job soon: at its next look, a million units of the guest's own fuel later.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether a job with it is to stop now.
    pub fn is_due(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A request whose tensors fit the model and which is laid out for the guest.
#[derive(Debug)]
pub struct Request<'a> {
    tensors: Vec<TensorView<'a>>,
    parameters: Vec<fuelbox_abi::Parameter<'a>>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(tensors: &'a [Tensor], parameters: &'a [OwnedParameter]) -> Self {
        Self {
            tensors: tensors.iter().map(Tensor::view).collect(),
            parameters: parameters.iter().map(OwnedParameter::view).collect(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Encoded<'_>, EncodeError> {
        let Self { tensors, parameters } = self;
        Envelope { tensors, parameters, ..Envelope::new(Kind::Run) }.encode()
    }
}

/// A fresh instance of a model, for one job.
pub struct Sandbox {
    pub(crate) store: Store<State>,
    instance: Instance,
    code: Arc<Code>,
    flags: Arc<slot::Flags>,
    /// The thread that opened it.
    thread: Option<usize>,
    limits: JobLimits,
}

/// Why a guest did not answer.
pub(crate) enum Stop {
    /// Its own doing, or the caller's.
    Verdict(Verdict),
    /// The host's.
    Fault(HostFault),
}

impl From<HostFault> for Stop {
    fn from(fault: HostFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Verdict> for Stop {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl Sandbox {
    /// Opens a model image for one job.
    ///
    /// # Errors
    /// When the host has no memory for it.
    pub fn open(image: &ModelImage, limits: &JobLimits, seed: u64) -> Result<Self, HostFault> {
        let globals = &image.meta.globals;
        Self::instantiate(&image.code, &image.pool, globals, limits, seed, Entry::Run)
    }

    pub(crate) fn instantiate(
        code: &Arc<Code>,
        pool: &Arc<SlotPool>,
        globals: &[GlobalValue],
        limits: &JobLimits,
        seed: u64,
        entry: Entry,
    ) -> Result<Self, HostFault> {
        let flags = Arc::<slot::Flags>::default();
        let wasi = WasiState::new(seed, limits.log_bytes);
        // The image is there whatever the limit; a limit below it only stops growth. Callers refuse
        // such limits with a better word (`ModelError::MemoryLimit`).
        let image_bytes = pool.image().len() as u64;
        let memory_bytes_max = limits.memory_bytes.max(image_bytes);
        let by_distance = match entry {
            Entry::Load => false,
            Entry::Run => true,
        };
        let meter = Meter::new(image_bytes, by_distance);
        let state = State { wasi, meter, memory: None, memory_bytes_max, is_metered: false };
        let mut store = Store::new(code.engine(), state);
        store.limiter(|state| state);
        let instance = slot::with_slot(pool, &flags, || code.pre().instantiate(&mut store))
            .map_err(|error| HostFault::Memory(error.into()))?
            .map_err(HostFault::Engine)?;
        let memory = instance.get_module_export(&mut store, &code.exports().memory);
        store.data_mut().memory = memory.and_then(|export| export.into_memory());
        for (export, value) in code.exports().globals.iter().zip(globals) {
            if let Some(global) = instance.get_module_export(&mut store, export)
                && let Some(global) = global.into_global()
            {
                global.set(&mut store, value.val()).map_err(HostFault::Engine)?;
            }
        }
        // Fuel after instantiation: what that takes differs between versions and strategies.
        if is_metered(&store) {
            store.data_mut().is_metered = true;
            meter::start(&mut store, limits.fuel).map_err(HostFault::Engine)?;
            let interval = Some(CANCEL_INTERVAL_FUEL);
            store.fuel_async_yield_interval(interval).map_err(HostFault::Engine)?;
        }
        let thread = thread_number();
        Ok(Self { store, instance, code: code.clone(), flags, thread, limits: *limits })
    }

    /// Runs the job. Whatever the guest does is in the outcome.
    ///
    /// # Errors
    /// The host's own failures.
    pub fn run(
        mut self,
        signature: &Signature,
        request: &Request<'_>,
        cancel: &Cancel,
    ) -> Result<Outcome, HostFault> {
        let verdict = self.answer(signature, request, cancel)?;
        self.end(verdict)
    }

    fn answer(
        &mut self,
        signature: &Signature,
        request: &Request<'_>,
        cancel: &Cancel,
    ) -> Result<Verdict, HostFault> {
        let output_bytes_max = self.limits.output_bytes;
        let ended = request
            .encode()
            .map_err(|error| bad_request(&error))
            .and_then(|message| self.call(Entry::Run, &message, cancel))
            .and_then(|reply| self.read_outputs(signature, reply, output_bytes_max));
        match ended {
            Ok(verdict) | Err(Stop::Verdict(verdict)) => Ok(verdict),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    /// Runs one more job in the same instance, on top of what the one before left: what a host
    /// without isolation does. For comparison only.
    #[cfg(feature = "warm-reuse")]
    pub(crate) fn run_warm(
        &mut self,
        signature: &Signature,
        request: &Request<'_>,
        cancel: &Cancel,
    ) -> Result<Verdict, HostFault> {
        if is_metered(&self.store) {
            meter::start(&mut self.store, self.limits.fuel).map_err(HostFault::Engine)?;
        }
        self.answer(signature, request, cancel)
    }

    /// Closes the books on a job.
    pub(crate) fn end(mut self, verdict: Verdict) -> Result<Outcome, HostFault> {
        let (usage, log) = self.books(&verdict)?;
        Ok(Outcome { verdict, usage, log })
    }

    /// What a job that ends so has used, and what it printed.
    pub(crate) fn books(&mut self, verdict: &Verdict) -> Result<(Usage, String), HostFault> {
        if self.flags.fault.load(Ordering::Relaxed) {
            return Err(HostFault::Growth);
        }
        let counted = if is_metered(&self.store) {
            let left = meter::left(&self.store).map_err(HostFault::Engine)?;
            self.limits.fuel.saturating_sub(left.unwrap_or(0))
        } else {
            0
        };
        let usage = Usage {
            fuel: verdict.billed_fuel(counted, &self.limits),
            memory_bytes_peak: self.memory().len() as u64,
        };
        Ok((usage, self.store.data().wasi.log(|log| log.text())))
    }

    pub(crate) fn memory(&self) -> &[u8] {
        // Validation made sure that the export is a memory.
        self.store.data().memory.map_or(&[], |memory| memory.data(&self.store))
    }

    pub(crate) fn globals(&mut self) -> Option<Vec<GlobalValue>> {
        let exports = self.code.clone();
        let read = |export| {
            let global = self.instance.get_module_export(&mut self.store, export)?.into_global()?;
            GlobalValue::from_val(&global.get(&mut self.store))
        };
        exports.exports().globals.iter().map(read).collect()
    }

    /// Tells the memory when the job goes on on another thread.
    fn note_thread(&self) {
        if thread_number() != self.thread {
            self.flags.moved.store(true, Ordering::Relaxed);
        }
    }

    /// Calls a function without arguments, if the guest has it.
    pub(crate) fn call_plain<R: wasmtime::WasmResults + Sync>(
        &mut self,
        export: Option<&wasmtime::ModuleExport>,
        cancel: &Cancel,
    ) -> Result<Option<R>, Stop> {
        let Some(export) = export else {
            return Ok(None);
        };
        let function = self.function::<(), R>(export)?;
        self.enter(&function, (), cancel).map(Some)
    }

    /// Passes a message to the guest and gives the place of its reply.
    pub(crate) fn call(
        &mut self,
        entry: Entry,
        message: &Encoded<'_>,
        cancel: &Cancel,
    ) -> Result<Reply, Stop> {
        self.note_thread();
        let code = self.code.clone();
        let exports = code.exports();
        let len = u32::try_from(message.len())
            .map_err(|_| no_room(message.len(), "a 32-bit memory has no room for it"))?;
        let alloc = self.function::<u32, u32>(&exports.alloc)?;
        let pointer = self.enter(&alloc, len, cancel)?;
        if pointer == 0 {
            return Err(no_room(message.len(), "the guest has no memory for it").into());
        }
        let memory = self.store.data().memory.ok_or_else(no_memory)?;
        let bytes = memory.data_mut(&mut self.store);
        let start = pointer as usize;
        let place = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..message.len()));
        let Some(place) = place.filter(|_| start.is_multiple_of(ALIGNMENT_BYTES)) else {
            let detail = format!(
                "fuelbox_alloc({len}) gave {pointer:#x}, expected a multiple of {ALIGNMENT_BYTES} \
                 with that much memory behind it"
            );
            return Err(Verdict::BadOutput { detail }.into());
        };
        let place = start..start + place.len();
        self.pay(u64::from(len) * MESSAGE_BYTE)?;
        if let Some(place) = memory.data_mut(&mut self.store).get_mut(place) {
            message.write_to(place);
        }
        let export = match entry {
            Entry::Load => &exports.load,
            Entry::Run => &exports.run,
        };
        let function = self.function::<(u32, u32), i64>(export)?;
        let (start, len) = unpack_reply(self.enter(&function, (pointer, len), cancel)?);
        Ok(Reply { start: start as usize, len: len as usize })
    }

    /// Reads a reply in place.
    pub(crate) fn read<T>(
        &mut self,
        reply: Reply,
        bytes_max: u64,
        read: impl FnOnce(&Message<'_>) -> Result<T, Verdict>,
    ) -> Result<T, Stop> {
        let Reply { start, len } = reply;
        let bad = |detail: String| Stop::from(Verdict::BadOutput { detail });
        if len as u64 > bytes_max {
            return Err(bad(format!("reply of {len} bytes, allowed are {bytes_max}")));
        }
        let place = start..start.saturating_add(len);
        let memory_bytes = self.memory().len();
        if memory_bytes < place.end {
            let text = format!("reply of {len} bytes at {start:#x}, the memory has {memory_bytes}");
            return Err(bad(text));
        }
        self.pay(len as u64 * REPLY_BYTE)?;
        let bytes = self.memory().get(place).unwrap_or_default();
        let message = Message::decode(bytes).map_err(|error| bad(format!("reply: {error}")))?;
        if message.kind() == Kind::Failure {
            let detail = excerpt(message.text().as_bytes(), crate::log::DETAIL_BYTES_MAX);
            return Err(Verdict::GuestError { status: message.status(), detail }.into());
        }
        Ok(read(&message)?)
    }

    fn read_outputs(
        &mut self,
        signature: &Signature,
        reply: Reply,
        bytes_max: u64,
    ) -> Result<Verdict, Stop> {
        self.read(reply, bytes_max, |message| {
            let bad = |detail: String| Verdict::BadOutput { detail };
            if message.kind() != Kind::Outputs {
                return Err(bad(format!("reply of kind {:?}, expected Outputs", message.kind())));
            }
            let outputs: Vec<Tensor> = message.tensors().map(Tensor::from).collect();
            signature.check_outputs(&outputs).map_err(bad)?;
            let parameters = message.parameters().map(OwnedParameter::from).collect();
            Ok(Verdict::Completed { outputs, parameters })
        })
    }

    fn function<P, R>(&mut self, export: &wasmtime::ModuleExport) -> Result<TypedFunc<P, R>, Stop>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        let function = self.instance.get_module_export(&mut self.store, export);
        let function = function.and_then(|export| export.into_func()).ok_or_else(no_memory)?;
        Ok(function.typed(&self.store).map_err(HostFault::Engine)?)
    }

    /// Calls one of the guest's functions and runs it to its end.
    fn enter<P, R>(
        &mut self,
        function: &TypedFunc<P, R>,
        arguments: P,
        cancel: &Cancel,
    ) -> Result<R, Stop>
    where
        P: wasmtime::WasmParams + Sync,
        R: wasmtime::WasmResults + Sync,
    {
        self.store.data_mut().meter.watch(cancel);
        let pace = self.store.data().meter.pace().clone();
        let driven = drive(function.call_async(&mut self.store, arguments), cancel, &pace);
        let settled = self.pay(0);
        match driven {
            Driven::Done(result) => match (self.sort(result), settled) {
                // Whatever it came to beyond its fuel: it would not have come so far with a look in between.
                (Ok(_) | Err(Stop::Verdict(Verdict::Trap { .. })), Err(stop)) => Err(stop),
                (ended, _) => ended,
            },
            Driven::Stopped => Err(self.fault_or(Verdict::Cancelled)),
            Driven::Overdrawn => Err(self.fault_or(Verdict::OutOfFuel)),
        }
    }

    /// Takes what is due so far, and this for what the host is about to do.
    fn pay(&mut self, fuel: u64) -> Result<(), Stop> {
        let settled = meter::settle(&mut self.store, fuel).map_err(HostFault::Engine)?;
        Ok(settled.map_err(|Overdrawn| Verdict::OutOfFuel)?)
    }

    /// The host's failure, if there was one, is why the guest stopped, whatever else there is.
    fn fault_or(&self, verdict: Verdict) -> Stop {
        if self.flags.fault.load(Ordering::Relaxed) {
            return HostFault::Growth.into();
        }
        verdict.into()
    }

    /// Sorts what a call ended with: the guest's value, the guest's failure, or the host's.
    fn sort<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, Stop> {
        if self.flags.fault.load(Ordering::Relaxed) {
            return Err(HostFault::Growth.into());
        }
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if error.is::<Stopped>() {
            return Err(Verdict::Cancelled.into());
        }
        if let Some(exit) = error.downcast_ref::<GuestExit>() {
            return Err(self.trap(TrapKind::Exit, &exit.to_string()).into());
        }
        if let Some(refused) = error.downcast_ref::<kernels::Refused>() {
            return Err(self.trap(TrapKind::Kernel, &refused.to_string()).into());
        }
        if let Some(refused) = error.downcast_ref::<wasi::Refused>() {
            return Err(self.trap(TrapKind::Wasi, &refused.to_string()).into());
        }
        let Some(trap) = error.downcast_ref::<wasmtime::Trap>() else {
            return Err(HostFault::Engine(error).into());
        };
        Err(match TrapKind::classify(*trap) {
            None => Verdict::OutOfFuel,
            Some(kind) => self.trap(kind, trap.to_string().trim_start_matches("wasm trap: ")),
        }
        .into())
    }

    /// A trap with the guest's last words, where it had time for some.
    fn trap(&self, kind: TrapKind, trap: &str) -> Verdict {
        let words = match kind {
            TrapKind::Unreachable | TrapKind::Exit => {
                self.store.data().wasi.log(|log| log.last_words())
            }
            TrapKind::MemoryOutOfBounds
            | TrapKind::BadCall
            | TrapKind::Arithmetic
            | TrapKind::StackOverflow
            | TrapKind::Kernel
            | TrapKind::Wasi
            | TrapKind::Other => None,
        };
        let detail = match words {
            Some(words) => format!("{trap}: {words}"),
            None => trap.into(),
        };
        Verdict::Trap { kind, detail }
    }
}

/// Which of the guest's two functions is called.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    Load,
    Run,
}

/// The place of a guest's reply, as the guest says.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    start: usize,
    len: usize,
}

/// How a call into a guest ended.
enum Driven<T> {
    Done(T),
    /// It was to stop.
    Stopped,
    /// It could not pay for what it did.
    Overdrawn,
}

/// Polls a guest until it is done, or may not go on. A guest gives way every [`CANCEL_INTERVAL_FUEL`].
fn drive<F: Future>(future: F, cancel: &Cancel, pace: &Pace) -> Driven<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if cancel.is_due() {
            return Driven::Stopped;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Driven::Done(output);
        }
        if let Err(Overdrawn) = pace.interval() {
            return Driven::Overdrawn;
        }
    }
}

fn no_room(len: usize, why: &str) -> Verdict {
    let detail = format!("request of {len} bytes: {why}");
    Verdict::GuestError { status: fuelbox_abi::Status::Failed, detail }
}

/// A request that cannot be encoded did not come through `Model::request`, which checks; so this is
/// never seen, and if it is, it is the host's.
pub(crate) fn bad_request(error: &EncodeError) -> Stop {
    HostFault::Engine(wasmtime::format_err!("request: {error}")).into()
}

/// Exports are checked at validation; one that is gone is the engine's doing.
fn no_memory() -> Stop {
    HostFault::Engine(wasmtime::format_err!("an export that was validated is gone")).into()
}
