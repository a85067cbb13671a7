//! `fuelbox doctor`: whether this host can run jobs, and how well.

use super::to_stdout;
use crate::{
    args::Global,
    exit::{Exit, Result},
    host,
    units::{show_bytes, show_duration},
};
use fuelbox_engine::{Cache, Digest, GuestModule, Isa, Profile, ResetPolicy, Walls};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use std::{fs, thread::available_parallelism, time::Instant};

/// Check this host: kernel, memory, CPU, cache and compile worker.
///
/// Each line is ok, warn (jobs run, but slower or with less room) or fail (they do not; exit code 6).
#[derive(clap::Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
    engine_profile: Digest,
    /// What the digest covers.
    engine_profile_json: String,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// Runs the command.
pub(crate) fn doctor(args: DoctorArgs, global: Global) -> Result<Exit> {
    let profile = Profile::current();
    let report = Report {
        checks: vec![
            kernel(),
            overcommit(&read("/proc/sys/vm/overcommit_memory")),
            address_space(getrlimit(Resource::As).current),
            mappings(&read("/proc/sys/vm/max_map_count")),
            cpu(),
            kernels(host::kernels()),
            cache(&global),
            worker(),
        ],
        engine_profile: profile.digest(),
        engine_profile_json: profile.json(),
    };
    to_stdout(|out| {
        if args.json {
            serde_json::to_writer(&mut *out, &report)?;
            return Ok(writeln!(out)?);
        }
        for Check { name, state, text } in &report.checks {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            writeln!(out, "{state:4}  {name:14}  {text}")?;
        }
        writeln!(
            out,
            "\nengine profile  {}\n{}",
            report.engine_profile, report.engine_profile_json
        )?;
        Ok(())
    })?;
    let failed = report.checks.iter().any(|check| check.state == State::Fail);
    Ok(if failed { Exit::Host } else { Exit::Completed })
}

/// A line of a file of the kernel's; empty when it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `PAGEMAP_SCAN` came with Linux 6.7. Without it, all of a slot is given back after each job.
fn kernel() -> Check {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let machine = system.machine().to_string_lossy().into_owned();
    let (state, text) = if ResetPolicy::scan_available() {
        (State::Ok, "has PAGEMAP_SCAN")
    } else {
        (State::Warn, "no PAGEMAP_SCAN (Linux 6.7): slots are reset by dropping all pages")
    };
    Check { name: "kernel", state, text: format!("Linux {release} {machine}: {text}") }
}

/// A slot reserves 4 GiB of addresses, of which most is never memory.
fn overcommit(setting: &str) -> Check {
    let (state, text) = match setting {
        "0" | "1" => (State::Ok, format!("vm.overcommit_memory = {setting}")),
        "2" => (
            State::Warn,
            "vm.overcommit_memory = 2: every job's memory counts as if it were all written".into(),
        ),
        _ => (State::Warn, "vm.overcommit_memory cannot be read".into()),
    };
    Check { name: "overcommit", state, text }
}

/// Addresses of one slot, with its guard.
const SLOT_ADDRESS_BYTES: u64 = 5 << 30;

fn address_space(limit: Option<u64>) -> Check {
    let (state, text) = match limit {
        None => (State::Ok, "unlimited".into()),
        Some(bytes) => {
            let slots = bytes / SLOT_ADDRESS_BYTES;
            let state = if slots < 2 { State::Fail } else { State::Warn };
            (state, format!("limited to {}: room for {slots} jobs at once", show_bytes(bytes)))
        }
    };
    Check { name: "address space", state, text }
}

/// A job that wrote here and there has a mapping for each run of pages.
fn mappings(setting: &str) -> Check {
    const USUAL: u64 = 65_530;
    let (state, text) = match setting.parse::<u64>() {
        Ok(count) if count >= USUAL => (State::Ok, format!("vm.max_map_count = {count}")),
        Ok(count) => {
            (State::Warn, format!("vm.max_map_count = {count}, usual are {USUAL} or more"))
        }
        Err(_) => (State::Warn, "vm.max_map_count cannot be read".into()),
    };
    Check { name: "mappings", state, text }
}

fn cpu() -> Check {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("sse4.1", std::arch::is_x86_feature_detected!("sse4.1")),
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512dq", std::arch::is_x86_feature_detected!("avx512dq")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let found: Vec<_> = features.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let cores = available_parallelism().map_or(1, |count| count.get());
    // Wasm's SIMD without it is slow on x86-64.
    let slow = features.iter().any(|(name, has)| *name == "sse4.1" && !has);
    let state = if slow { State::Warn } else { State::Ok };
    Check { name: "cpu", state, text: format!("{cores} cores, {}", found.join(" ")) }
}

