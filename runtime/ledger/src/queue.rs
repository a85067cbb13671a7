//! Works that wait for the writer.

use crate::{error::StoreError, extension::Extension, panics::catch, transaction::Tx};
use std::{
    collections::VecDeque,
    marker::PhantomData,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

/// Works that wait at most; whoever brings one more waits itself. Eight transactions' worth, so the
/// writer always finds a full one, and memory has a bound.
const WAITING_MAX: usize = 8_192;

/// A work and its answer, whatever their types.
pub(crate) trait Work<E: Extension>: Send {
    /// Runs it, and keeps what it gives. Whether it succeeded.
    fn run(&mut self, tx: &mut Tx<'_, E>) -> bool;

    /// Hands out what it gave, or why it was not done.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A closure that works, and one that takes its answer.
pub(crate) struct Job<W, D, T, X>
where
    D: FnOnce(Result<T, X>),
    X: From<StoreError>,
{
    work: W,
    done: Done<D, T, X>,
    given: Option<Result<T, X>>,
}

/// Called once, come what may: one that is dropped says that the ledger is closed, so nobody waits for
/// ever.
struct Done<D, T, X>
where
    D: FnOnce(Result<T, X>),
    X: From<StoreError>,
{
    call: Option<D>,
    takes: PhantomData<fn(T, X)>,
}

impl<D, T, X> Done<D, T, X>
where
    D: FnOnce(Result<T, X>),
    X: From<StoreError>,
{
    fn call(&mut self, given: Result<T, X>) {
        if let Some(call) = self.call.take() {
            // A panic in it is the caller's own, and ends nobody else's work.
            let _ = catch(|| call(given));
        }
    }
}

impl<D, T, X> Drop for Done<D, T, X>
where
    D: FnOnce(Result<T, X>),
    X: From<StoreError>,
{
    fn drop(&mut self) {
        self.call(Err(StoreError::Closed.into()));
    }
}

impl<W, D, T, X> Job<W, D, T, X>
where
    D: FnOnce(Result<T, X>),
    X: From<StoreError>,
{
    pub(crate) fn new(work: W, done: D) -> Self {
        Self { work, done: Done { call: Some(done), takes: PhantomData }, given: None }
    }
}

impl<E, W, D, T, X> Work<E> for Job<W, D, T, X>
where
    E: Extension,
    W: FnMut(&mut Tx<'_, E>) -> Result<T, X> + Send,
    D: FnOnce(Result<T, X>) + Send,
    T: Send,
    X: From<StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_, E>) -> bool {
        self.given.insert((self.work)(tx)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { work, mut done, given } = *self;
        // What a work holds is let go before its answer is out: a reservation that it used is gone
        // when its caller goes on.
        let _ = catch(|| drop(work));
        match (committed, given) {
            (Ok(()), Some(given)) => done.call(given),
            (Ok(()), None) => done.call(Err(StoreError::Closed.into())),
            (Err(error), _) => done.call(Err(error.into())),
        }
    }
}

pub(crate) type Waiting<E> = Box<dyn Work<E>>;

/// Works in the order in which they came.
pub(crate) struct Queue<E: Extension> {
    state: Mutex<State<E>>,
    /// For the writer: there is a work, or no more will come.
    filled: Condvar,
    /// For those who bring works: there is room, or nothing is taken any more.
    emptied: Condvar,
    writer: OnceLock<ThreadId>,
}

struct State<E: Extension> {
    works: VecDeque<Waiting<E>>,
    closed: bool,
    /// How many wait for room.
    outside: usize,
}

impl<E: Extension> Queue<E> {
    pub(crate) fn new() -> Self {
        let state = State { works: VecDeque::new(), closed: false, outside: 0 };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            writer: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This thread is the writer: it never waits for itself.
    pub(crate) fn serve(&self) {
        // Only the one thread that is the writer comes here.
        let _ = self.writer.set(thread::current().id());
    }

    pub(crate) fn is_writer(&self) -> bool {
        self.writer.get() == Some(&thread::current().id())
    }

    /// Puts a work at the end. Gives it back when the writer is gone.
    pub(crate) fn put(&self, work: Waiting<E>) -> Result<(), Waiting<E>> {
        let own = self.is_writer();
        let mut state = self.lock();
        while state.works.len() >= WAITING_MAX && !state.closed && !own {
            state.outside += 1;
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.outside -= 1;
        }
        if state.closed {
            return Err(work);
        }
        state.works.push_back(work);
        if state.works.len() == 1 {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes works until the batch has so many. Waits for the first when the batch has none; gives
    /// false when there will be none.
    pub(crate) fn take(&self, batch: &mut Vec<Waiting<E>>, most: usize) -> bool {
        let mut state = self.lock();
        while batch.is_empty() && state.works.is_empty() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let room = most.saturating_sub(batch.len()).min(state.works.len());
        batch.extend(state.works.drain(..room));
        if state.outside > 0 {
            self.emptied.notify_all();
        }
        !batch.is_empty()
    }

    /// No more works are taken; those that wait are still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// The writer is gone: what it left is answered.
    pub(crate) fn abandon(&self) {
        self.close();
        let left: Vec<_> = self.lock().works.drain(..).collect();
        for work in left {
            work.answer(Err(StoreError::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn work(send: &mpsc::Sender<Result<u8, StoreError>>) -> Waiting<()> {
        let send = send.clone();
        Box::new(Job::new(|_: &mut Tx<'_, ()>| Ok(1), move |answer| send.send(answer).unwrap()))
    }

    #[test]
    fn every_work_is_answered_once_whatever_becomes_of_it() {
        let (send, answers) = mpsc::channel();
        let queue = Queue::new();
        drop(work(&send));
        work(&send).answer(Ok(()));
        work(&send).answer(Err(StoreError::WithinWriter));
        assert!(queue.put(work(&send)).is_ok());
        queue.abandon();
        assert!(queue.put(work(&send)).is_err_and(|work| {
            drop(work);
            true
        }));
        drop(send);
        let (closed, within) = (Err(StoreError::Closed), Err(StoreError::WithinWriter));
        let all = [closed.clone(), closed.clone(), within, closed.clone(), closed];
        assert_eq!(answers.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_batch_takes_no_more_than_it_may() {
        let (send, _answers) = mpsc::channel();
        let queue = Queue::new();
        for _ in 0..5 {
            assert!(queue.put(work(&send)).is_ok());
        }
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, 3) && batch.len() == 3);
        assert!(queue.take(&mut batch, 3) && batch.len() == 3);
        batch.clear();
        queue.close();
        assert!(queue.take(&mut batch, 3) && batch.len() == 2);
        batch.clear();
        assert!(!queue.take(&mut batch, 3));
    }
}
