//! Compile workers that die, hang, lie or talk too much: the upload is refused in one sentence, or the host
//! says that it failed; nothing is kept, and nobody hangs.

use fuelbox_engine::{Cache, Compiler, Engine, GuestModule, Options, WorkerLimits, constants};
use fuelbox_test_support::guest::Guest;
use std::{
    ffi::OsString,
    fs,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

struct Ended {
    message: String,
    is_host_fault: bool,
}

/// What becomes of an upload when this is its worker.
fn compile(program: &str, arguments: &[&str], limits: WorkerLimits) -> Result<(), Ended> {
    upload(Guest::default().wasm(), program, arguments, limits)
}

fn upload(
    module: Vec<u8>,
    program: &str,
    arguments: &[&str],
    limits: WorkerLimits,
) -> Result<(), Ended> {
    let folder = tempfile::tempdir().unwrap();
    let compiler = Compiler::Worker {
        program: program.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        limits,
    };
    let cache = Cache::open(folder.path().join("cache")).unwrap();
    let engine = Engine::new(cache, Options { compiler, ..Options::default() }).unwrap();
    let module = GuestModule::new(module);
    let Err(error) = engine.code(&module, || ()) else { return Ok(()) };
    assert_eq!(engine.cache().list().unwrap().len(), 0, "nothing is kept: {error}");
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    Err(Ended { message, is_host_fault: error.is_host_fault() })
}

fn script(script: &str, limits: WorkerLimits) -> Ended {
    compile("/bin/sh", &["-c", script], limits).expect_err("no code")
}

const FUELBOX: &str = env!("CARGO_BIN_EXE_fuelbox");

#[test]
fn the_real_worker_compiles_within_its_cell() {
    let limits = WorkerLimits::default();
    assert!(compile(FUELBOX, &["compile-worker"], limits).is_ok());
}

#[test]
fn what_a_host_hands_down_by_mistake_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The shell opens the pipe for the worker, as 9; the worker waits for a module that does not come.
    let script = format!("exec 9>\"$0\"; exec {FUELBOX} compile-worker native-speed");
    let mut worker = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(&pipe)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(fs::read(pipe)));
    // The pipe ends when nobody has it open for writing any more.
    let read = told.recv_timeout(Duration::from_secs(60));
    let alive = worker.try_wait().unwrap().is_none();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(read.expect("the worker has it").unwrap(), b"");
    assert!(alive, "it was the worker's end that closed it");
}

#[test]
fn what_the_real_worker_refuses_is_the_publishers_fault() {
    let limit = constants::MODULE_BYTES_MAX as usize;
    for (module, expected) in [
        (vec![0; limit + 1], "module: bytes: found 67108865, allowed are 67108864"),
        (vec![0; limit], "module: magic header not detected"),
        (b"\0asm\x01\0\0\0".to_vec(), "module: 5 things are not allowed: found 0 memories"),
    ] {
        let ended = upload(module, FUELBOX, &["compile-worker"], WorkerLimits::default());
        let ended = ended.expect_err("no code");
        assert!(ended.message.starts_with(expected), "{}", ended.message);
        assert!(!ended.is_host_fault, "{}", ended.message);
    }
}

#[test]
fn a_worker_that_dies_is_a_refusal() {
    let limits = WorkerLimits::default();
    for (worker, expected) in [
        ("exit 0", "no answer: failed to fill whole buffer"),
        ("exit 7", "exit status: 7"),
        ("cat >/dev/null; exit 7", "exit status: 7"),
        ("echo some words >&2; exit 1", "exit status: 1: some words"),
        ("kill -SEGV $$", "signal: 11"),
        ("kill -KILL $$", "signal: 9"),
        ("printf fbxans01", "no answer: failed to fill whole buffer"),
        ("printf 'fbxans01\\001'", "no answer: failed to fill whole buffer"),
        ("echo hello there, host", "no answer: another program's words"),
        ("printf 'fbxans01\\011'", "no answer: an answer of kind 9"),
        ("exec sleep 1000 >/dev/null", "no answer: failed to fill whole buffer"),
        ("printf '\\033[2Jx' >&2; exit 1", "\\u{1b}[2Jx"),
    ] {
        let ended = script(worker, limits);
        assert!(!ended.is_host_fault, "{worker}: {}", ended.message);
        assert!(ended.message.contains(expected), "{worker}: {}", ended.message);
        assert!(
            ended.message.starts_with("the compiler was stopped: ")
                && ended.message.ends_with("; allowed are 300 s, 600 s of CPU time and 8 GiB"),
            "{}",
            ended.message
        );
    }
}

#[test]
fn a_worker_that_talks_without_end_is_cut_off() {
    let small = WorkerLimits { artifact_bytes: 1_000, ..WorkerLimits::default() };
    // A compiled module with an artifact of 2^40 bytes, on and on.
    let artifact = "printf 'fbxans01\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\001\\000\\000'; exec yes";
    let ended = script(artifact, small);
    let expected = "no answer: artifact of 1099511627776 bytes, allowed are 1000";
    assert!(ended.message.contains(expected), "{}", ended.message);
    assert!(!ended.is_host_fault);
    let ended = script(
        "while :; do echo x >&2; done",
        WorkerLimits { time: Duration::from_millis(500), ..small },
    );
    assert!(ended.message.contains("time ran out"), "{}", ended.message);
    // The real one, whose artifact is larger.
    let ended = compile(FUELBOX, &["compile-worker"], small).expect_err("too large");
    assert!(ended.message.contains(" bytes, allowed are 1000"), "{}", ended.message);
    assert!(!ended.is_host_fault);
}

#[test]
fn a_worker_that_hangs_is_stopped_in_time() {
    let limits = WorkerLimits { time: Duration::from_millis(300), ..WorkerLimits::default() };
    for worker in [
        "exec sleep 1000",
        "cat >/dev/null; exec sleep 1000",
        "while :; do :; done",
        // It answers half, and waits.
        "printf fbxans01; exec sleep 1000",
    ] {
        let started = Instant::now();
        let ended = script(worker, limits);
        assert!(ended.message.contains("time ran out"), "{worker}: {}", ended.message);
        assert!(!ended.is_host_fault);
        assert!(started.elapsed() < Duration::from_secs(60), "{worker}");
    }
}

#[test]
fn a_worker_that_cannot_start_is_the_hosts_fault() {
    let ended = compile("/nowhere/fuelbox", &[], WorkerLimits::default()).expect_err("no code");
    assert!(ended.message.contains("No such file or directory"), "{}", ended.message);
    assert!(ended.is_host_fault);
}
