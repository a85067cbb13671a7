//! Workers: admitted jobs are run, priced, signed for and settled, one thread for each core.
//!
//! A worker does not wait for the commit of a job: the writer answers the caller, and the worker goes
//! on with the next one.

use crate::{
    admit::{Admitted, Answer, Input, Source},
    books::{Blob, Hold, JobResult, JobRow, Settlement},
    claims::Claim,
    execute::{Executed, Load, Work, execute, unpack_fuel},
    fault::{HostFault, JobError},
    job::{End, Finished, JobRecord, Settled, State, Times},
    queue::Ticket,
    shapes::{self, Use},
    shared::Shared,
    steps::{Step, reach},
    tables::INLINE_BYTES_MAX,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{
    JobLimits, Outcome, Place, Tensor, Verdict, decode_tensors, encode_parameters, encode_tensors,
    shapes_digest,
};
use fuelbox_receipt::{self as receipt, Receipt};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// Serves the queue until it is closed. `number` counts the workers.
pub(crate) fn work(shared: &Arc<Shared>, number: usize) {
    pin(number);
    while let Some((ticket, job)) = shared.queue.pop() {
        reach(Step::Dequeued);
        process(shared, &ticket, job);
    }
}

/// Keeps a worker on one of the cores that the process may use, so that its slots stay in that core's
/// caches. Not every system allows it; jobs run all the same.
fn pin(number: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    if cores.is_empty() {
        return;
    }
    let mut one = CpuSet::new();
    one.set(cores[number % cores.len()]);
    let _ = sched_setaffinity(None, &one);
}

fn process(shared: &Arc<Shared>, ticket: &Ticket, mut job: Admitted) {
    let id = job.row.id;
    if job.cancel.is_due() {
        shared.queue.done(ticket, 0);
        return shared.drop_unstarted(job, State::Cancelled, JobError::CancelledEarly);
    }
    if matches!(job.hold, Hold::Pending) {
        shared.books.begin(id);
    }
    let run = AssertUnwindSafe(|| run(shared, &mut job));
    let result = catch_unwind(run)
        .unwrap_or_else(|panic| Err(HostFault::Worker { text: last_words(panic.as_ref()) }.into()));
    if shared.interrupted().remove(&id) && is_cancelled(&result) {
        shared.queue.done(ticket, 0);
        if matches!(job.hold, Hold::Pending) {
            // Should this fail, the job is found as after a crash.
            shared.books.put_back(id);
        }
        return shared.leave(job);
    }
    match result {
        Ok(ran) => {
            let load = ran.load_burned.unwrap_or(0);
            shared.queue.done(ticket, ran.result.fuel.saturating_add(load));
            shared.live().remove(&id);
            job.published.burned(ran.result.fuel);
            settle(shared, job, ran);
        }
        Err(error) => {
            shared.queue.done(ticket, 0);
            shared.drop_unstarted(job, State::Faulted, error);
        }
    }
}

fn is_cancelled(result: &Result<Ran, JobError>) -> bool {
    result.as_ref().is_ok_and(|ran| ran.result.state == State::Cancelled)
}

fn last_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a word").to_owned()
}

/// What the model gave.
struct Outputs {
    tensors: Vec<Tensor>,
    parameters: Vec<fuelbox_engine::OwnedParameter>,
}

/// A run that is over: for the books, and for whoever waits.
struct Ran {
    result: JobResult,
    outputs: Outputs,
    /// Its content in files.
    claims: Vec<Claim>,
    new_shapes: Option<shapes::Claim>,
    /// Fuel of a load, whoever pays for it.
    load_burned: Option<u64>,
    times: Times,
}

/// Notes that a job with these shapes starts: who answers for their load, and its claim to them when it is
/// the first to bring them.
fn start(job: &Admitted, shapes: &Digest) -> (Load, Option<shapes::Claim>) {
    if !job.published.signature().needs_shapes() {
        return (Load::Host, None);
    }
    let limit = job.row.load_limit;
    match (job.published.shapes.start(shapes, limit.is_some()), limit) {
        // Shapes that were paid for since the job was admitted cost it nothing.
        (Use::Paid, _) => (Load::Host, None),
        (Use::First(claim), Some(limit)) => (Load::Job(limit), Some(claim)),
        (Use::Beside, Some(limit)) => (Load::IfMade(limit), None),
        // Those that were forgotten since: no price was held for them.
        (Use::NothingHeld | Use::First(_) | Use::Beside, _) => (Load::Nobody, None),
    }
}

