//! fuelbox: a data folder by its own commands, and a server on it.

use super::{
    api,
    ground::{Ground, Model},
    process::{Process, until_ready},
};
use crate::tools::output;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// A server that is not ready by then never will be: it may have the stock guest to compile.
const READY_MAX: Duration = Duration::from_secs(180);
/// Who publishes everything.
const PUBLISHER: &str = "models";
/// What callers have: more than any run spends.
const CREDITS: &str = "1000000";

/// A data folder.
pub(crate) struct Folder<'a> {
    ground: &'a Ground,
    pub(crate) path: PathBuf,
}

/// What `account show` says, as far as it is looked at.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Account {
    pub(crate) account: String,
    pub(crate) balance_micro: i128,
    pub(crate) held_micro: u64,
}

impl<'a> Folder<'a> {
    /// A folder with nothing in it but these callers, who are rich, and a publisher.
    pub(crate) fn new(ground: &'a Ground, name: &str, callers: &[&str]) -> Result<Self> {
        let folder = Self { ground, path: ground.empty(name)? };
        let callers = callers.iter().map(|name| (*name, "caller"));
        for (name, kind) in callers.chain([(PUBLISHER, "publisher")]) {
            folder.ask(&["account", "create", name, "--kind", kind])?;
            folder.ask(&["account", "top-up", name, CREDITS])?;
        }
        Ok(folder)
    }

    /// A new access key of a caller's. No server may run.
    pub(crate) fn key(&self, account: &str) -> Result<String> {
        let printed = self.ask(&["access", "create", "--account", account, "--scope", "caller"])?;
        let key = printed.split_whitespace().find(|word| word.starts_with("fbx_"));
        Ok(key.context("a new access key is printed")?.to_owned())
    }

    /// Publishes a model under this name.
    pub(crate) fn publish(&self, model: &Model, name: &str) -> Result<()> {
        let package = self.ground.folder.join(format!("{name}.fbx"));
        let (onnx, file) = (model.onnx.display().to_string(), package.display().to_string());
        self.ask(&["pack", &onnx, "--name", name, "--output", &file])?;
        self.ask(&["publish", &file, "--account", PUBLISHER])?;
        fs::remove_file(&package).context(file)
    }

    /// Starts a server and waits for it to be ready.
    pub(crate) fn serve(&self) -> Result<Fuelbox> {
        let mut command = self.command();
        command.arg("serve");
        for option in ["--http", "--grpc", "--metrics"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let log = self.ground.folder.join("fuelbox.log");
        let started = Instant::now();
        let mut process = Process::start("fuelbox serve", &mut command, log.clone())?;
        let mut found = None;
        let ready_s = until_ready(&mut process, started, READY_MAX, || {
            if found.is_none() {
                found = fs::read_to_string(&log).ok().and_then(|printed| addresses(&printed));
            }
            found.is_some_and(|(http, _)| api::is_ok(&format!("http://{http}/v2/health/ready")))
        })?;
        let (http, grpc) = found.context("a server that is ready says where it is")?;
        Ok(Fuelbox { process, http, grpc, ready_s })
    }

    /// What a command prints as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let text = self.ask(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {text}"))
    }

    /// What a command prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        output(self.command().arg("--quiet").args(arguments))
            .with_context(|| format!("fuelbox {}", arguments.join(" ")))
    }

    /// The credits that each caller got, in millionths.
    pub(crate) fn given_micro() -> Result<i128> {
        Ok(CREDITS.parse::<i128>()? * 1_000_000)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.ground.fuelbox());
        command.arg("--data").arg(&self.path).arg("--cache-dir").arg(self.ground.cache());
        command
    }
}

/// A server that is ready.
pub(crate) struct Fuelbox {
    pub(crate) process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// From its start.
    pub(crate) ready_s: f64,
}

impl Fuelbox {
    /// See [`Process::stop`].
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// Where the server says that it listens, once it has said so: `HTTP ADDRESS`, `gRPC ADDRESS`, and last
/// `metrics ADDRESS`.
fn addresses(printed: &str) -> Option<(SocketAddr, SocketAddr)> {
    let address = |name: &str| {
        let line = printed.split_inclusive('\n').find_map(|line| line.strip_prefix(name));
        line?.strip_suffix('\n')?.trim().parse().ok()
    };
    let _: SocketAddr = address("metrics ")?;
    Some((address("HTTP ")?, address("gRPC ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_when_all_lines_are_there() {
        let all = "operator key: fbx_1\nHTTP 127.0.0.1:1\ngRPC 127.0.0.1:2\nmetrics 127.0.0.1:3\n";
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(addresses(all), Some((address(1), address(2))));
        for cut in [0, 20, 37, all.len() - 1] {
            assert_eq!(addresses(&all[..cut]), None, "{cut}");
        }
    }
}
