//! Before the first job: a guest is compiled once for all who wait for it, and a load that takes too
//! long can be stopped.

use fuelbox_engine::{
    Cache, Cancel, Compiler, Engine, GuestModule, JobLimits, LoadTerms, Model, ModelError, Options,
    Package, Verdict, WorkerLimits,
};
use fuelbox_test_support::{guest::Guest, host::Host};
use std::{
    ffi::OsString,
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// A compiler that says that it was called, and works once it may.
const SLOW_COMPILER: &str =
    r#"echo called >> "$1"; until [ -e "$2" ]; do sleep 0.01; done; exec "$3" compile-worker "$4""#;

#[test]
fn two_that_need_the_same_guest_compile_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let (calls, go) = (folder.path().join("calls"), folder.path().join("go"));
    let mut arguments = vec![OsString::from("-c"), SLOW_COMPILER.into(), "sh".into()];
    arguments.extend([calls.clone().into(), go.clone().into()]);
    arguments.push(env!("CARGO_BIN_EXE_fuelbox").into());
    let compiler =
        Compiler::Worker { program: "/bin/sh".into(), arguments, limits: WorkerLimits::default() };
    // As two processes would: each has opened the cache by itself.
    let engine = || {
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        Engine::new(cache, Options { compiler: compiler.clone(), ..Options::default() }).unwrap()
    };
    let wasm = Guest::default().wasm();
    let module = GuestModule::new(wasm.clone());
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for _ in 0..2 {
            let (engine, tell, module) = (engine(), tell.clone(), GuestModule::new(wasm.clone()));
            scope.spawn(move || engine.code(&module, || tell.send(()).unwrap()).unwrap());
        }
        // Both have found nothing in the cache; then one of them compiles.
        told.recv().unwrap();
        told.recv().unwrap();
        while !calls.exists() {
            thread::yield_now();
        }
        let compiling = engine().is_compiling(&module);
        fs::write(&go, "").unwrap();
        assert!(compiling);
    });
    assert_eq!(fs::read_to_string(&calls).unwrap(), "called\n");
    assert!(!engine().is_compiling(&module));
}

#[test]
fn a_load_ends_at_its_deadline_and_leaves_nothing() {
    let host = Host::fresh(Options::default());
    // Seconds of work, if nothing stops it.
    let limits = JobLimits { fuel: 20_000_000_000, ..JobLimits::default() };
    let endless = Guest { load: "(loop (br 0))".into(), ..Guest::default() };
    let open = |cancel| {
        let module = GuestModule::new(endless.wasm());
        let package = Package { module, assets: Vec::new() };
        let terms = LoadTerms { limits, cancel };
        match Model::open(&host.engine, package, terms, || ()) {
            Err(ModelError::Load(outcome)) => outcome.verdict,
            other => panic!("{:?}", other.map(|_| "loaded")),
        }
    };
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(open(Cancel::at(soon)), Verdict::Cancelled);
    assert!(Instant::now() >= soon);
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(open(cancel), Verdict::Cancelled);
    let images = host.engine.cache().list().unwrap();
    assert!(images.iter().all(|entry| entry.kind == "code"), "{images:?}");
}