/// Runs an admitted job, and makes all that its settlement takes.
fn run(shared: &Shared, job: &mut Admitted) -> Result<Ran, JobError> {
    let waits = matches!(job.hold, Hold::Reserved(_));
    let input = match &job.input {
        Source::Memory(input) => input.clone(),
        Source::Stored => Arc::new(fetch(shared, &job.row.input)?),
    };
    let model = shared.catalogue.model(&job.published)?;
    let shapes = shapes_digest(&input.tensors);
    let (load, new) = start(job, &shapes);
    let limits = JobLimits {
        fuel: job.row.fuel_limit,
        memory_bytes: job.row.memory_limit,
        ..JobLimits::default()
    };
    let work = Work {
        model: &model,
        inputs: &input.tensors,
        parameters: &job.parameters,
        limits,
        seed: job.row.seed,
        load,
        unpack_fuel: unpack_fuel(&job.published.manifest),
        cancel: &job.cancel,
    };
    let started = Instant::now();
    let waited = started.duration_since(job.since);
    let executed = execute(&work).map_err(HostFault::from)?;
    if load == Load::Nobody && executed.load_burned.is_some() {
        return Err(JobError::Forgotten);
    }
    let ran = started.elapsed();
    reach(Step::Executed);
    let expires_unix_ms = shared.expires();
    let keeps = |bytes: usize| bytes <= INLINE_BYTES_MAX || !waits || shared.keep.large_of_waiting;
    let input_digest = input.digest();
    let (mut blobs, mut claims) = (Vec::with_capacity(2), Vec::new());
    if keeps(input.bytes() as usize) {
        let content = Arc::new(input.encode());
        // That of a job whose owner does not wait lies there already.
        if content.len() > INLINE_BYTES_MAX && waits {
            claims.push(shared.store(&input_digest, &content, false)?);
        }
        blobs.push(Blob { digest: input_digest, content, expires_unix_ms });
    }
    job.row.input = input_digest;
    if job.row.key.is_none() {
        job.row.request = input_digest;
    }
    // A load that failed leaves the shapes to the next one.
    let new_shapes = new.filter(|_| executed.prepared);
    let Executed { outcome, image, load_fuel, load_burned, prepared } = executed;
    if let (true, Some(fuel)) = (prepared, load_burned) {
        job.published.loaded(fuel);
    }
    let Outcome { verdict, usage, log } = outcome;
    let (name, kind, detail) = (verdict.name(), verdict_kind(&verdict), verdict.detail());
    let (state, replayable) = (state(&verdict), verdict.replayable());
    let outputs = match verdict {
        Verdict::Completed { outputs, parameters } => Outputs { tensors: outputs, parameters },
        Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => Outputs { tensors: Vec::new(), parameters: Vec::new() },
    };
    let output_bytes = encode_tensors(Place::Outputs, &outputs.tensors);
    let output = Digest::of(&output_bytes);
    if keeps(output_bytes.len()) {
        if output_bytes.len() > INLINE_BYTES_MAX {
            // A caller who waits has the answer; the copy is for audits. The others are fetched.
            claims.push(shared.store(&output, &output_bytes, !waits)?);
        }
        blobs.push(Blob { digest: output, content: Arc::new(output_bytes), expires_unix_ms });
    }
    reach(Step::BlobsStored);
    let (fuel, memory_bytes) = (usage.fuel, usage.memory_bytes_peak);
    let prices = &job.prices.schedule;
    let completed = state == State::Succeeded;
    let books = |error: crate::price::PriceError| HostFault::Books(error.to_string());
    let bill = prices.bill(completed, fuel, memory_bytes, load_fuel).map_err(books)?;
    let credits = bill.total().map_err(books)?;
    let finished_unix_ms = shared.now_unix_ms();
    let manifest = &job.published.manifest;
    let receipt = Receipt {
        output,
        format: receipt::receipt::FORMAT.into(),
        job: job.row.id.to_string(),
        package: job.published.digest,
        guest: manifest.guest.digest,
        image,
        assets: assets(manifest),
        input: input_digest,
        parameters: Digest::of(&job.row.parameters),
        seed: job.row.seed,
        profile: shared.catalogue.engine().profile(),
        limits: receipt_limits(&limits),
        usage: receipt::Usage { fuel, memory_bytes_peak: memory_bytes },
        verdict: receipt::Verdict { name: name.into(), kind: kind.map(str::to_owned) },
        replayable,
        load: bill
            .load
            .map(|(fuel, credits)| receipt::Load { fuel, credits_micro: credits.micros() }),
        price: receipt::Price {
            schedule: job.prices.digest,
            version: prices.version,
            credits_micro: bill.run.micros(),
            publisher_micro: bill.publisher.micros(),
        },
        payer: job.row.account.to_string(),
        publisher: job.published.publisher.to_string(),
        finished_unix_ms,
    };
    let receipt = shared.sign(&receipt)?;
    let receipt_digest = receipt.digest();
    reach(Step::Signed);
    let reply = encode_parameters(&outputs.parameters);
    let result = JobResult {
        state,
        finished_unix_ms,
        verdict: name,
        detail,
        output,
        fuel,
        memory_bytes,
        bill,
        credits,
        receipt,
        receipt_digest,
        reply,
        log,
        blobs,
    };
    Ok(Ran { result, outputs, claims, new_shapes, load_burned, times: Times { waited, ran } })
}

