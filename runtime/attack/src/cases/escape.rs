//! Out of the sandbox: imports, pointers and lengths at every edge, tables, calls back in.

use super::{PAGE_BYTES, TWO, VECTORS, wasi};
use crate::{
    attempt::{Attempt, FUEL, Held, ended, ensure, floats, plain, words},
    guest::{Guest, OUTPUTS_AT, REQUEST_AT, signature_of},
    kernels::{self, BLOCK_AT, INPUT_WORDS, good},
    package::Package,
    suite::{Case, Group},
    target::{Broken, End, Published},
};
use fuelbox_abi::{DataType, Dim};
use fuelbox_engine::{Tensor, allowed_imports};
use fuelbox_kernels::{Kernel, WORDS_MAX};
use std::collections::BTreeMap;

/// Bytes of the memory of guests in text form.
const END: i64 = 3 * PAGE_BYTES as i64;

/// Where calls go wrong: nothing, the first bytes, off by one, the end of memory, the end of signed and
/// unsigned numbers.
const EDGES: [i64; 14] = [
    0,
    1,
    3,
    8,
    END - 8,
    END - 4,
    END - 1,
    END,
    END + 1,
    i32::MAX as i64,
    1 << 31,
    u32::MAX as i64 - 7,
    u32::MAX as i64 - 3,
    u32::MAX as i64,
];

