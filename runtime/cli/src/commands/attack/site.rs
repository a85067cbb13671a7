//! A server of this program, as a process of its own, on an empty folder: if an attack brings it down,
//! the attacker sees it.

use crate::{
    client::Address,
    exit::{Exit, Failure, OrExit, Result},
};
use anyhow::Context;
use serde_json::Value;
use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};
use tempfile::TempDir;

/// At work; stopped when dropped.
pub(super) struct Site {
    server: Mutex<Child>,
    url: Address,
    key_file: PathBuf,
    _folder: TempDir,
}

/// The account that attacks: a publisher, who runs his own packages.
const ATTACKER: &str = "attacker";

/// Credits of the attacker: more than the suite can burn.
const CREDITS: &str = "1000000000";

/// The server's patience with bodies: one case waits for its end. Bodies of the others are there as soon
/// as their heads are.
const BODY_PAUSE: &str = "5s";

impl Site {
    pub(super) fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder").or_exit(Exit::Host)?;
        run(folder.path(), &["account", "create", ATTACKER, "--kind", "publisher"])?;
        run(folder.path(), &["account", "top-up", ATTACKER, CREDITS])?;
        let scopes = ["--scope", "publisher", "--scope", "caller", "--json"];
        let key = [&["access", "create", "--account", ATTACKER], &scopes[..]].concat();
        let key: Value = serde_json::from_slice(&run(folder.path(), &key)?).or_exit(Exit::Host)?;
        let key = key["key"].as_str().context("no key").or_exit(Exit::Host)?;
        let key_file = folder.path().join("attacker.key");
        let file = File::options().write(true).create_new(true).mode(0o600).open(&key_file);
        file.and_then(|mut file| file.write_all(key.as_bytes())).or_exit(Exit::Host)?;

        let any = "127.0.0.1:0";
        let mut serve = program(folder.path())?;
        serve.args(["serve", "--http", any, "--grpc", any, "--metrics", any]);
        serve.args(["--log-filter", "error", "--body-pause", BODY_PAUSE]);
        let log_file = folder.path().join("server.log");
        let log = File::create(&log_file).or_exit(Exit::Host)?;
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = serve.spawn().context("fuelbox serve").or_exit(Exit::Host)?;
        let url = child.stdout.take().and_then(address);
        let Some(Ok(url)) = url.map(|url| url.parse()) else {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(log_file).unwrap_or_default();
            let text = format!("the server did not start: {}", said.trim());
            return Err(Failure::message(Exit::Host, text));
        };
        Ok(Self { server: Mutex::new(child), url, key_file, _folder: folder })
    }

    pub(super) fn url(&self) -> &Address {
        &self.url
    }

    pub(super) fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Whether the server has ended, which it was not told to.
    pub(super) fn is_gone(&self) -> bool {
        self.server.lock().is_ok_and(|mut server| !matches!(server.try_wait(), Ok(None)))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Ok(server) = self.server.get_mut() {
            // Nothing of it is kept.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Where a server says that it listens. It is read to the last line that it has to say.
fn address(stdout: ChildStdout) -> Option<String> {
    let mut url = None;
    for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
        if let Some(address) = line.strip_prefix("HTTP ") {
            url = Some(format!("http://{address}"));
        } else if line.starts_with("metrics ") {
            return url;
        }
    }
    None
}

/// This program on the folder of a site.
fn program(folder: &Path) -> Result<Command> {
    let program = env::current_exe().context("the path of this program").or_exit(Exit::Host)?;
    let mut command = Command::new(program);
    command.arg("--data").arg(folder.join("data")).arg("--cache-dir").arg(folder.join("cache"));
    Ok(command)
}

/// Runs a command to its end; gives what it printed.
fn run(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = program(folder)?.args(arguments).stdin(Stdio::null()).output();
    let output = output.context("fuelbox").or_exit(Exit::Host)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("fuelbox {}: {}", arguments[0], said.trim());
    Err(Failure::message(Exit::Host, text))
}
