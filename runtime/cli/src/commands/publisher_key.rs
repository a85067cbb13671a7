//! `fuelbox publisher-key`: what publishers sign their packages with.

use super::print;
use crate::{
    args::Global,
    client::ServerArgs,
    data,
    exit::{Exit, Failure, OrExit, Result},
    file,
    output::columns::facts,
};
use fuelbox_receipt::HostKey;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  fuelbox publisher-key new -o acme.pem
  fuelbox publisher-key register acme.pem --url https://fuelbox.example --key-file acme.key
  fuelbox push digits.fbx --sign acme.pem --key-file acme.key
";

/// Make a key to sign packages with, show its public half, and tell a server of it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PublisherKeyArgs {
    #[command(subcommand)]
    command: PublisherKeyCommand,
}

#[derive(clap::Subcommand, Debug)]
enum PublisherKeyCommand {
    /// Make a key (Ed25519), write it to a file that only you can read, and print its public half.
    New {
        /// The file. One that is there is not touched.
        #[arg(long, short, value_name = "KEY.pem")]
        output: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the public half of a key.
    Show {
        /// The key's file.
        #[arg(value_name = "KEY.pem")]
        key: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Register the public half with a server, for the account of the access key.
    Register {
        /// The key's file. It is not sent.
        #[arg(value_name = "KEY.pem")]
        key: PathBuf,
        #[command(flatten)]
        server: ServerArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Json {
    id: String,
    public_key: String,
}

impl Json {
    fn of(key: &HostKey) -> Self {
        Self { id: key.id().to_string(), public_key: key.public_pem() }
    }
}

/// Runs the command.
pub(crate) fn publisher_key(args: PublisherKeyArgs, global: &Global) -> Result<Exit> {
    match args.command {
        PublisherKeyCommand::New { output, json } => {
            let key = HostKey::generate()?;
            file::write_secret(&output, key.to_pem().as_bytes()).or_exit(Exit::Host)?;
            show(&key, json)?;
        }
        PublisherKeyCommand::Show { key, json } => show(&read(&key)?, json)?,
        PublisherKeyCommand::Register { key, server, json } => {
            let key = Json::of(&read(&key)?);
            let remote = server.remote(global.verbosity())?;
            let document = serde_json::json!({ "public_key": key.public_key });
            let answer = remote.post(&["api", "v1", "publisher-keys"], &document)?;
            let registered: Value = answer.document("publisher key")?;
            print(json, &registered, || facts(&[("registered", key.id)]))?;
        }
    }
    Ok(Exit::Completed)
}

/// Bytes of a file with one private key: three lines.
const KEY_BYTES_MAX: u64 = 4_096;

/// Reads a private key.
pub(super) fn read(path: &Path) -> Result<HostKey> {
    let bytes = file::read(path, KEY_BYTES_MAX).or_exit(Exit::BadInput)?;
    let text = data::text(path, bytes)?;
    HostKey::from_pem(&text).map_err(|error| Failure::from(error).of(format!("{}", path.display())))
}

fn show(key: &HostKey, json: bool) -> Result<()> {
    let value = Json::of(key);
    print(json, &value, || facts(&[("key", value.id.clone())]) + &value.public_key)
}
