//! Memory for answers: taken before outputs are read or written, held until the last byte is sent.
//!
//! Invariant: what is taken is given back when the bytes of the answer are gone, whoever let go of them.
//! Knows nothing of what an answer looks like.

use crate::refusal::{Code, Refusal};
use axum::{
    body::{Body, Bytes},
    response::Response,
};
use fuelbox_ledger::AccountId;
use http_body_util::BodyExt;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What is taken at once. Outputs of less cost nothing: they are most, and a thousand of them at once take
/// no more than a few large ones.
const PIECE_BYTES: usize = 64 << 10;

/// Accounts that share the memory at least: none has more than this part of it. An output of the engine's
/// limit, 1 GiB, is an account's whole share by default, and another account still has as much.
const ACCOUNTS_MIN: usize = 2;

/// Bytes of outputs that are to be had as JSON. It takes up to [`JSON_TIMES`] as much, 256 MiB of it,
/// and seconds of a core; as binary data they are what they are.
pub(crate) const JSON_BYTES_MAX: usize = 32 << 20;

/// Bytes of JSON for a byte of a tensor, at most: an element of FP16 or BF16 has two bytes, and up to
/// sixteen characters (`-1.1754944e-38,`). BOOL (`false,`) and control characters (`\u0000`) have six.
const JSON_TIMES: usize = 8;

/// How long a paid answer waits for those before it to be sent, as long as a client may take to read.
/// Then it goes on: its outputs are in memory anyway, and whoever paid is not kept waiting by those
/// who do not read.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Memory for answers, all clients' together.
#[derive(Clone)]
pub(crate) struct AnswerBudget {
    pieces: Arc<Semaphore>,
    /// Pieces of one account.
    share: usize,
    /// What is left of it to accounts that hold some.
    shares: Arc<Mutex<BTreeMap<AccountId, Weak<Semaphore>>>>,
}

/// A part of the budget, given back when it is dropped.
#[derive(Default)]
pub(crate) struct Part(Option<Held>);

struct Held {
    /// Of the account's share.
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

/// What an answer takes while it is made of so many bytes of outputs in each form: outputs as they are
/// stored beside the tensors they become, then tensors beside the body.
pub(crate) fn bytes_of_answer(binary: usize, json: usize) -> usize {
    if binary.saturating_add(json) < PIECE_BYTES {
        return 0;
    }
    binary.saturating_mul(2).saturating_add(json.saturating_mul(1 + JSON_TIMES))
}

/// Whether so many bytes of outputs are to be had as JSON.
pub(crate) fn check_json(bytes: usize) -> Result<(), Refusal> {
    if bytes <= JSON_BYTES_MAX {
        return Ok(());
    }
    let sentence = format!(
        "outputs over limit as JSON: found {bytes} bytes, allowed {JSON_BYTES_MAX}; ask for binary data"
    );
    Err(Refusal::bad(sentence).with("reason", "json_too_large"))
}

impl AnswerBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        let pieces = bytes.div_ceil(PIECE_BYTES).clamp(1, u32::MAX as usize);
        let share = (pieces / ACCOUNTS_MIN).max(1);
        Self { pieces: Arc::new(Semaphore::new(pieces)), share, shares: Arc::default() }
    }

    /// Takes so many bytes, or refuses: for what can be asked for again.
    pub(crate) fn try_take(&self, account: &AccountId, bytes: usize) -> Result<Part, Refusal> {
        let mut part = Part::default();
        self.raise(&mut part, account, bytes)?;
        Ok(part)
    }

    /// Takes what a part is short of so many bytes, or refuses.
    pub(crate) fn raise(
        &self,
        part: &mut Part,
        account: &AccountId,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let more = self.count(bytes).saturating_sub(part.count());
        if more == 0 {
            return Ok(());
        }
        let busy = |whose: &str| {
            let sentence = format!("too many large answers{whose} are being read or sent at once");
            Refusal::new(Code::Busy, sentence).retry_after(Duration::from_secs(1))
        };
        let own = self.of_account(account).try_acquire_many_owned(more);
        let own = own.map_err(|_| busy(" of this account"))?;
        let all = self.pieces.clone().try_acquire_many_owned(more).map_err(|_| busy(""))?;
        part.add(Held { own, all });
        Ok(())
    }

    /// Takes so many bytes, waiting for those who hold them, but not for ever: for what was paid for.
    pub(crate) async fn take(&self, account: &AccountId, bytes: usize) -> Part {
        let count = self.count(bytes);
        if count == 0 {
            return Part::default();
        }
        // First its own: who waits for that keeps nobody else.
        let share = self.of_account(account);
        let held = async {
            let own = share.acquire_many_owned(count).await.ok()?;
            let all = self.pieces.clone().acquire_many_owned(count).await.ok()?;
            Some(Held { own, all })
        };
        Part(timeout(WAIT_MAX, held).await.ok().flatten())
    }

    /// Pieces for so many bytes. What is larger than a share takes all of it, and is alone then.
    fn count(&self, bytes: usize) -> u32 {
        // No share has more: it was made so.
        u32::try_from((bytes / PIECE_BYTES).min(self.share)).unwrap_or(u32::MAX)
    }

    fn of_account(&self, account: &AccountId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Accounts that hold nothing have nothing to be remembered for.
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(account).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(account.clone(), Arc::downgrade(&share));
        share
    }
}

