//! A stream of messages: each becomes a job, several run at once, and answers go out in the order of
//! their messages. A message that is refused does not end the stream.

use super::{
    infer::{self, Answer, Context},
    parameters::write as write_parameters,
    protocol::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
};
use crate::{
    access::authenticate,
    answer_budget::Part,
    bill::JobBill,
    refusal::{Code, Refusal},
};
use axum::http::{HeaderValue, header::AUTHORIZATION};
use fuelbox_engine::{OwnedParameter, OwnedValue};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Polled, Poll, ready},
    time::Duration,
};
use tokio::{sync::mpsc, task};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

/// Jobs of one stream whose answers are not sent yet. A client with more waits; other streams do not.
const UNDER_WAY_MAX: usize = 32;

/// Answers in order.
pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// An answer, and its part of the memory for answers.
type Message = (ModelStreamInferResponse, Part);

/// What becomes of a message.
enum Next {
    Job(AbortOnDropHandle<Message>),
    Refused(ModelStreamInferResponse),
    /// Nothing comes after it.
    End(Status),
}

/// Answers a stream. Dropping the answers stops all of its jobs.
pub(super) fn answers(
    context: Context,
    messages: Streaming<ModelInferRequest>,
) -> Result<Answers, Refusal> {
    if context.headers.contains_key("idempotency-key") {
        let sentence = "a stream has many requests: give each its own, as its parameter \
                        fuelbox_idempotency_key";
        return Err(Refusal::bad(sentence));
    }
    // One is with whoever waits for it.
    let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX - 1);
    let reader = AbortOnDropHandle::new(task::spawn(read(Arc::new(context), messages, sender)));
    let answers = ReceiverStream::new(receiver).then(move |next| {
        // It lives as long as its answers are waited for.
        let _ = &reader;
        async move {
            match next {
                Next::Refused(answer) => Ok((answer, Part::default())),
                Next::Job(job) => job.await.map_err(|error| Refusal::fault(&error).into()),
                Next::End(status) => Err(status),
            }
        }
    });
    Ok(Box::pin(Sending { answers: Box::pin(answers), part: Part::default() }))
}

/// Answers that are sent one after the other, each with its part until the next one is asked for.
struct Sending<S> {
    answers: Pin<Box<S>>,
    part: Part,
}

impl<S: Stream<Item = Result<Message, Status>>> Stream for Sending<S> {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Polled<'_>) -> Poll<Option<Self::Item>> {
        self.part = Part::default();
        Poll::Ready(match ready!(self.answers.as_mut().poll_next(task)) {
            Some(Ok((answer, part))) => {
                self.part = part;
                Some(Ok(answer))
            }
            Some(Err(status)) => Some(Err(status)),
            None => None,
        })
    }
}

/// Takes messages as long as there is room for their jobs.
async fn read(
    context: Arc<Context>,
    mut messages: Streaming<ModelInferRequest>,
    sender: mpsc::Sender<Next>,
) {
    let mut is_first = true;
    while let Ok(place) = sender.reserve().await {
        let message = tokio::select! {
            message = messages.message() => message,
            () = context.app.stop.cancelled() => {
                let stopping = Refusal::new(Code::Stopping, "the host is stopping");
                let stopping = stopping.retry_after(Duration::from_secs(5));
                return place.send(Next::End(stopping.into()));
            }
        };
        match message {
            Ok(Some(message)) => {
                place.send(start(&context, message, is_first));
                is_first = false;
            }
            Ok(None) => return,
            Err(status) => return place.send(Next::End(status)),
        }
    }
}

fn start(context: &Arc<Context>, message: ModelInferRequest, is_first: bool) -> Next {
    let about = ModelInferResponse {
        model_name: message.model_name.clone(),
        model_version: message.model_version.clone(),
        id: message.id.clone(),
        ..ModelInferResponse::default()
    };
    // The guard counted the call. A key may have been revoked since.
    let counted = if is_first { Ok(()) } else { count(context) };
    match counted.and_then(|()| infer::read(context, message)) {
        Err(refusal) => {
            context.share.give_back();
            Next::Refused(refused(about, refusal))
        }
        Ok(ready) => {
            let context = context.clone();
            Next::Job(AbortOnDropHandle::new(task::spawn(async move {
                match infer::run(&context, ready).await {
                    Ok(answer) => answered(answer),
                    Err(refusal) => (refused(about, refusal), Part::default()),
                }
            })))
        }
    }
}

fn count(context: &Context) -> Result<(), Refusal> {
    let header = context.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    authenticate(&context.app, header).map(drop)
}

fn answered(answer: Answer) -> Message {
    let Answer { response, part, .. } = answer;
    let error_message = String::new();
    (ModelStreamInferResponse { error_message, infer_response: Some(response) }, part)
}

/// The sentence, and beside it what a status would have in its metadata.
fn refused(about: ModelInferResponse, refusal: Refusal) -> ModelStreamInferResponse {
    let parameter = |name: &str, value| OwnedParameter { name: name.into(), value };
    let bill = refusal.job.as_deref().and_then(JobBill::of);
    let mut parameters = bill.map(|bill| bill.parameters(&[])).unwrap_or_default();
    let code = OwnedValue::String(refusal.code.name().into());
    parameters.push(parameter("fuelbox_code", code));
    if let Some(after) = refusal.retry_after {
        let seconds = i64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        parameters.push(parameter("fuelbox_retry_after", OwnedValue::Int(seconds)));
    }
    let parameters = write_parameters(parameters);
    ModelStreamInferResponse {
        error_message: refusal.sentence,
        infer_response: Some(ModelInferResponse { parameters, ..about }),
    }
}
