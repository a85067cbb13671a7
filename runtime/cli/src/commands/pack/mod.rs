//! `fuelbox pack`: a model or a guest with its assets becomes a package file.
//!
//! parts and manifest -> model loaded in the box -> golden cases run -> manifest completed -> file.
//! The file exists only when all of that went well, and the same parts give the same bytes.

mod parts;
mod trial;

use super::to_stdout;
use crate::{
    args::Global,
    exit::{Exit, OrExit, Result},
    file, host,
    input::{InputFile, parse_given},
    units::{grouped, show_bytes},
};
use anyhow::{Context, bail};
use fuelbox_engine::{Archive, ArchiveError, Manifest, write_archive};
use parts::Parts;
use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek, Write},
    path::PathBuf,
};

const EXAMPLES: &str = "\
Examples:
  fuelbox pack digits.onnx -o digits.fbx --labels digits.labels.txt --golden seven.npy
  fuelbox pack --guest my_guest.wasm --asset model.onnx --asset vocab=words.txt -o my.fbx
";

/// Pack a model, or a guest with its assets, into one file.
///
/// The model is loaded and run in the box before anything is written, so a package that was packed is
/// known to load. Packing the same parts twice gives the same file.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PackArgs {
    /// Model to pack with the stock guest: .onnx, .nnef or .nnef.tgz.
    #[arg(required_unless_present = "guest", conflicts_with_all = ["guest", "asset"])]
    model: Option<PathBuf>,

    /// Guest to pack instead: a WebAssembly module, or the name of one that comes with fuelbox.
    ///
    /// A file with such a name is given as `./NAME`.
    #[arg(long, value_name = "FILE.wasm")]
    guest: Option<PathBuf>,

    /// File that the guest is loaded with; its name is the file's unless given. Repeatable.
    #[arg(long, value_name = "[NAME=]FILE", requires = "guest", value_parser = parse_given)]
    asset: Vec<InputFile>,

    /// The package file to write.
    #[arg(long, short, value_name = "FILE.fbx")]
    output: PathBuf,

    /// Name of the package [default: the file's, without its ending].
    #[arg(long)]
    name: Option<String>,

    /// Version of the package.
    #[arg(long, default_value = "0.1.0")]
    version: String,

    /// Licence, as an SPDX expression such as `Apache-2.0`.
    #[arg(long, alias = "license", default_value = "", hide_default_value = true)]
    licence: String,

    /// Author. Repeatable.
    #[arg(long = "author", value_name = "AUTHOR")]
    authors: Vec<String>,

    /// Names of a classifier's classes, one a line; packed as the asset `labels.txt`.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Input of a golden case: run now, and compared by `inspect --check` later. Repeatable.
    ///
    /// Same as --input of `run`; each is a case of its own, named after its file.
    #[arg(long, value_name = "[NAME=]FILE", value_parser = parse_given)]
    golden: Vec<InputFile>,
}

/// Runs the command.
pub(crate) fn pack(args: PackArgs, global: Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    let mut parts = Parts::gather(&args)?;
    let inputs = trial::read(&args.golden).or_exit(Exit::BadInput)?;
    // Names and counts before the work: the rest of the manifest is filled in by it.
    parts.manifest.check()?;

    let engine = host::engine(host::cache(global.cache_dir)?)?;
    let (model, _) = host::model(&engine, parts.package(), verbosity);
    let golden_inputs = trial::run(&engine, &model?, inputs, &mut parts.manifest, verbosity)?;

    let mut bytes: Vec<&[u8]> = vec![&parts.guest];
    bytes.extend(parts.assets.iter().map(|asset| &*asset.bytes));
    bytes.extend(golden_inputs.iter().map(Vec::as_slice));
    let mut refused = None;
    let written = file::write(&args.output, |file| {
        let done = write_and_read(file, &parts.manifest, &bytes)?;
        refused = done.err();
        match &refused {
            Some(error) => bail!("{error}"), // so that the file does not get its name
            None => Ok(()),
        }
    });
    if let Some(error) = refused {
        return Err(error.into());
    }
    written.or_exit(Exit::Host)?;
    let size =
        std::fs::metadata(&args.output).with_context(|| format!("{}", args.output.display()));
    let size = size.or_exit(Exit::Host)?.len();
    let digest = parts.manifest.digest();
    to_stdout(|out| {
        let manifest = &parts.manifest;
        writeln!(out, "{} {}  {digest}", manifest.name, manifest.version)?;
        writeln!(out, "{}  {}", args.output.display(), show_bytes(size))?;
        for golden in &manifest.golden {
            writeln!(out, "golden {}  {} fuel", golden.name, grouped(golden.fuel))?;
        }
        Ok(())
    })?;
    Ok(Exit::Completed)
}

/// Writes a package and reads it back: what gets a name is a package.
fn write_and_read(
    file: &mut File,
    manifest: &Manifest,
    parts: &[&[u8]],
) -> anyhow::Result<Result<(), ArchiveError>> {
    let mut out = BufWriter::new(&mut *file);
    let written = write_archive(manifest, parts, &mut out);
    out.flush()?;
    drop(out);
    file.rewind()?;
    Ok(written.and_then(|()| Archive::read(BufReader::new(file)).map(drop)))
}
