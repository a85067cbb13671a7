//! `fuelbox inspect`: what a package says of itself, or what a bare model says when it is loaded;
//! and whether a package's golden cases still hold.

use super::to_stdout;
use crate::{
    args::Global,
    exit::{Exit, OrExit, Result, print_error},
    host, output,
    output::text::escaped,
    source::{Bare, Source, stock_guest},
    units::{grouped, show_bytes},
};
use anyhow::Context;
use fuelbox_abi::{Kind, Message};
use fuelbox_engine::{
    Archive, Cancel, Digest, Engine, GoldenCase, JobLimits, Manifest, Model, OwnedParameter,
    Signature, Tensor, TensorSignature, Usage,
};
use serde::Serialize;
use std::{fmt::Write, path::PathBuf};

/// Show what is in a package or model, and check a package's golden cases.
///
/// A bare model is loaded to learn its signature.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  fuelbox inspect digits.fbx --check\n  fuelbox inspect digits.onnx --json\n"
)]
pub(crate) struct InspectArgs {
    /// Package or model.
    file: PathBuf,

    /// Run the golden cases again and compare outputs, fuel and memory; exit code 4 when one differs.
    #[arg(long)]
    check: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is known of a file.
#[derive(Serialize)]
struct Facts {
    file_bytes: u64,
    /// Identity of the package, or digest of the model file.
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded: Option<Loaded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    golden_checks: Option<Vec<GoldenCheck>>,
}

/// What a bare model says when the stock guest loads it.
#[derive(Serialize)]
struct Loaded {
    guest: Digest,
    signature: Signature,
    image: Digest,
    image_bytes: u64,
    /// Without its zero pages, which no file keeps.
    image_stored_bytes: u64,
    load_fuel: u64,
}

/// How a golden case went this time.
#[derive(Serialize)]
struct GoldenCheck {
    name: String,
    same: bool,
    verdict: &'static str,
    output_digest: Digest,
    fuel: u64,
    memory_bytes_peak: u64,
    engine_profile: Digest,
}

/// Runs the command.
pub(crate) fn inspect(args: InspectArgs, global: Global) -> Result<Exit> {
    let source = Source::open(&args.file)?;
    let file_bytes =
        std::fs::metadata(&args.file).with_context(|| format!("{}", args.file.display()));
    let file_bytes = file_bytes.or_exit(Exit::BadInput)?.len();
    let engine = || host::engine(host::cache(global.cache_dir.clone())?);
    let verbosity = global.verbosity();
    let facts = match &source {
        Source::Bare(bare) => {
            let engine = engine()?;
            let (model, _) = host::model(&engine, source.package(), verbosity);
            of_bare(bare, &model?, file_bytes)?
        }
        Source::Package(archive) => {
            let golden_checks = match args.check {
                false => None,
                true => {
                    let engine = engine()?;
                    let (model, _) = host::model(&engine, source.package(), verbosity);
                    Some(check_all(archive, &engine, &model?)?)
                }
            };
            let manifest = archive.manifest().clone();
            let digest = manifest.digest();
            Facts { file_bytes, digest, manifest: Some(manifest), loaded: None, golden_checks }
        }
    };
    to_stdout(|out| {
        if args.json {
            serde_json::to_writer(&mut *out, &facts)?;
            Ok(writeln!(out)?)
        } else {
            Ok(out.write_all(table(&facts).as_bytes())?)
        }
    })?;
    let differing = facts.golden_checks.iter().flatten().filter(|check| !check.same).count();
    if differing > 0 {
        print_error(&format!("{differing} golden cases differ from what the package says"));
        return Ok(Exit::Guest);
    }
    Ok(Exit::Completed)
}

fn of_bare(bare: &Bare, model: &Model, file_bytes: u64) -> Result<Facts> {
    let image = model.image();
    let loaded = Loaded {
        guest: stock_guest().digest(),
        signature: model.signature().clone(),
        image: image.digest(),
        image_bytes: image.len_bytes(),
        image_stored_bytes: image.stored_bytes().or_exit(Exit::Host)?,
        load_fuel: image.load_usage().fuel,
    };
    let digest = bare.model.digest;
    Ok(Facts { file_bytes, digest, manifest: None, loaded: Some(loaded), golden_checks: None })
}

fn check_all(archive: &Archive, engine: &Engine, model: &Model) -> Result<Vec<GoldenCheck>> {
    let check = |golden: &GoldenCase| {
        let at = format!("golden case '{}'", golden.name);
        check(golden, archive.part(&golden.input), engine, model).map_err(|failure| failure.of(at))
    };
    archive.manifest().golden.iter().map(check).collect()
}

fn check(golden: &GoldenCase, input: &[u8], engine: &Engine, model: &Model) -> Result<GoldenCheck> {
    let message = Message::decode(input).or_exit(Exit::BadInput)?;
    if message.kind() != Kind::Run {
        let text = format!("message of kind {:?}, expected Run", message.kind());
        return Err(crate::exit::Failure::message(Exit::BadInput, text));
    }
    let tensors: Vec<_> = message.tensors().map(Tensor::from).collect();
    let parameters: Vec<_> = message.parameters().map(OwnedParameter::from).collect();
    let limits = JobLimits::default();
    let prepared = model.prepare(&tensors, &parameters, &limits, &host::load_limits())?;
    let outcome = prepared.run(&limits, golden.seed, &Cancel::default())?;
    let output_digest = output::digest(&outcome.verdict);
    let Usage { fuel, memory_bytes_peak } = outcome.usage;
    let same = Exit::of_verdict(&outcome.verdict) == Exit::Completed
        && output_digest == golden.output_digest
        && fuel == golden.fuel
        && memory_bytes_peak == golden.memory_bytes_peak;
    Ok(GoldenCheck {
        name: golden.name.clone(),
        same,
        verdict: outcome.verdict.name(),
        output_digest,
        fuel,
        memory_bytes_peak,
        engine_profile: engine.profile(),
    })
}

fn table(facts: &Facts) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match (&facts.manifest, &facts.loaded) {
        (Some(manifest), _) => package(&mut text, facts, manifest),
        (None, Some(loaded)) => bare(&mut text, facts, loaded),
        (None, None) => Ok(()),
    };
    text
}

