//! Named cases: memory, calls, branches, and what asks the host for something.

use super::{Work, operators::values};
use fuelbox_test_support::guest::Guest;

/// Pages of the memory cases: 256 MB.
const PAGES: u32 = 4_000;

pub(super) fn works() -> Vec<Work> {
    let mut works = vec![
        memory("a byte in each page, grown", 3, &touching(true)),
        memory("a byte in each page, from the start", PAGES, &touching(false)),
        memory("a byte in each page, of 4 MiB", 64, &touch(4_190_000)),
        memory("a byte in each page, of 32 MiB", 512, &touch(33_500_000)),
        memory("a load in each page, from the start", PAGES, &load_pages()),
        memory("memory.grow", 3, "(drop (memory.grow (i32.const 3900)))"),
        memory("memory.grow by nothing", 3, &turns(100_000, "(drop (memory.grow (i32.const 0)))")),
        memory("memory.fill, grown", 3, &filling(true)),
        memory("memory.fill, from the start", PAGES, &filling(false)),
        memory("memory.fill of a byte", 3, &turns(100_000, &fill("1"))),
        memory("memory.fill of nothing", 3, &turns(100_000, &fill("0"))),
        memory("memory.copy of a byte", 3, &turns(100_000, &copy("1"))),
        memory("memory.copy of 64 bytes over pages", PAGES, &far_copies()),
        memory("stores all over", PAGES, &stores()),
        call("call", "i64.const 7", "call $next"),
        call("call_indirect", "i64.const 7", "i32.const 0 call_indirect (type $next)"),
        call("call, 1,000 locals", "i64.const 7", "call $locals"),
        call("call, 1,000 locals in a loop", "i64.const 7", "call $looped"),
        call("call, 900 arguments", "i64.const 7", &many_arguments()),
        call("global.set, global.get", "i64.const 7", "global.set $g global.get $g"),
        call("i64.load, the same place", "i64.const 0", "i32.wrap_i64 i64.load"),
        call("i64.load across lines", "i64.const 0", "i32.wrap_i64 i64.load offset=61"),
        call("i64.load across pages", "i64.const 0", "i32.wrap_i64 i64.load offset=4093"),
        call("ref.func", "i64.const 7", "ref.func $next ref.is_null drop"),
        call("table.get", "i64.const 7", "i32.const 0 table.get 0 drop"),
        call("memory.size", "i64.const 7", "memory.size i64.extend_i32_u i64.add"),
        branches(
            "br_if by random bits",
            "local.get $x i64.const 33 i64.shr_u i64.const 1 i64.and i32.wrap_i64
            if local.get $z i64.const 3 i64.xor local.set $z end",
        ),
        branches(
            "br_table by random bits",
            "block block block block
            local.get $x i64.const 33 i64.shr_u i64.const 3 i64.and i32.wrap_i64 br_table 0 1 2 3
            end local.get $z i64.const 3 i64.xor local.set $z
            end local.get $z i64.const 5 i64.add local.set $z
            end local.get $z i64.const 7 i64.xor local.set $z end",
        ),
        host("sched_yield", "(result i32)", "(call $host)"),
        host(
            "clock_time_get",
            "(param i32 i64 i32) (result i32)",
            "(call $host (i32.const 1) (i64.const 0) (i32.const 512))",
        ),
        host(
            "random_get, 8 bytes",
            "(param i32 i32) (result i32)",
            "(call $host (i32.const 512) (i32.const 8))",
        ),
        host(
            "fd_write, 1 byte",
            "(param i32 i32 i32 i32) (result i32)",
            "(call $host (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        host(
            "fd_read, nothing",
            "(param i32 i32 i32 i32) (result i32)",
            "(call $host (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 512))",
        ),
        host(
            "path_open, nothing",
            "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
            "(call $host (i32.const 3) (i32.const 0) (i32.const 600) (i32.const 4) (i32.const 0)
              (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 512))",
        ),
        control_characters(),
        way_back(),
        Work::new("nothing", "entry", Guest::default()),
    ];
    works.extend([product(false), product(true)]);
    for mib in [1, 2, 4, 8, 16, 32, 64, 128] {
        works.push(chase(mib));
    }
    works
}

fn memory(name: &str, pages: u32, run: &str) -> Work {
    Work::new(name, "memory", Guest { memory: pages.to_string(), ..Guest::running(run) })
}

fn turns(count: u32, text: &str) -> String {
    format!(
        "(local.set 2 (i32.const {count}))
         (loop {text} (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))"
    )
}

/// Something for each page of the kernel's up to an address, four pages in a turn.
fn each_page(end: u32, access: impl Fn(u32) -> String) -> String {
    let accesses: String = (0..4).map(|page| access(page * 4_096)).collect();
    format!(
        "(local.set 2 (i32.const 262144))
         (loop {accesses}
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 16384)))
             (i32.const {}))))",
        end - 65_536
    )
}

