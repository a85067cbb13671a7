//! The one thread that writes: all works that wait go into one transaction, and are answered after its
//! commit.
//!
//! Optimistic. When anything in a transaction goes wrong, all of it is rolled back, and its works are
//! run again one by one, each in a transaction of its own: whatever one of them does, its neighbours
//! never see it.

use crate::{
    book::Book,
    error::StoreError,
    extension::Extension,
    ledger::Lock,
    panics::catch,
    queue::{Queue, Waiting},
    transaction::Tx,
};
use rusqlite::{DEFAULT_NAME, wal::CheckpointMode};

/// Works in one transaction at most: a bound on what is answered late and on what is done again.
const BATCH_MAX: usize = 1_024;

/// The log is brought back into the database when it has this many pages of 4 KiB: 16 MiB. A page that
/// many transactions changed is written back once, so a larger log saves writes; a smaller one is read
/// faster after a crash.
pub(crate) const CHECKPOINT_PAGES: i32 = 4_096;

pub(crate) struct Writer<E: Extension> {
    pub(crate) book: Book<E>,
    /// Held until the connection is closed.
    pub(crate) _lock: Lock,
    /// Pages at which the log is next brought back.
    pub(crate) checkpoint_at: i32,
}

/// How a work went.
enum Ran {
    /// It may be committed.
    Fine,
    /// It must be rolled back, with everything beside it. The error is the store's; without one the
    /// work has an answer of its own.
    Undo(Option<StoreError>),
}

impl<E: Extension> Writer<E> {
    /// Works until the queue is closed and empty.
    pub(crate) fn serve(mut self, queue: &Queue<E>) {
        queue.serve();
        let mut batch = Vec::new();
        while queue.take(&mut batch, BATCH_MAX) {
            if self.together(queue, &mut batch) {
                batch.drain(..).for_each(|work| work.answer(Ok(())));
            } else {
                for mut work in batch.drain(..) {
                    let done = self.alone(&mut work);
                    work.answer(done);
                }
            }
            self.checkpoint();
        }
    }

    /// Runs the batch, and what comes while it runs, in one transaction. Whether it was committed.
    fn together(&mut self, queue: &Queue<E>, batch: &mut Vec<Waiting<E>>) -> bool {
        if self.book.begin().is_err() {
            return false;
        }
        let mut next = 0;
        while next < batch.len() {
            while let Some(work) = batch.get_mut(next) {
                match run(&mut self.book, work) {
                    Ran::Fine => next += 1,
                    Ran::Undo(_) => {
                        self.book.roll_back();
                        return false;
                    }
                }
            }
            queue.take(batch, BATCH_MAX);
        }
        self.book.commit().is_ok()
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

    /// Keeps the log short. After the answers: nobody waits for it who does not come next.
    fn checkpoint(&mut self) {
        let pages = |mode| {
            self.book.connection.wal_checkpoint_v2(DEFAULT_NAME, mode).map_or(0, |(log, _)| log)
        };
        let log = pages(CheckpointMode::NOOP);
        if log < CHECKPOINT_PAGES {
            self.checkpoint_at = CHECKPOINT_PAGES;
        } else if log >= self.checkpoint_at {
            // When it fails, nothing is lost. When a reader holds on to old pages, part of it is done,
            // and the log starts again later. Both are tried again, but not at every commit: each
            // try is a sync.
            pages(CheckpointMode::PASSIVE);
            self.checkpoint_at = log.saturating_add(CHECKPOINT_PAGES / 4);
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
