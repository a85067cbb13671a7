//! Servers on data folders of their own, on ports that the system chooses, talked to over real sockets.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses a part

use fuelbox_abi::{
    DataType, Dim, Dims, Envelope, Kind, Role, Shape, TensorSpec, TensorView, pack_reply,
};
use fuelbox_engine::{
    Cache, Engine, GuestModule, JobLimits, LimitsAsked, Manifest, Model, Options, Package, PartRef,
    write_archive,
};
use fuelbox_jobs::{
    Config as HostConfig, DataFolder, Host, NewAccessKey, Publication, Scope, Scopes,
};
use fuelbox_ledger::{AccountId, AccountKind, Credits};
use fuelbox_server::{Addresses, Config, Server, Stopper};
use fuelbox_test_support::guest::{Guest, OUTPUTS_AT, encode};
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::Value;
use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tempfile::TempDir;

/// A server at work. Dropping it stops it in order.
pub struct Served {
    pub folder: TempDir,
    pub host: Arc<Host>,
    pub addresses: Addresses,
    pub client: Client,
    /// Keys of `operator`, `pub` (publisher and caller), `alice` and `bob` (callers).
    pub operator: String,
    pub publisher: String,
    pub alice: String,
    pub bob: String,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

/// A thousand credits.
pub const RICH_MICROS: u64 = 1_000_000_000;

/// Nothing here takes longer, unless something is stuck.
pub const LONG: Duration = Duration::from_secs(60);

/// An account's name.
pub fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// The server's configuration in tests: ports that are free.
pub fn config() -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config { http: any, grpc: any, metrics: any, ..Config::default() };
    config.limits.grace = Duration::from_millis(100);
    config
}

/// An engine with its cache beside the data.
pub fn engine(folder: &Path) -> Engine {
    Engine::new(Cache::open(folder.join("cache")).unwrap(), Options::default()).unwrap()
}

/// A server with accounts, money and keys.
pub fn serve() -> Served {
    serve_with(config(), HostConfig { workers: Some(1), ..HostConfig::default() })
}

/// The same, configured.
pub fn serve_with(config: Config, host: HostConfig) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::new(folder.path().join("data"));
    let host = Arc::new(Host::open(&data, engine(folder.path()), host).unwrap());
    let accounts = host.accounts();
    for (name, kind) in [
        ("pub", AccountKind::Publisher),
        ("alice", AccountKind::Caller),
        ("bob", AccountKind::Caller),
    ] {
        accounts.create(&account(name), kind).unwrap();
        let gift = format!("gift:{name}").parse().unwrap();
        accounts.top_up(&account(name), Credits::from_micros(RICH_MICROS).unwrap(), gift).unwrap();
    }
    let operator = key(&host, "operator", &[Scope::Operator]);
    let publisher = key(&host, "pub", &[Scope::Publisher, Scope::Caller]);
    let alice = key(&host, "alice", &[Scope::Caller]);
    let bob = key(&host, "bob", &[Scope::Caller]);
    let server = Server::bind(config).unwrap();
    let (addresses, stopper) = (server.addresses(), server.stopper());
    let served = host.clone();
    let thread = thread::spawn(move || server.run(served, data).unwrap());
    let client = client();
    let thread = Some(thread);
    Served { folder, host, addresses, client, operator, publisher, alice, bob, stopper, thread }
}

/// A client that waits for nothing long, follows nothing and unpacks nothing.
pub fn client() -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(LONG).redirect(reqwest::redirect::Policy::none());
    client.build().unwrap()
}

/// A new key.
pub fn key(host: &Host, name: &str, scopes: &[Scope]) -> String {
    let scopes: Scopes = scopes.iter().copied().collect();
    host.access().create(NewAccessKey::new(account(name), scopes)).unwrap().1.to_string()
}

