//! The log is brought back into the database: thousands of pages at once, tens of milliseconds.
//!
//! Nobody waits that long. A thread with a connection of its own brings back what is in the log while the
//! writer goes on with it; then the writer brings back the little that came meanwhile, with nothing in
//! between, so that its next commit starts the log again.

use crate::{connection, panics::catch};
use rusqlite::{Connection, DEFAULT_NAME, wal::CheckpointMode};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// The log is brought back when it has this many pages of 4 KiB: 64 MiB. A page that many transactions
/// changed is written back once, so a larger log saves writes, and the sync at the end, which holds up
/// those of commits, comes less often; a smaller one is read faster after a crash.
const LOG_PAGES: i32 = 16_384;

/// When to bring the log back, and who does.
pub(crate) struct Checkpoints {
    /// Pages at which it is next done.
    at: i32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    /// The thread is at it.
    Beside,
    /// The thread has done its part, or could not: what is left is the writer's.
    Rest,
    Closed,
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the phase, unless all is over.
    fn enter(&self, next: Phase) {
        let mut phase = self.phase();
        if *phase != Phase::Closed {
            *phase = next;
        }
        self.changed.notify_one();
    }

    /// Waits for work; false when there will be none.
    fn wait(&self) -> bool {
        let mut phase = self.phase();
        while !matches!(*phase, Phase::Beside | Phase::Closed) {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        *phase == Phase::Beside
    }
}

impl Checkpoints {
    /// Starts the thread for a database that is open.
    pub(crate) fn start(path: PathBuf, vfs: Option<String>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("checkpoints".into()).spawn({
            let shared = shared.clone();
            move || {
                let mut opened = None;
                while shared.wait() {
                    // Whatever goes wrong, the writer does all of it.
                    let _ = catch(|| {
                        if opened.is_none() {
                            opened = connection::for_checkpoints(&path, vfs.as_deref()).ok();
                        }
                        opened.as_ref().map(|connection| pages(connection, CheckpointMode::PASSIVE))
                    });
                    shared.enter(Phase::Rest);
                }
            }
        })?;
        Ok(Self { at: LOG_PAGES, shared, thread: Some(thread) })
    }

    /// Looks at the log; the next step is done if it is due. `writer` has no open transaction.
    pub(crate) fn after_commit(&mut self, writer: &Connection) {
        let phase = *self.shared.phase();
        match phase {
            Phase::Beside | Phase::Closed => {}
            Phase::Idle => {
                let log = pages(writer, CheckpointMode::NOOP);
                if log < LOG_PAGES {
                    self.at = LOG_PAGES;
                } else if log >= self.at {
                    self.shared.enter(Phase::Beside);
                }
            }
            Phase::Rest => {
                // When it fails, nothing is lost. When a reader holds on to old pages, part of it is
                // done, and the log starts again later. Both are tried again, but not at every commit:
                // each try is a sync.
                let log = pages(writer, CheckpointMode::PASSIVE);
                self.at = log.saturating_add(LOG_PAGES / 4);
                self.shared.enter(Phase::Idle);
            }
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.enter(Phase::Closed);
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

/// Pages in the log, after a checkpoint of this mode; none when that failed.
fn pages(connection: &Connection, mode: CheckpointMode) -> i32 {
    connection.wal_checkpoint_v2(DEFAULT_NAME, mode).map_or(0, |(log, _)| log)
}
