//! `fuelbox keys`: what receipts are signed with.

use super::{print, to_file_or_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
    output::columns::facts,
    time::show_time,
};
use fuelbox_receipt::{PublicKey, PublicKeys};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  fuelbox keys export -o host.pem
  fuelbox receipt verify job.json --keys host.pem
";

/// List, export and change the host's keys.
///
/// One key signs; the public halves of all earlier ones are kept, so that their receipts can be checked.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(clap::Subcommand, Debug)]
enum KeysCommand {
    /// List the public keys, the current one last.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print all public keys as PEM, for whoever checks receipts.
    Export {
        /// Write them to this file.
        #[arg(long, short, value_name = "FILE.pem")]
        output: Option<PathBuf>,
    },
    /// Make a new key for the receipts to come. The private half of the old one is deleted.
    Rotate {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Json {
    /// The name of the log that these keys sign for.
    origin: String,
    keys: Vec<PublicKey>,
    /// As checkpoints of the log are checked with by others' tools.
    note_keys: Vec<String>,
}

/// Runs the command.
pub(crate) fn keys(args: KeysArgs, global: &Global) -> Result<Exit> {
    match args.command {
        KeysCommand::List { json } => list(&public(global)?, json)?,
        KeysCommand::Export { output } => {
            let pem: String = public(global)?.keys.into_iter().map(|key| key.pem).collect();
            to_file_or_stdout(output.as_deref(), pem.as_bytes())?;
        }
        KeysCommand::Rotate { json } => {
            data::open_books(global)?.rotate_key()?;
            list(&public(global)?, json)?;
        }
    }
    Ok(Exit::Completed)
}

fn public(global: &Global) -> Result<PublicKeys> {
    let folder = data::folder(global)?;
    folder.public_keys()?.ok_or_else(|| {
        let text = format!("{}: no keys there yet", folder.path().display());
        Failure::message(Exit::BadInput, text)
    })
}

fn list(public: &PublicKeys, json: bool) -> Result<()> {
    let PublicKeys { origin, keys } = public;
    let value = Json {
        origin: origin.clone(),
        keys: keys.clone(),
        note_keys: public.ring().note_keys(origin),
    };
    print(json, &value, || {
        let mut lines = vec![("log", origin.clone())];
        for key in keys {
            let since = show_time(key.created_unix_ms);
            let used = match key.retired_unix_ms {
                Some(until) => format!("signed from {since} to {}", show_time(until)),
                None => format!("signs since {since}"),
            };
            lines.extend([("key", key.id.to_string()), ("", used)]);
        }
        facts(&lines)
    })
}
