//! Modules, whole and in two parts.

use crate::{
    cost,
    fuel_checks::with_fuel_checks,
    profile::{self, Profile},
    split::split,
    validate::validate,
};
use fuelbox_abi::export;
use std::sync::OnceLock;
use wasmtime::{
    Config, Engine, Instance, Memory, Module, OptLevel, Store, Val, ValType, WasmFeatures,
};

/// Fuel for all calls of one module.
const FUEL: u64 = 100_000;

/// What a module did: for each call what it gave or how it ended, and the fuel that was left; in the end
/// all of its memory.
#[derive(Debug, PartialEq)]
struct Deeds {
    calls: Vec<(Result<Vec<String>, String>, u64)>,
    memory: Vec<u8>,
}

impl Deeds {
    /// The first call that had too little fuel or stack.
    fn ends(&self) -> Option<usize> {
        let no_stack = wasmtime::Trap::StackOverflow.to_string();
        let is_last = |(end, left): &(Result<_, String>, u64)| {
            *left == 0 || end.as_ref().is_err_and(|error| *error == no_stack)
        };
        self.calls.iter().position(is_last)
    }
}

/// Whether a module, if it is one that may become code, does the same in two parts as in one: the same
/// results, traps, fuel and memory. And whether fuel checks change nothing but its fuel, which they do not
/// make less, for as long as that lasts, and the stack: frames are others with them. Gives whether it was
/// tried.
///
/// # Panics
/// When it does something else, or when what was validated is not taken by the compiler.
pub fn split_is_the_same(bytes: &[u8]) -> bool {
    let Ok(module) = validate(bytes) else {
        return false;
    };
    let parts = split(&module, true).expect("a valid module can be split");
    assert_eq!(parts.husk.mutable_globals() as usize, module.mutable_globals().len());
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new(&config()).expect("an engine"));
    let plain = deeds(engine, bytes, None);
    let whole =
        deeds(engine, &with_fuel_checks(bytes).expect("a valid module can have them"), None);
    let split = deeds(engine, parts.husk.bytes(), Some(&parts.initial));
    assert_eq!(whole, split);
    let lasts = plain.ends().into_iter().chain(whole.ends()).min();
    let both = plain.calls.iter().zip(&whole.calls);
    for ((plain, left), (whole, whole_left)) in both.take(lasts.unwrap_or(usize::MAX)) {
        assert_eq!(plain, whole);
        assert!(left >= whole_left, "{plain:?}, fuel left {left}, with checks {whole_left}");
    }
    if lasts.is_none() {
        assert_eq!(plain.memory, whole.memory);
    }
    true
}

/// The profile's meaning of modules, with wasmtime's own memories, quickly compiled.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(profile::wasmtime_features(), true);
    config.cranelift_nan_canonicalization(Profile::current().nan_canonicalization);
    config.consume_fuel(true).operator_cost(cost::operator_cost());
    config.cranelift_opt_level(OptLevel::None);
    config
}

/// Calls a guest's functions as a host does, one after the other, whatever becomes of them.
fn deeds(engine: &Engine, module: &[u8], initial: Option<&[u8]>) -> Deeds {
    let module = Module::new(engine, module).expect("what was validated compiles");
    let mut store = Store::new(engine, ());
    store.set_fuel(FUEL).expect("fuel is counted");
    let mut deeds = Deeds { calls: Vec::new(), memory: Vec::new() };
    let instance = match Instance::new(&mut store, &module, &[]) {
        Ok(instance) => instance,
        // Element segments that do not fit their table.
        Err(error) => {
            deeds.calls.push((Err(ended(&error)), 0));
            return deeds;
        }
    };
    let memory = instance.get_memory(&mut store, export::MEMORY).expect("it was validated");
    if let Some(initial) = initial {
        write(&memory, &mut store, initial);
    }
    for (name, arguments) in [
        (export::INITIALIZE, &[][..]),
        (export::ABI, &[]),
        (export::ALLOC, &[Val::I32(64)]),
        (export::LOAD, &[Val::I32(0), Val::I32(64)]),
        (export::RUN, &[Val::I32(0), Val::I32(64)]),
        (export::RUN, &[Val::I32(-64), Val::I32(-1)]),
    ] {
        // Constructors are optional.
        let Some(function) = instance.get_func(&mut store, name) else { continue };
        let kind = function.ty(&store);
        let mut results: Vec<_> = kind.results().map(|kind| zero(&kind)).collect();
        let called = function.call(&mut store, arguments, &mut results);
        let gave = results.iter().map(|value| format!("{value:?}")).collect();
        let end = called.map(|()| gave).map_err(|error| ended(&error));
        deeds.calls.push((end, store.get_fuel().expect("fuel is counted")));
    }
    deeds.memory = memory.data(&store).to_vec();
    deeds
}

fn write(memory: &Memory, store: &mut Store<()>, initial: &[u8]) {
    assert_eq!(memory.data(&*store).len(), initial.len(), "as much as the module begins with");
    memory.data_mut(store).copy_from_slice(initial);
}

fn zero(kind: &ValType) -> Val {
    match kind {
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(0),
        ValType::F64 => Val::F64(0),
        _ => Val::I32(0),
    }
}

/// Without the addresses of a backtrace.
fn ended(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(abi: &str) -> Vec<u8> {
        wat::parse_str(format!(
            r#"(module
                (memory (export "memory") 1)
                (func $abi (export "fuelbox_abi") (result i32) {abi})
                (func (export "fuelbox_alloc") (param i32) (result i32) i32.const 0)
                (func (export "fuelbox_load") (param i32 i32) (result i64) i64.const 0)
                (func (export "fuelbox_run") (param i32 i32) (result i64)
                  (i64.store (local.get 0) (i64.const 7)) (i64.load (i32.const 0))))"#
        ))
        .expect("a module")
    }

    /// With a check behind the call its frame is larger, so that it is called less often.
    #[test]
    fn a_stack_that_ends_earlier_with_fuel_checks_is_no_difference() {
        let endless = guest(
            "call $abi f32.convert_i32_u
             i32.const 1 f32.convert_i32_u f64.promote_f32
             i32.const 2 f32.convert_i32_u
             i32.const 3 i32.load16_s i64.load8_s
             call $abi i64.load8_s i64.le_u f64.load
             drop drop drop i32.reinterpret_f32",
        );
        let engine = Engine::new(&config()).expect("an engine");
        let plain = deeds(&engine, &endless, None);
        let checked = deeds(&engine, &with_fuel_checks(&endless).expect("checks"), None);
        assert_eq!((plain.ends(), checked.ends()), (Some(0), Some(0)));
        assert!(plain.calls[0].1 < checked.calls[0].1, "{plain:?} {checked:?}");
        assert!(split_is_the_same(&endless));
        assert!(split_is_the_same(&guest("i32.const 1")));
        assert!(!split_is_the_same(b"no module"));
    }
}