/// Every so many jobs, one is run twice.
const AGAIN_EVERY: usize = 7;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (module, name, kind) in allowed_imports() {
        let kernel = Kernel::ALL.into_iter().find(|kernel| kernel.name() == name);
        let attack: Box<dyn Fn(&mut Attempt<'_>) -> Held> = match kernel {
            Some(kernel) => Box::new(move |attempt| at_every_word(attempt, kernel)),
            None => {
                let (parameters, result) = types(&kind);
                Box::new(move |attempt| at_every_edge(attempt, module, name, &parameters, result))
            }
        };
        cases.push(Case { name: format!("{name} at every edge"), group: Group::Escape, attack });
    }
    let mut add = |name: &str, attack: fn(&mut Attempt<'_>) -> Held| {
        cases.push(Case::new(Group::Escape, name, attack));
    };
    add("imports of the host's files and sockets", |attempt| {
        let mut said = Vec::new();
        for name in ["sock_open", "sock_send", "poll_oneoff", "path_symlink", "proc_raise"] {
            let imports = format!(r#"(import "wasi_snapshot_preview1" "{name}" (func))"#);
            said.push(refused(attempt, &Guest { imports, ..Guest::default() }, "is not allowed")?);
        }
        Ok(format!("{} imports refused", said.len()))
    });
    add("imports from elsewhere", |attempt| {
        for import in [
            r#"(import "env" "emscripten_run_script" (func))"#,
            r#"(import "wasi_unstable" "fd_write" (func))"#,
            r#"(import "fuelbox_kernels" "fd_write" (func))"#,
            r#"(import "env" "memory" (memory 1))"#,
            r#"(import "env" "table" (table 1 funcref))"#,
            r#"(import "env" "global" (global i32))"#,
        ] {
            let guest = Guest { imports: import.into(), ..Guest::default() };
            refused(attempt, &guest, "is not allowed")?;
        }
        Ok("6 imports refused".into())
    });
    add("imports of other types", |attempt| {
        for import in [
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64) (result i32)))"#,
            r#"(import "fuelbox_kernels" "gemm" (func (param i32) (result i32)))"#,
        ] {
            let guest = Guest { imports: import.into(), ..Guest::default() };
            refused(attempt, &guest, "has type")?;
        }
        Ok("2 imports refused".into())
    });
    add("loads and stores beyond memory", |attempt| {
        for run in [
            "(drop (i32.load (i32.const -4)))",
            "(drop (i64.load offset=4294967295 (i32.const -1)))",
            "(i32.store (i32.const 196608) (i32.const 1))",
            "(drop (v128.load (i32.const 196593)))",
            "(memory.fill (i32.const 196600) (i32.const 1) (i32.const 9))",
            "(memory.copy (i32.const 0) (i32.const 196600) (i32.const 9))",
            "(drop (i32.atomic.load8_u (i32.const 0)))",
        ] {
            let guest = Guest::running(run);
            if run.contains("atomic") {
                refused(attempt, &guest, "threads")?;
            } else {
                attempt.ends(&guest, "trap", "out of bounds memory access")?;
            }
        }
        Ok("6 traps, one refusal".into())
    });
    add("indirect calls of nothing, of beyond, of another type", |attempt| {
        let table = "(table 2 funcref) (elem (i32.const 1) $other)
            (func $other (param i64) (result i64) (local.get 0))";
        for index in ["0", "1", "2", "-1"] {
            let run = format!("(call_indirect (i32.const {index}))");
            let guest = Guest { extra: table.into(), ..Guest::running(&run) };
            attempt.ends(&guest, "trap", "")?;
        }
        Ok("4 traps".into())
    });
    add("code that changes tables, so that an image would lie", |attempt| {
        let table = "(table $t 1 funcref) (elem declare func $f) (func $f)";
        for change in [
            "(table.set $t (i32.const 0) (ref.func $f))",
            "(drop (table.grow $t (ref.null func) (i32.const 1)))",
            "(table.fill $t (i32.const 0) (ref.func $f) (i32.const 1))",
        ] {
            let extra = format!("{table} (func {change})");
            refused(attempt, &Guest { extra, ..Guest::default() }, "table.")?;
        }
        Ok("3 modules refused".into())
    });
    add("features that the profile has not", |attempt| {
        for extra in ["(func (result i32) (return_call 0))", "(tag)", "(type (struct))"] {
            refused(attempt, &Guest { extra: extra.into(), ..Guest::default() }, "module: ")?;
        }
        let shared = Guest { memory: "3 4 shared".into(), ..Guest::default() };
        refused(attempt, &shared, "threads")?;
        Ok("4 modules refused".into())
    });
    add("exports that pass for the engine's own", |attempt| {
        let extra = "(func (export \"fuelbox:global:0\"))".into();
        refused(attempt, &Guest { extra, ..Guest::default() }, "names that start with")
    });
    add("vectors that overlap each other and their own list", |attempt| {
        // Two vectors, both over the list itself, and the count is written over it, too.
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            extra: r#"(data (i32.const 600) "\58\02\00\00\10\00\00\00\58\02\00\00\10\00\00\00")"#
                .into(),
            ..Guest::running(
                "(drop (call $host (i32.const 1) (i32.const 600) (i32.const 2) (i32.const 604)))",
            )
        };
        attempt.ends(&guest, "completed", "")?;
        Ok("written, and nothing else".into())
    });
    add("vectors whose lengths lie", |attempt| {
        // 2^32 - 1 bytes at the last page.
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            ..Guest::running(
                "(i32.store (i32.const 600) (i32.const 131072))
                 (i32.store (i32.const 604) (i32.const -1))
                 (drop (call $host (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 512)))",
            )
        };
        let end = attempt.ends(&guest, "trap", "WASI call fd_write: ")?;
        Ok(format!("{}, {} fuel", end.detail, end.fuel))
    });
    add("more vectors than any system takes", |attempt| {
        let guest = Guest {
            imports: wasi("fd_write", VECTORS),
            ..Guest::running(
                "(if (i32.eqz (call $host (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 512)))
                   (then unreachable))
                 (if (i32.eqz (call $host (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 512)))
                   (then unreachable))",
            )
        };
        let end = attempt.ends(&guest, "completed", "")?;
        Ok(format!("refused with an error, {} fuel", end.fuel))
    });
    add("randomness over code that is about to be read", |attempt| {
        let guest = Guest {
            imports: wasi("random_get", TWO),
            ..Guest::running("(drop (call $host (i32.const 0) (i32.const 196608)))")
        };
        let model = attempt.open(&guest)?;
        let end = attempt.run_plain(&model, FUEL)?;
        ensure(end.verdict == "bad_output", || format!("{}: {}", end.verdict, end.detail))?;
        Ok("its own reply is gone, nothing else".into())
    });
    add("calls back into the guest's own entry points", |attempt| {
        let wat = Guest::running("(drop (call $run (local.get 0) (local.get 1)))").wat();
        let wat =
            wat.replace("(func (export \"fuelbox_run\")", "(func $run (export \"fuelbox_run\")");
        let package = Package::module(crate::guest::parse(&wat));
        let model = attempt.open_package(&package)?;
        let end = attempt.run_plain(&model, FUEL)?;
        ensure(end.verdict == "trap", || end.verdict.clone())?;
        ensure(end.detail.contains("stack"), || end.detail.clone())?;
        Ok(end.detail)
    });
    add("an allocator that gives the host bad places", |attempt| {
        let mut seen = BTreeMap::new();
        for at in ["196608", "-64", "65540", "-1", "0", "196545"] {
            let guest = Guest { alloc: format!("(i32.const {at})"), ..Guest::default() };
            // The load is the first that asks for memory.
            let said = refused(attempt, &guest, "did not load the model")?;
            *seen.entry(said.contains("bad_output")).or_insert(0) += 1;
        }
        ensure(seen.values().sum::<i32>() == 6, || format!("{seen:?}"))?;
        Ok("6 loads refused".into())
    });
    add("an allocator that answers well at the load and badly in the job", |attempt| {
        // The second request is a job's.
        let guest = Guest {
            extra: "(global $asked (mut i32) (i32.const 0))".into(),
            alloc: format!(
                "(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
                 (select (i32.const {REQUEST_AT}) (i32.const -64)
                   (i32.eq (global.get $asked) (i32.const 1)))"
            ),
            ..Guest::default()
        };
        attempt.ends(&guest, "bad_output", "fuelbox_alloc")?;
        Ok("bad_output".into())
    });
    add("an exit in the middle", |attempt| {
        let guest = Guest {
            imports: wasi("proc_exit", "(param i32)"),
            ..Guest::running("(call $host (i32.const 0))")
        };
        let end = attempt.ends(&guest, "trap", "")?;
        Ok(end.detail)
    });
    add("a stack that overflows inside of host calls' callers", |attempt| {
        let guest = Guest {
            imports: wasi("sched_yield", "(result i32)"),
            extra: "(func $deep (drop (call $host)) (call $deep))".into(),
            ..Guest::running("(call $deep)")
        };
        let model = attempt.open(&guest)?;
        // Enough fuel to get there.
        let end = attempt.run_plain(&model, 1_000_000_000)?;
        ensure(matches!(end.verdict.as_str(), "trap" | "out_of_fuel"), || end.verdict.clone())?;
        Ok(format!("{}: {}", end.verdict, end.detail))
    });
    cases
}

