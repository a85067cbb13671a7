//! The trial: a model is run before it is packed, and what was seen goes into the manifest.
//!
//! Each golden case is run twice, and both runs must agree. Without one, inputs are made up where the
//! signature says enough, only to see that the model runs.

use super::parts::sanitised;
use crate::{
    commands::run::same,
    exit::{Exit, Failure, OrExit, Result},
    host,
    input::{InputFile, Inputs, ReadInputs},
    output,
    progress::Verbosity,
};
use fuelbox_abi::{Envelope, Kind};
use fuelbox_engine::{
    Cancel, Engine, GoldenCase, JobLimits, LimitsAsked, Manifest, Model, OwnedParameter, PartRef,
    Tensor, Usage, constants,
};
use std::collections::BTreeSet;

/// Seed of golden cases, and of inputs that are made up.
const SEED: u64 = 0;

/// A golden case before it was run.
pub(super) struct Case {
    name: String,
    inputs: ReadInputs,
}

/// Reads the inputs of all cases.
pub(super) fn read(golden: &[InputFile]) -> anyhow::Result<Vec<Case>> {
    let mut names = BTreeSet::new();
    let mut cases = Vec::with_capacity(golden.len());
    for input in golden {
        let stem = sanitised(&input.path.file_stem().unwrap_or_default().to_string_lossy());
        // Two files of one name in two folders: a, a-2.
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name));
        let name = name.unwrap_or(stem); // the names never end
        names.insert(name.clone());
        cases.push(Case { name, inputs: ReadInputs::of(input)? });
    }
    Ok(cases)
}

/// Runs every case, completes the manifest, and gives the cases' encoded inputs.
pub(super) fn run(
    engine: &Engine,
    model: &Model,
    cases: Vec<Case>,
    manifest: &mut Manifest,
    verbosity: Verbosity,
) -> Result<Vec<Vec<u8>>> {
    manifest.signature = model.signature().clone();
    let mut encoded = Vec::with_capacity(cases.len());
    let mut most = Usage::default();
    let mut measured = false;
    if cases.is_empty() {
        match ReadInputs::default().bind(model.signature(), Some(SEED), &[]) {
            Ok(inputs) => {
                most = job(model, &inputs)
                    .map_err(|failure| failure.of("trial run with made-up inputs"))?
                    .1;
                measured = true;
            }
            Err(why) => verbosity.note(format_args!("the model was loaded, but not run: {why:#}")),
        }
    }
    for Case { name, inputs } in cases {
        let at = format!("golden case '{name}'");
        let inputs = inputs.bind(model.signature(), None, &[]).or_exit(Exit::BadInput);
        let inputs = inputs.map_err(|failure| failure.of(at.clone()))?;
        let (output_digest, usage) = job(model, &inputs).map_err(|failure| failure.of(at))?;
        most.fuel = most.fuel.max(usage.fuel);
        most.memory_bytes_peak = most.memory_bytes_peak.max(usage.memory_bytes_peak);
        measured = true;
        let input = encode(&inputs)?;
        manifest.golden.push(GoldenCase {
            name,
            input: PartRef::of(&input),
            seed: SEED,
            output_digest,
            fuel: usage.fuel,
            memory_bytes_peak: usage.memory_bytes_peak,
            engine_profile: engine.profile(),
        });
        encoded.push(input);
    }
    manifest.limits = limits(measured.then_some(most));
    Ok(encoded)
}

/// Runs a job twice; what it gave and used.
fn job(model: &Model, inputs: &Inputs) -> Result<(fuelbox_engine::Digest, Usage)> {
    let limits = JobLimits::default();
    let Inputs { tensors, parameters } = inputs;
    let prepared = model.prepare(tensors, parameters, &limits, &host::load_limits())?;
    let first = prepared.run(&limits, SEED, &Cancel::default())?;
    let exit = Exit::of_verdict(&first.verdict);
    if exit != Exit::Completed {
        let (name, detail) = (first.verdict.name(), first.verdict.detail().unwrap_or_default());
        return Err(Failure::message(exit, format_args!("{name}: {detail}")));
    }
    same(&first, &prepared.run(&limits, SEED, &Cancel::default())?)?;
    Ok((output::digest(&first.verdict), first.usage))
}

/// The case's input as the guest is given it.
fn encode(inputs: &Inputs) -> Result<Vec<u8>> {
    let tensors: Vec<_> = inputs.tensors.iter().map(Tensor::view).collect();
    let parameters: Vec<_> = inputs.parameters.iter().map(OwnedParameter::view).collect();
    let envelope =
        Envelope { tensors: &tensors, parameters: &parameters, ..Envelope::new(Kind::Run) };
    Ok(envelope.encode().or_exit(Exit::BadInput)?.to_vec())
}

/// What the package asks for: twice the fuel and one and a quarter of the memory that were seen, or
/// the host's defaults when nothing was.
fn limits(most: Option<Usage>) -> LimitsAsked {
    let default = JobLimits::default();
    let Some(Usage { fuel, memory_bytes_peak }) = most else {
        return LimitsAsked { fuel: default.fuel, memory_bytes: default.memory_bytes };
    };
    let roomy = memory_bytes_peak.saturating_add(memory_bytes_peak / 4);
    let pages = roomy.div_ceil(constants::WASM_PAGE_BYTES).min(constants::MEMORY_PAGES_MAX);
    LimitsAsked { fuel: fuel.saturating_mul(2), memory_bytes: pages * constants::WASM_PAGE_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_leave_room() {
        let default = JobLimits::default();
        let page = constants::WASM_PAGE_BYTES;
        let usage = |fuel, memory_bytes_peak| Some(Usage { fuel, memory_bytes_peak });
        for (most, fuel, memory_bytes) in [
            (None, default.fuel, default.memory_bytes),
            (usage(10, 4 * page), 20, 5 * page),
            (usage(10, 5 * page), 20, 7 * page),
            (usage(u64::MAX, default.memory_bytes), u64::MAX, default.memory_bytes),
        ] {
            assert_eq!(limits(most), LimitsAsked { fuel, memory_bytes });
        }
    }

    #[test]
    fn cases_of_one_name_are_numbered() {
        let folder = tempfile::tempdir().expect("folder");
        let files: Vec<_> = ["a.bin", "a.dat", "a.png"].map(|name| folder.path().join(name)).into();
        let inputs: Vec<_> = files
            .iter()
            .map(|path| {
                std::fs::write(path, b"x").expect("file");
                InputFile { name: None, path: path.clone() }
            })
            .collect();
        let cases = read(&inputs).expect("reads");
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["a", "a-2", "a-3"]);
    }
}
