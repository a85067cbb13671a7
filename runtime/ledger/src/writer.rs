//! The one thread that writes: all works that wait go into one transaction, and are answered after its
//! commit.
//!
//! Optimistic. When a work goes wrong, all of its transaction is rolled back. Those before it are run
//! again together, then it alone, then those behind it; when the store went wrong, all are run again one
//! by one. So whatever a work does, its neighbours never see it, and it costs them two commits.

use crate::{
    book::Book,
    checkpoints::Checkpoints,
    error::StoreError,
    extension::Extension,
    ledger::Lock,
    panics::catch,
    queue::{Queue, Waiting},
    transaction::Tx,
};

/// Works in one transaction at most: a bound on what is answered late and on what is done again.
const BATCH_MAX: usize = 1_024;

pub(crate) struct Writer<E: Extension> {
    /// Its connection is closed before that of the book, which is the last.
    pub(crate) checkpoints: Checkpoints,
    pub(crate) book: Book<E>,
    /// Held until the connections are closed.
    pub(crate) _lock: Lock,
}

/// How a work went.
enum Ran {
    /// It may be committed.
    Fine,
    /// It must be rolled back, with everything beside it. The error is the store's; without one the
    /// work has an answer of its own.
    Undo(Option<StoreError>),
}

/// Why a batch was rolled back.
enum Failed {
    /// The work at this place went wrong.
    Work(usize),
    /// All went well but the begin or the commit.
    Store,
}

impl Failed {
    /// How many of a batch go together next, and how many behind them alone.
    fn plan(self, batch: usize) -> (usize, usize) {
        match self {
            Self::Work(place) => (place, 1),
            Self::Store => (0, batch),
        }
    }
}

impl<E: Extension> Writer<E> {
    /// Works until the queue is closed and empty.
    pub(crate) fn serve(mut self, queue: &Queue<E>) {
        queue.serve();
        let mut batch = Vec::new();
        while queue.take(&mut batch, BATCH_MAX) {
            self.work_off(queue, &mut batch);
            // After the answers: nobody waits for it who does not come next.
            self.checkpoints.after_commit(&self.book.connection);
        }
    }

    /// Does and answers all of the batch, in its order.
    fn work_off(&mut self, queue: &Queue<E>, batch: &mut Vec<Waiting<E>>) {
        let failed = match self.together(batch, Some(queue)) {
            Ok(()) => return batch.drain(..).for_each(|work| work.answer(Ok(()))),
            Err(failed) => failed,
        };
        // None comes in any more, so this ends: every round answers at least one.
        let (mut good, mut alone) = failed.plan(batch.len());
        while !batch.is_empty() {
            if good > 0 {
                match self.together_first(batch, good) {
                    Ok(()) => batch.drain(..good).for_each(|work| work.answer(Ok(()))),
                    // What went well before does not now: no more guesses.
                    Err(_) => alone += good,
                }
            }
            for mut work in batch.drain(..alone) {
                let done = self.alone(&mut work);
                work.answer(done);
            }
            (good, alone) = match self.together(batch, None) {
                Ok(()) => return batch.drain(..).for_each(|work| work.answer(Ok(()))),
                Err(failed) => failed.plan(batch.len()),
            };
        }
    }

    fn together_first(&mut self, batch: &mut Vec<Waiting<E>>, count: usize) -> Result<(), Failed> {
        let behind = batch.split_off(count);
        let done = self.together(batch, None);
        batch.extend(behind);
        done
    }

    /// Runs the batch, and what comes while it runs, in one transaction.
    fn together(
        &mut self,
        batch: &mut Vec<Waiting<E>>,
        queue: Option<&Queue<E>>,
    ) -> Result<(), Failed> {
        if batch.is_empty() {
            return Ok(());
        }
        self.book.begin().map_err(|_| Failed::Store)?;
        let mut next = 0;
        while next < batch.len() {
            while let Some(work) = batch.get_mut(next) {
                match run(&mut self.book, work) {
                    Ran::Fine => next += 1,
                    Ran::Undo(_) => {
                        self.book.roll_back();
                        return Err(Failed::Work(next));
                    }
                }
            }
            if let Some(queue) = queue {
                queue.take(batch, BATCH_MAX);
            }
        }
        self.book.commit().map_err(|_| Failed::Store)
    }

    /// Runs one work in a transaction of its own.
    fn alone(&mut self, work: &mut Waiting<E>) -> Result<(), StoreError> {
        self.book.begin()?;
        match run(&mut self.book, work) {
            Ran::Fine => self.book.commit(),
            Ran::Undo(error) => {
                self.book.roll_back();
                error.map_or(Ok(()), Err)
            }
        }
    }
}

fn run<E: Extension>(book: &mut Book<E>, work: &mut Waiting<E>) -> Ran {
    let (changes, lent) = (book.changes(), std::mem::take(&mut book.extension_lent));
    let succeeded = match catch(|| work.run(&mut Tx::new(book))) {
        Ok(succeeded) => succeeded,
        Err(panicked) => return Ran::Undo(Some(panicked)),
    };
    let wrote = book.changes() != changes || book.extension_lent;
    book.extension_lent |= lent;
    if let Some(failure) = book.failure.take() {
        // A work that failed has said so itself.
        return Ran::Undo(succeeded.then_some(failure));
    }
    if book.connection.is_autocommit() {
        let text = "the transaction was ended from within".to_owned();
        return Ran::Undo(succeeded.then_some(StoreError::Sql { text }));
    }
    if succeeded || !wrote { Ran::Fine } else { Ran::Undo(None) }
}