fn package(text: &mut String, facts: &Facts, manifest: &Manifest) -> std::fmt::Result {
    let Manifest { name, version, licence, authors, abi, guest, limits, .. } = manifest;
    writeln!(text, "package  {name} {version}")?;
    writeln!(text, "digest   {}", facts.digest)?;
    writeln!(text, "size     {}", show_bytes(facts.file_bytes))?;
    if !licence.is_empty() {
        writeln!(text, "licence  {}", escaped(licence))?;
    }
    for author in authors {
        writeln!(text, "author   {}", escaped(author))?;
    }
    writeln!(text, "guest    {}  {}  ABI {abi}", guest.digest, show_bytes(guest.size_bytes))?;
    for asset in &manifest.assets {
        let labels = if manifest.labels.as_ref() == Some(&asset.name) { "  (labels)" } else { "" };
        let (digest, size) = (asset.part.digest, show_bytes(asset.part.size_bytes));
        writeln!(text, "asset    {digest}  {size}  {}{labels}", asset.name)?;
    }
    writeln!(text, "limits   {} fuel, {}", grouped(limits.fuel), show_bytes(limits.memory_bytes))?;
    signature(text, &manifest.signature)?;
    for golden in &manifest.golden {
        let GoldenCase { name, fuel, memory_bytes_peak, output_digest, engine_profile, .. } =
            golden;
        let memory = show_bytes(*memory_bytes_peak);
        writeln!(text, "golden   {name}  {} fuel  {memory}  {output_digest}", grouped(*fuel))?;
        let checked = facts.golden_checks.iter().flatten().find(|check| check.name == *name);
        match checked {
            Some(check) if check.same => writeln!(text, "         same as when it was packed")?,
            Some(check) => {
                let memory = show_bytes(check.memory_bytes_peak);
                let (verdict, fuel) = (check.verdict, grouped(check.fuel));
                writeln!(
                    text,
                    "         DIFFERS: {verdict}  {fuel} fuel  {memory}  {}",
                    check.output_digest
                )?;
                if check.engine_profile != *engine_profile {
                    writeln!(text, "         it was packed under engine profile {engine_profile}")?;
                }
            }
            None => {}
        }
    }
    Ok(())
}

fn bare(text: &mut String, facts: &Facts, loaded: &Loaded) -> std::fmt::Result {
    writeln!(text, "model    {}", facts.digest)?;
    writeln!(text, "size     {}", show_bytes(facts.file_bytes))?;
    writeln!(text, "guest    {}  stock guest", loaded.guest)?;
    let (memory, stored) = (show_bytes(loaded.image_bytes), show_bytes(loaded.image_stored_bytes));
    writeln!(text, "image    {}  {memory}, {stored} stored", loaded.image)?;
    writeln!(text, "load     {} fuel", grouped(loaded.load_fuel))?;
    signature(text, &loaded.signature)
}

fn signature(text: &mut String, signature: &Signature) -> std::fmt::Result {
    let mut list = |role: &str, tensors: &[TensorSignature]| {
        tensors.iter().try_for_each(|tensor| {
            let TensorSignature { name, datatype, .. } = tensor;
            writeln!(text, "{role:7}  {}  {datatype} {}", escaped(name), tensor.shape_text())
        })
    };
    list("input", &signature.inputs)?;
    list("output", &signature.outputs)
}
