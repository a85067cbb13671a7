//! A host without a server around it, for `cargo xtask compare-server`.
//!
//! `fuelbox-bench-host DATA CACHE PACKAGE ACCOUNT INPUT SIZE..` opens a data folder. For every line with a
//! number of seconds it runs jobs for so long, one after the other, and prints the median of their times
//! as `{"median_us": ..}`. Jobs are paid for, signed and on disk, as a server's are.

use anyhow::{Context, Result, bail, ensure};
use fuelbox_abi::{DataType, Shape};
use fuelbox_engine::{Cache, Engine, Options, Tensor};
use fuelbox_jobs::{Config, DataFolder, Host, JobRequest, State};
use fuelbox_ledger::AccountId;
use serde_json::json;
use std::{
    env,
    io::{self, BufRead, Write},
    time::{Duration, Instant},
};

/// A line that asks for more is a slip.
const SECONDS_MAX: f64 = 600.0;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [data, cache, package, account, input, sizes @ ..] = arguments.as_slice() else {
        bail!("expected `DATA CACHE PACKAGE ACCOUNT INPUT SIZE..`");
    };
    let sizes = sizes.iter().map(|size| size.parse()).collect::<Result<Vec<u64>, _>>()?;
    let engine = Engine::new(Cache::open(cache)?, Options::default())?;
    let host = Host::open(&DataFolder::new(data), engine, Config::default())?;
    let package =
        host.read(|records| records.find_package(package))??.context("no such package")?;
    let account: AccountId = account.parse()?;
    let tensor = tensor(input, &sizes)?;
    let mut number = 0;
    let mut job = || -> Result<Duration> {
        number += 1;
        let mut input = tensor.clone();
        input.bytes[..4].copy_from_slice(&(number as f32 / 1e6).to_le_bytes());
        let request = JobRequest::new(account.clone(), package.digest, vec![input]);
        let started = Instant::now();
        let finished = host.run(request)?;
        let took = started.elapsed();
        ensure!(finished.job.state == State::Succeeded, "job {number} failed");
        Ok(took)
    };
    job()?; // loads the model
    for line in io::stdin().lock().lines() {
        let seconds: f64 = line?.trim().parse()?;
        ensure!((0.0..=SECONDS_MAX).contains(&seconds), "{seconds} s, at most {SECONDS_MAX}");
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || begun.elapsed().as_secs_f64() < seconds {
            times.push(job()?);
        }
        times.sort();
        let median_us = times[times.len() / 2].as_secs_f64() * 1e6;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", json!({ "median_us": median_us }))?;
        out.flush()?;
    }
    Ok(())
}

/// Elements as the load generator sends them.
fn tensor(name: &str, sizes: &[u64]) -> Result<Tensor> {
    let elements: u64 = sizes.iter().product();
    ensure!(elements > 0, "the input has no elements");
    let values = (0..elements).map(|at| (at * 37 % 256) as f32 / 255.0);
    Ok(Tensor {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: Shape::new(sizes).context("too many dimensions")?,
        bytes: values.flat_map(f32::to_le_bytes).collect(),
    })
}
