//! `fuelbox completions`: a shell's completion script on stdout.

use super::to_stdout;
use crate::{
    args::Cli,
    exit::{Exit, Result},
};
use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  fuelbox completions bash > ~/.local/share/bash-completion/completions/fuelbox\n"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    // First into memory: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fuelbox", &mut script);
    to_stdout(|out| Ok(out.write_all(&script)?))?;
    Ok(Exit::Completed)
}
