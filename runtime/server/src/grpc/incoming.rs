//! What comes in: a call's body on its way to the codec, within limits of size and time.
//!
//! It only looks at the five bytes before each message: whether it is packed, and how long it is.

use super::{guard::Rules, share::Share};
use crate::{
    refusal::{Code, Refusal},
    serve::BYTES_S_MIN,
};
use axum::{
    BoxError,
    body::{Body, Bytes},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

/// Before each message: a flag, and its length as a big-endian `u32`.
const HEADER_BYTES: usize = 5;

/// Nothing that deflate packs gets longer by more than this: 258 bytes of two bits.
const UNPACKED_MAX: usize = 1_032;

/// A body whose messages are watched.
///
/// A message is charged for as its bytes come, and for what it may become unpacked when it is whole. The
/// codec makes room for all of a message when it has seen how long it is, but writes only what has come
/// to it (tonic 0.14.9, `StreamingInner::decode_chunk`: `reserve`, then `put` for each frame; the buffer
/// is not cleared), and the system gives memory to what is written to. What is only announced is bounded
/// for each account, for it takes addresses.
pub(super) struct Incoming {
    body: Body,
    rules: Rules,
    pause_max: Duration,
    share: Share,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the message that is under way.
    left: usize,
    /// When the message that is under way began, or the call; and what came since.
    began: Instant,
    bytes: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(body: Body, rules: Rules, pause_max: Duration, share: Share) -> Self {
        Self {
            body,
            rules,
            pause_max,
            share,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            left: 0,
            began: Instant::now(),
            bytes: 0,
            pause: None,
        }
    }

    /// Whether the client is waited for only so long.
    fn is_urgent(&self) -> bool {
        !self.rules.streams || self.left > 0 || self.header_bytes > 0
    }

    fn received(&mut self, mut data: &[u8]) -> Result<(), Refusal> {
        self.pause = None;
        if !self.is_urgent() {
            (self.began, self.bytes) = (Instant::now(), 0);
        }
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        while let Some(&byte) = data.first() {
            if self.left > 0 {
                let taken = self.left.min(data.len());
                data = &data[taken..];
                self.left -= taken;
                self.share.take(taken)?;
                if self.left == 0 {
                    self.ended()?;
                }
                continue;
            }
            self.header[self.header_bytes] = byte;
            self.header_bytes += 1;
            data = &data[1..];
            if self.header_bytes == HEADER_BYTES {
                self.begins()?;
            }
        }
        let slowest = Duration::from_secs(self.bytes / BYTES_S_MIN);
        if self.is_urgent() && self.began.elapsed() > self.pause_max + slowest {
            return Err(self.late());
        }
        Ok(())
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.header;
        u32::from_be_bytes(length) as usize
    }

    fn begins(&mut self) -> Result<(), Refusal> {
        let (found, allowed) = (self.length(), self.rules.message_bytes_max);
        if found > allowed {
            let sentence = format!("message over limit: found {found} bytes, allowed {allowed}");
            return Err(Refusal::new(Code::TooLarge, sentence));
        }
        self.share.announce(found)?;
        self.left = found;
        if found == 0 {
            self.ended()?;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<(), Refusal> {
        self.header_bytes = 0;
        self.share.announce(0)?;
        if self.header[0] == 0 {
            return Ok(());
        }
        let packed = self.length();
        let most = packed.saturating_mul(UNPACKED_MAX).min(self.rules.message_bytes_max);
        self.share.take(most.saturating_sub(packed))
    }

    fn late(&self) -> Refusal {
        let seconds = self.pause_max.as_secs();
        let sentence = format!(
            "the message paused for {seconds} s, or came slower than {BYTES_S_MIN} bytes/s"
        );
        Refusal::new(Code::RequestTimeout, sentence)
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        if !self.is_urgent() {
            return Poll::Pending;
        }
        let pause_max = self.pause_max;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(pause_max)));
        ready!(pause.as_mut().poll(context));
        Poll::Ready(self.late())
    }
}

/// A refusal on its way through the library, which finds the status in it.
fn broken(refusal: Refusal) -> BoxError {
    Box::new(Status::from(refusal))
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let received = frame.data_ref().map_or(Ok(()), |data| this.received(data));
                Poll::Ready(Some(received.map(|()| frame).map_err(broken)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this.poll_late(context).map(|refusal| Some(Err(broken(refusal)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::BodyBudget;
    use http_body_util::BodyExt;
    use std::io;
    use tokio::time::advance;
    use tokio_stream::{StreamExt, iter, pending};

    const PAUSE: Duration = Duration::from_secs(5);
    const SMALL: usize = 1_000;
    const PIECE: usize = 64 << 10;

    fn budget(pieces: usize) -> BodyBudget {
        BodyBudget::new(pieces * PIECE, 64 << 20)
    }

    fn share(budget: &BodyBudget) -> Share {
        Share::of(budget.part(&"alice".parse().expect("an account")))
    }

    fn watch(body: Body, streams: bool, budget: &BodyBudget) -> Incoming {
        let rules = Rules { message_bytes_max: SMALL, streams, ..Rules::default() };
        Incoming::new(body, rules, PAUSE, share(budget))
    }

    fn message(flag: u8, length: u32) -> Vec<u8> {
        let [a, b, c, d] = length.to_be_bytes();
        let mut bytes = vec![flag, a, b, c, d];
        bytes.resize(bytes.len() + length as usize, 7);
        bytes
    }

    fn pieces(pieces: Vec<Vec<u8>>) -> impl tokio_stream::Stream<Item = io::Result<Vec<u8>>> {
        iter(pieces).map(Ok)
    }

    async fn code(body: Incoming) -> Result<usize, String> {
        let collected = body.collect().await.map_err(|error| {
            let status = error.downcast::<Status>().expect("a status");
            let code = status.metadata().get("fuelbox-code").expect("a code");
            code.to_str().expect("text").to_owned()
        })?;
        Ok(collected.to_bytes().len())
    }

    #[tokio::test]
    async fn messages_end_at_their_limit_however_they_are_cut() {
        let budget = budget(16);
        let limit = SMALL as u32;
        let two = [message(0, limit), message(1, limit), message(0, 0)].concat();
        for size in [1, 4, 5, 6, 1_005, two.len()] {
            let cut = two.chunks(size).map(<[u8]>::to_vec).collect();
            let body = Body::from_stream(pieces(cut));
            assert_eq!(code(watch(body, true, &budget)).await, Ok(two.len()), "{size}");
            let over = [two.clone(), message(0, limit + 1)].concat();
            let cut = over.chunks(size).map(<[u8]>::to_vec).collect();
            let body = Body::from_stream(pieces(cut));
            assert_eq!(code(watch(body, true, &budget)).await, Err("too_large".into()), "{size}");
        }
    }

    #[tokio::test]
    async fn a_message_takes_what_came_and_a_packed_one_what_it_may_become() {
        let allowed = 40 * PIECE;
        for (flag, length, pieces_taken) in [
            (0, PIECE * 3, 3_usize),
            (0, PIECE * 3 - 1, 2),
            (0, 100, 0),
            (1, 100, 1),
            (1, PIECE, 40),
        ] {
            for room in [pieces_taken, pieces_taken.saturating_sub(1)] {
                let budget = budget(room);
                let body = Body::from(message(flag, length as u32));
                let mut watched = watch(body, false, &budget);
                watched.rules.message_bytes_max = allowed;
                let share = watched.share.clone();
                let expected =
                    if room == pieces_taken { Ok(length + 5) } else { Err("busy".into()) };
                assert_eq!(code(watched).await, expected, "{flag} {length} {room}");
                share.give_back();
                let all = Body::from(message(0, (room * PIECE) as u32));
                let mut watched = watch(all, false, &budget);
                watched.rules.message_bytes_max = allowed;
                assert!(code(watched).await.is_ok(), "given back");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_takes_nothing_from_others() {
        let (largest, budget) = (1024 * PIECE, budget(1024));
        let rules = Rules { message_bytes_max: largest, ..Rules::default() };
        let begin = |share: Share, packed: u8| {
            let header = message(packed, largest as u32)[..6].to_vec();
            let body = Body::from_stream(pieces(vec![header]).chain(pending()));
            Incoming::new(body, rules, PAUSE, share)
        };
        for packed in [0, 1] {
            let mut silent = begin(share(&budget), packed);
            silent.frame().await.expect("a frame").expect("taken");
            // An account announces so much and no more; others take all there is.
            let again = begin(share(&budget), packed);
            assert_eq!(code(again).await, Err("rate_limited".into()));
            let mut other = budget.part(&"bob".parse().expect("an account"));
            assert!(other.take(largest).is_ok());
            drop((silent, other));
            let mut again = begin(share(&budget), packed);
            again.frame().await.expect("a frame").expect("taken");
        }
    }

    #[tokio::test]
    async fn a_call_without_a_key_takes_nothing() {
        let rules = Rules { message_bytes_max: 3 * PIECE, ..Rules::default() };
        let body = Body::from(message(0, 3 * PIECE as u32));
        let watched = Incoming::new(body, rules, PAUSE, Share::default());
        assert_eq!(code(watched).await, Ok(3 * PIECE + 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_stops_is_not_waited_for_and_a_stream_is_between_messages() {
        let budget = budget(16);
        let stopping = |bytes: Vec<u8>| Body::from_stream(pieces(vec![bytes]).chain(pending()));
        let half = [message(0, 9), vec![0, 0]].concat();
        for (bytes, streams) in
            [(Vec::new(), false), (message(0, 9), false), (half.clone(), false), (half, true)]
        {
            let late = code(watch(stopping(bytes), streams, &budget)).await;
            assert_eq!(late, Err("request_timeout".into()));
        }
        for bytes in [Vec::new(), message(0, 9)] {
            let mut idle = watch(stopping(bytes), true, &budget);
            let waits = async {
                while let Some(frame) = idle.frame().await {
                    frame.expect("no error");
                }
            };
            assert!(tokio::time::timeout(PAUSE * 1_000, waits).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_drips_is_not_waited_for() {
        let budget = budget(16);
        let bytes = message(0, 900).into_iter().map(|byte| vec![byte]).collect();
        let slow = pieces(bytes).then(|piece| async {
            advance(Duration::from_millis(100)).await;
            piece
        });
        let late = code(watch(Body::from_stream(slow), true, &budget)).await;
        assert_eq!(late, Err("request_timeout".into()));
        // Many small messages, each in time, may take as long.
        let bytes = (0..900).map(|_| message(0, 1)).collect();
        let slow = pieces(bytes).then(|piece| async {
            advance(Duration::from_millis(100)).await;
            piece
        });
        assert_eq!(code(watch(Body::from_stream(slow), true, &budget)).await, Ok(5_400));
    }
}
