//! Commands: one file each, from its arguments to its exit code.

pub(crate) mod run;
pub(crate) mod pack;
pub(crate) mod inspect;
pub(crate) mod doctor;
pub(crate) mod cache;
pub(crate) mod account;
pub(crate) mod publish;
pub(crate) mod quote;
pub(crate) mod submit;
pub(crate) mod jobs;
pub(crate) mod usage;
pub(crate) mod prices;
pub(crate) mod receipt;
pub(crate) mod replay;
pub(crate) mod audit;
pub(crate) mod log;
pub(crate) mod keys;
pub(crate) mod access;
pub(crate) mod serve;
pub(crate) mod infer;
pub(crate) mod publisher_key;
pub(crate) mod push;
pub(crate) mod attack;
pub(crate) mod completions;
pub(crate) mod man;

use crate::{
    args::{Cli, Command},
    exit::{Exit, OrExit, Result},
    file,
};
use anyhow::Context;
use serde::Serialize;
use std::{
    io::{self, BufWriter, Write},
    path::Path,
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
        Command::Account(args) => account::account(args, &global),
        Command::Publish(args) => publish::publish(&args, &global),
        Command::Quote(args) => quote::quote(&args, &global),
        Command::Submit(args) => submit::submit(&args, &global),
        Command::Jobs(args) => jobs::jobs(args, &global),
        Command::Usage(args) => usage::usage(&args, &global),
        Command::Prices(args) => prices::prices(&args, &global),
        Command::Receipt(args) => receipt::receipt(args, &global),
        Command::Replay(args) => replay::replay(&args, &global),
        Command::Audit(args) => audit::audit(&args, &global),
        Command::Log(args) => log::log(args, &global),
        Command::Keys(args) => keys::keys(args, &global),
        Command::Access(args) => access::access(args, &global),
        Command::Serve(args) => serve::serve(*args, &global),
        Command::Infer(args) => infer::infer(&args, &global),
        Command::PublisherKey(args) => publisher_key::publisher_key(args, &global),
        Command::Push(args) => push::push(&args, &global),
        Command::Attack(args) => attack::attack(&args, &global),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
        // Its exit code is between the engine and its child.
        Command::CompileWorker { codegen } => {
            // Jobs that are served beside it come first.
            let _ = rustix::process::nice(COMPILE_NICE);
            return Ok(fuelbox_engine::worker_main(&codegen));
        }
    };
    exit.map(ExitCode::from)
}

/// How much a compile worker gives way: beside it, a thread at 0 gets nine times its time.
const COMPILE_NICE: i32 = 10;

/// Writes one JSON object to stdout, or a text for people.
fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
    to_stdout(|out| {
        if json {
            serde_json::to_writer(&mut *out, value)?;
            Ok(writeln!(out)?)
        } else {
            Ok(out.write_all(text().as_bytes())?)
        }
    })
}

/// Writes bytes to a file, or to stdout as they are.
fn to_file_or_stdout(path: Option<&Path>, bytes: &[u8]) -> Result<()> {
    match path {
        Some(path) => file::write(path, |file| Ok(file.write_all(bytes)?)).or_exit(Exit::Host),
        None => to_stdout(|out| Ok(out.write_all(bytes)?)),
    }
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
