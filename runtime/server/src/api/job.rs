//! A job as the API shows it, to its owner and to operators.

use super::values::{Amount, Moment, Sha256};
use crate::refusal::Refusal;
use fuelbox_digest::Digest;
use fuelbox_jobs::{Host, HostFault, JobRecord, Records, State, Webhook};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// Where a job is. Those behind `running` stay.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Faulted,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Faulted => Self::Faulted,
        }
    }
}

impl From<JobState> for State {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
            JobState::Faulted => Self::Faulted,
        }
    }
}

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobJson {
    /// A UUID; later jobs have greater ones.
    pub(crate) id: String,
    /// Who pays.
    account: String,
    /// Name of the package that runs.
    model: String,
    version: String,
    /// The package's identity.
    package: Sha256,
    pub(crate) state: JobState,
    /// How the run ended: `completed`, `trap`, `out_of_fuel`, ... Null for a job that did not run.
    verdict: Option<String>,
    /// 0 to 9, the highest first, among the jobs of the account.
    priority: u8,
    submitted: Moment,
    finished: Option<Moment>,
    seed: u64,
    /// Digest of the inputs in canonical encoding.
    input: Sha256,
    /// The most fuel that it may burn.
    fuel_limit: u64,
    memory_limit_bytes: u64,
    /// Fuel of the run.
    fuel: Option<u64>,
    /// Fuel of a load that it paid for.
    load_fuel: Option<u64>,
    memory_bytes_peak: Option<u64>,
    /// All that was paid.
    credits: Option<Amount>,
    /// Digest of the outputs in canonical encoding.
    output_digest: Option<Sha256>,
    /// Digest of the receipt's envelope: its entry in the log.
    receipt: Option<Sha256>,
    /// What went wrong, for people.
    detail: Option<String>,
    /// Who is told of its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookJson>,
}

/// What became of a job's webhook.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = WebhookState)]
pub(super) struct WebhookJson {
    url: String,
    /// `waiting`, `delivered` or `given_up`.
    state: &'static str,
    /// How often it was tried.
    attempts: u64,
    /// When it is tried next, at the earliest.
    next: Option<Moment>,
    /// The receiver's status when it took it.
    status: Option<u16>,
    /// What went wrong last.
    error: Option<String>,
}

impl From<Webhook> for WebhookJson {
    fn from(webhook: Webhook) -> Self {
        let waits = webhook.state == fuelbox_jobs::WebhookState::Waiting;
        Self {
            url: webhook.url,
            state: webhook.state.name(),
            attempts: webhook.attempts,
            next: (waits && webhook.attempts > 0).then_some(Moment(webhook.next_unix_ms)),
            status: webhook.status,
            error: webhook.error,
        }
    }
}

impl JobJson {
    /// A job with its package's name, and its webhook.
    pub(crate) fn of(host: &Host, record: JobRecord) -> Result<Self, Refusal> {
        let webhook = host.webhooks().of(&record.id)?;
        let names = host.read(|records| Names::default().find(records, &record.package))??;
        let mut job = Self::new(record, names);
        job.webhook = webhook.map(WebhookJson::from);
        Ok(job)
    }

    /// Jobs of a list, without their webhooks.
    pub(crate) fn list(host: &Host, jobs: Vec<JobRecord>) -> Result<Vec<Self>, Refusal> {
        let mut known = Names::default();
        let list = host.read(|records| -> Result<Vec<Self>, HostFault> {
            let named = |job: JobRecord| {
                let names = known.find(records, &job.package)?;
                Ok(Self::new(job, names))
            };
            jobs.into_iter().map(named).collect()
        })??;
        Ok(list)
    }

    fn new(job: JobRecord, (model, version): (String, String)) -> Self {
        let end = job.end.as_ref();
        Self {
            id: job.id.to_string(),
            account: job.account.to_string(),
            model,
            version,
            package: job.package.into(),
            state: job.state.into(),
            verdict: end.map(|end| end.verdict.clone()),
            priority: job.priority.level(),
            submitted: Moment(job.submitted_unix_ms),
            finished: job.finished_unix_ms.map(Moment),
            seed: job.seed,
            input: job.input.into(),
            fuel_limit: job.fuel_limit,
            memory_limit_bytes: job.memory_limit_bytes,
            fuel: end.map(|end| end.fuel),
            load_fuel: end.and_then(|end| end.load_fuel),
            memory_bytes_peak: end.map(|end| end.memory_bytes_peak),
            credits: end.map(|end| end.credits.into()),
            output_digest: end.map(|end| end.output.into()),
            receipt: end.map(|end| end.receipt.into()),
            detail: job.detail,
            webhook: None,
        }
    }
}

/// Names and versions of packages that were looked up already.
#[derive(Default)]
pub(super) struct Names(HashMap<Digest, (String, String)>);

impl Names {
    fn find(
        &mut self,
        records: &Records<'_>,
        package: &Digest,
    ) -> Result<(String, String), HostFault> {
        if let Some(known) = self.0.get(package) {
            return Ok(known.clone());
        }
        // A package that a job names is never removed.
        let found = records.find_package(&package.to_string())?;
        let names = found.map(|found| (found.name, found.version)).unwrap_or_default();
        self.0.insert(*package, names.clone());
        Ok(names)
    }
}
