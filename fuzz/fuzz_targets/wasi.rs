//! WASI calls with any arguments on any memory: each ends as the guest's doing, within its fuel, and the
//! same again.

#![no_main]

use fuelbox_abi::{DataType, Dim};
use fuelbox_attack::guest::{Guest, REQUEST_AT, signature_of};
use fuelbox_engine::{
    Cache, Cancel, Engine, GuestModule, JobLimits, Model, Options, Package, Shape, Tensor,
    allowed_imports,
};
use libfuzzer_sys::fuzz_target;
use std::{fmt::Write, sync::OnceLock};

/// Which call, nine arguments, and words for the place where vectors and paths are looked for.
const WORDS: usize = 1 + 9 + 64;
/// That place.
const PLACE: u32 = 1 << 14;
const FUEL: u64 = 3_000_000;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let mut bytes = vec![0; 8 * WORDS];
    let len = data.len().min(bytes.len());
    bytes[..len].copy_from_slice(&data[..len]);
    let shape = Shape::new(&[WORDS as u64]).expect("one dimension");
    let inputs = [Tensor { name: "x".into(), datatype: DataType::Int64, shape, bytes }];
    let limits = JobLimits { fuel: FUEL, ..JobLimits::default() };
    let prepared = model().prepare(&inputs, &[], &limits, &limits).expect("it fits");
    let job = || prepared.run(&limits, 7, &Cancel::default()).expect("no fault of the host");
    let first = job();
    assert!(first.usage.fuel <= FUEL);
    assert_eq!(first, job());
    let text = first.verdict.detail().unwrap_or_default() + &first.log;
    let active = |char: &char| fuelbox_engine::is_active(*char) && !matches!(char, '\n' | '\t');
    assert_eq!(text.chars().find(active), None, "{text:?}");
}

/// A guest that makes the call that its input names.
fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let mut imports = String::new();
        let mut calls = String::new();
        let wasi = allowed_imports().filter(|(module, ..)| *module == "wasi_snapshot_preview1");
        for (number, (module, name, kind)) in wasi.enumerate() {
            let (parameters, result) = kind.split_once(" -> ").expect("a type");
            let parameters = parameters.trim_matches(['(', ')']).replace(',', "");
            let result = if result == "()" { "" } else { "(result i32)" };
            let import = format!("(func ${name} (param {parameters}) {result})");
            writeln!(imports, r#"(import "{module}" "{name}" {import})"#).expect("a string");
            let argument = |(index, kind): (usize, &str)| {
                let load = format!("(i64.load (i32.const {}))", REQUEST_AT as usize + 72 + 8 * index);
                if kind == "i64" { load } else { format!("(i32.wrap_i64 {load})") }
            };
            let kinds = parameters.split(' ').filter(|kind| !kind.is_empty());
            let arguments: String = kinds.enumerate().map(argument).collect();
            let call = format!("(call ${name} {arguments})");
            let call = if result.is_empty() { call } else { format!("(drop {call})") };
            writeln!(calls, "(if (i32.eq (local.get 2) (i32.const {number})) (then {call}))")
                .expect("a string");
        }
        let guest = Guest {
            imports,
            signature: signature_of(DataType::Int64, &[Dim::Fixed(WORDS as u64)]),
            ..Guest::running(&format!(
                "(memory.copy (i32.const {PLACE}) (i32.const {}) (i32.const 512))
                 (local.set 2 (i32.rem_u (i32.load (i32.const {})) (i32.const 30)))
                 {calls}",
                REQUEST_AT + 64 + 80,
                REQUEST_AT + 64,
            ))
        };
        let folder = tempfile::tempdir().expect("a folder").keep();
        let cache = Cache::open(folder.join("cache")).expect("a cache");
        let engine = Engine::new(cache, Options::default()).expect("an engine");
        let package = Package { module: GuestModule::new(guest.wasm()), assets: Vec::new() };
        Model::open(&engine, package, &JobLimits::default(), || ()).expect("a model")
    })
}
