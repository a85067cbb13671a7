//! Bodies: bytes from a client, within limits of size, time and of the memory that all of them share.

use crate::refusal::{Code, Refusal};
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// What is taken from the budget at once: fine enough, and few steps for a large body.
const PIECE_BYTES: usize = 64 << 10;

/// Memory for bodies that are not admitted yet, all clients' together.
#[derive(Clone)]
pub(crate) struct BodyBudget {
    pieces: Arc<Semaphore>,
}

/// A body that comes slower than this over all holds its connection for no good: 16 KiB/s is a modem
/// of two wires.
pub(crate) const BYTES_S_MIN: u64 = 16 << 10;

/// A body, with its part of the budget.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    /// Given back when it is dropped.
    pub(crate) _part: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { pieces: Arc::new(Semaphore::new(bytes.div_ceil(PIECE_BYTES))) }
    }

    /// Takes what is missing of so many bytes; a body that would fit one piece costs nothing.
    pub(crate) fn take(
        &self,
        part: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let held = part.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (bytes / PIECE_BYTES).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let taken = self.pieces.clone().try_acquire_many_owned(more).map_err(|_| {
            let sentence = "too many large requests are being received at once";
            Refusal::new(Code::Busy, sentence).retry_after(Duration::from_secs(1))
        })?;
        match part {
            Some(part) => part.merge(taken),
            None => *part = Some(taken),
        }
        Ok(())
    }
}

/// Reads a body: at most so many bytes, with no longer pause than this between two pieces.
pub(crate) async fn read_body(
    body: Body,
    bytes_max: usize,
    pause_max: Duration,
    budget: &BodyBudget,
) -> Result<Received, Refusal> {
    let too_large = |found: u64| {
        let sentence = format!("body over limit: found {found} bytes, allowed {bytes_max}");
        Refusal::new(Code::TooLarge, sentence)
    };
    // What is said of the size is only believed when it is too much.
    let hint = hyper::body::Body::size_hint(&body);
    if hint.lower() > bytes_max as u64 {
        return Err(too_large(hint.lower()));
    }
    let mut body = body;
    let mut part = None;
    let mut first = Bytes::new();
    let mut rest: Option<Vec<u8>> = None;
    let started = Instant::now();
    let late = || {
        let seconds = pause_max.as_secs();
        let sentence =
            format!("the body paused for {seconds} s, or came slower than {BYTES_S_MIN} bytes/s");
        Refusal::new(Code::RequestTimeout, sentence)
    };
    loop {
        let held = rest.as_ref().map_or(first.len(), Vec::len) as u64;
        if started.elapsed() > pause_max + Duration::from_secs(held / BYTES_S_MIN) {
            return Err(late());
        }
        let frame = timeout(pause_max, body.frame()).await.map_err(|_| late())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Refusal::bad(format!(
                "the body broke off: {}",
                crate::refusal::excerpt(&error.to_string())
            ))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let held = rest.as_ref().map_or(first.len(), Vec::len);
        let bytes = held + data.len();
        if bytes > bytes_max {
            return Err(too_large(bytes as u64));
        }
        budget.take(&mut part, bytes)?;
        match &mut rest {
            // One frame is the whole of a small body: it is not copied.
            None if first.is_empty() => first = data,
            None => {
                let announced = usize::try_from(hint.upper().unwrap_or(0)).unwrap_or(0);
                budget.take(&mut part, announced.min(bytes_max))?;
                let mut all = Vec::with_capacity(announced.min(bytes_max).max(bytes));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
            Some(all) => all.extend_from_slice(&data),
        }
    }
    let bytes = rest.map_or(first, Bytes::from);
    Ok(Received { bytes, _part: part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::{StreamExt, iter};

    const PAUSE: Duration = Duration::from_secs(5);

    fn pieces(sizes: &[usize]) -> Body {
        let sizes = sizes.to_vec();
        let pieces = iter(sizes).map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![7; size])));
        Body::from_stream(pieces)
    }

    async fn read(body: Body, bytes_max: usize, budget: &BodyBudget) -> Result<usize, Code> {
        let received = read_body(body, bytes_max, PAUSE, budget).await;
        received.map(|received| received.bytes.len()).map_err(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        let budget = BodyBudget::new(1 << 20);
        for body in [&[100][..], &[50, 50], &[1, 0, 99]] {
            assert_eq!(read(pieces(body), 100, &budget).await, Ok(100), "{body:?}");
            assert_eq!(read(pieces(body), 99, &budget).await, Err(Code::TooLarge), "{body:?}");
        }
        assert_eq!(read(Body::from(vec![0; 101]), 100, &budget).await, Err(Code::TooLarge));
        assert_eq!(read(Body::empty(), 0, &budget).await, Ok(0));
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget() {
        let budget = BodyBudget::new(4 * PIECE_BYTES);
        let large = || pieces(&[PIECE_BYTES; 3]);
        let first = read_body(large(), 1 << 30, PAUSE, &budget).await.expect("room");
        assert_eq!(read(large(), 1 << 30, &budget).await, Err(Code::Busy));
        // What fits one piece goes on.
        assert_eq!(read(pieces(&[100]), 1 << 30, &budget).await, Ok(100));
        drop(first);
        assert_eq!(read(large(), 1 << 30, &budget).await, Ok(3 * PIECE_BYTES));
        assert_eq!(budget.pieces.available_permits(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_not_waited_for() {
        let budget = BodyBudget::new(1 << 20);
        let stream = iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let body = Body::from_stream(stream.chain(tokio_stream::pending()));
        assert_eq!(read(body, 100, &budget).await, Err(Code::RequestTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for() {
        let budget = BodyBudget::new(1 << 20);
        let stream = tokio_stream::StreamExt::throttle(
            tokio_stream::iter(
                (0..1_000).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"x"))),
            ),
            Duration::from_secs(1),
        );
        let started = Instant::now();
        let read = read(Body::from_stream(stream), 1 << 20, &budget).await;
        assert_eq!(read, Err(Code::RequestTimeout));
        assert!(started.elapsed() < PAUSE * 2);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let budget = BodyBudget::new(1 << 20);
        let broken = iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(broken), 100, &budget).await, Err(Code::BadInput));
    }
}
