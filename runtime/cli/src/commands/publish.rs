//! `fuelbox publish`: a package becomes something that jobs can name.

use super::print;
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, OrExit, Result},
    file, host,
    output::columns::facts,
    units::{self, grouped},
};
use fuelbox_engine::{Archive, Digest};
use fuelbox_jobs::Publication;
use fuelbox_ledger::AccountId;
use serde::Serialize;
use std::path::PathBuf;

/// Publish a package for an account of kind publisher.
///
/// The model is loaded and its golden cases are run; what that burns is the publisher's bill, also when
/// the package is refused. The same package again costs nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  fuelbox publish digits.fbx --account acme\n")]
pub(crate) struct PublishArgs {
    /// The package.
    file: PathBuf,

    /// Who pays for loading it, and earns by its jobs.
    #[arg(long, value_name = "NAME")]
    account: AccountId,

    /// Most fuel of each load [default: 20G].
    #[arg(long, value_name = "FUEL", value_parser = units::fuel)]
    load_fuel_limit: Option<u64>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Bytes of a package file: what archives may unpack to is the engine's limit, and none is larger packed.
const PACKAGE_BYTES_MAX: u64 = 4 << 30;

#[derive(Serialize)]
struct Json<'a> {
    digest: Digest,
    name: &'a str,
    version: &'a str,
    publisher: &'a str,
    fuel: u64,
    credits_micro: u64,
    repeated: bool,
}

/// Runs the command.
pub(crate) fn publish(args: &PublishArgs, global: &Global) -> Result<Exit> {
    let folder = data::folder(global)?;
    let bytes = file::read(&args.file, PACKAGE_BYTES_MAX).or_exit(Exit::BadInput)?;
    let named = |failure: Failure| failure.of(format!("{}", args.file.display()));
    let archive = Archive::read(&bytes[..]).map_err(|error| named(error.into()))?;
    let open = data::open(global, &folder, Some(0))?;
    // No guest is compiled for somebody who is not known.
    open.host.accounts().show(&args.account)?;
    let package = archive.package();
    drop(archive);
    host::compile(&open.engine, &package.module, global.verbosity())?;
    let published = open.host.publish(&args.account, &bytes, args.load_fuel_limit)?;
    let Publication { digest, name, version, fuel, credits, repeated } = &published;
    let value = Json {
        digest: *digest,
        name,
        version,
        publisher: args.account.as_str(),
        fuel: *fuel,
        credits_micro: credits.micros(),
        repeated: *repeated,
    };
    print(args.json, &value, || {
        let mut lines =
            vec![("package", format!("{name}:{version}")), ("digest", digest.to_string())];
        if *repeated {
            lines.push(("bill", "nothing: it was published before".into()));
        } else {
            let fuel = format!("{} to load and to run its golden cases", grouped(*fuel));
            let bill = format!("{credits} credits, paid by {}", args.account);
            lines.extend([("fuel", fuel), ("bill", bill)]);
        }
        facts(&lines)
    })?;
    Ok(Exit::Completed)
}