fn refused(attempt: &mut Attempt<'_>, guest: &Guest, words: &str) -> Held {
    attempt.refused(&Package::of(guest), words)
}

/// The parameters of a type such as `(i32, i64) -> (i32)`, and whether it gives something.
fn types(kind: &str) -> (Vec<String>, bool) {
    let (parameters, results) = kind.split_once(" -> ").unwrap_or((kind, ""));
    let parameters = parameters.trim_matches(['(', ')']).split(", ").map(str::to_owned);
    (parameters.filter(|name| !name.is_empty()).collect(), results.len() > 2)
}

/// Where a list of vectors lies: the one in it is in order.
const LIST: i64 = 600;
/// Where that one's bytes lie, which fit in front of the signature.
const BYTES: u32 = 640;
/// Far from these, for what a call gives back.
const RESULT: i64 = 1200;

/// A call that is in order.
struct InOrder {
    arguments: &'static [i64],
    /// What it gives; nothing when it does not return.
    errno: Option<u32>,
    /// Those of its arguments that it follows into memory.
    pointers: &'static [usize],
}

/// How each call of WASI is made in order; nothing for one that is not known here.
fn in_order(name: &str) -> Option<InOrder> {
    const BAD_DESCRIPTOR: u32 = 8;
    const NOT_A_DIRECTORY: u32 = 54;
    let (arguments, errno, pointers): (&[i64], u32, &[usize]) = match name {
        // There are none, so that nothing is written.
        "args_get" | "environ_get" => (&[LIST, RESULT], 0, &[]),
        "args_sizes_get" | "environ_sizes_get" => (&[LIST, RESULT], 0, &[0, 1]),
        "clock_res_get" => (&[1, RESULT], 0, &[1]),
        "clock_time_get" => (&[1, 0, RESULT], 0, &[2]),
        "fd_close" => (&[1], 0, &[]),
        "fd_fdstat_get" | "fd_filestat_get" => (&[1, RESULT], 0, &[1]),
        "fd_fdstat_set_flags" | "fd_filestat_set_size" => (&[1, 0], BAD_DESCRIPTOR, &[]),
        // Descriptor 3 would be the first directory.
        "fd_prestat_get" => (&[3, RESULT], BAD_DESCRIPTOR, &[]),
        "fd_prestat_dir_name" => (&[3, RESULT, 16], NOT_A_DIRECTORY, &[]),
        "fd_readdir" => (&[3, RESULT, 16, 0, RESULT + 16], BAD_DESCRIPTOR, &[]),
        "fd_read" => (&[0, LIST, 1, RESULT], 0, &[1, 3]),
        "fd_write" => (&[1, LIST, 1, RESULT], 0, &[1, 3]),
        "fd_seek" => (&[1, 0, 1, RESULT], BAD_DESCRIPTOR, &[]),
        "fd_tell" => (&[1, RESULT], BAD_DESCRIPTOR, &[]),
        "path_create_directory" | "path_remove_directory" | "path_unlink_file" => {
            (&[3, LIST, 8], BAD_DESCRIPTOR, &[])
        }
        "path_filestat_get" => (&[3, 0, LIST, 8, RESULT], BAD_DESCRIPTOR, &[]),
        "path_open" => (&[3, 0, LIST, 8, 0, 0, 0, 0, RESULT], BAD_DESCRIPTOR, &[]),
        "path_readlink" => (&[3, LIST, 8, RESULT, 16, RESULT + 16], BAD_DESCRIPTOR, &[]),
        "path_rename" => (&[3, LIST, 8, 3, LIST, 8], BAD_DESCRIPTOR, &[]),
        "random_get" => (&[RESULT, 16], 0, &[0]),
        "sched_yield" => (&[], 0, &[]),
        "proc_exit" => return Some(InOrder { arguments: &[1], errno: None, pointers: &[] }),
        _ => return None,
    };
    Some(InOrder { arguments, errno: Some(errno), pointers })
}

