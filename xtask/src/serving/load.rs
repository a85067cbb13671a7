//! The load generator as a child process: a plan goes in, a report comes out.

use super::ground::Ground;
use anyhow::{Context, Result, ensure};
use fuelbox_load::{Plan, Report};
use std::process::{Child, Command, Stdio};

/// A generator at work.
pub(crate) struct Running {
    /// None once it was waited for.
    child: Option<Child>,
}

/// Starts on a plan.
pub(crate) fn start(ground: &Ground, plan: &Plan) -> Result<Running> {
    let mut child = Command::new(ground.program("fuelbox-load"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the load generator cannot be started")?;
    let stdin = child.stdin.take().context("stdin is a pipe")?;
    let running = Running { child: Some(child) };
    serde_json::to_writer(stdin, plan)?; // closes it
    Ok(running)
}

/// Carries out a plan.
pub(crate) fn run(ground: &Ground, plan: &Plan) -> Result<Report> {
    start(ground, plan)?.report()
}

impl Running {
    /// Waits for the report.
    pub(crate) fn report(mut self) -> Result<Report> {
        let output = self.child.take().context("a generator")?.wait_with_output()?;
        ensure!(output.status.success(), "the load generator failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
