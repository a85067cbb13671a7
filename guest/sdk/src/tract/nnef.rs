//! NNEF: an archive becomes a typed model.

use super::{plan::planned_spec, shape::Bound};
use crate::{Error, Signature};
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::collections::HashMap;
use tract_nnef::framework::Nnef;
use tract_onnx::{
    WithOnnx,
    prelude::{Framework, TypedModel},
    tract_core::internal::TDim,
};
use tract_transformers::WithTractTransformers;

/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a tar file, plain or gzip. Tensors are read one at a time.
pub(super) fn read(mut bytes: &[u8]) -> Result<TypedModel> {
    let framework = framework();
    let proto = if bytes.starts_with(&GZIP) {
        framework.proto_model_for_read(&mut GzDecoder::new(bytes))
    } else {
        framework.proto_model_for_read(&mut bytes)
    };
    let proto = proto.context(Error::invalid_model("the file is no NNEF archive"))?;
    framework
        .model_for_proto_model(&proto)
        .context(Error::invalid_model("the NNEF graph cannot be read"))
}

/// NNEF with the extensions that tract writes for operators that NNEF lacks.
fn framework() -> Nnef {
    tract_nnef::nnef().with_tract_resource().with_onnx().with_tract_transformers()
}

/// What the archive declares.
pub(super) fn signature(model: &TypedModel) -> Result<Signature> {
    let spec = |outlet, name: &str| {
        Ok::<_, anyhow::Error>(planned_spec(name, model.outlet_fact(outlet)?)?)
    };
    let mut signature = Signature::new();
    for &outlet in model.input_outlets()? {
        signature.inputs.push(spec(outlet, &model.node(outlet.node).name)?);
    }
    for &outlet in model.output_outlets()? {
        let name = &model.node(outlet.node).name;
        let name = model.outlet_label(outlet).unwrap_or(name);
        signature.outputs.push(spec(outlet, name)?);
    }
    Ok(signature)
}

/// Puts numbers in place of the symbols.
pub(super) fn build(model: TypedModel, bound: &Bound) -> Result<TypedModel> {
    let mut values = HashMap::new();
    for (name, &size) in &bound.symbols {
        if let Some(symbol) = model.symbols.get(name) {
            values.insert(symbol, TDim::from(i64::try_from(size)?));
        }
    }
    if values.is_empty() {
        return Ok(model);
    }
    model.set_symbols(&values).context(Error::invalid_model("the model does not take these shapes"))
}
