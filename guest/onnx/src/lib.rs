//! The stock guest: one asset is the model, and its name says the format. Other assets (labels, a
//! tokenizer) are for others.
//!
//! A model with symbolic input dimensions is loaded twice or more: once without input shapes, for its
//! signature, and once for each set of input shapes, so that no job pays for planning.

use fuelbox_sdk::{Error, Load, Model, Outputs, Result, Run, Signature, tract::TractModel};

/// The names that the model can have.
pub const ASSETS: [&str; 3] = ["model.onnx", "model.nnef.tgz", "model.nnef.tar"];

/// A model that tract runs.
#[derive(Debug)]
pub struct Stock(TractModel);

impl Model for Stock {
    fn load(load: Load) -> Result<Self> {
        let shapes = load.shapes().clone();
        let found: Vec<&str> = load.asset_names().filter(|name| ASSETS.contains(name)).collect();
        let &[name] = found.as_slice() else {
            let all: Vec<_> = load.asset_names().collect();
            return Err(Error::invalid_model(format!(
                "assets {all:?} found, exactly one of {ASSETS:?} allowed"
            ))
            .into());
        };
        let name = name.to_owned();
        let bytes = load.into_asset(&name)?;
        Ok(Self(match name.as_str() {
            "model.onnx" => TractModel::from_onnx(bytes, &shapes)?,
            _ => TractModel::from_nnef(bytes, &shapes)?,
        }))
    }

    fn signature(&self) -> Signature {
        self.0.signature().clone()
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs> {
        self.0.run(run.inputs())
    }
}

fuelbox_sdk::export!(Stock);
