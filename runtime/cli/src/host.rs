//! The host: the engine with its cache, as the command line sets it up.

use crate::{
    exit::{Exit, Failure, OrExit, Result},
    progress::{Step, Verbosity},
};
use anyhow::Context;
use fuelbox_engine::{
    Cache, Compiler, Engine, GuestModule, Isa, JobLimits, Model, ModelError, Options, Package,
    WorkerLimits,
};
use std::{
    cell::Cell,
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::{Duration, Instant},
};

/// The hidden command that a compile worker is started with.
pub(crate) const WORKER_COMMAND: &str = "compile-worker";

/// Opens the cache.
pub(crate) fn cache(chosen: Option<PathBuf>) -> Result<Cache> {
    Ok(Cache::open(cache_path(chosen, |name| env::var_os(name))?)?)
}

/// Opens an engine that compiles in workers.
pub(crate) fn engine(cache: Cache) -> Result<Engine> {
    let program = env::current_exe().context("the path of this program").or_exit(Exit::Host)?;
    let arguments = vec![WORKER_COMMAND.into()];
    let compiler = Compiler::Worker { program, arguments, limits: WorkerLimits::default() };
    let kernels = kernels()?;
    Ok(Engine::new(cache, Options { compiler, kernels, ..Options::default() })?)
}

/// The kernels that the environment asks for; none for the fastest.
pub(crate) fn kernels() -> Result<Option<Isa>> {
    chosen_kernels(env::var_os(KERNELS_VARIABLE).as_deref())
}

const KERNELS_VARIABLE: &str = "FUELBOX_KERNELS";

fn chosen_kernels(value: Option<&OsStr>) -> Result<Option<Isa>> {
    let Some(name) = value.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let found = name.to_str().and_then(Isa::from_name);
    found.map(Some).ok_or_else(|| {
        let allowed = Isa::ALL.map(Isa::name).join(", ");
        let text = format!("{KERNELS_VARIABLE} is {name:?}, allowed are {allowed}");
        Failure::message(Exit::Usage, text)
    })
}

/// How long it took until a model was ready.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadTime {
    /// Without the time of the compiler.
    pub(crate) wall: Duration,
    /// Of the compiler, when the guest had to be compiled.
    pub(crate) compile: Option<Duration>,
}

/// Stands while the guest is compiled.
struct Compiling<'a> {
    _step: Step,
    started: Instant,
    took: &'a Cell<Option<Duration>>,
}

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        self.took.set(Some(self.started.elapsed()));
    }
}

/// Opens a model, with a line of progress when its guest has to be compiled, here or by another
/// process.
pub(crate) fn model(
    engine: &Engine,
    package: Package,
    verbosity: Verbosity,
) -> (Result<Model, ModelError>, LoadTime) {
    let started = Instant::now();
    let took = Cell::new(None);
    let module = package.module.clone();
    let compiling = || compiling(engine, &module, verbosity, &took);
    let model = Model::open(engine, package, &load_limits(), compiling);
    let compile = took.get();
    let wall = started.elapsed().saturating_sub(compile.unwrap_or_default());
    (model, LoadTime { wall, compile })
}

/// Compiles a guest when it has to be, with the same line of progress.
pub(crate) fn compile(engine: &Engine, module: &GuestModule, verbosity: Verbosity) -> Result<()> {
    let took = Cell::new(None);
    engine.code(module, || compiling(engine, module, verbosity, &took))?;
    Ok(())
}

fn compiling<'a>(
    engine: &Engine,
    module: &GuestModule,
    verbosity: Verbosity,
    took: &'a Cell<Option<Duration>>,
) -> Compiling<'a> {
    let text = match engine.is_compiling(module) {
        false => "compiling the guest (once per host) ...",
        true => "waiting for another process that compiles the guest ...",
    };
    let step = Step::start(verbosity, text);
    Compiling { _step: step, started: Instant::now(), took }
}

/// Limits of every load. Not the job's: whether a model is in the cache must make no difference.
pub(crate) fn load_limits() -> JobLimits {
    JobLimits::default()
}

fn cache_path(
    chosen: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    chosen
        .or_else(|| path("FUELBOX_CACHE"))
        // The XDG standard says that a relative path is not to be used.
        .or_else(|| Some(path("XDG_CACHE_HOME").filter(|path| path.is_absolute())?.join("fuelbox")))
        .or_else(|| Some(path("HOME")?.join(".cache").join("fuelbox")))
        .ok_or_else(|| {
            let text = "no place for the cache: none of --cache-dir, FUELBOX_CACHE, XDG_CACHE_HOME and HOME is set";
            Failure::message(Exit::Host, text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_choice_of_a_cache_wins() {
        let check = |chosen: Option<&str>, set: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into())
            };
            let path = cache_path(chosen.map(PathBuf::from), variable).ok();
            assert_eq!(path, expected.map(PathBuf::from), "{chosen:?} {set:?}");
        };
        let all = [("FUELBOX_CACHE", "/f"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        check(Some("c"), &all, Some("c"));
        check(None, &all, Some("/f"));
        check(None, &all[1..], Some("/x/fuelbox"));
        check(None, &all[2..], Some("/h/.cache/fuelbox"));
        check(None, &[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/fuelbox"));
        check(None, &[("FUELBOX_CACHE", ""), ("HOME", "/h")], Some("/h/.cache/fuelbox"));
        check(None, &[], None);
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        let chosen = |value: Option<&str>| chosen_kernels(value.map(OsStr::new)).ok();
        assert_eq!(chosen(None), Some(None));
        assert_eq!(chosen(Some("")), Some(None));
        assert_eq!(chosen(Some("portable")), Some(Some(Isa::Portable)));
        assert_eq!(chosen(Some("avx2")), Some(Some(Isa::Avx2)));
        assert_eq!(chosen(Some("avx512")), Some(Some(Isa::Avx512)));
        let refused = chosen_kernels(Some(OsStr::new("AVX2"))).unwrap_err();
        let text = "FUELBOX_KERNELS is \"AVX2\", allowed are portable, avx2, avx512";
        assert_eq!(refused.to_string(), text);
    }
}
