//! Arguments: what the program can be asked, in clap's words.

use crate::{commands, exit, progress::Verbosity};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  fuelbox run model.onnx --input image.npy
  fuelbox run model.onnx --random 1 --json
  fuelbox pack model.onnx -o model.fbx --labels labels.txt --golden image.npy
  fuelbox inspect model.fbx --check
  fuelbox submit model:1.0.0 --account alice --input image.npy --receipt job.json
  fuelbox replay job.json
  fuelbox serve --data ./data
  fuelbox infer model --key-file alice.key --input image.npy

Environment:
  FUELBOX_CACHE   folder of compiled code and model images; otherwise
                  $XDG_CACHE_HOME/fuelbox, otherwise ~/.cache/fuelbox
  FUELBOX_DATA    folder of accounts, jobs and receipts; otherwise
                  $XDG_DATA_HOME/fuelbox, otherwise ~/.local/share/fuelbox
  FUELBOX_KEY     access key of a server, unless --key-file is given
  FUELBOX_URL     address of a server, unless --url is given
";

/// Runs models in a sealed box and counts the fuel that they burn.
///
/// Every job starts from a pristine copy of the loaded model, with a limit on fuel and memory, without
/// clock, network or files. The same job gives the same output bytes and the same fuel everywhere.
#[derive(Parser, Debug)]
#[command(name = "fuelbox", version, after_help = format!("{EXAMPLES}\n{}", exit::help()))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Folder of compiled code and model images; must be private to its owner.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Folder of accounts, jobs, receipts, packages and keys; must be private to its owner.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Say nothing on stderr but errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Say on stderr what was found and chosen.
    #[arg(long, short, global = true)]
    verbose: bool,
}

impl Global {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, false) => Verbosity::Normal,
            (false, true) => Verbosity::Verbose,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(commands::run::RunArgs),
    Pack(commands::pack::PackArgs),
    Inspect(commands::inspect::InspectArgs),
    Doctor(commands::doctor::DoctorArgs),
    Cache(commands::cache::CacheArgs),
    Account(commands::account::AccountArgs),
    Publish(commands::publish::PublishArgs),
    Quote(commands::quote::QuoteArgs),
    Submit(commands::submit::SubmitArgs),
    Jobs(commands::jobs::JobsArgs),
    Usage(commands::usage::UsageArgs),
    Prices(commands::prices::PricesArgs),
    Receipt(commands::receipt::ReceiptArgs),
    Replay(commands::replay::ReplayArgs),
    Audit(commands::audit::AuditArgs),
    Log(commands::log::LogArgs),
    Keys(commands::keys::KeysArgs),
    Access(commands::access::AccessArgs),
    Serve(Box<commands::serve::ServeArgs>),
    Infer(Box<commands::infer::InferArgs>),
    PublisherKey(commands::publisher_key::PublisherKeyArgs),
    Push(commands::push::PushArgs),
    Attack(commands::attack::AttackArgs),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
    /// Compiles one module from stdin to stdout: started by fuelbox itself.
    #[command(hide = true)]
    CompileWorker {
        codegen: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn worker_has_the_name_that_the_engine_is_given() {
        let command = Cli::command();
        assert!(command.find_subcommand(crate::host::WORKER_COMMAND).is_some());
    }
}
