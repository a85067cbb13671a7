//! Native tract as a peer of `cargo xtask compare`: one model, one thread, the protocol of
//! `xtask/src/compare/protocol.rs` on stdin and stdout.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, stdin},
    path::Path,
    sync::Arc,
    time::Instant,
};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor,
    TypedRunnableModel,
};
// Linked for its operators, as the stock guest links it.
use tract_transformers as _;

/// What the workspace pins.
const TRACT: &str = "0.23.9";

fn main() -> Result<()> {
    let mut peer = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let reply = answer(&mut peer, &line);
        println!("{}", reply.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })));
    }
    Ok(())
}

fn answer(peer: &mut Option<Peer>, line: &str) -> Result<Value> {
    let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
    if command == "version" {
        return Ok(json!({ "tract": TRACT }));
    }
    if command == "load" {
        let start = Instant::now();
        *peer = Some(Peer::load(Path::new(argument))?);
        return Ok(json!({ "load_ns": start.elapsed().as_nanos() as u64 }));
    }
    let peer = peer.as_ref().context("no model is loaded")?;
    match command {
        "outputs" => peer.outputs(Path::new(argument)),
        "time" => peer.time(argument.parse().context("number of runs")?),
        _ => bail!("unknown command '{command}'"),
    }
}

struct Peer {
    plan: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
}

/// One line of `inputs.json`.
#[derive(Deserialize)]
struct Input {
    datatype: String,
    shape: Vec<usize>,
    file: String,
}

impl Peer {
    fn load(folder: &Path) -> Result<Self> {
        let inputs = fs::read(folder.join("inputs.json")).context("inputs.json")?;
        let inputs: Vec<Input> = serde_json::from_slice(&inputs)?;
        let mut model = tract_onnx::onnx().model_for_path(folder.join("model.onnx"))?;
        let mut tensors = TVec::new();
        for (index, input) in inputs.iter().enumerate() {
            let tensor = input.tensor(folder)?;
            let fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
            model.set_input_fact(index, fact)?;
            tensors.push(tensor.into());
        }
        let plan = model.into_optimized()?.into_runnable()?;
        Ok(Self { plan, inputs: tensors })
    }

    fn outputs(&self, file: &Path) -> Result<Value> {
        let results = self.plan.run(self.inputs.clone())?;
        let mut bytes = Vec::new();
        let mut shapes = Vec::new();
        for result in &results {
            ensure!(result.datum_type() == DatumType::F32, "an output is not FP32");
            bytes.extend_from_slice(result.as_bytes());
            shapes.push(result.shape().to_vec());
        }
        fs::write(file, bytes)?;
        Ok(json!({ "shapes": shapes }))
    }

    fn time(&self, runs: usize) -> Result<Value> {
        let mut ns = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            let results = self.plan.run(self.inputs.clone())?;
            ns.push(start.elapsed().as_nanos() as u64);
            drop(results);
        }
        Ok(json!({ "ns": ns }))
    }
}

impl Input {
    fn tensor(&self, folder: &Path) -> Result<Tensor> {
        let bytes = fs::read(folder.join(&self.file)).with_context(|| self.file.clone())?;
        let datum_type = match self.datatype.as_str() {
            "FP32" => DatumType::F32,
            "INT64" => DatumType::I64,
            other => bail!("inputs of type {other}"),
        };
        let elements: usize = self.shape.iter().product();
        ensure!(bytes.len() == elements * datum_type.size_of(), "{}: size", self.file);
        // SAFETY: the length fits type and shape, as just checked, and every bit pattern of both types
        // is a value.
        Ok(unsafe { Tensor::from_raw_dt(datum_type, &self.shape, &bytes)? })
    }
}
