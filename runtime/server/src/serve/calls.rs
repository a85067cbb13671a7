//! Calls: what a connection has under way, from a request's headers to the end of its answer.
//!
//! A call ends when its answer's body has been taken, or was dropped. Long bodies are taken in slices, so
//! that one has only ended when its client has read nearly all of it.

use axum::{
    Router,
    body::{Body, Bytes},
};
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::Service;

/// Of a body at once. What is taken of it is the connection's to send: a client has some 20 s to read it
/// once its connection is told to go, which are 13 KiB/s.
const SLICE_BYTES: usize = 256 << 10;

/// The calls of a connection.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    under_way: usize,
    /// When the last one ended.
    ended: Option<Instant>,
}

/// What a connection is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No request has come.
    Silent,
    /// Somebody waits for an answer.
    UnderWay,
    /// Every answer has gone out, the last one then.
    Idle(Instant),
}

impl Calls {
    pub(super) fn state(&self) -> State {
        self.count(|counted| match (counted.under_way, counted.ended) {
            (0, None) => State::Silent,
            (0, Some(ended)) => State::Idle(ended),
            _ => State::UnderWay,
        })
    }

    /// Answers a request.
    pub(super) fn answer(
        &self,
        router: &Router,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
        let call = self.begin();
        let answered = router.clone().call(request.map(Body::new));
        async move {
            let answer = answered.await?;
            Ok(answer.map(|body| Answer { body, rest: Bytes::new(), _call: call }))
        }
    }

    fn begin(&self) -> Call {
        self.count(|counted| counted.under_way += 1);
        Call(self.clone())
    }

    /// Held for a few instructions: never across an await.
    fn count<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One that is under way.
struct Call(Calls);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.count(|counted| {
            counted.under_way -= 1;
            counted.ended = Some(Instant::now());
        });
    }
}

/// The body of an answer, whose call lasts as long as it does.
pub(super) struct Answer {
    body: Body,
    /// Of a long frame.
    rest: Bytes,
    _call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let slice = this.rest.split_to(this.rest.len().min(SLICE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_answer() {
        let calls = Calls::default();
        assert_eq!(calls.state(), State::Silent);
        let (first, second) = (calls.begin(), calls.begin());
        assert_eq!(calls.state(), State::UnderWay);
        drop(first);
        assert_eq!(calls.state(), State::UnderWay);
        advance(Duration::from_secs(9)).await;
        let body = Body::from(vec![7; 10]);
        let mut answer = Answer { body, rest: Bytes::new(), _call: second };
        while let Some(frame) = answer.frame().await {
            frame.expect("a frame");
            assert_eq!(calls.state(), State::UnderWay);
        }
        drop(answer);
        assert_eq!(calls.state(), State::Idle(Instant::now()));
        drop(calls.begin());
        advance(Duration::from_secs(1)).await;
        assert_eq!(calls.state(), State::Idle(Instant::now() - Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_long_answer_goes_out_in_slices_and_none_is_lost() {
        for bytes in [0, 1, SLICE_BYTES, SLICE_BYTES + 1, SLICE_BYTES * 3] {
            let sent: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
            let (body, call) = (Body::from(sent.clone()), Calls::default().begin());
            let mut answer = Answer { body, rest: Bytes::new(), _call: call };
            let mut found = Vec::new();
            while !answer.is_end_stream() {
                let left = (bytes - found.len()) as u64;
                assert_eq!(HttpBody::size_hint(&answer).exact(), Some(left));
                let frame = answer.frame().await.expect("more").expect("a frame");
                let data = frame.into_data().expect("data");
                assert!(data.len() <= SLICE_BYTES);
                found.extend_from_slice(&data);
            }
            assert!(found == sent, "{bytes}");
        }
    }
}
