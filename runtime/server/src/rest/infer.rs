//! Inference over HTTP: JSON, binary tensors, or one raw tensor.

use super::ModelPath;
use crate::{
    access::Caller,
    answer_budget::{Part, bytes_of_answer, check_json},
    app::App,
    bill::JobBill,
    infer::{self, Answered, Call},
    models::Model,
    options,
    problem::add_bill,
    refusal::{Code, Refusal, excerpt},
    serve::read_body,
    stats::Took,
};
use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use fuelbox_jobs::Finished;
use fuelbox_oip::{Encoded, Limits, OipError, Request, Requested};
use std::{sync::Arc, time::Instant};
use tokio::task::block_in_place;

/// How long the JSON is that comes before binary data.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Bodies of more than this are taken apart on a thread that need not answer others meanwhile: some
/// milliseconds of JSON.
pub(crate) const HEAVY_BYTES: usize = 1 << 20;

impl From<OipError> for Refusal {
    fn from(error: OipError) -> Self {
        // Its codes are those of docs/formats/oip.md.
        let code = if error.code() == "too_large" { Code::TooLarge } else { Code::BadInput };
        Self::new(code, &error).with("reason", error.code())
    }
}

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<ModelPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // First what costs nothing: a caller who may not hears so before he has sent it all.
    let model = app.models.find(&caller, &path.name, path.version.as_deref())?;
    infer::may_run(&app, &caller, &model)?;
    let json_bytes = json_length(&headers)?;
    check_type(&headers)?;
    let limits = &app.limits;
    let part = app.bodies.part(caller.account());
    let received = read_body(body, limits.request_bytes, limits.body_pause, part).await?;
    let started = Instant::now();
    let counted = |error| {
        model.stats.failed(started.elapsed());
        error
    };
    let decoded = decode(&received.bytes, json_bytes, &model).map_err(counted)?;
    // The tensors are copies: the body's memory is free for others.
    drop(received);
    let Request { id, parameters, inputs, requested } = decoded;
    let (options, parameters) = options::read(&headers, parameters).map_err(counted)?;
    let decode = started.elapsed();
    let call = Call { inputs, parameters, options };
    let mut answered = infer::infer(&app, &caller, &model, call).await?;
    let held = hold(&app, &caller, &requested, &mut answered).await;
    let Answered { finished, part } = answered;
    let answered = Instant::now();
    let answer = Answer { model: &model, id: id.as_deref(), requested: &requested };
    let encoded = held.and_then(|()| answer.encode(&app, &finished));
    let encoded = encoded.map_err(|refusal| {
        model.stats.failed(started.elapsed());
        Refusal { job: Some(Box::new(finished.job.clone())), ..refusal }
    })?;
    let took = Took { decode, encode: answered.elapsed(), total: started.elapsed() };
    model.stats.succeeded(took, finished.times);
    Ok(respond(encoded, part, &finished))
}

/// Takes memory for an answer. What is read again is had as JSON up to a limit; what was just paid for is
/// given as it was asked for.
async fn hold(
    app: &App,
    caller: &Caller,
    requested: &Requested,
    answered: &mut Answered,
) -> Result<(), Refusal> {
    let outputs = answered.finished.outputs.as_deref().unwrap_or_default();
    let (mut binary, mut json) = (0_usize, 0_usize);
    for output in outputs {
        let wanted = requested.outputs.iter().find(|wanted| wanted.name == output.name);
        let is_binary = match wanted {
            // Classes are text, in either form.
            Some(wanted) => wanted.classes.is_none() && wanted.binary.unwrap_or(requested.binary),
            None => requested.binary || !requested.outputs.is_empty(),
        };
        *(if is_binary { &mut binary } else { &mut json }) += output.bytes.len();
    }
    if answered.finished.repeated {
        check_json(json)?;
    }
    answered.hold(app, caller, bytes_of_answer(binary, json)).await
}

fn decode(body: &Bytes, json_bytes: Option<usize>, model: &Model) -> Result<Request, Refusal> {
    let signature = &model.manifest.signature;
    let decode = || Request::decode(body, json_bytes, signature, &Limits::default());
    Ok(if body.len() > HEAVY_BYTES { block_in_place(decode) } else { decode() }?)
}

/// What an answer is made of, beside the job.
struct Answer<'a> {
    model: &'a Model,
    id: Option<&'a str>,
    requested: &'a Requested,
}

impl Answer<'_> {
    fn encode(&self, app: &App, finished: &Finished) -> Result<Encoded, Refusal> {
        let outputs = finished.outputs.as_deref().ok_or_else(|| {
            let sentence = "the outputs of this job are not kept any more";
            Refusal::new(Code::NotFound, sentence)
        })?;
        let wants_classes = self.requested.outputs.iter().any(|output| output.classes.is_some());
        let labels = match wants_classes {
            true => block_in_place(|| app.models.labels(self.model))?,
            false => None,
        };
        let bill = JobBill::of(&finished.job);
        let parameters = bill.map(|bill| bill.parameters(&finished.parameters));
        let (model_name, model_version) = self.model.key();
        let response = fuelbox_oip::Response {
            model_name,
            model_version,
            id: self.id,
            parameters: &parameters.unwrap_or_default(),
            outputs,
            requested: self.requested,
            labels,
        };
        let bytes: usize = outputs.iter().map(|output| output.bytes.len()).sum();
        let encode = || response.encode();
        Ok(if bytes > HEAVY_BYTES { block_in_place(encode) } else { encode() }?)
    }
}

fn respond(encoded: Encoded, part: Part, finished: &Finished) -> Response {
    let Encoded { bytes, json_bytes } = encoded;
    let mut response = part.hold(bytes).into_response();
    let headers = response.headers_mut();
    let content_type = match json_bytes {
        None => "application/json",
        Some(json_bytes) => {
            headers.insert(JSON_LENGTH, HeaderValue::from(json_bytes));
            "application/octet-stream"
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(bill) = JobBill::of(&finished.job) {
        add_bill(headers, &bill, finished.repeated);
    }
    response
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    // No sign, no spaces: what another reader could take for another number.
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = text.and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        let found = excerpt(&String::from_utf8_lossy(value.as_bytes()));
        Refusal::bad(format!(
            "header inference-header-content-length: found '{found}', expected one whole number"
        ))
    })
}

/// Clients say many things, or nothing; forms and texts are none of them.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let found = value.to_str().unwrap_or_default();
    let media = found.split(';').next().unwrap_or_default().trim();
    let known = ["application/json", "application/octet-stream"];
    // What curl says of any data that it is not told about.
    let curl = "application/x-www-form-urlencoded";
    if media.is_empty() || media == curl || known.contains(&media) || media.ends_with("+json") {
        return Ok(());
    }
    let sentence = format!(
        "content type: found '{}', allowed are application/json and application/octet-stream",
        excerpt(found)
    );
    Err(Refusal::new(Code::UnsupportedMedia, sentence))
}
