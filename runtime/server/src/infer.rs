//! Inference: tensors and options become a job that is waited for, and its answer.
//!
//! Invariant: a job whose client went away is stopped, unless the client gave it a key: then it ends,
//! and whoever comes again with the key gets its answer. Knows neither JSON nor gRPC.

use crate::{
    access::Caller,
    answer_budget::{Part, bytes_of_answer},
    app::App,
    models::Model,
    refusal::{Code, Refusal, not_completed},
    seeing,
    stats::{ModelStats, Reason},
};
use fuelbox_engine::{OwnedParameter, Tensor};
use fuelbox_jobs::{
    Begun, Canceller, Finished, JobError, JobId, JobRequest, LimitsWanted, Priority, Scope, State,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, task};

/// What a caller may choose beside the inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) limits: LimitsWanted,
    pub(crate) deadline: Option<Duration>,
    pub(crate) priority: Priority,
    pub(crate) idempotency_key: Option<String>,
}

/// A request for a model.
pub(crate) struct Call {
    pub(crate) inputs: Vec<Tensor>,
    /// The model's own.
    pub(crate) parameters: Vec<OwnedParameter>,
    pub(crate) options: Options,
}

/// A job that completed.
pub(crate) struct Answered {
    pub(crate) finished: Finished,
    /// What its outputs take of the memory for answers; nothing but for those of an earlier job, which
    /// were read again.
    pub(crate) part: Part,
}

impl Answered {
    /// Takes memory for an answer of so many bytes: an earlier job's can be asked for again, that of a
    /// job that was just paid for waits.
    pub(crate) async fn hold(
        &mut self,
        app: &App,
        caller: &Caller,
        bytes: usize,
    ) -> Result<(), Refusal> {
        if self.finished.repeated {
            return app.answers.raise(&mut self.part, caller.account(), bytes);
        }
        self.part = app.answers.take(caller.account(), bytes).await;
        Ok(())
    }
}

/// The job that a call asks for.
pub(crate) fn job_request(caller: &Caller, model: &Model, call: Call) -> JobRequest {
    let Call { inputs, parameters, options } = call;
    let Options { seed, limits, deadline, priority, idempotency_key } = options;
    JobRequest {
        parameters,
        seed,
        limits,
        deadline,
        priority,
        key: idempotency_key,
        access_key: Some(caller.key()),
        ..JobRequest::new(caller.account().clone(), model.digest, inputs)
    }
}

/// Whether this caller may run this model now.
pub(crate) fn may_run(app: &App, caller: &Caller, model: &Model) -> Result<(), Refusal> {
    caller.must(Scope::Caller)?;
    if app.models.is_loaded(&model.digest) {
        return Ok(());
    }
    let (name, version) = model.key();
    let sentence = format!("model '{name}' version '{version}' is unloaded");
    Err(Refusal::new(Code::Unavailable, sentence))
}

/// Runs a call and waits for its answer. Dropping the future is how its client goes away.
///
/// What comes back is a job that completed; one that did not is a refusal with a bill.
pub(crate) async fn infer(
    app: &Arc<App>,
    caller: &Caller,
    model: &Arc<Model>,
    call: Call,
) -> Result<Answered, Refusal> {
    let received = Instant::now();
    let leaving = Uncounted { stats: Some(&model.stats), received };
    let result = run(app, caller, model, call).await;
    leaving.came();
    let job = match &result {
        Ok(Answered { finished, .. }) => Some(&finished.job).filter(|_| !finished.repeated),
        Err(refusal) => refusal.job.as_deref().filter(|_| !refusal.repeated),
    };
    if let Some(end) = job.and_then(|job| job.end.as_ref()) {
        let fuel = end.fuel.saturating_add(end.load_fuel.unwrap_or(0));
        model.stats.billed(fuel, end.credits.micros());
    }
    if let Err(refusal) = &result {
        model.stats.failed_for(received.elapsed(), refusal.code.into());
    }
    let (job, times) = match &result {
        Ok(Answered { finished, .. }) => (Some(&finished.job), finished.times),
        Err(refusal) => (refusal.job.as_deref(), None),
    };
    if let Some(job) = job {
        seeing::note_job(job, times, model.key(), received);
    }
    result
}

async fn run(
    app: &Arc<App>,
    caller: &Caller,
    model: &Arc<Model>,
    call: Call,
) -> Result<Answered, Refusal> {
    may_run(app, caller, model)?;
    let _place = model.place(app.limits.package_jobs)?;
    let keyed = call.options.idempotency_key.is_some();
    let request = job_request(caller, model, call);
    let (sender, answer) = oneshot::channel();
    // Whoever waited may be gone.
    let answered = move |result: Result<Finished, JobError>| drop(sender.send(result));
    let begun = if keyed {
        // The key is looked up in the store, and the inputs are hashed.
        let host = app.host.clone();
        task::spawn_blocking(move || host.begin(request, answered)).await.map_err(lost)??
    } else {
        app.host.begin(request, answered)?
    };
    let started = match begun {
        Begun::Started(started) => started,
        Begun::Earlier { job, .. } => {
            let (app, caller) = (app.clone(), caller.clone());
            let read = task::spawn_blocking(move || earlier(&app, &caller, &job));
            return read.await.map_err(lost)?;
        }
    };
    let leaving = Leaving((!keyed).then(|| started.canceller()));
    if let Some(work) = started.side_work() {
        // Not waited for: the job does it when nobody else has.
        drop(task::spawn_blocking(work));
    }
    let finished = answer.await.map_err(lost)??;
    leaving.stay();
    completed(finished, Part::default())
}

/// The answer of a job that was done before: its outputs are read when there is memory for them.
fn earlier(app: &App, caller: &Caller, id: &JobId) -> Result<Answered, Refusal> {
    let job = app.host.job(id)?;
    let stored = match job.end.as_ref().filter(|_| job.state == State::Succeeded) {
        Some(end) => app.host.blob_bytes(&end.output)?.unwrap_or(0),
        None => 0,
    };
    let bytes = bytes_of_answer(usize::try_from(stored).unwrap_or(usize::MAX), 0);
    let part = app.answers.try_take(caller.account(), bytes)?;
    completed(app.host.earlier(id)?, part)
}

fn completed(finished: Finished, part: Part) -> Result<Answered, Refusal> {
    match finished.job.state {
        State::Succeeded => Ok(Answered { finished, part }),
        State::Queued | State::Running | State::Failed | State::Cancelled | State::Faulted => {
            Err(Refusal { repeated: finished.repeated, ..not_completed(finished.job) })
        }
    }
}

fn lost(error: impl std::error::Error) -> Refusal {
    Refusal::fault(&error)
}

/// A request that is not counted yet; dropped, its client went away.
struct Uncounted<'a> {
    stats: Option<&'a ModelStats>,
    received: Instant,
}

impl Uncounted<'_> {
    fn came(mut self) {
        self.stats = None;
    }
}

impl Drop for Uncounted<'_> {
    fn drop(&mut self) {
        if let Some(stats) = self.stats {
            stats.failed_for(self.received.elapsed(), Reason::Canceled);
        }
    }
}

/// Stops a job when its client goes away.
struct Leaving(Option<Canceller>);

impl Leaving {
    fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(canceller) = self.0.take() {
            canceller.cancel();
        }
    }
}
