//! `fuelbox push`: a package file goes to a server, and is published there.
//!
//! file -> digest, name, version -> upload (in pieces, gone on with after an interruption) -> signature
//! -> publish -> what it cost.

mod upload;

use super::{print, publisher_key};
use crate::{
    args::Global,
    client::{Remote, ServerArgs},
    exit::{Exit, Failure, OrExit, Result},
    file,
    output::{columns::facts, text::escaped},
    progress::Step,
    units,
    units::grouped,
};
use fuelbox_engine::{Archive, Digest};
use fuelbox_receipt::PackageSignature;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use upload::Upload;

const EXAMPLES: &str = "\
Examples:
  fuelbox push digits.fbx --url https://fuelbox.example --key-file acme.key
  fuelbox push digits.fbx --sign acme.pem --private --key-file acme.key
";

/// Upload a package to a server and publish it there.
///
/// The file goes in pieces. When it is interrupted, the same command goes on where it was. Publishing
/// loads the model and runs its golden cases; what that burns is the publisher's bill, also when the
/// package is refused. The same package again costs nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PushArgs {
    /// The package.
    #[arg(value_name = "FILE.fbx")]
    file: PathBuf,

    #[command(flatten)]
    server: ServerArgs,

    /// Sign the package with this publisher's key.
    #[arg(long, value_name = "KEY.pem")]
    sign: Option<PathBuf>,

    /// Show it to its publisher alone, and to those that it is opened for.
    #[arg(long)]
    private: bool,

    /// Most fuel of each load; the host's default when not given.
    #[arg(long, value_name = "FUEL", value_parser = units::fuel)]
    load_fuel_limit: Option<u64>,

    /// Print the server's answer: one JSON object.
    #[arg(long)]
    json: bool,
}

/// Bytes of a package file: as `fuelbox publish` has it.
const PACKAGE_BYTES_MAX: u64 = 4 << 30;

/// What a package says of itself.
struct Identity {
    digest: Digest,
    name: String,
    version: String,
}

/// Runs the command.
pub(crate) fn push(args: &PushArgs, global: &Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    let remote = args.server.remote(verbosity)?;
    let bytes = file::read(&args.file, PACKAGE_BYTES_MAX).or_exit(Exit::BadInput)?;
    let identity = identity(args, &bytes)?;
    let signature = match &args.sign {
        Some(path) => Some(sign(&publisher_key::read(path)?, &identity)?),
        None => None,
    };
    let upload = Upload::open(&remote, &args.file, &bytes)?;
    upload.send(&remote, &bytes)?;
    drop(bytes);
    let mut request = Map::from_iter([("upload".to_owned(), json!(upload.id()))]);
    if let Some(signature) = signature {
        request.insert("signature".into(), signature);
    }
    request.insert("visibility".into(), json!(if args.private { "private" } else { "public" }));
    if let Some(fuel) = args.load_fuel_limit {
        request.insert("load_fuel".into(), json!(fuel));
    }
    let package = publish(&remote, &identity, &Value::Object(request));
    upload.close(package.is_ok());
    let package = package?;
    print(args.json, &package, || table(&identity, &package))?;
    Ok(Exit::Completed)
}

fn identity(args: &PushArgs, bytes: &[u8]) -> Result<Identity> {
    let archive = Archive::read(bytes)
        .map_err(|error| Failure::from(error).of(format!("{}", args.file.display())))?;
    let manifest = archive.manifest();
    let digest = manifest.digest();
    Ok(Identity { digest, name: manifest.name.clone(), version: manifest.version.clone() })
}

fn sign(key: &fuelbox_receipt::HostKey, identity: &Identity) -> Result<Value> {
    let Identity { digest, name, version } = identity;
    let envelope = PackageSignature::sign(key, digest, name, version).to_bytes();
    serde_json::from_slice(&envelope).or_exit(Exit::Host)
}

/// Publishes what was uploaded. When the answer to an earlier try was lost, the package is there, and
/// its upload is not.
fn publish(remote: &Remote, identity: &Identity, request: &Value) -> Result<Value> {
    let _step = Step::start(remote.verbosity(), "publishing ...");
    let published = remote.post(&["api", "v1", "packages"], request);
    let answer = match published {
        Err(trouble) if trouble.is("not_found") || trouble.is("conflict") => {
            let Identity { digest, name, version } = identity;
            let found = remote.get(&["api", "v1", "packages", name, version]);
            let found = found.ok().and_then(|answer| answer.document::<Value>("package").ok());
            let same = |found: &Value| found["digest"] == digest.to_string();
            return found.filter(same).ok_or_else(|| Failure::from(trouble));
        }
        other => other?,
    };
    let mut package: Value = answer.document("package")?;
    // 200 instead of 201 says that it was there before.
    if let Some(package) = package.as_object_mut() {
        let repeated = answer.status != reqwest::StatusCode::CREATED;
        package.entry("repeated").or_insert(repeated.into());
    }
    Ok(package)
}

/// For people: what every server says of a package, and what this one says of its bill.
fn table(identity: &Identity, package: &Value) -> String {
    let Identity { digest, name, version } = identity;
    let mut lines = vec![
        ("package", format!("{}:{}", escaped(name), escaped(version))),
        ("digest", digest.to_string()),
    ];
    for field in ["publisher", "visibility"] {
        if let Some(text) = package[field].as_str() {
            lines.push((field, escaped(text)));
        }
    }
    if package["repeated"] == true {
        lines.push(("bill", "nothing: it was published before".into()));
        return facts(&lines);
    }
    if let Some(fuel) = package["fuel"].as_u64() {
        lines.push(("fuel", format!("{} to load and to run its golden cases", grouped(fuel))));
    }
    if let Some(credits) = package["credits"].as_str() {
        lines.push(("bill", format!("{} credits", escaped(credits))));
    }
    facts(&lines)
}