/// Calls a function with arguments in order, and then with these of which one after the other, and then
/// all, are at an edge.
fn at_every_edge(
    attempt: &mut Attempt<'_>,
    module: &str,
    name: &str,
    parameters: &[String],
    gives: bool,
) -> Held {
    let InOrder { arguments: base, errno, pointers } = in_order(name)
        .filter(|call| call.arguments.len() == parameters.len())
        .ok_or_else(|| Broken(format!("no arguments of {name} are known that are in order")))?;
    let result = if gives { "(result i32)" } else { "" };
    let arguments = parameters.iter().enumerate().map(|(index, kind)| {
        let load = format!("(i64.load (i32.const {}))", REQUEST_AT as usize + 64 + 8 * index);
        if kind == "i64" { load } else { format!("(i32.wrap_i64 {load})") }
    });
    let call = format!("(call $host {})", arguments.collect::<Vec<_>>().join(" "));
    let count = parameters.len().max(1);
    let vector = [BYTES, 16];
    let guest = Guest {
        imports: format!(
            r#"(import "{module}" "{name}" (func $host (param {}) {result}))"#,
            parameters.join(" ")
        ),
        extra: format!(r#"(data (i32.const {LIST}) "{}")"#, kernels::data(vector)),
        signature: signature_of(DataType::Int64, &[Dim::Fixed(count as u64)]),
        // The output is what the call gives.
        ..Guest::running(&match gives {
            true => format!("(i32.store (i32.const {}) {call})", OUTPUTS_AT + 64),
            false => call,
        })
    };
    let model = attempt.open(&guest)?;
    let trap = format!("WASI call {name}: ");
    let first = match errno {
        Some(errno) => Wanted::Completed(Some(errno)),
        None => Wanted::Trap("proc_exit(1)"),
    };
    let input = |arguments: &[i64]| {
        let mut arguments = arguments.to_vec();
        arguments.resize(count, 0);
        words("x", &arguments)
    };
    let mut tried = vec![(input(base), first)];
    for edge in EDGES {
        tried.push((input(&vec![edge; count]), Wanted::Any));
        for index in 0..parameters.len() {
            let mut arguments = base.to_vec();
            arguments[index] = edge;
            let is_outside = edge >= END && pointers.contains(&index);
            let wanted = if is_outside { Wanted::Trap(&trap) } else { Wanted::Any };
            tried.push((input(&arguments), wanted));
        }
    }
    tally(attempt, &model, tried)
}

/// Calls a kernel with a block that is in order but for one word, and from addresses at every edge.
fn at_every_word(attempt: &mut Attempt<'_>, kernel: Kernel) -> Held {
    let model = attempt.open(&kernels::guest(kernel))?;
    let block = good(kernel).write().map_err(Broken::new)?;
    let trap = format!("kernel {}: parameters ", kernel.name());
    let mut tried = Vec::new();
    let mut push = |address: u32, block: &[u32], wanted| {
        let mut input = vec![0; INPUT_WORDS];
        input[0] = address;
        input[1..=block.len()].copy_from_slice(block);
        let numbers: Vec<_> = input.into_iter().map(f32::from_bits).collect();
        tried.push((floats("x", &numbers), wanted));
    };
    push(BLOCK_AT, &block, Wanted::Completed(None));
    for edge in EDGES {
        let wanted = if edge >= END { Wanted::Trap(&trap) } else { Wanted::Any };
        push(edge as u32, &block, wanted);
        push(BLOCK_AT, &[edge as u32; WORDS_MAX], Wanted::Any);
    }
    for (index, word) in block.iter().enumerate() {
        for value in [0, word.wrapping_add(1), word.wrapping_neg(), END as u32, 1 << 31, u32::MAX] {
            let mut block = block.clone();
            block[index] = value;
            push(BLOCK_AT, &block, Wanted::Any);
        }
    }
    tally(attempt, &model, tried)
}

/// What must become of a job.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// It completes; with this word as its output, if there is one.
    Completed(Option<u32>),
    /// It ends as a trap, in a sentence with these words.
    Trap(&'a str),
    /// Whatever ends as a guest's doing.
    Any,
}

impl Wanted<'_> {
    fn check(self, end: &End) -> Result<(), Broken> {
        match self {
            Self::Completed(word) => {
                ended(end, "completed", "")?;
                let found = end.outputs.first().map(|output| output.bytes.as_slice());
                let is_it = word.is_none_or(|word| found == Some(&word.to_le_bytes()));
                ensure(is_it, || format!("{found:?} as output, expected {word:?}"))
            }
            Self::Trap(words) => ended(end, "trap", words),
            Self::Any => Ok(()),
        }
    }
}