fn touch(end: u32) -> String {
    each_page(end, |at| format!("(i32.store8 offset={at} (local.get 2) (local.get 2))"))
}

fn touching(grown: bool) -> String {
    let grow = if grown { "(drop (memory.grow (i32.const 3900)))" } else { "" };
    format!("{grow} {}", touch(255_000_000))
}

fn load_pages() -> String {
    each_page(255_000_000, |at| format!("(drop (i32.load8_u offset={at} (local.get 2)))"))
}

fn filling(grown: bool) -> String {
    let grow = if grown { "(drop (memory.grow (i32.const 3900)))" } else { "" };
    format!("{grow} (memory.fill (i32.const 262144) (i32.const 1) (i32.const 250000000))")
}

fn fill(bytes: &str) -> String {
    format!("(memory.fill (i32.const 512) (i32.const 1) (i32.const {bytes}))")
}

fn copy(bytes: &str) -> String {
    format!("(memory.copy (i32.const 512) (i32.const 600) (i32.const {bytes}))")
}

/// A product of matrices, 64 x 64 by 64 x 64, that a guest computes by itself, without kernels: what honest
/// work of that kind pays. By columns in the inner loop, four at a time or one.
fn product(vectors: bool) -> Work {
    let (name, width, load, splat, mul, add, store) = if vectors {
        ("f32x4", 16, "v128.load", "v128.load32_splat", "f32x4.mul", "f32x4.add", "v128.store")
    } else {
        ("f32", 4, "f32.load", "f32.load", "f32.mul", "f32.add", "f32.store")
    };
    // Four steps of depth for each load and store of the result, as compilers unroll it.
    let steps: String = (0..4)
        .map(|step| {
            format!(
                "local.get $a {splat} offset={} local.get $b {load} offset={} {mul} {add} ",
                step * 4,
                step * 256
            )
        })
        .collect();
    let extra = format!(
        "(func $work (local $t i32) (local $row i32) (local $depth i32) (local $column i32)
           (local $a i32) (local $b i32) (local $c i32)
           i32.const 20 local.set $t
           loop $again
             i32.const 0 local.set $row
             loop $rows
               i32.const 0 local.set $depth
               loop $depths
                 i32.const 262144 local.get $row i32.const 8 i32.shl i32.add
                 local.get $depth i32.const 2 i32.shl i32.add local.set $a
                 i32.const 0 local.set $column
                 loop $columns
                   i32.const 278528 local.get $depth i32.const 8 i32.shl i32.add
                   local.get $column i32.add local.set $b
                   i32.const 294912 local.get $row i32.const 8 i32.shl i32.add
                   local.get $column i32.add local.tee $c
                   local.get $c {load} {steps} {store}
                   local.get $column i32.const {width} i32.add local.tee $column
                   i32.const 256 i32.lt_u br_if $columns
                 end
                 local.get $depth i32.const 4 i32.add local.tee $depth
                 i32.const 64 i32.lt_u br_if $depths
               end
               local.get $row i32.const 1 i32.add local.tee $row i32.const 64 i32.lt_u br_if $rows
             end
             local.get $t i32.const 1 i32.sub local.tee $t br_if $again
           end)"
    );
    let guest = Guest { extra, memory: "5".into(), ..Guest::running("(call $work)") };
    Work::new(format!("a product of matrices in Wasm, by {name}"), "honest", guest)
}

/// The next one of a sequence that is all over 128 MiB.
const ANYWHERE: &str = "(i32.and (local.tee 3 (i32.add (i32.mul (local.get 3) (i32.const 1664525))
    (i32.const 1013904223))) (i32.const 0x07ffffc0))";

fn far_copies() -> String {
    let place = format!("(i32.add (i32.const 262144) {ANYWHERE})");
    turns(200_000, &format!("(memory.copy {place} {place} (i32.const 64))"))
}

fn stores() -> String {
    turns(1_000_000, &format!("(i32.store8 offset=262144 {ANYWHERE} (i32.const 1))"))
}

/// A chain of loads through so much memory: each says where the next one is. A load writes the chain, each line
/// once, in an order that no processor foresees.
fn chase(mib: u32) -> Work {
    let lines = mib << 14;
    let place = "(i32.add (i32.const 262144) (i32.shl (local.get 2) (i32.const 6)))";
    let next = format!(
        "(i32.and (i32.add (i32.mul (local.get 2) (i32.const 1664525)) (i32.const 1013904223))
           (i32.const {}))",
        lines - 1
    );
    let load = format!(
        "(loop (i32.store {place} (i32.add (i32.const 262144) (i32.shl {next} (i32.const 6))))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1)))
             (i32.const {lines}))))"
    );
    let loads = "i32.load ".repeat(50);
    let extra = format!(
        "(func $work (param $x i32) (local $t i32)
           i32.const 20000 local.set $t
           loop $again
             local.get $x {loads} local.set $x
             local.get $t i32.const 1 i32.sub local.tee $t br_if $again
           end
           i32.const 512 local.get $x i32.store)"
    );
    let memory = (mib * 16 + 5).to_string();
    let guest = Guest { load, extra, memory, ..Guest::running("(call $work (i32.const 262144))") };
    Work::new(format!("a chain of loads through {mib} MiB"), "memory", guest)
}

