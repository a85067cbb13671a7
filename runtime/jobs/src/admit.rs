//! Admission: a request becomes an [`Admitted`] job, by checking it and holding its price.
//!
//! Invariant: an admitted job owns exactly one hold, which covers all that it can come to cost.
//! Knows nothing of the box.

use crate::{
    books::{Hold, JobRow},
    catalogue::Published,
    fault::JobError,
    job::{Finished, JobId, JobRequest, stop_at},
    keys_in_flight::KeyGuard,
    limits::{HostLimits, limits_asked},
    price::{PriceError, PriceList},
    queue::Ticket,
    spending::SpendHold,
};
use fuelbox_digest::{Digest, Hasher};
use fuelbox_engine::{
    Cancel, JobLimits, OwnedParameter, Place, Tensor, encode_parameters, encode_tensors,
    shapes_digest, tensors_digest,
};
use fuelbox_ledger::Credits;
use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

/// A job that may run: its price is held.
pub(crate) struct Admitted {
    pub(crate) row: JobRow,
    pub(crate) hold: Hold,
    pub(crate) published: Arc<Published>,
    pub(crate) input: Source,
    pub(crate) parameters: Vec<OwnedParameter>,
    pub(crate) prices: Arc<PriceList>,
    pub(crate) cancel: Cancel,
    /// Since when it waits for a worker.
    pub(crate) since: Instant,
    /// Who waits for it.
    pub(crate) answer: Option<Answer>,
    /// Frees the caller's key when the job is done.
    pub(crate) key: Option<KeyGuard>,
    /// Its price, held against the limit of the access key that it came with.
    pub(crate) spend: Option<SpendHold>,
}

/// Hears once of a job's end. Called by the thread that commits: it must be quick, and must not wait.
pub(crate) type Answer = Box<dyn FnOnce(Result<Finished, JobError>) + Send>;

/// Where a job's inputs are.
pub(crate) enum Source {
    /// Here.
    Memory(Arc<Input>),
    /// Among the blobs, under the row's digest.
    Stored,
}

/// Inputs, and their digest when it is asked for: whoever comes first computes it, so that a large
/// input is hashed while it runs.
pub(crate) struct Input {
    pub(crate) tensors: Vec<Tensor>,
    digest: OnceLock<Digest>,
}

impl Input {
    pub(crate) fn new(tensors: Vec<Tensor>) -> Self {
        Self { tensors, digest: OnceLock::new() }
    }

    pub(crate) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| tensors_digest(Place::Inputs, &self.tensors))
    }

    /// The canonical bytes, as they are stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_tensors(Place::Inputs, &self.tensors)
    }

    /// Bytes of the elements.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum()
    }
}

/// A request that fits its package, with what it may use and what that costs at most. No hold yet.
pub(crate) struct Checked {
    pub(crate) id: JobId,
    pub(crate) request: JobRequest,
    pub(crate) published: Arc<Published>,
    pub(crate) input: Arc<Input>,
    pub(crate) limits: JobLimits,
    /// Most fuel of a load, when these shapes are new or may be when the job starts.
    pub(crate) load_limit: Option<u64>,
    /// What has to be held.
    pub(crate) price: Credits,
    /// That price, held against the limit of the request's access key, if it has one.
    pub(crate) spend: Option<SpendHold>,
    pub(crate) prices: Arc<PriceList>,
    /// What the run and a load for new shapes will probably burn.
    pub(crate) expected_fuel: u64,
    pub(crate) wait: Wait,
    pub(crate) now_unix_ms: u64,
}

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its caller, for seconds at most.
    Prompt,
    /// Nobody, and it may wait for long. Shapes that are paid for now may be forgotten when its turn
    /// comes: it can always pay for their load, and never ends for want of that.
    Submitted,
}

