//! Modules of any kind as guests: what may become code does the same when code and memory go separate ways.

#![no_main]

use fuelbox_engine::fuzzing::split_is_the_same;
use libfuzzer_sys::{Corpus, arbitrary::Unstructured, fuzz_target};
use std::sync::OnceLock;
use wasm_smith::{Config, Module};

fuzz_target!(|data: &[u8]| -> Corpus { run(data) });

fn run(data: &[u8]) -> Corpus {
    let mut choices = Unstructured::new(data);
    let bulk = choices.arbitrary().unwrap_or_default();
    let Ok(module) = Module::new(config(bulk), &mut choices) else {
        return Corpus::Reject;
    };
    match split_is_the_same(&module.to_bytes()) {
        true => Corpus::Keep,
        // Refused: with passive data, or tables that change.
        false => Corpus::Reject,
    }
}

/// Modules with the exports of a guest and the features of the profile.
fn config(bulk: bool) -> Config {
    static EXPORTS: OnceLock<Vec<u8>> = OnceLock::new();
    let exports = EXPORTS.get_or_init(|| {
        let guest = r#"(module
            (memory (export "memory") 1 4)
            (func (export "fuelbox_abi") (result i32) (i32.const 1))
            (func (export "fuelbox_alloc") (param i32) (result i32) (i32.const 0))
            (func (export "fuelbox_load") (param i32 i32) (result i64) (i64.const 0))
            (func (export "fuelbox_run") (param i32 i32) (result i64) (i64.const 0)))"#;
        wat::parse_str(guest).expect("the text of a module")
    });
    Config {
        module_shape: Some(exports.clone()),
        bulk_memory_enabled: bulk,
        allow_start_export: false,
        // Small ones: compiling is most of the work.
        max_funcs: 8,
        max_instructions: 150,
        max_types: 12,
        max_globals: 8,
        max_exports: 12,
        max_data_segments: 8,
        max_element_segments: 4,
        max_elements: 10,
        max_imports: 0,
        max_memories: 1,
        max_tables: 2,
        max_table_elements: 100,
        max_memory32_bytes: 4 << 16,
        memory_max_size_required: true,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        custom_page_sizes_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}
