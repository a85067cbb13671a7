//! Inference over gRPC: one message, one job, one answer.

use super::{
    answer,
    protocol::{ModelInferRequest, ModelInferResponse},
    request,
    share::Share,
    timeout,
};
use crate::{
    access::Caller,
    answer_budget::{Part, bytes_of_answer},
    app::App,
    bill::JobBill,
    infer::{self, Answered, Call},
    options,
    problem::add_bill,
    refusal::Refusal,
    stats::Took,
};
use axum::http::HeaderMap;
use fuelbox_oip::Request;
use prost::bytes::Bytes;
use std::{sync::Arc, time::Instant};

/// What comes with messages: of their call, or of their stream.
pub(super) struct Context {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    /// When the client goes away.
    pub(super) deadline: Option<Instant>,
    pub(super) share: Share,
}

/// An answer, and what its call says beside it.
pub(super) struct Answer {
    pub(super) response: ModelInferResponse,
    pub(super) headers: HeaderMap,
    /// Of the memory for answers, until the message is sent.
    pub(super) part: Part,
}

/// A message that became a job's request.
pub(super) struct Ready {
    model: Arc<crate::models::Model>,
    call: Call,
    id: Option<String>,
    requested: fuelbox_oip::Requested,
    started: Instant,
}

/// Runs a message's job. Dropping the future stops it.
pub(super) async fn infer(
    context: &Context,
    message: ModelInferRequest,
) -> Result<Answer, Refusal> {
    let ready = read(context, message)?;
    let mut answer = run(context, ready).await?;
    // What was read again has its part. In a stream nobody waits: an answer would, for those behind it.
    if answer.part.is_empty() {
        let bytes = answer.response.raw_output_contents.iter().map(Bytes::len).sum();
        let account = context.caller.account();
        answer.part = context.app.answers.take(account, bytes_of_answer(bytes, 0)).await;
    }
    Ok(answer)
}

/// Makes a job's request of a message, whose memory is free for others then.
pub(super) fn read(context: &Context, message: ModelInferRequest) -> Result<Ready, Refusal> {
    let started = Instant::now();
    let Context { app, caller, headers, deadline, share } = context;
    let version = Some(message.model_version.as_str()).filter(|version| !version.is_empty());
    let model = app.models.find(caller, &message.model_name, version)?;
    infer::may_run(app, caller, &model)?;
    let read = || {
        let request = request::read(message, &model.manifest.signature)?;
        let Request { id, parameters, inputs, requested } = request;
        let (mut options, parameters) = options::read(headers, parameters)?;
        options.deadline = timeout::shorter(options.deadline, *deadline)?;
        Ok((Call { inputs, parameters, options }, id, requested))
    };
    let read: Result<_, Refusal> = read();
    share.give_back();
    let (call, id, requested) = read.inspect_err(|_| model.stats.failed(started.elapsed()))?;
    Ok(Ready { model, call, id, requested, started })
}

/// Runs a job and makes an answer of it.
pub(super) async fn run(context: &Context, ready: Ready) -> Result<Answer, Refusal> {
    let Ready { model, call, id, requested, started } = ready;
    let Context { app, caller, .. } = context;
    let decode = started.elapsed();
    let Answered { mut finished, part } = infer::infer(app, caller, &model, call).await?;
    let answered = Instant::now();
    let written = answer::write(app, &model, id, &requested, &mut finished);
    let response = written.map_err(|refusal| {
        model.stats.failed(started.elapsed());
        let job = Some(Box::new(finished.job.clone()));
        Refusal { job, repeated: finished.repeated, ..refusal }
    })?;
    let mut headers = HeaderMap::new();
    if let Some(bill) = JobBill::of(&finished.job) {
        add_bill(&mut headers, &bill, finished.repeated);
    }
    let took = Took { decode, encode: answered.elapsed(), total: started.elapsed() };
    model.stats.succeeded(took, finished.times);
    Ok(Answer { response, headers, part })
}
