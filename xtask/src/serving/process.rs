//! A server as a child process: started, waited for, stopped.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A server that has not stopped by then is killed.
const STOP_MAX: Duration = Duration::from_secs(60);
/// Between two looks at something that has no other way to tell.
const LOOK: Duration = Duration::from_millis(2);

/// A server.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with what it prints in a file.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub(crate) fn printed(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }

    /// An error with its last words, when it is gone.
    pub(crate) fn alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let printed = self.printed()?;
        let lines: Vec<_> = printed.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{} ended, {status}:\n{last}", self.name)
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.alive()?;
        let status = self.end()?;
        ensure!(status.is_some(), "{} had to be killed: it did not stop", self.name);
        Ok(())
    }

    /// None when it had to be killed.
    fn end(&mut self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(LOOK);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Ports that nobody has now.
pub(crate) fn ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Asks until the answer is yes. How long that took, in seconds from then.
pub(crate) fn until_ready(
    process: &mut Process,
    since: Instant,
    patience: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<f64> {
    loop {
        if ready() {
            return Ok(since.elapsed().as_secs_f64());
        }
        process.alive()?;
        if since.elapsed() > patience {
            bail!("{} is not ready after {} s", process.name, patience.as_secs());
        }
        thread::sleep(LOOK);
    }
}

/// Resident memory of a process in bytes: all of it, and the part that is in no file.
pub(crate) fn memory(process: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(Path::new(&path)).context(path)?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("no such field")?;
        Ok(kib.trim().parse::<u64>()? * 1_024)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-process-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_server_that_ended_is_an_error_with_its_last_words() {
        let log = log("ended");
        let script = "echo nothing to serve; exit 3";
        let mut process =
            Process::start("sh", Command::new("sh").args(["-c", script]), log.clone())
                .expect("a shell");
        let never = until_ready(&mut process, Instant::now(), Duration::from_secs(60), || false);
        let error = never.expect_err("ended").to_string();
        assert_eq!(error, "sh ended, exit status: 3:\nnothing to serve");
        fs::remove_file(log).expect("a log");
    }

    #[test]
    fn a_server_stops_when_it_is_asked() {
        let log = log("stops");
        let mut command = Command::new("sleep");
        let process = Process::start("sleep", command.arg("600"), log.clone()).expect("sleep");
        let id = process.id();
        assert!(memory(id).is_ok());
        process.stop().expect("stopped");
        assert!(memory(id).is_err());
        fs::remove_file(log).expect("a log");
    }

    #[test]
    fn ports_differ() {
        let [first, second] = ports().expect("ports");
        assert_ne!(first, second);
    }
}