impl Part {
    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn count(&self) -> u32 {
        let count = self.0.as_ref().map_or(0, |held| held.all.num_permits());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: Held) {
        match &mut self.0 {
            None => self.0 = Some(more),
            Some(held) => {
                held.own.merge(more.own);
                held.all.merge(more.all);
            }
        }
    }

    /// Gives back what is not needed for so many bytes.
    pub(crate) fn lower(&mut self, bytes: usize) {
        if let Some(held) = &mut self.0 {
            let surplus = held.all.num_permits().saturating_sub(bytes.div_ceil(PIECE_BYTES));
            drop((held.own.split(surplus), held.all.split(surplus)));
        }
    }

    /// Makes the bytes of a body hold the part: as long as one of them waits to be sent, all are there.
    pub(crate) fn hold(mut self, bytes: Vec<u8>) -> Bytes {
        if self.0.is_none() {
            return Bytes::from(bytes);
        }
        self.lower(bytes.capacity());
        Bytes::from_owner(Sent { bytes, _part: self })
    }

    /// Puts the part beside a response whose body is not written yet; [`hold_body`] takes it from there.
    pub(crate) fn beside(self, extensions: &mut axum::http::Extensions) {
        if self.0.is_some() {
            extensions.insert(Beside(Arc::new(self)));
        }
    }
}

