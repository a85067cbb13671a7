//! What a job leaves: its answer, its receipt, the proof that the receipt is in the log, its inputs.

use super::{
    extract::{Path, Query, blocking},
    jobs::{find, must_be_final},
    values::Sha256,
};
use crate::{
    access::Caller,
    answer_budget::{bytes_of_answer, check_json},
    app::App,
    bill::JobBill,
    problem::add_bill,
    refusal::{Code, Refusal, not_completed},
};
use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use fuelbox_jobs::{Finished, HostFault, JobRecord, Scope, State};
use fuelbox_oip::Requested;
use fuelbox_receipt::log::{Checkpoint, prove_inclusion};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A reply of the Open Inference Protocol.
#[derive(ToSchema)]
#[allow(dead_code)] // for the document
pub(crate) struct InferenceReply {
    model_name: String,
    model_version: String,
    #[schema(value_type = Object)]
    parameters: (),
    outputs: Vec<super::jobs::Tensor>,
}

/// How outputs are written.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultQuery {
    /// As binary data behind the JSON: the protocol's extension. NaN and bytes that are no UTF-8 need it.
    binary: Option<bool>,
}

/// The answer of a job that succeeded, as the Open Inference Protocol has it.
///
/// One whose model failed is `model_failed`, with its bill; one that has not ended, was cancelled or
/// faulted is a `conflict`.
#[utoipa::path(
    get, path = "/jobs/{id}/result", tag = "jobs",
    params(("id" = String, Path, description = "The job."), ResultQuery),
    responses(
        (status = 200, content(
            (InferenceReply = "application/json"),
            (String = "application/octet-stream"),
        ), headers(
            ("Fuelbox-Job" = String), ("Fuelbox-Fuel" = String), ("Fuelbox-Credits" = String),
            ("Fuelbox-Receipt" = String), ("Fuelbox-Package" = String), ("Fuelbox-Verdict" = String),
            ("Inference-Header-Content-Length" = Option<String>),
        )),
    )
)]
pub(super) async fn result(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ResultQuery>,
) -> Result<Response, Refusal> {
    caller.must(Scope::Caller)?;
    let job = find(&app, &caller, &id)?;
    must_be_final(&job)?;
    let binary = query.binary.unwrap_or(false);
    blocking(&app, move |app| answer(app, &caller, job, binary)).await
}

fn answer(app: &App, caller: &Caller, job: JobRecord, binary: bool) -> Result<Response, Refusal> {
    match job.state {
        State::Succeeded => {}
        State::Failed => return Err(not_completed(job)),
        State::Queued | State::Running | State::Cancelled | State::Faulted => {
            let sentence = format!("job {} is {}: it has no answer", job.id, job.state.name());
            let mut refusal =
                Refusal::new(Code::Conflict, sentence).with("state", job.state.name());
            refusal.job = Some(Box::new(job));
            return Err(refusal);
        }
    }
    let gone = || Refusal::new(Code::NotFound, "the outputs of this job are not kept any more");
    let stored = job.end.as_ref().map(|end| app.host.blob_bytes(&end.output)).transpose()?;
    let stored = usize::try_from(stored.flatten().ok_or_else(gone)?).unwrap_or(usize::MAX);
    let bytes = if binary {
        bytes_of_answer(stored, 0)
    } else {
        check_json(stored).map_err(in_query)?;
        bytes_of_answer(0, stored)
    };
    let part = app.answers.try_take(caller.account(), bytes)?;
    let Finished { job, outputs, parameters, .. } = app.host.result(&job.id)?.ok_or_else(gone)?;
    let outputs = outputs.ok_or_else(gone)?;
    let package = job.package.to_string();
    let record = app.host.read(|records| records.find_package(&package))??;
    let record = record.ok_or_else(gone)?;
    let bill = JobBill::of(&job);
    let requested = Requested { outputs: Vec::new(), binary };
    let response = fuelbox_oip::Response {
        model_name: &record.name,
        model_version: &record.version,
        id: None,
        parameters: &bill.as_ref().map(|bill| bill.parameters(&parameters)).unwrap_or_default(),
        outputs: &outputs,
        requested: &requested,
        labels: None,
    };
    let encoded = response
        .encode()
        .map_err(|error| in_query(Refusal::bad(&error).with("reason", error.code())))?;
    let mut response = part.hold(encoded.bytes).into_response();
    let headers = response.headers_mut();
    let mut media = "application/json";
    if let Some(json_bytes) = encoded.json_bytes {
        let name = HeaderName::from_static("inference-header-content-length");
        headers.insert(name, HeaderValue::from(json_bytes));
        media = "application/octet-stream";
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if let Some(bill) = bill {
        add_bill(headers, &bill, false);
    }
    Ok(response)
}

/// Says how binary data is asked for here.
fn in_query(refusal: Refusal) -> Refusal {
    let sentence = format!("{}; here, by the query binary=true", refusal.sentence);
    Refusal { sentence, ..refusal }
}

/// What envelopes of DSSE are.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A DSSE envelope: a receipt's statement, and the host's signature of it.
#[derive(ToSchema)]
#[allow(dead_code)] // for the document
#[schema(as = Envelope)]
pub(crate) struct EnvelopeJson {
    /// Base64.
    payload: String,
    #[schema(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

/// A signature of an envelope.
#[derive(ToSchema)]
#[allow(dead_code)] // for the document
pub(crate) struct EnvelopeSignature {
    keyid: String,
    /// Base64.
    sig: String,
}

/// The signed receipt of a job that ran.
#[utoipa::path(
    get, path = "/jobs/{id}/receipt", tag = "jobs",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = EnvelopeJson, content_type = "application/vnd.dsse.envelope.v1+json"))
)]
pub(super) async fn receipt(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::Caller)?;
    let job = find(&app, &caller, &id)?;
    must_be_final(&job)?;
    let logged = app.host.read(|records| records.receipt(&job.id))??;
    let logged = logged.ok_or_else(|| no_receipt(&job))?;
    Ok(([(CONTENT_TYPE, ENVELOPE)], logged.envelope.to_bytes()).into_response())
}

