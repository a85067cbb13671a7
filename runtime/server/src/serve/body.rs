//! Bodies: bytes from a client, within limits of size, time and of the memory that all of them share.

use crate::refusal::{Code, Refusal};
use axum::body::{Body, Bytes};
use fuelbox_ledger::AccountId;
use http_body_util::BodyExt;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// What is taken from the budget at once: fine enough, and few steps for a large body.
const PIECE_BYTES: usize = 64 << 10;

/// Room that a body in several frames gets at first, if that much is announced. What is not written to
/// takes addresses and no memory; most bodies are copied once then.
const ROOM_BYTES: usize = 1 << 20;

/// A body that comes slower than this over all holds its connection for no good: 16 KiB/s is a modem
/// of two wires.
pub(crate) const BYTES_S_MIN: u64 = 16 << 10;

/// Memory for bodies that are not admitted yet, all clients' together.
///
/// It is charged for what has come, as it comes: what a client only says of its body costs nobody else
/// anything. An account that holds more than one largest request leaves as much free as it holds. So
/// however many take what they can, there is something left for the next one; and one that is alone may
/// have half of all.
#[derive(Clone)]
pub(crate) struct BodyBudget(Arc<Budget>);

struct Budget {
    all: usize,
    /// Pieces of one largest request.
    largest: usize,
    pieces: Mutex<Pieces>,
}

struct Pieces {
    free: usize,
    /// Only accounts with something.
    accounts: HashMap<AccountId, Held>,
}

/// What an account, or one of its bodies, has: in pieces.
#[derive(Clone, Copy, Default)]
struct Held {
    taken: usize,
    announced: usize,
}

/// A body's part of the budget. Given back when it is dropped.
pub(crate) struct Part {
    budget: BodyBudget,
    account: AccountId,
    held: Held,
}

/// A body, with its part of the budget.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) _part: Part,
}

impl BodyBudget {
    /// A budget of so many bytes, for requests that are no larger than this.
    pub(crate) fn new(bytes: usize, request_bytes_max: usize) -> Self {
        let all = bytes.div_ceil(PIECE_BYTES);
        let pieces = Mutex::new(Pieces { free: all, accounts: HashMap::new() });
        Self(Arc::new(Budget { all, largest: request_bytes_max / PIECE_BYTES, pieces }))
    }

    /// An account's part for one body: nothing yet.
    pub(crate) fn part(&self, account: &AccountId) -> Part {
        Part { budget: self.clone(), account: account.clone(), held: Held::default() }
    }

