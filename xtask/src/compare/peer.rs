//! A peer: a child process that speaks the protocol, gone when dropped.

use super::protocol::parse;
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub(super) struct Peer {
    pub(super) name: &'static str,
    child: Child,
    /// Gone once it is closed.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a peer. What it writes to stderr is shown.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Self { name, child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Asks for something.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        let answer = self.answer(line).and_then(|answer| parse(&answer));
        answer.with_context(|| format!("{}: {line}", self.name))
    }

    /// How long the peer has waited for a core since it started; 0 where the kernel does not say. Its
    /// main thread does all the work.
    pub(super) fn waited_ns(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // Time on a core, time waiting for one, turns.
        stat.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or_default()
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        writeln!(stdin, "{line}")?;
        stdin.flush()?;
        let mut answer = String::new();
        let bytes = self.stdout.read_line(&mut answer)?;
        ensure!(bytes > 0, "the process ended without an answer");
        Ok(answer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take()); // peers end with their stdin
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Times;
    use super::*;

    #[test]
    fn a_peer_is_asked_and_one_that_ends_is_an_error() {
        let script = r#"read line; echo '{"ns": [3]}'; read line; exit 7"#;
        let mut peer = Peer::start("script", Command::new("sh").args(["-c", script])).expect("sh");
        assert_eq!(peer.ask::<Times>("time 1").expect("an answer").ns, [3]);
        let error = format!("{:#}", peer.ask::<Times>("time 1").expect_err("ended"));
        assert_eq!(error, "script: time 1: the process ended without an answer");
    }
}
