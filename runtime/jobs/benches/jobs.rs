//! What money and proof cost: `cargo bench --bench jobs`.
//!
//! Settled jobs a second through the whole path (durable, signed, in the log, inputs and outputs kept),
//! beside the same jobs in the bare box, within one run. Medians of rounds with the least and the most.
//! Nothing here fails: the goals are printed beside the figures.

use fuelbox_engine::{
    Cache, Cancel, Engine, JobLimits, LimitsAsked, Manifest, Model, Options, PartRef, Tensor,
    write_archive,
};
use fuelbox_jobs::{Config, DataFolder, Host, JobRequest, Keep, Publication};
use fuelbox_ledger::{AccountId, AccountKind, Credits};
use fuelbox_test_support::{
    host::{fp32, onnx_package, shared_cache},
    onnx,
};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

const CALLERS: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let filter = arguments.next();
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    println!("{:<52} {:>10} {:>10} {:>10}   goal", "", "least", "median", "most");
    let engine = Engine::new(Cache::open(shared_cache()).expect("a cache"), Options::default())
        .expect("an engine");
    if wanted("mlp") {
        mlp(&engine);
    }
    if wanted("mobilenet") {
        mobilenet(&engine);
    }
    // Only by its name: it takes minutes.
    if filter.as_deref() == Some("million") {
        million(&engine);
    }
}

/// A host on a fresh folder below the build's, with a package of this model and a rich caller.
struct Bench {
    folder: tempfile::TempDir,
    host: Host,
    publication: Publication,
}

fn account(name: &str) -> AccountId {
    name.parse().expect("an account")
}

impl Bench {
    fn new(engine: &Engine, name: &str, onnx: Vec<u8>, keep: Keep) -> Self {
        // The disk of the build: a temporary folder may be in memory.
        let folder = tempfile::tempdir_in(shared_cache().parent().expect("a folder"));
        let folder = folder.expect("a folder");
        let data = DataFolder::new(folder.path().join("data"));
        let host = Host::open(&data, engine.clone(), Config { keep, ..Config::default() });
        let host = host.expect("a host");
        let package = onnx_package(onnx.clone());
        let model = Model::open(engine, package, &JobLimits::default(), || ()).expect("a model");
        let wasm = fuelbox_prebuilt::onnx().bytes().expect("a guest");
        let mut manifest =
            Manifest::new(name.into(), "1".into(), PartRef::of(&wasm), model.signature().clone());
        manifest.assets.push(fuelbox_engine::NamedPart {
            name: "model.onnx".into(),
            part: PartRef::of(&onnx),
        });
        manifest.limits = LimitsAsked { fuel: 10_000_000_000, memory_bytes: 1 << 30 };
        let mut file = Vec::new();
        write_archive(&manifest, &[&wasm, &onnx], &mut file).expect("a package");
        let accounts = host.accounts();
        for (name, kind) in [("pub", AccountKind::Publisher), ("caller", AccountKind::Caller)] {
            accounts.create(&account(name), kind).expect("an account");
            let amount = Credits::from_micros(1 << 60).expect("an amount");
            let id = format!("gift:{name}").parse().expect("a name");
            accounts.top_up(&account(name), amount, id).expect("credits");
        }
        let publication = host.publish(&account("pub"), &file, None).expect("published");
        Self { folder, host, publication }
    }

    fn request(&self, input: Tensor) -> JobRequest {
        let mut request = JobRequest::new(account("caller"), self.publication.digest, vec![input]);
        request.limits.fuel = Some(1_000_000_000);
        request
    }
}

/// No two alike.
fn image(number: u64) -> Tensor {
    let mut values = vec![0.5; 784];
    values[0] = (number % 1_000) as f32;
    values[1] = (number / 1_000) as f32;
    fp32("input", &[1, 784], &values)
}

fn mlp(engine: &Engine) {
    let bench = Bench::new(engine, "mlp", onnx::mlp(&[784, 128, 64, 10]), Keep::default());
    for (callers, goal) in [(1, ""), (2, ""), (CALLERS, "at least 5,000")] {
        let settle = |number| {
            bench.host.run(bench.request(image(number))).expect("a job");
        };
        let mut rates: Vec<_> = (0..5).map(|_| rate(callers, settle)).collect();
        line(&format!("mlp: settled jobs/s, {callers} callers"), &mut rates, goal);
    }
    drop(bench.folder);
}

fn mobilenet(engine: &Engine) {
    for (name, large_of_waiting) in [("mobilenet", false), ("mobilenet, inputs kept", true)] {
        let keep = Keep { large_of_waiting, ..Keep::default() };
        overhead(engine, name, keep);
    }
}

/// Worker threads without money: what a server has that gives its jobs away. Callers wait for them as
/// they do for a host's.
struct Free {
    queue: SyncSender<(Tensor, SyncSender<()>)>,
}