    /// Held for a few instructions: never across an await.
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.0.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Takes what is missing of so many bytes; a body that would fit one piece costs nothing.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = (bytes / PIECE_BYTES).saturating_sub(self.held.taken);
        if more == 0 {
            return Ok(());
        }
        let mut pieces = self.budget.lock();
        let Some(free) = pieces.free.checked_sub(more) else {
            let sentence = "too many large requests are being received at once";
            return Err(Refusal::new(Code::Busy, sentence).retry_after(Duration::from_secs(1)));
        };
        let taken = pieces.accounts.get(&self.account).map_or(0, |held| held.taken) + more;
        if taken > self.budget.0.largest.max(free) {
            return Err(too_many_of_account());
        }
        pieces.free = free;
        pieces.accounts.entry(self.account.clone()).or_default().taken = taken;
        self.held.taken += more;
        Ok(())
    }

    /// Says how long a message will be for which somebody makes room at once, or 0 when it has come.
    /// What was announced takes addresses and no memory, and no more of them than the whole budget
    /// for each account.
    pub(crate) fn announce(&mut self, bytes: usize) -> Result<(), Refusal> {
        let announced = bytes / PIECE_BYTES;
        if announced == self.held.announced {
            return Ok(());
        }
        let Budget { all, largest, .. } = *self.budget.0;
        let mut pieces = self.budget.lock();
        let mut held = pieces.accounts.get(&self.account).copied().unwrap_or_default();
        held.announced = held.announced - self.held.announced + announced;
        if announced > self.held.announced && held.announced > all.max(largest) {
            return Err(too_many_of_account());
        }
        pieces.set(&self.account, held);
        self.held.announced = announced;
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn give_back(&mut self) {
        let Held { taken, announced } = std::mem::take(&mut self.held);
        if taken == 0 && announced == 0 {
            return;
        }
        let mut pieces = self.budget.lock();
        let mut held = pieces.accounts.get(&self.account).copied().unwrap_or_default();
        held.taken -= taken;
        held.announced -= announced;
        pieces.free += taken;
        pieces.set(&self.account, held);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Pieces {
    fn set(&mut self, account: &AccountId, held: Held) {
        if held.taken == 0 && held.announced == 0 {
            self.accounts.remove(account);
        } else {
            self.accounts.insert(account.clone(), held);
        }
    }
}

fn too_many_of_account() -> Refusal {
    let sentence = "too many large requests of this account are being received at once";
    Refusal::new(Code::RateLimited, sentence).retry_after(Duration::from_secs(1))
}

/// Reads a body: at most so many bytes, with no longer pause than this between two pieces.
pub(crate) async fn read_body(
    body: Body,
    bytes_max: usize,
    pause_max: Duration,
    mut part: Part,
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
    let announced = hint.upper().and_then(|upper| usize::try_from(upper).ok());
    let announced = announced.map_or(bytes_max, |bytes| bytes.min(bytes_max));
    // Room for as much again, but not for more than there will be.
    let room = |bytes: usize| bytes.saturating_mul(2).max(ROOM_BYTES).min(announced).max(bytes);
    let mut body = body;
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
        part.take(bytes)?;
        match &mut rest {
            // One frame is the whole of a small body: it is not copied.
            None if first.is_empty() => first = data,
            None => {
                let mut all = Vec::with_capacity(room(bytes));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
            Some(all) => {
                if bytes > all.capacity() {
                    all.reserve_exact(room(bytes) - all.len());
                }
                all.extend_from_slice(&data);
            }
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

    /// The largest request of these tests.
    const LARGEST: usize = 2 * PIECE_BYTES;

    fn budget(pieces: usize) -> BodyBudget {
        BodyBudget::new(pieces * PIECE_BYTES, LARGEST)
    }

    fn part(budget: &BodyBudget, account: &str) -> Part {
        budget.part(&account.parse().expect("an account"))
    }

    fn free(budget: &BodyBudget) -> usize {
        budget.lock().free
    }

    async fn read(body: Body, bytes_max: usize, budget: &BodyBudget) -> Result<usize, Code> {
        let received = read_body(body, bytes_max, PAUSE, part(budget, "alice")).await;
        received.map(|received| received.bytes.len()).map_err(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        let budget = budget(16);
        for body in [&[100][..], &[50, 50], &[1, 0, 99]] {
            assert_eq!(read(pieces(body), 100, &budget).await, Ok(100), "{body:?}");
            assert_eq!(read(pieces(body), 99, &budget).await, Err(Code::TooLarge), "{body:?}");
        }
        assert_eq!(read(Body::from(vec![0; 101]), 100, &budget).await, Err(Code::TooLarge));
        assert_eq!(read(Body::empty(), 0, &budget).await, Ok(0));
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget() {
        let budget = budget(4);
        let large = || pieces(&[PIECE_BYTES; 2]);
        let receive = |account: &str| read_body(large(), 1 << 30, PAUSE, part(&budget, account));
        let held = [receive("bob").await.expect("room"), receive("carol").await.expect("room")];
        assert_eq!(read(large(), 1 << 30, &budget).await, Err(Code::Busy));
        // What fits one piece goes on.
        assert_eq!(read(pieces(&[100]), 1 << 30, &budget).await, Ok(100));
        drop(held);
        assert_eq!(read(large(), 1 << 30, &budget).await, Ok(2 * PIECE_BYTES));
        assert_eq!((free(&budget), budget.lock().accounts.len()), (4, 0));
    }

    #[test]
    fn an_account_leaves_as_much_free_as_it_holds_and_may_always_have_one_largest_request() {
        let budget = budget(16);
        // Each takes what it can get, a piece at a time.
        let all = |name: &str| {
            let mut part = part(&budget, name);
            let mut pieces = 0;
            while part.take((pieces + 1) * PIECE_BYTES).is_ok() {
                pieces += 1;
            }
            let code = part.take((pieces + 1) * PIECE_BYTES).expect_err("refused").code;
            (part, pieces, code)
        };
        let mut held = Vec::new();
        for (pieces, code) in [
            (8, Code::RateLimited),
            (4, Code::RateLimited),
            (2, Code::RateLimited),
            // The largest request is of two pieces.
            (2, Code::Busy),
            (0, Code::Busy),
        ] {
            let (part, found, why) = all(&format!("account{}", held.len()));
            assert_eq!((found, why), (pieces, code), "{}", held.len());
            held.push(part);
        }
        // A second body of the same account is no way around it.
        assert_eq!((free(&budget), all("account1").1), (0, 0));
        held.remove(0);
        assert_eq!(all("account1").1, 2);
        drop(held);
        assert_eq!((free(&budget), budget.lock().accounts.len()), (16, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_takes_nothing_until_it_comes() {
        let budget = budget(64);
        let announced = 60 * PIECE_BYTES;
        let stream = iter([1, 1].map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![7; size]))));
        let body = Announced(Body::from_stream(stream.chain(tokio_stream::pending())), announced);
        let silent = read_body(Body::new(body), 1 << 30, PAUSE * 2, part(&budget, "mallory"));
        let other = async {
            tokio::time::sleep(PAUSE).await;
            assert_eq!(free(&budget), 64);
            read(pieces(&[PIECE_BYTES; 32]), 1 << 30, &budget).await
        };
        let (silent, other) = tokio::join!(silent, other);
        assert_eq!(silent.map(|_| ()).map_err(|refusal| refusal.code), Err(Code::RequestTimeout));
        assert_eq!(other, Ok(32 * PIECE_BYTES));
    }

    #[test]
    fn an_account_announces_no_more_than_the_whole_budget() {
        let budget = budget(16);
        let mut parts = [(); 3].map(|()| part(&budget, "alice"));
        assert!(parts[0].announce(10 * PIECE_BYTES).is_ok());
        assert!(parts[1].announce(6 * PIECE_BYTES).is_ok());
        let refused = parts[2].announce(PIECE_BYTES).expect_err("refused");
        assert_eq!(refused.code, Code::RateLimited);
        assert_eq!(free(&budget), 16);
        assert!(part(&budget, "bob").announce(16 * PIECE_BYTES).is_ok());
        assert!(parts[0].announce(0).is_ok());
        assert!(parts[2].announce(PIECE_BYTES).is_ok());
        drop(parts);
        assert!(budget.lock().accounts.is_empty());
    }

    #[tokio::test]
    async fn a_body_in_many_frames_is_what_was_sent() {
        let budget = budget(1 << 10);
        let sizes = [1, ROOM_BYTES / 2, ROOM_BYTES, ROOM_BYTES * 3, 7];
        let bytes: usize = sizes.iter().sum();
        for announced in [bytes, 1 << 30] {
            let frames = sizes.iter().enumerate();
            let frames: Vec<_> = frames.map(|(n, size)| vec![n as u8; *size]).collect();
            let stream = iter(frames.clone()).map(Ok::<_, std::io::Error>);
            let body = Body::new(Announced(Body::from_stream(stream), announced));
            let received = read_body(body, 1 << 30, PAUSE, part(&budget, "alice")).await;
            assert!(received.expect("room").bytes == frames.concat());
        }
    }

    /// A body that says how long it is at most.
    struct Announced(Body, usize);

    impl hyper::body::Body for Announced {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(context)
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            let mut hint = hyper::body::SizeHint::new();
            hint.set_upper(self.1 as u64);
            hint
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_not_waited_for() {
        let budget = budget(16);
        let stream = iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let body = Body::from_stream(stream.chain(tokio_stream::pending()));
        assert_eq!(read(body, 100, &budget).await, Err(Code::RequestTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for() {
        let budget = budget(16);
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
        let budget = budget(16);
        let broken = iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(broken), 100, &budget).await, Err(Code::BadInput));
    }
}
