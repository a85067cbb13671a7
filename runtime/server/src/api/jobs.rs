//! Jobs: submitted, listed, waited for, cancelled.

use super::{
    extract::{Object, Path, Query, blocking, check_json, parse},
    job::{JobJson, JobState},
};
use crate::{
    access::{Caller, now_unix_ms},
    app::App,
    infer::{self, Call},
    options,
    refusal::{Code, Refusal},
    serve::read_body,
    webhooks,
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{HeaderName, LOCATION},
    },
    response::{IntoResponse, Response},
};
use fuelbox_jobs::{JobFilter, JobId, JobRecord, Priority, Scope};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};
use utoipa::{IntoParams, ToSchema};

/// A job that somebody wants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJob)]
pub(super) struct NewJob {
    /// Name of the package.
    model: String,
    /// The one that was published last when not given.
    version: Option<String>,
    /// Tensors as the Open Inference Protocol has them in JSON.
    #[schema(value_type = Vec<Tensor>)]
    #[allow(dead_code)] // read by the protocol's own codec
    inputs: IgnoredAny,
    /// Settings of the model: booleans, numbers and strings by name.
    #[schema(value_type = Option<Object>)]
    #[allow(dead_code)] // read by the protocol's own codec
    parameters: Option<IgnoredAny>,
    /// Of the job's randomness; 0 when not given.
    seed: Option<u64>,
    #[schema(value_type = Option<NewLimits>)]
    limits: Option<Object<NewLimits>>,
    /// The job is stopped then, waiting included.
    #[schema(minimum = 0, maximum = 86_400_000)]
    deadline_ms: Option<u64>,
    /// 0 to 9, the highest first, among the jobs of the account; 5 when not given.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Who is told of the job's end.
    #[schema(value_type = Option<NewWebhook>)]
    webhook: Option<Object<NewWebhook>>,
}

/// A tensor of the Open Inference Protocol.
#[derive(ToSchema)]
#[allow(dead_code)] // for the document
pub(crate) struct Tensor {
    name: String,
    shape: Vec<u64>,
    /// `FP32`, `INT64`, `BYTES`, ...
    datatype: String,
    /// Nested as the shape is, or flat.
    data: Vec<serde_json::Value>,
}

/// What a job may use at most; what the package asks for where not given.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLimits {
    /// Of the run.
    fuel: Option<u64>,
    memory_bytes: Option<u64>,
    /// Of a load, should these shapes be new.
    load_fuel: Option<u64>,
}

/// A receiver.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// `https`, at a public address.
    #[schema(max_length = 2000)]
    url: String,
}