/// Runs a job for each input. Each ends as a guest's doing and as is wanted, within its fuel, and as it
/// does again. The first one is in order, so that the others are tried where it counts.
fn tally(attempt: &mut Attempt<'_>, model: &Published, tried: Vec<(Tensor, Wanted<'_>)>) -> Held {
    let mut ends = BTreeMap::new();
    for (index, (input, wanted)) in tried.into_iter().enumerate() {
        let inputs = [input];
        let job = plain(&model.name, &inputs, FUEL);
        let end = attempt.run(&job)?;
        wanted.check(&end).map_err(|Broken(text)| Broken(format!("job {index}: {text}")))?;
        ensure(end.fuel <= FUEL, || format!("{} fuel of {FUEL}", end.fuel))?;
        if index % AGAIN_EVERY == 0 {
            let again = attempt.run(&job)?;
            ensure(again == end, || format!("job {index}: {end:?}, and again: {again:?}"))?;
        }
        *ends.entry(end.verdict).or_insert(0_u32) += 1;
    }
    let text: Vec<_> = ends.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    Ok(text.join(", "))
}

/// Where the reply of a guest in text form lies: a kernel's output may land on it.
const _: () = assert!(OUTPUTS_AT < REQUEST_AT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_wasi_is_known_in_order() {
        for (module, name, kind) in allowed_imports() {
            if module == "wasi_snapshot_preview1" {
                let call = in_order(name).expect(name);
                assert_eq!(call.arguments.len(), types(&kind).0.len(), "{name}");
                assert!(call.pointers.iter().all(|index| *index < call.arguments.len()), "{name}");
            }
        }
    }

    #[test]
    fn types_are_read() {
        assert_eq!(types("() -> (i32)"), (vec![], true));
        assert_eq!(types("(i32) -> ()"), (vec!["i32".to_owned()], false));
        assert_eq!(types("(i32, i64) -> (i32)").0.len(), 2);
    }

    #[test]
    fn an_end_is_compared_whole() {
        let end = End {
            verdict: "trap".into(),
            detail: String::new(),
            fuel: 1,
            billed: true,
            outputs: vec![],
        };
        assert_ne!(end, End { fuel: 2, ..end.clone() });
    }
}
