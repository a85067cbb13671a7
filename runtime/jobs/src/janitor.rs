//! The janitor: what has to be done now and then. Holds that could not be given back are tried again,
//! jobs whose deadline passed while they waited end, and what was kept long enough goes.

use crate::{books::BooksError, fault::JobError, job::State, shared::Shared, sweep, tables};
use fuelbox_digest::Digest;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two rounds: seldom for a processor.
const ROUND: Duration = Duration::from_secs(1);

/// Between two looks at how much is kept: that reads an index of all of it.
const LOOK: Duration = Duration::from_secs(60);

/// A look comes earlier when so much was stored, as a share of what may be kept: the disk needs room for
/// so much more than the limit.
const FRESH_SHARE: u64 = 16;

/// Between two looks for files that nobody needs: that lists all of them.
const FILES_LOOK: Duration = Duration::from_secs(24 * 3_600);

/// Between two tries to give money back that is still held: soon for whoever it belongs to.
const RETRY: Duration = Duration::from_millis(50);

/// Blobs that go in one transaction, so that jobs need not wait long for their own.
const SWEEP_ROWS: i64 = 500;

/// A thread of its own.
pub(crate) struct Janitor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        let seen = shared.clone();
        // Without the thread, holds are given back at the next start.
        let thread = thread::Builder::new().name("janitor".into()).spawn(move || work(&seen)).ok();
        Self { shared, thread }
    }

    pub(crate) fn stop(&mut self) {
        let (go, bell) = &self.shared.desk.janitor_bell;
        *go.lock().unwrap_or_else(PoisonError::into_inner) = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Arc<Shared>) {
    let (go, bell) = &shared.desk.janitor_bell;
    let mut looked: Option<Instant> = None;
    let mut swept: Option<Instant> = None;
    let is_to_go = || *go.lock().unwrap_or_else(PoisonError::into_inner);
    while !is_to_go() {
        // What fails now is tried again in the next round.
        let _ = round(shared);
        let fresh_max = shared.keep.bytes_max / FRESH_SHARE;
        let is_much = || shared.fresh_bytes.load(Ordering::Relaxed) > fresh_max;
        if looked.is_none_or(|at| at.elapsed() >= LOOK) || is_much() {
            looked = Some(Instant::now());
            shared.fresh_bytes.store(0, Ordering::Relaxed);
            let _ = make_room(shared);
        }
        if swept.is_none_or(|at| at.elapsed() >= FILES_LOOK) {
            swept = Some(Instant::now());
            let _ = sweep::files(shared, &is_to_go);
        }
        let pause = if shared.desk.has_to_void() { RETRY } else { ROUND };
        let going = go.lock().unwrap_or_else(PoisonError::into_inner);
        if !*going {
            // Rung or not: the next round looks at everything.
            let _ = bell.wait_timeout(going, pause);
        }
    }
}

fn round(shared: &Arc<Shared>) -> Result<(), BooksError> {
    for (_, job) in shared.queue.remove_where(|job| job.cancel.is_due()) {
        shared.drop_unstarted(job, State::Cancelled, JobError::CancelledEarly);
    }
    for (id, detail, spend) in shared.desk.take_to_void() {
        shared.void(id, State::Faulted, &detail, spend);
        shared.desk.wake(&id);
    }
    while sweep(shared)? {}
    Ok(())
}

/// Lets go of the oldest content, when there is more than may be kept.
fn make_room(shared: &Shared) -> Result<(), BooksError> {
    let sum = |sql: &str| {
        shared.books.ledger.read(|reader| -> rusqlite::Result<i64> {
            reader.connection().prepare_cached(sql)?.query_row([], |row| row.get(0))
        })
    };
    let kept = sum("SELECT coalesce(sum(bytes), 0) FROM blob")??;
    let mut surplus = kept.saturating_sub_unsigned(shared.keep.bytes_max);
    let mut before = 0;
    while surplus > 0 {
        // The time of the oldest that are enough, or of as many as go at once.
        let found = shared.books.ledger.read(|reader| -> rusqlite::Result<Vec<(i64, i64)>> {
            let sql = "SELECT bytes, expires_unix_ms FROM blob ORDER BY expires_unix_ms LIMIT ?1";
            let mut select = reader.connection().prepare_cached(sql)?;
            let rows = select.query_map([SWEEP_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })??;
        for (bytes, expires) in found {
            if surplus <= 0 {
                break;
            }
            surplus -= bytes;
            before = expires + 1;
        }
        let mut gone = 0;
        loop {
            let some = sweep_before(shared, before)?;
            gone += some;
            if some < SWEEP_ROWS {
                break;
            }
        }
        if gone == 0 {
            break; // the rest is needed
        }
    }
    Ok(())
}

/// Removes some of what was kept long enough; says whether there may be more.
fn sweep(shared: &Shared) -> Result<bool, BooksError> {
    Ok(sweep_before(shared, shared.now_unix_ms().cast_signed())? == SWEEP_ROWS)
}

/// Removes some of what may be kept until then, and says how many. What waiting jobs need stays.
fn sweep_before(shared: &Shared, before: i64) -> Result<i64, BooksError> {
    let any = shared.books.ledger.read(|reader| -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM blob WHERE expires_unix_ms < ?1)";
        reader.connection().prepare_cached(sql)?.query_row([before], |row| row.get(0))
    })??;
    if !any {
        return Ok(0);
    }
    let gone = shared.books.ledger.write(move |tx| -> Result<_, BooksError> {
        let sql = "DELETE FROM blob WHERE seq IN
            (SELECT seq FROM blob WHERE expires_unix_ms < ?1 AND digest NOT IN
                (SELECT input FROM job WHERE state IN ('queued', 'running')) LIMIT ?2)
            RETURNING digest, content IS NULL";
        let mut delete = tx.connection().prepare_cached(sql)?;
        let rows = delete.query_map([before, SWEEP_ROWS], |row| {
            Ok((Digest::from_bytes(row.get(0)?), row.get::<_, bool>(1)?))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    })?;
    let files = gone.iter().filter(|(_, in_file)| *in_file).map(|(digest, _)| digest);
    for digest in files {
        let remove = || -> Result<(), BooksError> {
            // The same content of a later job is in the same file.
            let named = shared
                .books
                .ledger
                .read(|reader| tables::is_file_named(reader.connection(), digest))??;
            if !named {
                // One that stays takes room until the sweep of the files finds it.
                let _ = shared.blobs.remove(digest, Duration::ZERO);
            }
            Ok(())
        };
        // What is claimed gets a row.
        shared.claims.unclaimed(digest, remove).transpose()?;
    }
    Ok(gone.len() as i64)
}
