//! Hosts on data folders of their own, packages made on the spot, and what must hold of every ledger.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part

use fuelbox_engine::{
    Cache, Cancel, Engine, GoldenCase, GuestModule, JobLimits, LimitsAsked, Manifest, Model,
    Options, Package, PartRef, Tensor, Verdict, output_digest, write_archive,
};
use fuelbox_jobs::{Config, DataFolder, Host, JobRequest, Publication};
use fuelbox_ledger::{AccountId, AccountKind, Credits};
use fuelbox_test_support::{guest::Guest, host::fp32};
use std::path::Path;

/// An account's name.
pub fn account(name: &str) -> AccountId {
    name.parse().expect("an account")
}

/// So many micro-credits.
pub fn micros(micros: u64) -> Credits {
    Credits::from_micros(micros).expect("an amount")
}

/// An engine with its cache beside the data.
pub fn engine(folder: &Path) -> Engine {
    let cache = Cache::open(folder.join("cache")).expect("a cache");
    Engine::new(cache, Options::default()).expect("an engine")
}

/// A host with these many workers.
pub fn host_with(folder: &Path, config: Config) -> Host {
    Host::open(&DataFolder::new(folder.join("data")), engine(folder), config).expect("a host")
}

/// A host with one worker.
pub fn host(folder: &Path) -> Host {
    host_with(folder, Config { workers: Some(1), ..Config::default() })
}

/// A package of a guest in text form, with one golden case on input 1 unless it cannot answer.
pub fn package(folder: &Path, name: &str, version: &str, guest: &Guest) -> Vec<u8> {
    let wasm = guest.wasm();
    package_of(&engine(folder), name, version, wasm, &[])
}

/// A package of a module and its assets.
pub fn package_of(
    engine: &Engine,
    name: &str,
    version: &str,
    wasm: Vec<u8>,
    golden: &[Vec<Tensor>],
) -> Vec<u8> {
    let package = Package { module: GuestModule::new(wasm.clone()), assets: Vec::new() };
    let model = Model::open(engine, package, &JobLimits::default(), || ()).expect("a model");
    let mut manifest =
        Manifest::new(name.into(), version.into(), PartRef::of(&wasm), model.signature().clone());
    manifest.limits = LimitsAsked { fuel: 10_000_000, memory_bytes: 64 << 20 };
    let mut parts = vec![wasm];
    for (index, inputs) in golden.iter().enumerate() {
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let message = fuelbox_abi::Envelope {
            tensors: &views,
            ..fuelbox_abi::Envelope::new(fuelbox_abi::Kind::Run)
        };
        let bytes = message.encode().expect("a message").to_vec();
        let limits = JobLimits::default();
        let prepared = model.prepare(inputs, &[], &limits, &limits).expect("a request");
        let outcome = prepared.run(&limits, 0, &Cancel::default()).expect("no fault");
        let Verdict::Completed { outputs, .. } = &outcome.verdict else {
            panic!("{outcome:?}");
        };
        manifest.golden.push(GoldenCase {
            name: format!("case-{index}"),
            input: PartRef::of(&bytes),
            seed: 0,
            output_digest: output_digest(outputs),
            fuel: outcome.usage.fuel,
            memory_bytes_peak: outcome.usage.memory_bytes_peak,
            engine_profile: engine.profile(),
        });
        parts.push(bytes);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut file = Vec::new();
    write_archive(&manifest, &parts, &mut file).expect("a package");
    file
}

/// The one input of the guests in text form.
pub fn x(value: f32) -> Vec<Tensor> {
    vec![fp32("x", &[1], &[value])]
}

/// Instructions that burn about nine times as much fuel as there are rounds.
pub fn burn(rounds: u32) -> String {
    format!(
        "(local.set 2 (i32.const {rounds}))
         (loop $again
           (local.set 2 (i32.sub (local.get 2) (i32.const 1)))
           (br_if $again (local.get 2)))"
    )
}

/// A guest whose `x` has a named dimension, and whose load takes a while.
pub fn shaped() -> Guest {
    Guest {
        signature: fuelbox_test_support::guest::signature(&[fuelbox_abi::Dim::Symbol("n")]),
        load: burn(100_000),
        ..Guest::default()
    }
}

/// As [`shaped`], with a load that never ends when `x` has this many elements.
pub fn endless_for(size: u8) -> Guest {
    // Of the message, byte 12 counts the shapes, and byte 21 is the first dimension when that is below
    // 251: see `docs/formats/guest-abi.md`.
    let load = format!(
        "(if (i32.and (i32.load8_u offset=12 (local.get 0))
                      (i32.eq (i32.load8_u offset=21 (local.get 0)) (i32.const {size})))
           (then (loop $forever (br $forever))))
         {}",
        burn(100_000)
    );
    Guest { load, ..shaped() }
}

/// Keeps the only worker of a host busy until it is dropped. Its account is `carol`, who is made for that.
pub struct Block<'a> {
    host: &'a Host,
    job: fuelbox_jobs::JobId,
}

impl<'a> Block<'a> {
    pub fn new(folder: &Path, host: &'a Host) -> Self {
        let carol = account("carol");
        if host.accounts().show(&carol).is_err() {
            host.accounts().create(&carol, AccountKind::Caller).expect("created");
            let id = "gift:carol".parse().expect("a transfer's name");
            host.accounts().top_up(&carol, micros(1 << 40), id).expect("topped up");
        }
        let file = package(folder, "block", "1", &Guest::running("(loop $l (br $l))"));
        let publication = host.publish(&account("pub"), &file, None).expect("published");
        let mut wanted = JobRequest::new(carol, publication.digest, x(1.0));
        wanted.limits.fuel = Some(900_000_000_000);
        let job = host.submit(wanted).expect("a job").id;
        while host.running() == 0 {
            std::thread::yield_now();
        }
        Self { host, job }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.host.cancel(&self.job).expect("it runs until now");
    }
}

