//! What the box costs, as ratios within one run: `cargo bench`.
//!
//! Fresh jobs stand beside reuse of one instance, which is what isolation is measured against; the two
//! are interleaved, so that a machine that others use does not favour either. Every figure is a median
//! with the 10th and 90th percentile. Nothing here fails: the goals are printed beside the figures.

use fuelbox_engine::{
    Asset, Cancel, Engine, JobLimits, Model, Options, Package, Sandbox, Tensor, Verdict,
};
use fuelbox_test_support::{
    host::{Host, fp32, onnx_package},
    onnx,
};
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

fn main() {
    // `cargo bench -- NAME` runs those whose name contains it; cargo adds `--bench`.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let host = Host::shared(Options::default());
    println!("{:<44} {:>10} {:>10} {:>10}   goal", "", "p10", "median", "p90");
    for (name, model, input, goal, runs) in [
        ("mlp", onnx::mlp(&[784, 128, 64, 10]), fp32("input", &[1, 784], &[0.5; 784]), 2.0, 2000),
        (
            "mobilenet_v2",
            onnx::mobilenet_v2(),
            fp32("image", &[1, 3, 224, 224], &[0.5; 3 * 224 * 224]),
            1.05,
            60,
        ),
    ] {
        if wanted(name) {
            fresh_and_warm(&host, name, &model, input, goal, runs);
        }
    }
    if wanted("publish") {
        publish(&host.engine);
    }
    if wanted("second_start") {
        second_start();
    }
    if wanted("memory") {
        memory(&host);
    }
}

/// A job in a fresh sandbox beside one more job in the same instance.
fn fresh_and_warm(host: &Host, name: &str, onnx: &[u8], input: Tensor, goal: f64, runs: usize) {
    let model = host.open_onnx(onnx.to_vec()).expect("a model that loads");
    let limits = JobLimits::default();
    let inputs = [input];
    let prepared = model.prepare(&inputs, &[], &limits, &limits).expect("an input that fits");
    let mut warm = prepared.warm(&limits).expect("an instance");
    let (mut fresh_us, mut warm_us) = (Vec::new(), Vec::new());
    let (mut open_us, mut cold_us) = (Vec::new(), Vec::new());
    let mut fuel = 0;
    for run in 0..runs + runs / 10 {
        let fresh = time(|| {
            let outcome = prepared.run(&limits, 0, &Cancel::default()).expect("no fault");
            assert!(matches!(outcome.verdict, Verdict::Completed { .. }), "{outcome:?}");
            fuel = outcome.usage.fuel;
        });
        let warm = time(|| drop(warm.run().expect("no fault")));
        // Right after a job, whose data fill the processor's caches; and once more, when they do not.
        let open = || Sandbox::open(prepared.image(), &limits, 0).expect("no fault");
        let (mut first, mut second) = (None, None);
        let cold = time(|| first = Some(open()));
        let open = time(|| second = Some(open()));
        drop((first, second));
        if run >= runs / 10 {
            fresh_us.push(micros(fresh));
            warm_us.push(micros(warm));
            open_us.push(micros(open));
            cold_us.push(micros(cold));
        }
    }
    let ratio = median(&fresh_us) / median(&warm_us);
    show(&format!("{name}: fresh job, us"), fresh_us, "");
    show(&format!("{name}: warm reuse, us"), warm_us, "");
    println!(
        "{:<44} {:>10} {ratio:>10.3} {:>10}   at most {goal}",
        format!("{name}: fresh / warm"),
        "",
        ""
    );
    show(&format!("{name}: instantiate, us"), open_us, "at most 5");
    show(&format!("{name}: instantiate, caches cold, us"), cold_us, "");
    println!("{:<44} {:>10} {fuel:>10}", format!("{name}: fuel"), "");
}