impl Free {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, model: &'scope Model) -> Self {
        let (queue, jobs) = sync_channel::<(Tensor, SyncSender<()>)>(1_000);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..cores() {
            let jobs = jobs.clone();
            scope.spawn(move || {
                let next = || jobs.lock().expect("a queue").recv();
                while let Ok((input, answer)) = next() {
                    run(model, input);
                    answer.send(()).expect("somebody waits");
                }
            });
        }
        Self { queue }
    }

    fn run(&self, input: Tensor) {
        let (sender, answer) = sync_channel(1);
        self.queue.send((input, sender)).expect("a queue");
        answer.recv().expect("an answer");
    }
}

/// One job in the box, by this thread.
fn run(model: &Model, input: Tensor) {
    let (inputs, limits) = ([input], JobLimits::default());
    let prepared = model.prepare(&inputs, &[], &limits, &limits).expect("a request");
    prepared.run(&limits, 0, &Cancel::default()).expect("no fault");
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Three ways to one answer: in the box alone; by a worker, for nothing; by a host, for money.
fn overhead(engine: &Engine, name: &str, keep: Keep) {
    let onnx = onnx::mobilenet_v2();
    let bench = Bench::new(engine, "mobilenet", onnx.clone(), keep);
    let package = onnx_package(onnx);
    let model = Model::open(engine, package, &JobLimits::default(), || ()).expect("a model");
    let input = |number: u64| {
        let mut values = vec![0.5; 3 * 224 * 224];
        values[0] = number as f32;
        fp32("image", &[1, 3, 224, 224], &values)
    };
    thread::scope(|scope| {
        let free = Free::start(scope, &model);
        let mut ms = [const { Vec::new() }; 3];
        for number in 0..120 {
            let time = |run: &dyn Fn(Tensor)| {
                let input = input(number);
                let started = Instant::now();
                run(input);
                started.elapsed().as_secs_f64() * 1e3
            };
            let settle = |input| drop(bench.host.run(bench.request(input)).expect("a job"));
            let times =
                [time(&|input| run(&model, input)), time(&|input| free.run(input)), time(&settle)];
            if number >= 20 {
                ms.iter_mut().zip(times).for_each(|(series, time)| series.push(time));
            }
        }
        let [alone, served, settled] = &mut ms;
        let ratio = median(settled) / median(served);
        line(&format!("{name}: ms in the box, one at a time"), alone, "");
        line(&format!("{name}: ms by a worker, one at a time"), served, "");
        line(&format!("{name}: ms settled, one at a time"), settled, "");
        println!("{:<52} {ratio:>32.3}   settled / by a worker, at most 1.02", "");
        // What a host sells: all cores busy, with and without money.
        let (mut served, mut settled) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            served.push(rate(2 * cores(), |number| free.run(input(number))));
            settled.push(rate(2 * cores(), |number| {
                bench.host.run(bench.request(input(number))).expect("a job");
            }));
        }
        let ratio = median(&mut served) / median(&mut settled);
        line(&format!("{name}: jobs/s by workers, all cores"), &mut served, "");
        line(&format!("{name}: jobs/s settled, all cores"), &mut settled, "");
        println!("{:<52} {ratio:>32.3}   by workers / settled, at most 1.02", "");
    });
}

/// Jobs a second of so many callers, each job with a number of its own.
fn rate(callers: usize, job: impl Fn(u64) + Sync) -> f64 {
    rate_for(callers, Duration::from_secs(2), job)
}

fn rate_for(callers: usize, time: Duration, job: impl Fn(u64) + Sync) -> f64 {
    // From round to round as well: no two jobs have the same input.
    static NUMBER: AtomicU64 = AtomicU64::new(1_000);
    let done = AtomicU64::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while started.elapsed() < time {
                    job(NUMBER.fetch_add(1, Ordering::Relaxed));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}

/// Whether memory stays flat.
fn million(engine: &Engine) {
    let bench = Bench::new(engine, "mlp", onnx::mlp(&[784, 128, 64, 10]), Keep::default());
    let mut settled = 0;
    while settled < 1_000_000 {
        let settle = |number| {
            bench.host.run(bench.request(image(number))).expect("a job");
        };
        let rate = rate_for(CALLERS, Duration::from_secs(10), settle);
        settled = bench.host.read(|records| records.log_size()).expect("read").expect("a size");
        println!("{settled:>9} settled, {rate:>6.0}/s, {:>5} MiB resident", resident_mib());
    }
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn line(name: &str, values: &mut [f64], goal: &str) {
    let median = median(values);
    let (least, most) = (values[0], values[values.len() - 1]);
    let show = |value: f64| {
        if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
    };
    println!("{name:<52} {:>10} {:>10} {:>10}   {goal}", show(least), show(median), show(most));
}