/// Queues a job.
///
/// The price of all that the job may use is held, and the job is on disk when the answer comes. The same
/// request with the same `Idempotency-Key` is the same job.
#[utoipa::path(
    post,
    path = "/jobs",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request.")),
    request_body = NewJob,
    responses(
        (status = 202, body = JobJson, headers(
            ("Location" = String, description = "The job."),
            ("Idempotent-Replayed" = String, description = "`true` when the job was there already."),
        )),
    )
)]
pub(super) async fn submit(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.must(Scope::Caller)?;
    check_json(&headers)?;
    let limits = &app.limits;
    let part = app.bodies.part(caller.account());
    let received = read_body(body, limits.request_bytes, limits.body_pause, part).await?;
    let received_unix_ms = now_unix_ms();
    // Tensors of megabytes are read and stored here.
    let record = blocking(&app, move |app| queue(app, &caller, &headers, &received.bytes)).await?;
    let replayed = record.submitted_unix_ms < received_unix_ms;
    let job = JobJson::of(&app.host, record)?;
    let location = HeaderValue::try_from(format!("/api/v1/jobs/{}", job.id));
    let mut response = (StatusCode::ACCEPTED, axum::Json(job)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn queue(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<JobRecord, Refusal> {
    let wanted: NewJob = parse(body)?;
    let webhook = match wanted.webhook {
        Some(Object(webhook)) => {
            webhooks::check_url(&webhook.url, limits_insecure(app)).map_err(Refusal::bad)?;
            Some(webhook.url)
        }
        None => None,
    };
    let model = app.models.find(caller, &wanted.model, wanted.version.as_deref())?;
    infer::may_run(app, caller, &model)?;
    let signature = &model.manifest.signature;
    let request = fuelbox_oip::Request::decode(body, None, signature, &Default::default())?;
    let (mut options, parameters) = options::read(headers, request.parameters)?;
    options.seed = wanted.seed.unwrap_or(options.seed);
    if let Some(Object(limits)) = wanted.limits {
        let NewLimits { fuel, memory_bytes, load_fuel } = limits;
        options.limits.fuel = fuel.or(options.limits.fuel);
        options.limits.memory_bytes = memory_bytes.or(options.limits.memory_bytes);
        options.limits.load_fuel = load_fuel.or(options.limits.load_fuel);
    }
    if let Some(millis) = wanted.deadline_ms {
        options.deadline = Some(options::deadline("deadline_ms", millis)?);
    }
    if let Some(level) = wanted.priority {
        options.priority = Priority::new(level)
            .ok_or_else(|| Refusal::bad(format!("priority: found {level}, allowed are 0 to 9")))?;
    }
    let call = Call { inputs: request.inputs, parameters, options };
    let mut job = infer::job_request(caller, &model, call);
    let called = webhook.is_some();
    job.webhook = webhook;

    let record = app.host.submit(job)?;
    if called {
        app.webhooks.expect(&app.host, &record.id);
    }
    Ok(record)
}

fn limits_insecure(app: &App) -> bool {
    app.limits.webhooks_insecure
}

/// Which jobs are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// In this state alone.
    #[param(inline)]
    state: Option<JobState>,
    /// Of this account alone: for operators.
    account: Option<String>,
    /// Older than this job: `next` of the page before.
    before: Option<String>,
    /// Most of them: 1 to 1000, or 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A page of jobs, the latest first.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage {
    jobs: Vec<JobJson>,
    /// `before` of the next page; null at the end.
    next: Option<String>,
}

/// Lists jobs, the latest first: one's own, or all for operators.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(ListQuery), responses((status = 200, body = JobPage)))]
pub(super) async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<JobPage>, Refusal> {
    caller.must(Scope::Caller)?;
    let account = super::account_filter(&caller, query.account.as_deref())?;
    let before = query.before.as_deref().map(|text| text.parse::<JobId>().map_err(Refusal::bad));
    let state = query.state.map(Into::into);
    let limit = super::page(query.limit)?;
    let filter = JobFilter { account, state, before: before.transpose()? };
    let page = blocking(&app, move |app| {
        let found = app.host.read(|records| records.jobs(&filter, limit))??;
        let full = found.len() == limit;
        let jobs = JobJson::list(&app.host, found)?;
        let next = jobs.last().filter(|_| full).map(|job| job.id.clone());
        Ok(JobPage { jobs, next })
    });
    Ok(axum::Json(page.await?))
}

/// The most seconds that a poll waits.
const WAIT_S_MAX: u64 = 60;

/// How long to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Wait so many seconds for the job's end, at most.
    #[param(minimum = 0, maximum = 60)]
    wait_s: Option<u64>,
}

/// Shows a job, or waits for its end.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job."), WaitQuery),
    responses((status = 200, body = JobJson))
)]
pub(super) async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<axum::Json<JobJson>, Refusal> {
    caller.must(Scope::Caller)?;
    let wait_s = query.wait_s.unwrap_or(0);
    if wait_s > WAIT_S_MAX {
        let sentence = format!("wait_s: found {wait_s}, allowed are 0 to {WAIT_S_MAX}");
        return Err(Refusal::bad(sentence));
    }
    let mut job = find(&app, &caller, &id)?;
    if !job.state.is_final() && wait_s > 0 {
        let (sender, ended) = oneshot::channel();
        // First the ear, then the look: nothing happens in between unheard.
        let ear = app.host.listen(&job.id, move || {
            // Whoever waited may be gone.
            let _ = sender.send(());
        });
        job = app.host.job(&job.id)?;
        if !job.state.is_final() {
            tokio::select! {
                // An ear that was dropped has heard all that there will be.
                _ = timeout(Duration::from_secs(wait_s), ended) => {}
                () = app.stop.cancelled() => {}
            }
            job = app.host.job(&job.id)?;
        }
        drop(ear);
    }
    Ok(axum::Json(JobJson::of(&app.host, job)?))
}

/// A job that this caller may see.
pub(super) fn find(app: &App, caller: &Caller, id: &str) -> Result<JobRecord, Refusal> {
    let unknown = || Refusal::not_found("job", id);
    let parsed: JobId = id.parse().map_err(|_| unknown())?;
    let viewer = caller.viewer();
    let found = app.host.read(|records| records.job_for(&viewer, &parsed))??;
    found.ok_or_else(unknown)
}

/// Cancels a job.
///
/// One that waits ends without a bill; one that runs stops soon, and is billed what it burned.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = JobJson))
)]
pub(super) async fn cancel(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<JobJson>, Refusal> {
    caller.must(Scope::Caller)?;
    let id = find(&app, &caller, &id)?.id;
    let job = blocking(&app, move |app| {
        app.host.cancel(&id)?;
        JobJson::of(&app.host, app.host.job(&id)?)
    });
    Ok(axum::Json(job.await?))
}

/// A job that has not ended has nothing yet.
pub(super) fn must_be_final(job: &JobRecord) -> Result<(), Refusal> {
    if job.state.is_final() {
        return Ok(());
    }
    let sentence = format!("job {} is {}", job.id, job.state.name());
    Err(Refusal::new(Code::Conflict, sentence).with("state", job.state.name()))
}