/// What host kernels are made of. Portable ones are right and slow.
fn kernels(chosen: Result<Option<Isa>>) -> Check {
    let available = || Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ");
    let (state, text) = match chosen {
        Err(failure) => (State::Fail, failure.to_string()),
        Ok(Some(isa)) if !isa.is_available() => {
            (State::Fail, format!("{} is chosen, this CPU has {}", isa.name(), available()))
        }
        Ok(chosen) => {
            let isa = chosen.unwrap_or_else(Isa::detect);
            let state = if isa == Isa::Portable { State::Warn } else { State::Ok };
            (state, format!("{}, of {}", isa.name(), available()))
        }
    };
    Check { name: "kernels", state, text }
}

/// The cache is opened as every command does, which checks that it is private.
fn cache(global: &Global) -> Check {
    let found = host::cache(global.cache_dir.clone()).and_then(|cache| {
        let entries = cache.list()?;
        let bytes = entries.iter().map(|entry| entry.disk_bytes).sum();
        Ok(format!(
            "{}: private, {} entries, {}",
            cache.path().display(),
            entries.len(),
            show_bytes(bytes)
        ))
    });
    match found {
        Ok(text) => Check { name: "cache", state: State::Ok, text },
        Err(failure) => Check { name: "cache", state: State::Fail, text: failure.to_string() },
    }
}

/// Compiles a guest that does nothing, in a cache of its own.
fn worker() -> Check {
    let started = Instant::now();
    let compiled = tempfile::tempdir().map_err(|error| error.to_string()).and_then(|folder| {
        let text = |failure: crate::exit::Failure| failure.to_string();
        let cache = Cache::open(folder.path().join("cache")).map_err(|error| error.to_string())?;
        let engine = host::engine(cache).map_err(text)?;
        let module = GuestModule::new(TINY_GUEST.to_vec());
        engine.code(&module, || ()).map(drop).map_err(|error| error.to_string())
    });
    let (state, text) = match compiled {
        Ok(()) => {
            let (state, cell) = cell(Walls::of_this_kernel());
            let took = show_duration(started.elapsed());
            (state, format!("compiled a guest in {took}, {cell}"))
        }
        Err(error) => (State::Fail, error),
    };
    Check { name: "compile worker", state, text }
}

/// What holds a worker that an upload has taken over.
fn cell(walls: Walls) -> (State, &'static str) {
    match walls {
        Walls { landlock: true, seccomp: true } => (State::Ok, "in a cell of Landlock and seccomp"),
        Walls { landlock: true, seccomp: false } => (State::Warn, "in a cell without seccomp"),
        Walls { landlock: false, seccomp: true } => {
            (State::Warn, "in a cell without Landlock (Linux 5.13)")
        }
        Walls { landlock: false, seccomp: false } => {
            (State::Warn, "with resource limits alone: no Landlock (Linux 5.13), no seccomp")
        }
    }
}

/// The smallest guest that the engine accepts:
///
/// ```wat
/// (module
///   (func (export "fuelbox_abi") (result i32) i32.const 1)
///   (func (export "fuelbox_alloc") (param i32) (result i32) i32.const 0)
///   (func (export "fuelbox_load") (export "fuelbox_run") (param i32 i32) (result i64) i64.const 0)
///   (memory (export "memory") 1))
/// ```
const TINY_GUEST: &[u8] = b"\
    \x00asm\x01\x00\x00\x00\
    \x01\x10\x03\x60\x00\x01\x7f\x60\x01\x7f\x01\x7f\x60\x02\x7f\x7f\x01\x7e\
    \x03\x04\x03\x00\x01\x02\x05\x03\x01\x00\x01\
    \x07E\x05\x0bfuelbox_abi\x00\x00\x0dfuelbox_alloc\x00\x01\x0cfuelbox_load\x00\x02\x0bfuelbox_run\x00\x02\x06memory\x02\x00\
    \x0a\x10\x03\x04\x00A\x01\x0b\x04\x00A\x00\x0b\x04\x00B\x00\x0b";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    #[test]
    fn tiny_guest_is_what_its_text_says() {
        let text = r#"(module
            (func (export "fuelbox_abi") (result i32) i32.const 1)
            (func (export "fuelbox_alloc") (param i32) (result i32) i32.const 0)
            (func (export "fuelbox_load") (export "fuelbox_run") (param i32 i32) (result i64) i64.const 0)
            (memory (export "memory") 1))"#;
        assert_eq!(wat::parse_str(text).expect("parses"), TINY_GUEST);
    }

    #[test]
    fn host_facts_are_judged() {
        for (check, expected) in [
            (overcommit("0"), State::Ok),
            (overcommit("2"), State::Warn),
            (address_space(None), State::Ok),
            (address_space(Some(8 << 30)), State::Fail),
            (address_space(Some(64 << 30)), State::Warn),
            (mappings("65530"), State::Ok),
            (mappings("1000"), State::Warn),
            (mappings(""), State::Warn),
            (kernels(Ok(Some(Isa::Portable))), State::Warn),
            (kernels(Ok(Some(Isa::detect()))), kernels(Ok(None)).state),
            (kernels(Err(Failure::message(Exit::Usage, "no such kernels"))), State::Fail),
        ] {
            assert_eq!(check.state, expected, "{}", check.text);
        }
    }
}