/// A request of `alice` for this package, with `x` of this size.
pub fn sized(publication: &Publication, size: usize) -> JobRequest {
    let input = fp32("x", &[size as u64], &vec![1.0; size]);
    JobRequest::new(account("alice"), publication.digest, vec![input])
}

/// A host with a publisher `pub`, a caller `alice` with so many micro-credits, and this package.
pub fn set_up(host: &Host, alice_micros: u64, package: &[u8]) -> Publication {
    let accounts = host.accounts();
    accounts.create(&account("pub"), AccountKind::Publisher).expect("created");
    accounts.create(&account("alice"), AccountKind::Caller).expect("created");
    let id = |name: &str| name.parse().expect("a transfer's name");
    accounts.top_up(&account("pub"), micros(1_000_000_000), id("gift:pub")).expect("topped up");
    if alice_micros > 0 {
        accounts.top_up(&account("alice"), micros(alice_micros), id("gift:alice")).expect("topped");
    }
    host.publish(&account("pub"), package, Some(1_000_000_000)).expect("published")
}

/// A request of `alice` for this package.
pub fn request(publication: &Publication, value: f32) -> JobRequest {
    JobRequest::new(account("alice"), publication.digest, x(value))
}

/// What an account has, in micro-credits, less what is held.
pub fn available(host: &Host, name: &str) -> i128 {
    host.accounts().show(&account(name)).expect("an account").available()
}

/// What must hold of every data folder that nobody is working on: see [`check_books`].
pub fn check_folder(folder: &Path) -> Books {
    let reader = DataFolder::new(folder.join("data")).reader().expect("a reader");
    check_books(&reader)
}

/// What a check of the books counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Books {
    pub settled: u64,
    pub receipts: u64,
    pub open: u64,
}

/// Sums are zero; each receipt has its posting and each posting its receipt; the log covers all
/// receipts; holds belong to open jobs.
pub fn check_books(reader: &fuelbox_ledger::Reader) -> Books {
    use fuelbox_ledger::Action;
    use fuelbox_receipt::log::Tree;
    use std::collections::BTreeMap;
    let totals = reader.verify();
    assert!(totals.is_ok(), "{totals:?}");
    let connection = reader.connection();
    let records = fuelbox_jobs::Records::new(reader);
    // All that jobs' transfers took from callers, by job.
    let mut paid = BTreeMap::<String, u64>::new();
    let mut select = connection
        .prepare("SELECT id FROM transfer WHERE id LIKE 'job:%' ORDER BY seq")
        .expect("a table of transfers");
    let ids = select.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    for id in ids {
        let id = id.expect("a row");
        let transfer = reader.transfer(&id.parse().expect("a name")).expect("read").expect("there");
        let mut parts = id.split(':').skip(1);
        let (job, leg) = (parts.next().expect("a job"), parts.next().expect("a leg"));
        let counts = match leg {
            "hold" | "void" | "post" => false,
            "share" | "fee" | "load" => true,
            other => panic!("{other}"),
        };
        if counts {
            let Action::Direct { amount, .. } = transfer.transfer.action else {
                panic!("{id}");
            };
            *paid.entry(job.to_owned()).or_default() += amount.micros();
        }
    }
    let mut tree = Tree::new();
    let mut receipts = 0;
    loop {
        let page = records.receipts(receipts, 1_000).expect("receipts");
        if page.is_empty() {
            break;
        }
        for logged in page {
            assert_eq!(logged.index, receipts);
            receipts += 1;
            tree.append(&logged.envelope.digest());
            let receipt = fuelbox_receipt::Receipt::from_statement_bytes(logged.envelope.payload());
            let receipt = receipt.expect("a receipt");
            let job = records.job(&logged.job).expect("read").expect("a job");
            let end = job.end.expect("a job with a receipt has ended");
            assert_eq!(receipt.job, job.id.to_string());
            assert_eq!(end.receipt, logged.envelope.digest());
            let load = receipt.load.map_or(0, |load| load.credits_micro);
            let billed = receipt.price.credits_micro + load;
            assert_eq!(end.credits.micros(), billed);
            assert_eq!(paid.remove(&receipt.job).unwrap_or(0), billed, "{}", receipt.job);
        }
    }
    assert!(paid.is_empty(), "postings without a receipt: {paid:?}");
    assert_eq!(records.log_root(receipts).expect("a log"), tree.root());
    let count = |sql: &str| -> u64 {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count").cast_unsigned()
    };
    assert_eq!(count("SELECT count(*) FROM job WHERE receipt IS NOT NULL"), receipts);
    let open = count("SELECT count(*) FROM job WHERE state IN ('queued', 'running')");
    let held = reader.open_pendings().expect("holds");
    for hold in &held {
        let id = hold.transfer.id.to_string();
        let job = id.split(':').nth(1).expect("a job").parse().expect("a job");
        let job = records.job(&job).expect("read").expect("a job");
        assert!(!job.state.is_final(), "{id} is open, its job is {:?}", job.state);
    }
    assert_eq!(held.len() as u64, open, "every open job has its hold");
    let settled = count("SELECT count(*) FROM job WHERE credits IS NOT NULL");
    Books { settled, receipts, open }
}