/// Checks a request against its package and the host's limits, and prices it.
pub(crate) fn check(
    mut request: JobRequest,
    published: Arc<Published>,
    host: &HostLimits,
    prices: Arc<PriceList>,
    wait: Wait,
    now_unix_ms: u64,
) -> Result<Checked, JobError> {
    let signature = published.signature();
    signature.check_inputs(&request.inputs)?;
    let mut inputs = std::mem::take(&mut request.inputs);
    // One request has one form: the model's order, and parameters by name.
    let place =
        |tensor: &Tensor| signature.inputs.iter().position(|input| input.name == tensor.name);
    inputs.sort_by_key(place);
    request.parameters.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = request.parameters.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let name = pair[0].name.escape_debug().take(80).collect();
        return Err(JobError::ParameterTwice { name });
    }
    if let Some(key) = &request.key {
        check_key(key)?;
    }
    if let Some(url) = &request.webhook {
        within("webhook url's length", url.len() as u64, WEBHOOK_BYTES_MAX)?;
    }
    let default = limits_asked(&published.manifest);
    let limits = JobLimits {
        fuel: request.limits.fuel.unwrap_or(default.fuel.min(host.fuel)),
        memory_bytes: request.limits.memory_bytes.unwrap_or(default.memory_bytes),
        ..default
    };
    let wanted_load =
        request.limits.load_fuel.unwrap_or(host.load_fuel_default.min(host.load_fuel));
    within("fuel", limits.fuel, host.fuel)?;
    within("memory", limits.memory_bytes, host.memory_bytes)?;
    within("load fuel", wanted_load, host.load_fuel)?;
    let shapes = shapes_digest(&inputs);
    let is_new = published.is_new(&shapes);
    let may_load = match wait {
        Wait::Prompt => is_new,
        Wait::Submitted => published.signature().needs_shapes(),
    };
    let load_limit = may_load.then_some(wanted_load);
    let run = prices.schedule.run(limits.fuel, limits.memory_bytes)?;
    let load = load_limit.map_or(Ok(Credits::ZERO), |fuel| prices.schedule.load(fuel))?;
    let price = run.checked_add(load).ok_or(PriceError::Overflow { fuel: limits.fuel })?;
    // The limit is a publisher's twice of what it measured, where nobody chose one.
    let expected_fuel = published.expected_fuel(&shapes).unwrap_or(limits.fuel / 2);
    let expected_fuel = expected_fuel.min(limits.fuel);
    let expected_load = match is_new {
        true => published.expected_load_fuel(wanted_load),
        false => 0,
    };
    let expected_fuel = expected_fuel.saturating_add(expected_load);
    Ok(Checked {
        id: JobId::new(),
        request,
        published,
        input: Arc::new(Input::new(inputs)),
        limits,
        load_limit,
        price,
        spend: None,
        prices,
        expected_fuel,
        wait,
        now_unix_ms,
    })
}

fn within(what: &'static str, found: u64, allowed: u64) -> Result<(), JobError> {
    if found <= allowed { Ok(()) } else { Err(JobError::Limit { what, found, allowed }) }
}

/// Longest url of a webhook: what proxies take.
const WEBHOOK_BYTES_MAX: u64 = 2_048;

/// Longest key of a caller, in characters; what HTTP's draft on idempotency keys and its users take.
const KEY_CHARS_MAX: usize = 255;

fn check_key(key: &str) -> Result<(), JobError> {
    let fits = (1..=KEY_CHARS_MAX).contains(&key.len());
    if fits && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(JobError::Key { found: key.escape_debug().take(80).collect() })
    }
}

impl Checked {
    /// What the queue has to know. `bytes` is what the job keeps in memory while it waits.
    pub(crate) fn ticket(&self, bytes: u64) -> Ticket {
        Ticket {
            id: self.id,
            account: self.request.account.clone(),
            priority: self.request.priority,
            expected_fuel: self.expected_fuel,
            bytes,
            prompt: self.wait == Wait::Prompt,
        }
    }

    /// The digest of all that the caller asked for: the same key with another digest is refused.
    pub(crate) fn request_digest(&self) -> Digest {
        let Self { request, .. } = self;
        let mut hasher = Hasher::new("fuelbox request 1");
        hasher.field(self.published.digest.as_bytes()).field(self.input.digest().as_bytes());
        hasher.field(&encode_parameters(&request.parameters)).number(request.seed);
        let limits = request.limits;
        for limit in [limits.fuel, limits.memory_bytes, limits.load_fuel] {
            hasher.number(limit.is_some().into()).number(limit.unwrap_or_default());
        }
        let deadline = request.deadline.map_or(u64::MAX, |after| after.as_millis() as u64);
        hasher.number(deadline).number(request.priority.level().into());
        if let Some(url) = &request.webhook {
            hasher.field(url.as_bytes());
        }
        hasher.finish()
    }

    /// The row of this job. The input's digest is filled in when it is known, where it is not yet.
    pub(crate) fn row(&self, input: Option<Digest>) -> JobRow {
        let Self { request, .. } = self;
        let input = input.unwrap_or(Digest::from_bytes([0; 32]));
        let deadline = request.deadline.map(|after| {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.now_unix_ms.saturating_add(after).min(i64::MAX.cast_unsigned())
        });
        JobRow {
            id: self.id,
            account: request.account.clone(),
            package: self.published.digest,
            priority: request.priority,
            submitted_unix_ms: self.now_unix_ms,
            deadline_unix_ms: deadline,
            seed: request.seed,
            fuel_limit: self.limits.fuel,
            memory_limit: self.limits.memory_bytes,
            load_limit: self.load_limit,
            hold: self.price,
            input,
            parameters: encode_parameters(&request.parameters),
            key: request.key.clone(),
            access_key: request.access_key,
            webhook: request.webhook.clone(),
            // Nobody asks for it without a key.
            request: request.key.as_ref().map_or(input, |_| self.request_digest()),
            schedule: self.prices.digest,
        }
    }

    /// The job, with its hold.
    pub(crate) fn admitted(
        self,
        row: JobRow,
        hold: Hold,
        answer: Option<Answer>,
        key: Option<KeyGuard>,
    ) -> Admitted {
        let input = match &hold {
            Hold::Reserved(_) => Source::Memory(self.input),
            Hold::Pending => Source::Stored,
        };
        Admitted {
            row,
            hold,
            published: self.published,
            input,
            parameters: self.request.parameters,
            prices: self.prices,
            cancel: stop_at(self.request.deadline),
            since: Instant::now(),
            answer,
            key,
            spend: self.spend,
        }
    }
}
