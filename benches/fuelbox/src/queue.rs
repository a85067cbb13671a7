//! A queue of jobs and the threads that take them.

use anyhow::{Result, bail};
use fuelbox_engine::{Cancel, JobLimits, Prepared, Verdict};
use serde::Serialize;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// Times of a queue's jobs. All jobs wait when the first one is taken.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Times {
    /// From the first job being taken to the last outcome.
    wall_ns: u64,
    /// Of each job: from a worker taking it to its outcome.
    execution_ns: Vec<u64>,
    /// Of each job: from the start until a worker takes it.
    queued_ns: Vec<u64>,
}

/// Runs `jobs` jobs on `workers` threads, each of which takes the next one when it is free.
pub(crate) fn run(
    prepared: &Prepared<'_>,
    limits: &JobLimits,
    workers: usize,
    jobs: usize,
) -> Result<Times> {
    let taken = AtomicUsize::new(0);
    let times = Mutex::new(Times::default());
    let failed = AtomicUsize::new(0);
    let start = Instant::now();
    let work = || {
        while taken.fetch_add(1, Ordering::Relaxed) < jobs {
            let begin = Instant::now();
            let outcome = prepared.run(limits, 0, &Cancel::default());
            let execution = begin.elapsed();
            let completed =
                outcome.is_ok_and(|outcome| matches!(outcome.verdict, Verdict::Completed { .. }));
            failed.fetch_add(usize::from(!completed), Ordering::Relaxed);
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            times.execution_ns.push(execution.as_nanos() as u64);
            times.queued_ns.push(begin.duration_since(start).as_nanos() as u64);
        }
    };
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let mut times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    times.wall_ns = start.elapsed().as_nanos() as u64;
    match failed.into_inner() {
        0 => Ok(times),
        failed => bail!("{failed} of {jobs} jobs failed"),
    }
}