fn many_arguments() -> String {
    format!("{} call $arguments", "local.get $y ".repeat(899))
}

/// A chain of something with a function, a table or a global.
fn call(name: &str, start: &str, step: &str) -> Work {
    let long = step.len() > 1_000 || name.contains("1,000");
    let (chain, turns) = if long { (4, 1_000) } else { (64, 1_000) };
    let steps = format!("{step} ").repeat(chain);
    let locals = " i64".repeat(1_000);
    let arguments = " i64".repeat(900);
    // Locals that a loop changes have to be somewhere when it begins.
    let changes: String = (1..1_000)
        .map(|at| format!("local.get {at} local.get {} i64.add local.set {at} ", at + 1))
        .collect();
    let [_, y, _] = values("i64", false);
    let extra = format!(
        "(type $next (func (param i64) (result i64)))
         (table 1000 funcref) (elem (i32.const 0) $next $locals)
         (global $g (mut i64) (i64.const 1))
         (func $next (type $next) local.get 0)
         (func $locals (param i64) (result i64) (local{locals}) local.get 0)
         (func $arguments (param{arguments}) (result i64) local.get 0)
         (func $looped (param i64) (result i64) (local{locals})
           loop $more
             local.get 0 i64.const -1 i64.eq
             if {changes} br $more end
           end
           local.get 0 local.get 1 i64.add local.get 500 i64.add local.get 999 i64.add)
         (func $work (local $t i32) (local $x i64) (local $y i64)
           {start} local.set $x {y} local.set $y
           i32.const {turns} local.set $t
           loop $again
             local.get $x {steps} local.set $x
             local.get $t i32.const 1 i32.sub local.tee $t br_if $again
           end
           i32.const 512 local.get $x i64.store)"
    );
    Work::new(name, "calls", Guest { extra, ..Guest::running("(call $work)") })
}

/// Steps of a sequence of random numbers, each of which decides where it goes on.
fn branches(name: &str, text: &str) -> Work {
    let extra = format!(
        "(func $work (local $t i32) (local $x i64) (local $z i64)
           i32.const 200000 local.set $t
           loop $again
             local.get $x i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add
             local.set $x
             {text}
             local.get $t i32.const 1 i32.sub local.tee $t br_if $again
           end
           i32.const 512 local.get $z i64.store)"
    );
    Work::new(name, "branches", Guest { extra, ..Guest::running("(call $work)") })
}

/// Calls within calls, each with a little work on the way back, where fuel checks are.
fn way_back() -> Work {
    let extra = "(func $back (param $n i32) (param $x i64) (result i64)
           local.get $n
           if local.get $n i32.const 1 i32.sub local.get $x call $back local.set $x end
           local.get $x i64.const 3 i64.xor local.get $x i64.add local.get $x i64.const 5 i64.or i64.xor)";
    let run = turns(20, "(drop (call $back (i32.const 10000) (i64.const 7)))");
    Work::new(
        "calls within calls, and back",
        "calls",
        Guest { extra: extra.into(), ..Guest::running(&run) },
    )
}

/// A log full of what has to be escaped.
fn control_characters() -> Work {
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write"
            (func $host (param i32 i32 i32 i32) (result i32)))"#
            .into(),
        // At 512: 64 KiB from the third page on.
        extra: r#"(data (i32.const 512) "\00\00\02\00\00\00\01\00")"#.into(),
        ..Guest::running(
            "(memory.fill (i32.const 131072) (i32.const 1) (i32.const 65536))
             (drop (call $host (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 600)))",
        )
    };
    Work::new("fd_write, 64 KiB of control characters", "host calls", guest)
}

/// A call of the host, many times.
fn host(name: &str, kind: &str, call: &str) -> Work {
    let import = name.split(',').next().unwrap_or(name);
    let guest = Guest {
        imports: format!(r#"(import "wasi_snapshot_preview1" "{import}" (func $host {kind}))"#),
        extra: r#"(data (i32.const 600) "\60\02\00\00\01\00\00\00")"#.into(),
        ..Guest::running(&turns(50_000, &format!("(drop {call})")))
    };
    Work::new(name, "host calls", guest)
}