/// A package of a guest in text form.
pub fn package(folder: &Path, name: &str, version: &str, guest: &Guest) -> Vec<u8> {
    let wasm = guest.wasm();
    let opened = Package { module: GuestModule::new(wasm.clone()), assets: Vec::new() };
    let model = Model::open(&engine(folder), opened, &JobLimits::default(), || ()).unwrap();
    let mut manifest =
        Manifest::new(name.into(), version.into(), PartRef::of(&wasm), model.signature().clone());
    // Large answers cost by the byte, as does the memory that they are in.
    let fuel = if guest.memory.parse::<u32>().is_ok_and(|pages| pages > 40) {
        1_000_000_000
    } else {
        10_000_000
    };
    manifest.limits = LimitsAsked { fuel, memory_bytes: 64 << 20 };
    let mut file = Vec::new();
    write_archive(&manifest, &[&wasm], &mut file).unwrap();
    file
}

/// A guest whose answer has so many bytes of zeros: FP64.
pub fn giving(bytes: usize) -> Guest {
    let count = bytes / 8;
    let spec = |role, name, datatype, dims: &[Dim<'static>]| TensorSpec {
        role,
        name,
        datatype,
        dims: Dims::new(dims),
    };
    let specs = [
        spec(Role::Input, "x", DataType::Fp32, &[Dim::Fixed(1)]),
        spec(Role::Output, "y", DataType::Fp64, &[Dim::Fixed(count as u64)]),
    ];
    let zeros = vec![0; bytes];
    let shape = Shape::new(&[count as u64]).unwrap();
    let tensors = [TensorView { name: "y", datatype: DataType::Fp64, shape, bytes: &zeros }];
    let mut outputs = encode(&Envelope { tensors: &tensors, ..Envelope::new(Kind::Outputs) });
    let (length, end) = (outputs.len() as u32, OUTPUTS_AT as usize + outputs.len());
    // The rest of the memory is zeros already.
    let written = outputs.iter().rposition(|byte| *byte != 0).unwrap();
    outputs.truncate(written + 1);
    Guest {
        reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, length)),
        alloc: format!("(i32.const {})", end.next_multiple_of(16)),
        memory: (end / 65_536 + 2).to_string(),
        signature: encode(&Envelope { specs: &specs, ..Envelope::new(Kind::Signature) }),
        outputs,
        ..Guest::default()
    }
}

/// Instructions that burn about six times as much fuel as there are rounds.
pub fn burn(rounds: u32) -> String {
    format!(
        "(local.set 2 (i32.const {rounds}))
         (loop $again
           (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
           (br_if $again (local.get 2)))"
    )
}

impl Served {
    /// Publishes a guest as `pub`, past the network.
    pub fn publish(&self, name: &str, version: &str, guest: &Guest) -> Publication {
        let file = package(self.folder.path(), name, version, guest);
        self.host.publish(&account("pub"), &file, Some(1_000_000_000)).unwrap()
    }

    /// A request's place.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    /// A GET with a key; none when it is empty.
    pub fn get(&self, path: &str, key: &str) -> RequestBuilder {
        with_key(self.client.get(self.url(path)), key)
    }

    /// A POST with a key; none when it is empty.
    pub fn post(&self, path: &str, key: &str) -> RequestBuilder {
        with_key(self.client.post(self.url(path)), key)
    }

    /// What an account has, in micro-credits, less what is held.
    pub fn available(&self, name: &str) -> i128 {
        self.host.accounts().show(&account(name)).unwrap().available()
    }

    /// Stops the server in order.
    pub fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.stop();
    }
}

fn with_key(request: RequestBuilder, key: &str) -> RequestBuilder {
    if key.is_empty() { request } else { request.bearer_auth(key) }
}

/// Status and JSON body.
pub fn json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, value)
}

/// A refusal's status, code and sentence.
pub fn refusal(response: Response) -> (u16, String, String) {
    let (status, body) = json(response);
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["error"], body["detail"], "{body}");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (status, text("code"), text("error"))
}