fn no_receipt(job: &JobRecord) -> Refusal {
    Refusal::new(Code::NotFound, format!("job {} did not run: it has no receipt", job.id))
}

/// That a receipt is in the log.
#[derive(Serialize, ToSchema)]
pub(super) struct Proof {
    /// The receipt's place in the log, from 0.
    index: u64,
    /// Entries of the log that the proof is for.
    size: u64,
    /// From the entry to the root (RFC 9162).
    hashes: Vec<Sha256>,
    /// The log as it is, signed: a signed note.
    checkpoint: String,
}

/// A proof that the job's receipt is in the log of receipts.
#[utoipa::path(
    get, path = "/jobs/{id}/proof", tag = "jobs",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = Proof))
)]
pub(super) async fn proof(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<axum::Json<Proof>, Refusal> {
    caller.must(Scope::Caller)?;
    let job = find(&app, &caller, &id)?;
    must_be_final(&job)?;
    let proof = blocking(&app, move |app| {
        let checkpoint = app.host.checkpoint()?;
        let opened = Checkpoint::open(&checkpoint, &app.host.key_ring(), &app.host.log_origin());
        let size = opened.map_err(|error| Refusal::fault(&error))?.size;
        let found = app.host.read(|records| -> Result<_, HostFault> {
            let Some(logged) = records.receipt(&job.id)? else { return Ok(None) };
            Ok(Some((logged.index, prove_inclusion(&records.tiles(), size, logged.index))))
        })??;
        let (index, hashes) = found.ok_or_else(|| no_receipt(&job))?;
        let hashes = hashes.map_err(|error| Refusal::fault(&error))?;
        Ok(Proof { index, size, hashes: hashes.into_iter().map(Sha256).collect(), checkpoint })
    });
    Ok(axum::Json(proof.await?))
}

/// The inputs of a job in canonical encoding: what the receipt's input digest is of.
#[utoipa::path(
    get, path = "/jobs/{id}/input", tag = "jobs",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = String, content_type = "application/octet-stream"))
)]
pub(super) async fn input(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::Caller)?;
    let job = find(&app, &caller, &id)?;
    let bytes = blocking(&app, move |app| {
        let gone = || Refusal::new(Code::NotFound, "the inputs of this job are not kept any more");
        let stored = app.host.blob_bytes(&job.input)?.ok_or_else(gone)?;
        let stored = usize::try_from(stored).unwrap_or(usize::MAX);
        let part = app.answers.try_take(caller.account(), stored)?;
        Ok(part.hold(app.host.blob(&job.input)?.ok_or_else(gone)?))
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}
