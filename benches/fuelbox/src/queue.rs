//! A queue of jobs and the threads that take them.

use anyhow::{Context, Result, bail};
use fuelbox_engine::{Cancel, JobLimits, Prepared, Verdict};
use serde::Serialize;
use std::{
    sync::{
        Barrier, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// Times of a queue's jobs. All jobs wait when the first one is taken.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    /// From the first job being taken to the last outcome.
    wall_ns: u64,
    /// Of each job: from a worker taking it to its outcome.
    execution_ns: Vec<u64>,
    /// Of each job: from the start until a worker takes it.
    queued_ns: Vec<u64>,
}

/// Runs `jobs` jobs on `workers` threads, each of which takes the next one when it is free. Before
/// the first one is taken, each worker has run a job that does not count: a host's workers live long.
pub(crate) fn run(
    prepared: &Prepared<'_>,
    limits: &JobLimits,
    workers: usize,
    jobs: usize,
) -> Result<Times> {
    let taken = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    // Each job: when a worker took it, and when it ended.
    let done = Mutex::new(Vec::with_capacity(jobs));
    let starts = Mutex::new(Vec::with_capacity(workers));
    let ready = Barrier::new(workers);
    let job = || {
        let outcome = prepared.run(limits, 0, &Cancel::default());
        let completed =
            outcome.is_ok_and(|outcome| matches!(outcome.verdict, Verdict::Completed { .. }));
        failed.fetch_add(usize::from(!completed), Ordering::Relaxed);
    };
    let work = || {
        job();
        ready.wait();
        lock(&starts).push(Instant::now());
        while taken.fetch_add(1, Ordering::Relaxed) < jobs {
            let begin = Instant::now();
            job();
            lock(&done).push((begin, Instant::now()));
        }
    };
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner() {
        0 => {}
        failed => bail!("{failed} jobs failed"),
    }
    let (starts, done) = (lock(&starts), lock(&done));
    let start = starts.iter().min().context("no workers")?;
    let end = done.iter().map(|(_, end)| end).max().context("no jobs")?;
    let ns = |from: &Instant, to: &Instant| to.duration_since(*from).as_nanos() as u64;
    Ok(Times {
        wall_ns: ns(start, end),
        execution_ns: done.iter().map(|(begin, end)| ns(begin, end)).collect(),
        queued_ns: done.iter().map(|(begin, _)| ns(start, begin)).collect(),
    })
}

/// Poisoned only when a worker panicked, which the scope passes on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
