//! Modules that must not become code: each is refused with one sentence that says what was found and
//! what is allowed, and leaves nothing in the cache.

use fuelbox_engine::{ModelError, Options};
use fuelbox_test_support::{
    guest::{Guest, parse},
    host::Host,
};

/// What is said of a module.
fn refusal(wasm: Vec<u8>) -> String {
    let host = Host::fresh(Options::default());
    let error = host.open(wasm).map(drop).expect_err("refused");
    let ModelError::Engine(ref engine) = error else { panic!("{error}") };
    assert!(!engine.is_host_fault(), "{error}");
    assert_eq!(host.engine.cache().list().unwrap().len(), 0, "nothing is kept of a refused module");
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn with(extra: &str) -> Vec<u8> {
    Guest { extra: extra.into(), ..Guest::default() }.wasm()
}

fn importing(import: &str) -> Vec<u8> {
    Guest { imports: import.into(), ..Guest::default() }.wasm()
}

fn check(wasm: Vec<u8>, expected: &str) {
    let found = refusal(wasm);
    assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
}

#[test]
fn imports_off_the_list_are_named() {
    let file = r#"(import "wasi_snapshot_preview1" "sock_send" (func))"#;
    check(
        importing(file),
        "import 'wasi_snapshot_preview1::sock_send' is not allowed; allowed are",
    );
    check(importing(r#"(import "env" "emscripten" (func))"#), "import 'env::emscripten' is not");
    check(importing(r#"(import "env" "g" (global i32))"#), "import 'env::g' is not allowed");
    check(importing(r#"(import "env" "t" (table 1 funcref))"#), "import 'env::t' is not allowed");
    check(
        importing(
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64) (result i32)))"#,
        ),
        "import 'fd_write' has type (i64) -> (i32), expected (i32, i32, i32, i32) -> (i32)",
    );
    check(importing(r#"(import "wasi_snapshot_preview1" "a\1b[2Jb" (func))"#), r"a\u{1b}[2Jb");
    let foreign = refusal(importing(r#"(import "fuelbox_kernels" "fd_write" (func))"#));
    assert!(foreign.starts_with("module: import 'fuelbox_kernels::fd_write' is not allowed; allowed are wasi_snapshot_preview1's args_get, "), "{foreign}");
    assert!(foreign.contains(" random_get, proc_exit, and fuelbox_kernels's gemm, "), "{foreign}");
    assert!(foreign.ends_with("'s gemm, conv, depthwise, pool, map, rows"), "{foreign}");
    check(
        importing(r#"(import "wasi_snapshot_preview1" "gemm" (func (param i32)))"#),
        "import 'wasi_snapshot_preview1::gemm' is not allowed",
    );
    check(
        importing(r#"(import "fuelbox_kernels" "gemm" (func (param i32) (result i32)))"#),
        "import 'gemm' has type (i32) -> (i32), expected (i32) -> ()",
    );
    check(
        importing(r#"(import "fuelbox_kernels" "gemm" (global i32))"#),
        "import 'fuelbox_kernels::gemm' is not allowed",
    );
}

#[test]
fn start_functions_are_refused() {
    check(with("(func $boot) (start $boot)"), "found a start function, allowed is none");
}

#[test]
fn exactly_one_memory_is_allowed() {
    check(with("(memory 1)"), "module: multiple memories");
    check(
        importing(r#"(import "env" "memory" (memory 1))"#),
        "import 'env::memory' is not allowed",
    );
    let none = Guest::default().wat().replace("(memory (export \"memory\") 3)", "");
    let none = none.lines().filter(|line| !line.contains("(data")).collect::<Vec<_>>().join("\n");
    check(parse(&none), "found 0 memories, allowed is exactly one");
    let hidden = Guest::default().wat().replace("(memory (export \"memory\") 3)", "(memory 3)");
    check(
        parse(&hidden),
        "found 1 memories, allowed is exactly one, defined and exported as 'memory'",
    );
}

#[test]
fn features_outside_of_the_profile_are_refused() {
    let memory = |memory: &str| Guest { memory: memory.into(), ..Guest::default() }.wasm();
    check(memory("3 4 shared"), "threads must be enabled");
    check(
        with(
            "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
        ),
        "relaxed SIMD support is not enabled",
    );
    check(with("(func (result i32) (return_call 0))"), "tail calls support is not enabled");
    check(with("(tag)"), "exceptions");
    check(with("(type (struct))"), "gc");
    let wide = Guest::default()
        .wat()
        .replace("(memory (export \"memory\") 3)", "(memory (export \"memory\") i64 3)");
    let wide = wide.replace("(data (i32.const", "(data (i64.const");
    check(parse(&wide), "memory64 must be enabled");
}

#[test]
fn state_that_an_image_cannot_hold_is_refused() {
    let table = "(table $t 1 funcref) (elem declare func $f) (func $f)";
    check(with(&format!("{table} (func (table.set $t (i32.const 0) (ref.func $f)))")), "table.set");
    check(
        with(&format!("{table} (func (drop (table.grow $t (ref.null func) (i32.const 1))))")),
        "table.grow",
    );
    check(
        with("(data \"passive\") (func (memory.init 2 (i32.const 0) (i32.const 0) (i32.const 1)))"),
        "memory.init",
    );
    check(with("(data \"passive\")"), "data segment 2 is passive, allowed are active ones");
    check(with("(global (mut funcref) (ref.null func))"), "mutable global 1 holds a reference");
    check(
        with("(data (i32.add (i32.const 1) (i32.const 2)) \"x\")"),
        "data segment 2 is active with a computed offset",
    );
    check(
        with("(data (i32.const 196607) \"xy\")"),
        "data segment 2 ends at byte 196609, the memory has 196608",
    );
    check(with("(data (i32.const -1) \"x\")"), "data segment 2 ends at byte 4294967296");
    check(
        with("(func (export \"fuelbox:global:0\"))"),
        "export 'fuelbox:global:0': names that start with",
    );
}

/// What an engine would run code for when a module is instantiated, where there is no fuel yet.
#[test]
fn what_begins_computed_is_refused() {
    let host = Host::fresh(Options::default());
    for (extra, expected) in [
        ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "global 1 begins with a computed"),
        ("(func $f) (global funcref (ref.func $f))", "global 1 begins with a computed value"),
        ("(global externref (ref.null extern))", "global 1 begins with a computed value"),
        ("(global $a i32 (i32.const 1)) (global i32 (global.get $a))", "global 2 begins with"),
        ("(func $f) (elem func $f)", "element segment 0 is passive, allowed are declared ones"),
        (
            "(table 1 funcref) (func $f) (elem (i32.const 0) funcref (ref.func $f))",
            "element segment 0 is active with expressions",
        ),
        (
            "(table 9 funcref) (func $f) (elem (i32.add (i32.const 1) (i32.const 1)) func $f)",
            "element segment 0 is active with a computed offset",
        ),
        (
            "(table 9 funcref) (func $f) (elem (i32.const 8) func $f $f)",
            "element segment 0 ends at element 10, the table has 9",
        ),
        (
            "(table 9 funcref) (func $f) (elem (i32.const -1) func $f)",
            "element segment 0 ends at element 4294967296, the table has 9",
        ),
    ] {
        check(with(extra), expected);
    }
    for fits in [
        "(global f32 (f32.const 1)) (global v128 (v128.const i64x2 1 2)) (global f64 (f64.const 1))",
        "(func $f) (elem declare func $f)",
        "(table 9 funcref) (func $f) (elem (i32.const 7) func $f $f) (elem (i32.const 9) func)",
    ] {
        host.open(with(fits)).unwrap();
    }
}

#[test]
fn exports_of_the_abi_are_required() {
    let replaced = |from: &str, to: &str| {
        let wat = Guest::default().wat();
        assert!(wat.contains(from), "{wat}");
        parse(&wat.replace(from, to))
    };
    check(
        replaced("\"fuelbox_run\"", "\"fuelbox_ran\""),
        "export 'fuelbox_run' is missing, expected (i32, i32) -> (i64)",
    );
    check(
        replaced(
            "(func (export \"fuelbox_abi\") (result i32) (i32.const 1))",
            "(func (export \"fuelbox_abi\") (result i64) (i64.const 1))",
        ),
        "export 'fuelbox_abi' is () -> (i64), expected () -> (i32)",
    );
    check(
        with("(global (export \"_initialize\") i32 (i32.const 0))"),
        "export '_initialize' is no function, expected () -> ()",
    );
}

#[test]
fn bombs_for_the_compiler_are_refused_at_the_limit() {
    let repeat = |text: &str, count: usize| text.repeat(count);
    let fits = |extra: String| drop(Host::fresh(Options::default()).open(with(&extra)).unwrap());
    let locals = |count| format!("(func (local{}))", repeat(" i32", count));
    fits(locals(1024));
    check(with(&locals(1025)), "locals of one function: found 1025, allowed are 1024");
    let targets =
        |count: usize| format!("(func (br_table{} (i32.const 0)))", repeat(" 0", count + 1));
    fits(targets(8192));
    check(with(&targets(8193)), "br_table targets: found 8193, allowed are 8192");
    let nested = |depth| format!("(func {}{})", repeat("block ", depth), repeat("end ", depth));
    fits(nested(4096));
    check(with(&nested(4097)), "nested blocks: found 4097, allowed are 4096");
    // Beside a byte each for the count of locals and the end.
    let bytes = |count: usize| format!("(func{})", repeat(" nop", count - 2));
    fits(bytes(1 << 20));
    check(with(&bytes((1 << 20) + 1)), "bytes of one function: found 1048577, allowed are 1048576");
    fits("(table 1 funcref)".into());
    check(with("(table 1 funcref) (table 1 funcref)"), "tables: found 2, allowed are 1");
    fits("(table 100000 funcref)".into());
    check(with("(table 100001 funcref)"), "table elements: found 100001, allowed are 100000");
}

#[test]
fn sizes_are_bounded_at_the_limit_and_not_before() {
    let host = Host::fresh(Options::default());
    let exit = "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32)))";
    let import = |count: usize| importing(&exit.repeat(count));
    let memory = |pages: u64| Guest { memory: pages.to_string(), ..Guest::default() }.wasm();
    let custom = |count: usize| with(&"(@custom \"x\" \"y\")".repeat(count));
    let table = "(table $t 100000 funcref) (func $f)";
    let segments = |count: usize| {
        with(&format!("{table}{}", "(elem (table $t) (i32.const 0) func)".repeat(count)))
    };
    let elements = |count: usize| {
        with(&format!("{table} (elem (table $t) (i32.const 0) func{})", " $f".repeat(count)))
    };
    let own = own();
    let globals = |count: usize| with(&"(global i32 (i32.const 0))".repeat(count));
    let locals = |count: usize| {
        let function = |count: usize| format!("(func (local{}))", " i64".repeat(count));
        with(&format!("{}{}", function(1_024).repeat(count / 1_024), function(count % 1_024)))
    };
    let types = |count: usize| {
        // No two alike: the bits of a number as parameters.
        let parameters = |number: usize| {
            let bits = (0..16).map(|bit| if number >> bit & 1 == 1 { " i32" } else { " i64" });
            format!("(type (func (param{})))", bits.collect::<String>())
        };
        with(&(0..count).map(parameters).collect::<String>())
    };
    let exports = |count: usize| {
        let export = |number| format!("(func (export \"e{number}\"))");
        with(&(0..count).map(export).collect::<String>())
    };
    let functions = |count: usize| with(&"(func)".repeat(count));
    let data = |count: usize| with(&"(data (i32.const 0) \"\")".repeat(count));
    for (fits, over, expected) in [
        (import(256), import(257), "imports: found 257, allowed are 256".to_owned()),
        (memory(4_096), memory(4_097), format!("bytes of initial memory: found {}", 4_097 << 16)),
        (
            custom(100 - own.custom),
            custom(101 - own.custom),
            "custom sections: found 101, allowed are 100".into(),
        ),
        (segments(1_000), segments(1_001), "element segments: found 1001, allowed are 1000".into()),
        (elements(100_000), elements(100_001), "elements in all: found 100001".into()),
        (
            locals(2_000_000 - own.locals),
            locals(2_000_001 - own.locals),
            "locals in all: found 2000001, allowed are 2000000".into(),
        ),
        (types(10_000 - own.types), types(10_001 - own.types), "types: found 10001".into()),
        (globals(1_000 - own.globals), globals(1_001 - own.globals), "globals: found 1001".into()),
        (exports(1_000 - own.exports), exports(1_001 - own.exports), "exports: found 1001".into()),
        (
            functions(100_000 - own.functions),
            functions(100_001 - own.functions),
            "functions: found 100001, allowed are 100000".into(),
        ),
        (data(100_000 - own.data), data(100_001 - own.data), "data segments: found 100001".into()),
    ] {
        if let Err(error) = host.open(fits) {
            panic!("one that is not '{expected}': {error}");
        }
        check(over, &expected);
    }
}

#[test]
fn a_module_of_the_largest_size_is_taken_and_no_larger_one() {
    // The rest is a custom section without a name.
    let of_bytes = |bytes: usize| {
        let mut wasm = Guest::default().wasm();
        let section_bytes = bytes - wasm.len() - 6;
        wasm.push(0);
        // Five bytes of LEB128, more than it takes.
        wasm.extend((0..5).map(|byte| {
            let more = if byte < 4 { 0x80 } else { 0 };
            (section_bytes >> (7 * byte)) as u8 & 0x7f | more
        }));
        wasm.resize(bytes, 0);
        wasm
    };
    let host = Host::fresh(Options::default());
    host.open(of_bytes(64 << 20)).unwrap();
    check(of_bytes((64 << 20) + 1), "module: bytes: found 67108865, allowed are 67108864");
}

/// What a guest has without extras.
struct Own {
    types: usize,
    globals: usize,
    functions: usize,
    exports: usize,
    data: usize,
    locals: usize,
    /// The names, in the text form's binary.
    custom: usize,
}

fn own() -> Own {
    use wasmparser::{Parser, Payload};
    let mut own =
        Own { types: 0, globals: 0, functions: 0, exports: 0, data: 0, locals: 0, custom: 0 };
    for payload in Parser::new(0).parse_all(&Guest::default().wasm()) {
        match payload.unwrap() {
            Payload::TypeSection(section) => own.types = section.count() as usize,
            Payload::FunctionSection(section) => own.functions = section.count() as usize,
            Payload::GlobalSection(section) => own.globals = section.count() as usize,
            Payload::ExportSection(section) => own.exports = section.count() as usize,
            Payload::DataSection(section) => own.data = section.count() as usize,
            Payload::CustomSection(_) => own.custom += 1,
            Payload::CodeSectionEntry(body) => {
                let locals = body.get_locals_reader().unwrap().into_iter();
                own.locals += locals.map(|local| local.unwrap().0 as usize).sum::<usize>();
            }
            _ => {}
        }
    }
    own
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let guest = Guest {
        imports: "(import \"env\" \"a\" (func)) (import \"env\" \"b\" (func))
            (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i64)))"
            .into(),
        memory: "3".into(),
        extra: "(func $boot) (start $boot) (table 100001 funcref) (data \"passive\")
            (func (export \"fuelbox:global:0\"))"
            .into(),
        ..Guest::default()
    };
    let wasm = parse(&guest.wat().replace("\"fuelbox_run\"", "\"fuelbox_ran\""));
    let found = refusal(wasm);
    assert!(found.starts_with("module: 8 things are not allowed: import 'env::a'"), "{found}");
    for expected in [
        "; import 'env::b' is not allowed; table elements: found 100001, allowed are 100000; ",
        "; export 'fuelbox:global:0': names that start with",
        "; found a start function",
        "; data segment 2 is passive",
        "; import 'proc_exit' has type (i64) -> (), expected (i32) -> (); ",
        "; export 'fuelbox_run' is missing",
    ] {
        assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
    }
    let many = |count: usize| refusal(importing(&"(import \"env\" \"a\" (func))".repeat(count)));
    let found = many(16);
    assert!(found.starts_with("module: 16 things are not allowed: "), "{found}");
    assert!(found.ends_with("; import 'env::a' is not allowed"), "{found}");
    assert!(many(17).ends_with("; import 'env::a' is not allowed; and 1 more"));
    let found = many(20);
    assert!(found.starts_with("module: 20 things are not allowed: "), "{found}");
    assert!(found.ends_with("; import 'env::a' is not allowed; and 4 more"), "{found}");
}

#[test]
fn bytes_that_are_no_module_are_refused() {
    let good = Guest::default().wasm();
    check(Vec::new(), "module: unexpected end");
    check(b"\x7fELF".to_vec(), "magic header not detected");
    check(good[..good.len() - 1].to_vec(), "module: unexpected end");
    check(b"\0asm\x0d\0\x01\0".to_vec(), "component");
}

#[test]
fn flipped_bits_never_hurt_the_host() {
    // Every seventh bit of the module, one at a time, so that each place in a byte comes up: all of them
    // take a minute. It is refused, or it is another module, which loads or fails as its own doing. A fault
    // would be the host's.
    let good = Guest::default().wasm();
    let host = Host::fresh(Options::default());
    let mut ends = std::collections::BTreeMap::new();
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let package = fuelbox_engine::Package {
            module: fuelbox_engine::GuestModule::new(bad),
            assets: Vec::new(),
        };
        let limits = fuelbox_engine::JobLimits { fuel: 100_000, ..Default::default() };
        let end = match fuelbox_engine::Model::open(&host.engine, package, &limits, || ()) {
            Ok(_) => "loaded",
            Err(ModelError::Load(outcome)) => outcome.verdict.name(),
            Err(error) if !error.is_host_fault() => "refused",
            Err(error) => panic!("bit {bit}: {error}"),
        };
        *ends.entry(end).or_insert(0) += 1;
    }
    assert!(ends["refused"] > 10 && ends["loaded"] > 10, "{ends:?}");
}
