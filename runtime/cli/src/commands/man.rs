//! `fuelbox man`: the manual, from the same text as `--help`.

use super::to_stdout;
use crate::{
    args::Cli,
    exit::{Exit, OrExit, Result},
};
use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;
use std::path::PathBuf;

/// Print the man page, or write those of all commands to a folder.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  fuelbox man | man -l -\n  fuelbox man --output ~/.local/share/man/man1\n"
)]
pub(crate) struct ManArgs {
    /// Folder to write one page per command to.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn man(args: &ManArgs) -> Result<Exit> {
    match &args.output {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
                .with_context(|| format!("{}", folder.display()))
                .or_exit(Exit::Host)?;
        }
        None => to_stdout(|out| Ok(Man::new(Cli::command()).render(out)?))?,
    }
    Ok(Exit::Completed)
}
