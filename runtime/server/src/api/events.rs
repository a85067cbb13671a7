//! Events: what happens to a job, told while it happens. A stream ends with the job.

use super::{extract::Path, job::JobJson, jobs::find};
use crate::{
    access::Caller,
    app::App,
    refusal::{Code, Refusal},
};
use axum::{
    extract::State as Shared,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use fuelbox_jobs::{Ear, JobId, Scope};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, interval, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;

/// Streams at once. Each holds a connection and a task of some kilobytes.
pub(crate) const STREAMS_MAX: usize = 256;

/// Between two looks at a job that has not ended: nobody says when it starts to run.
const LOOK: Duration = Duration::from_secs(1);

/// A stream says that it is there. Less than what idle connections are given by those in between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// No stream is open for longer; its client asks again.
const STREAM_TIME_MAX: Duration = Duration::from_secs(3_600);

/// Tells of a job's states as server-sent events.
///
/// Each event is named `state`, and its data is the job's JSON: one at once, one for each change. The
/// stream ends behind a state that stays.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(super) async fn events(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    caller.must(Scope::Caller)?;
    let id = find(&app, &caller, &id)?.id;
    let place = place(&app.streams)?;
    // A client that does not read is not written to.
    let (sender, events) = mpsc::channel(1);
    tokio::spawn(tell(app, id, sender, place));
    let stream = Sse::new(ReceiverStream::new(events));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("");
    Ok(stream.keep_alive(keep_alive).into_response())
}

fn place(streams: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    streams.clone().try_acquire_owned().map_err(|_| {
        let sentence = format!("too many streams of events are open: allowed are {STREAMS_MAX}");
        Refusal::new(Code::Busy, sentence).retry_after(Duration::from_secs(5))
    })
}

async fn tell(
    app: Arc<App>,
    id: JobId,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
) {
    let (ended_sender, mut ended) = mpsc::channel(1);
    let _ear: Ear = app.host.listen(&id, move || {
        // The stream may be gone.
        let _ = ended_sender.try_send(());
    });
    let until = Instant::now() + STREAM_TIME_MAX;
    let mut looks = interval(LOOK);
    let mut said = None;
    loop {
        // The store failed: the client finds the stream ended, and asks again.
        let Ok(job) = app.host.job(&id) else { return };
        if said != Some(job.state) {
            said = Some(job.state);
            let Ok(json) = JobJson::of(&app.host, job.clone()) else { return };
            let Ok(event) = Event::default().event("state").json_data(json) else { return };
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if job.state.is_final() {
            return;
        }
        tokio::select! {
            _ = looks.tick() => {}
            // It is closed when nothing more will be heard; the looks go on.
            Some(()) = ended.recv() => {}
            () = sender.closed() => return,
            () = sleep_until(until) => return,
            () = app.stop.cancelled() => return,
        }
    }
}
