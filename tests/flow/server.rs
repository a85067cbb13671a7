//! A server as its operator and its callers have it: the real process, over real sockets.

mod attack;
mod calls;
mod ends;
mod market;
mod operator;
mod starts;
mod stand_in;
mod tls;
mod uploads;

use super::cli::{check, fuelbox, json};
use fuelbox_test_support::guest::Guest;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

/// A data folder with a caller, `alice`, a publisher, `acme`, 25 credits for each, a key of `alice` in
/// `alice.key`, and the package `tiny:1.0.0`.
struct Site {
    folder: tempfile::TempDir,
}

/// Runs for as long as it is let: until a signal, a limit or the end of the test.
const ENDLESS: &str = "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0)) (then (loop (br 0))))";

impl Site {
    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn new() -> Self {
        Self::with(&Guest::default())
    }

    fn with(guest: &Guest) -> Self {
        let site = Self::empty();
        site.ok("account create alice --kind caller");
        site.ok("account create acme --kind publisher");
        site.ok("account top-up alice 25");
        site.ok("account top-up acme 25");
        site.pack("tiny", "1.0.0", guest);
        site.ok("publish {}/tiny-1.0.0.fbx --account acme");
        site.key("alice", "caller", "");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `fuelbox` on this data folder; `{}` is the folder of the test's files.
    fn run(&self, arguments: &str) -> Command {
        let mut command = fuelbox(&arguments.replace("{}", self.folder.path().to_str().unwrap()));
        command.env("FUELBOX_DATA", self.path("data"));
        for variable in ["FUELBOX_KEY", "FUELBOX_URL", "http_proxy", "HTTP_PROXY"] {
            command.env_remove(variable);
        }
        command
    }

    fn ok(&self, arguments: &str) -> String {
        check(&mut self.run(arguments), 0).0
    }

    fn json(&self, arguments: &str) -> Value {
        json(&mut self.run(&format!("{arguments} --json")), 0)
    }

    /// Packs a guest as `NAME-VERSION.fbx`.
    fn pack(&self, name: &str, version: &str, guest: &Guest) {
        fs::write(self.path("guest.wasm"), guest.wasm()).unwrap();
        let to = format!("-o {{}}/{name}-{version}.fbx --name {name} --version {version}");
        self.ok(&format!("pack --guest {{}}/guest.wasm {to}"));
    }

    /// Makes a key of an account and writes it to `ACCOUNT.key`.
    fn key(&self, account: &str, scope: &str, more: &str) -> Value {
        let key = self.json(&format!("access create --account {account} --scope {scope} {more}"));
        self.write_key(&format!("{account}.key"), key["key"].as_str().unwrap());
        key
    }

    fn write_key(&self, file: &str, key: &str) {
        fs::write(self.path(file), format!("{key}\n")).unwrap();
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// An inference request for `x`.
    fn write_input(&self, file: &str, value: f32) {
        let inputs = serde_json::json!({
            "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [value]}]
        });
        fs::write(self.path(file), inputs.to_string()).unwrap();
    }

    fn serve(&self, more: &str) -> Serving {
        let any = "--http 127.0.0.1:0 --grpc 127.0.0.1:0 --metrics 127.0.0.1:0";
        Serving::start(&mut self.run(&format!("serve {any} {more}")))
    }

    /// `fuelbox infer tiny` as `alice`.
    fn infer(&self, serving: &Serving, more: &str) -> Command {
        let (url, key) = (&serving.url, "--key-file {}/alice.key");
        self.run(&format!("infer tiny --url {url} {key} {more}"))
    }

    fn balance(&self, account: &str) -> i64 {
        self.json(&format!("account show {account}"))["balance_micro"].as_i64().unwrap()
    }
}

/// `fuelbox serve`, at work. Killed when dropped.
struct Serving {
    child: Child,
    url: String,
    grpc: String,
    metrics: String,
    operator_key: Option<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        // Read all the time, so that the server never waits for us.
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut serving = Self {
            url: String::new(),
            grpc: String::new(),
            metrics: String::new(),
            operator_key: None,
            stderr: Some(stderr),
            child,
        };
        let out = serving.child.stdout.take().unwrap();
        for line in BufReader::new(out).lines() {
            let line = line.unwrap();
            if let Some(key) = line.strip_prefix("operator key: ") {
                serving.operator_key = Some(key.to_owned());
            } else if let Some(address) = line.strip_prefix("HTTP ") {
                serving.url = format!("http://{address}");
            } else if let Some(address) = line.strip_prefix("gRPC ") {
                serving.grpc = address.to_owned();
            } else if let Some(address) = line.strip_prefix("metrics ") {
                serving.metrics = format!("http://{address}");
                return serving;
            } else {
                panic!("a line that no program knows: {line}");
            }
        }
        let status = serving.child.wait().unwrap();
        panic!("{status}: {}", serving.stderr.take().unwrap().join().unwrap());
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the end: exit code (none when a signal ended it) and what was said on stderr.
    fn wait(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.stderr.take().unwrap().join().unwrap())
    }

    /// Stops it as an operator does.
    fn stop(&mut self) -> String {
        // Addresses are said before signals are listened to; whoever is answered can be told to stop.
        let health = format!("{}/healthz", self.metrics);
        assert_eq!(client().get(health).send().unwrap().status(), 200);
        self.signal("TERM");
        let (code, stderr) = self.wait();
        assert_eq!(code, Some(0), "{stderr}");
        stderr
    }

    fn get(&self, path: &str, key: Option<&str>) -> reqwest::blocking::Response {
        let request = client().get(format!("{}{path}", self.url));
        match key {
            Some(key) => request.bearer_auth(key).send().unwrap(),
            None => request.send().unwrap(),
        }
    }

    /// Returns when a job runs that does not end: nothing else here takes a second of a processor. The
    /// test runner's time limit ends it when that never happens.
    fn wait_for_an_endless_job(&self) {
        self.wait_for_work(100);
    }

    /// Returns when the server has worked for so many hundredths of a second.
    fn wait_for_work(&self, hundredths: u64) {
        let stat = format!("/proc/{}/stat", self.child.id());
        loop {
            let stat = fs::read_to_string(&stat).unwrap();
            // Behind the name in parentheses: the 12th field is the time in user mode, in hundredths.
            let user = stat.rsplit_once(") ").unwrap().1.split(' ').nth(11).unwrap();
            if user.parse::<u64>().unwrap() >= hundredths {
                return;
            }
            assert_eq!(self.get("/v2/health/live", None).status(), 200);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that goes straight to where it is told.
fn client() -> reqwest::blocking::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder().no_proxy().build().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