/// From a model file of 14 MB to its image, with the guest's code compiled.
fn publish(engine: &Engine) {
    let model = onnx::mobilenet_v2();
    let mut seconds = Vec::new();
    for run in 0..12u64 {
        // An asset that the guest ignores makes it another model, so that nothing is cached.
        let nonce = [std::process::id().to_le_bytes(), (run as u32).to_le_bytes()].concat();
        let Package { module, mut assets } = onnx_package(model.clone());
        assets.push(Asset::new("nonce", nonce));
        let package = Package { module, assets };
        let took = time(|| {
            drop(Model::open(engine, package, &JobLimits::default(), || ()).expect("loads"));
        });
        if run >= 2 {
            seconds.push(took.as_secs_f64());
        }
    }
    show("publish a 14 MB ONNX file, s", seconds, "at most 0.3");
}

/// The whole command line on a model that it knows, from start to exit.
fn second_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mlp.onnx");
    fs::write(&file, onnx::mlp(&[784, 128, 64, 10])).expect("a file");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fuelbox"));
        command.arg("run").arg(&file).args(["--random", "1", "--json"]);
        command.env("FUELBOX_CACHE", folder.path().join("cache"));
        let output = command.output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let first = time(start);
    let again: Vec<_> = (0..30).map(|_| time(start).as_secs_f64() * 1e3).collect();
    println!(
        "{:<44} {:>10} {:>10.1}",
        "mlp: first start of the command line, s",
        "",
        first.as_secs_f64()
    );
    show("mlp: second start of the command line, ms", again, "at most 50");
}

/// Fifty jobs at once on a model of 100 MB, each stopped just before it would give its pages back.
fn memory(host: &Host) {
    const JOBS: usize = 50;
    let before = Resident::now();
    let model = host.open_onnx(onnx::big_mlp(100 << 20)).expect("a model that loads");
    let limits = JobLimits::default();
    let inputs = [fp32("input", &[1, 1024], &[0.5; 1024])];
    let prepared = model.prepare(&inputs, &[], &limits, &limits).expect("an input that fits");
    let loaded = Resident::now();
    let mut jobs: Vec<_> =
        (0..JOBS).map(|_| prepared.warm(&limits).expect("an instance")).collect();
    for job in &mut jobs {
        assert!(matches!(job.run().expect("no fault"), Verdict::Completed { .. }));
    }
    let after = Resident::now();
    let image = prepared.image().len_bytes() as f64;
    let dirty = after.anonymous_bytes.saturating_sub(loaded.anonymous_bytes) as f64;
    let resident = after.proportional_bytes.saturating_sub(before.proportional_bytes) as f64;
    let mb = |bytes: f64| bytes / 1e6;
    println!("{:<44} {:>10} {:>10.1}", "100 MB model: image, MB", "", mb(image));
    println!(
        "{:<44} {:>10} {:>10.2}",
        "100 MB model: dirty pages of one job, MB",
        "",
        mb(dirty) / JOBS as f64
    );
    println!("{:<44} {:>10} {:>10.1}", "100 MB model: 50 jobs resident, MB", "", mb(resident));
    let ratio = (resident - dirty) / image;
    let name = "100 MB model: (resident - dirty) / image";
    println!("{name:<44} {:>10} {ratio:>10.3} {:>10}   at most 1.2", "", "");
}

/// This process' memory, each shared page counted once (`Pss`), from the kernel's own sums.
struct Resident {
    proportional_bytes: u64,
    anonymous_bytes: u64,
}

impl Resident {
    fn now() -> Self {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
        let field = |name: &str| {
            let line = rollup.lines().find(|line| line.starts_with(name)).expect("a field");
            let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
            kib.expect("a number") * 1024
        };
        Self { proportional_bytes: field("Pss:"), anonymous_bytes: field("Anonymous:") }
    }
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn show(name: &str, values: Vec<f64>, goal: &str) {
    let [p10, p50, p90] = [0.1, 0.5, 0.9].map(|part| percentile(&values, part));
    println!("{name:<44} {p10:>10.3} {p50:>10.3} {p90:>10.3}   {goal}");
}
