//! What was not read: an answer that comes before the end of its request's body leaves the connection in
//! order.
//!
//! A handler that refuses early drops the body. On HTTP/1 the rest of it stands before the next request,
//! so hyper closes the connection, and a client that has sent its next request on it meanwhile loses that.
//! Here a short rest is read and forgotten; a long one is not worth it, and the client is told.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, Version, header::CONNECTION},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// Bytes that are read and forgotten: a batch of small tensors, and no more than is in flight anyway.
const FORGOTTEN_BYTES: u64 = 256 << 10;

/// How long the rest may take.
const FORGOTTEN_TIME: Duration = Duration::from_secs(1);

/// Reads what a handler left of a body, or says that the connection ends.
pub(crate) async fn tidy(request: Request, next: Next) -> Response {
    let is_one = matches!(request.version(), Version::HTTP_10 | Version::HTTP_11);
    if !is_one || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let rest = Shared(Arc::new(Mutex::new(Rest { body, ended: false })));
    let mut response = next.run(Request::from_parts(parts, Body::new(rest.clone()))).await;
    if !rest.forget().await {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that is still there when a handler dropped it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Rest>>);

struct Rest {
    body: Body,
    /// Whether its end, or an error, was seen.
    ended: bool,
}

impl Shared {
    /// Held for one poll: never across an await.
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of the body is left on the connection.
    async fn forget(mut self) -> bool {
        let mut left = FORGOTTEN_BYTES;
        {
            let rest = self.lock();
            if rest.ended || rest.body.is_end_stream() {
                return true;
            }
            if rest.body.size_hint().lower() > left {
                return false;
            }
        }
        let read = async {
            while let Some(frame) = self.frame().await {
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match left.checked_sub(bytes) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        timeout(FORGOTTEN_TIME, read).await.unwrap_or(false)
    }
}

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut rest = self.lock();
        let polled = Pin::new(&mut rest.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            rest.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::{StreamExt, iter, pending};

    fn shared(body: Body) -> Shared {
        Shared(Arc::new(Mutex::new(Rest { body, ended: false })))
    }

    fn pieces(count: usize) -> Body {
        let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; 64 << 10])));
        Body::from_stream(iter(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_read_and_a_long_one_is_not() {
        assert!(shared(Body::empty()).forget().await);
        assert!(shared(Body::from(vec![0; 256 << 10])).forget().await);
        assert!(!shared(Body::from(vec![0; (256 << 10) + 1])).forget().await);
        assert!(shared(pieces(4)).forget().await);
        assert!(!shared(pieces(5)).forget().await);
        let silent = iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]).chain(pending());
        assert!(!shared(Body::from_stream(silent)).forget().await);
    }

    #[tokio::test]
    async fn what_was_read_is_not_waited_for_again() {
        let mut body = shared(pieces(100));
        while let Some(frame) = body.frame().await {
            frame.expect("a frame");
        }
        assert!(body.forget().await);
    }
}