/// Bytes that are sent, and their part.
struct Sent {
    bytes: Vec<u8>,
    _part: Part,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part on its way to the body.
#[derive(Clone)]
struct Beside(#[allow(dead_code)] Arc<Part>); // held, not read

/// Makes a response's body hold the part that lies beside it.
pub(crate) async fn hold_body(mut response: Response) -> Response {
    let Some(part) = response.extensions_mut().remove::<Beside>() else { return response };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &part;
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn account(name: &str) -> AccountId {
        name.parse().expect("an account")
    }

    /// As many bytes as there are pieces.
    fn pieces(count: usize) -> usize {
        count * PIECE_BYTES
    }

    fn budget() -> AnswerBudget {
        AnswerBudget::new(pieces(8))
    }

    fn take(budget: &AnswerBudget, name: &str, count: usize) -> Result<Part, String> {
        let taken = budget.try_take(&account(name), pieces(count));
        taken.map_err(|refusal| {
            assert_eq!((refusal.code, refusal.retry_after.is_some()), (Code::Busy, true));
            refusal.sentence
        })
    }

    fn left(budget: &AnswerBudget) -> usize {
        budget.pieces.available_permits()
    }

    #[test]
    fn an_account_has_its_share_and_all_together_have_the_whole() {
        let budget = budget();
        let first = take(&budget, "pat", 3).expect("room");
        let whose = " of this account";
        let busy =
            |whose| Some(format!("too many large answers{whose} are being read or sent at once"));
        assert_eq!(take(&budget, "pat", 2).err(), busy(whose));
        let other = take(&budget, "eve", 4).expect("room");
        assert_eq!(take(&budget, "kim", 2).err(), busy(""));
        // Who was refused holds nothing, neither of his share nor of all.
        let third = take(&budget, "kim", 1).expect("room");
        assert_eq!(left(&budget), 0);
        // What is small goes on.
        assert!(budget.try_take(&account("pat"), PIECE_BYTES - 1).is_ok());
        drop((first, other, third));
        assert_eq!(left(&budget), 8);
        // What is larger than a share takes all of it.
        let all = take(&budget, "pat", 100).expect("room");
        assert_eq!(left(&budget), 4);
        assert_eq!(take(&budget, "pat", 1).err(), busy(whose));
        drop(all);
        take(&budget, "eve", 1).expect("room");
        assert_eq!(budget.shares.lock().expect("a lock").len(), 1, "nobody else is remembered");
    }

    #[test]
    fn a_part_grows_and_shrinks_with_what_it_is_for() {
        let (budget, pat) = (budget(), account("pat"));
        let mut part = take(&budget, "pat", 2).expect("room");
        budget.raise(&mut part, &pat, pieces(1)).expect("enough");
        assert_eq!(left(&budget), 6);
        budget.raise(&mut part, &pat, pieces(4)).expect("room");
        assert_eq!(left(&budget), 4);
        part.lower(pieces(1) - 1);
        assert_eq!(left(&budget), 7);
        take(&budget, "pat", 3).expect("what is lowered is the account's again");
    }

    #[test]
    fn bytes_hold_their_part_until_the_last_of_them_is_gone() {
        let budget = budget();
        let part = take(&budget, "pat", 4).expect("room");
        let mut bytes = part.hold(vec![7; pieces(2)]);
        assert_eq!(left(&budget), 6, "what is not needed any more is given back");
        let last = bytes.split_off(bytes.len() - 1);
        drop(bytes);
        assert_eq!(left(&budget), 6);
        drop(last);
        assert_eq!(left(&budget), 8);
    }

    #[tokio::test]
    async fn a_body_holds_the_part_beside_it_until_it_is_dropped() {
        let budget = budget();
        let mut response = Bytes::from_static(b"answer").into_response();
        take(&budget, "pat", 4).expect("room").beside(response.extensions_mut());
        let response = hold_body(response).await;
        assert_eq!(left(&budget), 4);
        let (parts, body) = response.into_parts();
        drop(parts);
        assert_eq!(left(&budget), 4);
        let mut body = body;
        let sent = body.frame().await.expect("a frame").expect("sent").into_data();
        assert_eq!(sent.ok().as_deref(), Some(&b"answer"[..]));
        assert_eq!(left(&budget), 4);
        drop(body);
        assert_eq!(left(&budget), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_paid_for_waits_and_goes_on_in_the_end() {
        let (budget, pat) = (budget(), account("pat"));
        let first = take(&budget, "pat", 4).expect("room");
        let waits = tokio::spawn({
            let (budget, pat) = (budget.clone(), pat.clone());
            async move { budget.take(&pat, pieces(3)).await }
        });
        tokio::time::sleep(WAIT_MAX / 2).await;
        assert!(!waits.is_finished());
        // Who waits for his own share keeps nobody else.
        drop(take(&budget, "eve", 4).expect("room"));
        drop(first);
        let second = waits.await.expect("taken");
        assert_eq!((second.count(), left(&budget)), (3, 5));
        let started = tokio::time::Instant::now();
        let third = budget.take(&pat, pieces(4)).await;
        assert!(third.is_empty() && started.elapsed() >= WAIT_MAX);
        drop(second);
        // Who went on without leaves nothing behind.
        assert_eq!((left(&budget), budget.take(&pat, pieces(4)).await.count()), (8, 4));
    }

    #[test]
    fn what_json_takes_is_counted_and_too_much_is_refused() {
        assert_eq!(
            (bytes_of_answer(PIECE_BYTES - 1, 0), bytes_of_answer(0, PIECE_BYTES - 1)),
            (0, 0)
        );
        assert_eq!(bytes_of_answer(pieces(1), 0), pieces(2));
        assert_eq!(bytes_of_answer(0, pieces(1)), pieces(9));
        assert!(check_json(JSON_BYTES_MAX).is_ok());
        let refusal = check_json(JSON_BYTES_MAX + 1).expect_err("too much");
        assert_eq!(
            refusal.sentence,
            "outputs over limit as JSON: found 33554433 bytes, allowed 33554432; ask for binary data"
        );
    }
}
