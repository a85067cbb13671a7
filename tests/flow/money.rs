//! Money and proof as their users have them: accounts, paid jobs, receipts, replays, the log.

mod examples;
mod proof;
mod refused;
mod story;

use super::cli::{check, fuelbox, json};
use fuelbox_receipt::{Envelope, HostKey, Receipt};
use fuelbox_test_support::guest::Guest;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A data folder with a caller, `alice`, a publisher, `acme`, 25 credits for each, and the package
/// `tiny:1.0.0`.
struct Shop {
    folder: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        Self::selling(&Guest::default())
    }

    fn selling(guest: &Guest) -> Self {
        let shop = Self { folder: tempfile::tempdir().unwrap() };
        shop.ok("account create alice --kind caller");
        shop.ok("account create acme --kind publisher");
        shop.ok("account top-up alice 25 --id start-alice");
        shop.ok("account top-up acme 25 --id start-acme");
        shop.pack("tiny", "1.0.0", guest);
        shop.ok("publish {}/tiny-1.0.0.fbx --account acme");
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `fuelbox` on this data folder; `{}` is the folder of the test's files.
    fn run(&self, arguments: &str) -> Command {
        let mut command = fuelbox(&arguments.replace("{}", self.folder.path().to_str().unwrap()));
        command.env("FUELBOX_DATA", self.data());
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

    fn balance(&self, account: &str) -> i64 {
        self.json(&format!("account show {account}"))["balance_micro"].as_i64().unwrap()
    }

    /// A paid job with its receipt in a file.
    fn submit(&self, receipt: &str, more: &str) -> Value {
        let to = format!("--receipt {{}}/{receipt}");
        self.json(&format!("submit tiny --account alice {to} {more}"))
    }

    fn receipt(&self, file: &str) -> Receipt {
        let envelope = Envelope::parse(&fs::read(self.path(file)).unwrap()).unwrap();
        Receipt::from_statement_bytes(envelope.payload()).unwrap()
    }

    /// The host's private key.
    fn key_pem(&self) -> String {
        let keys = fs::read_dir(self.data().join("keys")).unwrap();
        let pem = keys.map(|entry| entry.unwrap().path());
        let pem = pem.into_iter().find(|path| path.extension().is_some_and(|end| end == "pem"));
        fs::read_to_string(pem.unwrap()).unwrap()
    }

    /// A receipt as a dishonest host would sign it.
    fn forge(&self, receipt: &Receipt, file: &str) {
        let key = HostKey::from_pem(&self.key_pem()).unwrap();
        let envelope = Envelope::sign(receipt, &key).unwrap();
        fs::write(self.path(file), envelope.to_bytes()).unwrap();
    }
}

/// An inference request for `x`.
fn write_input(path: &Path, values: &[f32]) {
    let inputs = serde_json::json!({
        "inputs": [{"name": "x", "shape": [values.len()], "datatype": "FP32", "data": values}]
    });
    fs::write(path, inputs.to_string()).unwrap();
}

/// The fields of a list of differences.
fn fields(differences: &Value) -> Vec<&str> {
    let list = differences.as_array().unwrap();
    list.iter().map(|difference| difference["field"].as_str().unwrap()).collect()
}