/// A model's assets as receipts have them.
pub(crate) fn assets(manifest: &fuelbox_engine::Manifest) -> Vec<receipt::Asset> {
    let asset = |asset: &fuelbox_engine::NamedPart| receipt::Asset {
        name: asset.name.clone(),
        digest: asset.part.digest,
    };
    manifest.assets.iter().map(asset).collect()
}

/// Limits as receipts have them.
pub(crate) fn receipt_limits(limits: &JobLimits) -> receipt::Limits {
    receipt::Limits {
        fuel: limits.fuel,
        memory_bytes: limits.memory_bytes,
        input_bytes: limits.input_bytes,
        output_bytes: limits.output_bytes,
        log_bytes: limits.log_bytes as u64,
    }
}

/// What more there is to a verdict, in a word that fuelbox chose: never a guest's own.
pub(crate) fn verdict_kind(verdict: &Verdict) -> Option<&'static str> {
    use fuelbox_abi::Status;
    match verdict {
        Verdict::Trap { kind, .. } => Some(kind.name()),
        Verdict::GuestError { status, .. } => Some(match status {
            Status::Ok => "ok",
            Status::InvalidInput => "invalid_input",
            Status::InvalidModel => "invalid_model",
            Status::Unsupported => "unsupported",
            Status::Failed => "failed",
        }),
        Verdict::Completed { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => None,
    }
}

fn state(verdict: &Verdict) -> State {
    match verdict {
        Verdict::Completed { .. } => State::Succeeded,
        Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. } => State::Failed,
        Verdict::Cancelled => State::Cancelled,
    }
}

/// The inputs of a job that waited on disk.
fn fetch(shared: &Shared, digest: &Digest) -> Result<Input, HostFault> {
    let bytes = shared.blob(digest)?.ok_or(HostFault::BlobMissing { digest: *digest })?;
    Ok(Input::new(decode_tensors(Place::Inputs, &bytes)?))
}

/// Hands a job to the books, and its answer to whoever waits once it is committed.
fn settle(shared: &Arc<Shared>, job: Admitted, ran: Ran) {
    let Admitted { row, hold, published, answer, key, spend, .. } = job;
    let id = row.id;
    let waits = matches!(hold, Hold::Reserved(_));
    let Ran { result, outputs, claims, new_shapes, times, load_burned: _ } = ran;
    let finished = answer.as_ref().map(|_| finished(&row, &result, outputs, times));
    let publisher = published.publisher.clone();
    let shapes = new_shapes.as_ref().map(|new| new.shapes);
    let verdict = result.verdict;
    let fuel = result.fuel.saturating_add(result.bill.load.map_or(0, |(fuel, _)| fuel));
    let (spent_by, credits) = (spend.as_ref().map(|spend| spend.key), result.credits);
    let settlement = Arc::new(Settlement { row, hold, publisher, result, shapes, spent_by });
    let desk = shared.desk.clone();
    shared.books.settle(settlement, move |result| {
        if let (Ok(()), Some(hear)) = (&result, desk.settled.get()) {
            let manifest = &published.manifest;
            let (name, version) = (&manifest.name, &manifest.version);
            hear(&Settled { name, version, verdict, fuel, credits, times });
        }
        // After this the caller may come again with the same key, and find the job; and the rows of
        // its content are there.
        drop((key, claims));
        match &result {
            Ok(()) => {
                new_shapes.into_iter().for_each(shapes::Claim::paid);
                spend.into_iter().for_each(|spend| spend.settled(credits));
            }
            Err(error) if !waits => desk.void_later(id, error.to_string(), spend),
            Err(_) => drop(spend),
        }
        reply(answer, result.map_err(JobError::from), finished);
        desk.wake(&id);
    });
}

fn reply(answer: Option<Answer>, result: Result<(), JobError>, finished: Option<Finished>) {
    let (Some(answer), Some(finished)) = (answer, finished) else {
        return;
    };
    // Whoever waited may be gone: the job is done and paid for all the same.
    answer(result.map(|()| finished));
    reach(Step::Answered);
}

fn finished(row: &JobRow, result: &JobResult, outputs: Outputs, times: Times) -> Finished {
    let job = JobRecord {
        state: result.state,
        finished_unix_ms: Some(result.finished_unix_ms),
        end: Some(End {
            verdict: result.verdict.into(),
            output: result.output,
            fuel: result.fuel,
            memory_bytes_peak: result.memory_bytes,
            load_fuel: result.bill.load.map(|(fuel, _)| fuel),
            credits: result.credits,
            receipt: result.receipt_digest,
        }),
        detail: result.detail.clone(),
        ..row.queued()
    };
    let completed = result.state == State::Succeeded;
    Finished {
        job,
        outputs: completed.then_some(outputs.tensors),
        parameters: outputs.parameters,
        log: result.log.clone(),
        receipt: result.receipt.clone(),
        repeated: false,
        times: Some(times),
    }
}
