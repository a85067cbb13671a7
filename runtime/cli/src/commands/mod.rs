//! Commands: one file each, from its arguments to its exit code.

pub(crate) mod run;
pub(crate) mod pack;
pub(crate) mod inspect;
pub(crate) mod doctor;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod man;

use crate::{
    args::{Cli, Command},
    exit::{Exit, OrExit, Result},
};
use anyhow::Context;
use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { global, command } = cli;
    let exit = match command {
        Command::Run(args) => run::run(args, global),
        Command::Pack(args) => pack::pack(args, global),
        Command::Inspect(args) => inspect::inspect(args, global),
        Command::Doctor(args) => doctor::doctor(args, global),
        Command::Cache(args) => cache::cache(args, global),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
        // Its exit code is between the engine and its child.
        Command::CompileWorker { codegen } => return Ok(fuelbox_engine::worker_main(&codegen)),
    };
    exit.map(ExitCode::from)
}

/// Writes data to stdout, all of it or an error. A reader that went away (`| head`) has what it wanted.
fn to_stdout(write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    // serde_json keeps the system's error to itself and tells its kind.
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        let kind = match cause.downcast_ref::<serde_json::Error>() {
            Some(error) => error.io_error_kind(),
            None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    };
    match written {
        Err(error) if error.chain().any(gone) => {
            // What is still in the buffer would fail again, or end up in another place.
            let _ = out.into_parts();
            Ok(())
        }
        other => other.context("stdout").or_exit(Exit::Host),
    }
}
