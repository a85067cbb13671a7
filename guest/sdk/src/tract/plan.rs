//! Planning: a typed model becomes kernel calls, or an order of tract's optimised operators where a
//! size is not known.

use super::{
    kernels::{self, Program},
    tensor::{datatype, from_tract, to_tract},
};
use crate::{Dim, Error, Outputs, Signature, TensorSpec};
use anyhow::{Context, Result};
use fuelbox_abi::TensorView;
use std::sync::Arc;
use tract_onnx::prelude::{IntoRunnable, TypedModel, TypedRunnableModel};
use tract_onnx::tract_core::internal::TypedFact;

/// A model that is ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    made: Made,
    /// With the declared names: optimisation renames nodes.
    signature: Signature,
}

#[derive(Debug)]
enum Made {
    Kernels(Program),
    Tract(Arc<TypedRunnableModel>),
}

impl Plan {
    /// `declared` has the inputs and outputs of the model in its own order.
    pub(super) fn new(model: TypedModel, declared: &Signature) -> Result<Self> {
        let model = model
            .into_decluttered()
            .context(Error::invalid_model("the model cannot be optimised"))?;
        if kernels::is_known(&model) {
            let signature = planned(&model, declared)?;
            let program = kernels::program(model)
                .context(Error::invalid_model("the model cannot be planned"))?;
            return Ok(Self { made: Made::Kernels(program), signature });
        }
        let optimized = model
            .into_optimized()
            .context(Error::invalid_model("the model cannot be optimised"))?;
        let signature = planned(&optimized, declared)?;
        let runnable = optimized
            .into_runnable()
            .context(Error::invalid_model("the model cannot be planned"))?;
        Ok(Self { made: Made::Tract(runnable), signature })
    }

    /// The declared names with the datatypes and shapes that running the plan takes and gives.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs the plan on inputs in the order of the signature.
    pub(super) fn run(&self, inputs: &[&TensorView<'_>]) -> Result<Outputs> {
        let outputs = &self.signature.outputs;
        match &self.made {
            Made::Kernels(program) => {
                let names: Vec<&str> = outputs.iter().map(|spec| &*spec.name).collect();
                program.run(inputs, &names)
            }
            Made::Tract(runnable) => {
                let inputs = inputs.iter().map(|input| Ok(to_tract(input)?.into()));
                let results = runnable.run(inputs.collect::<Result<_>>()?)?;
                let mut named = outputs.iter().zip(results);
                named.try_fold(Outputs::new(), |outputs, (spec, tensor)| {
                    from_tract(outputs, &spec.name, tensor)
                })
            }
        }
    }
}

fn planned(model: &TypedModel, declared: &Signature) -> Result<Signature> {
    let (inputs, outputs) = (model.input_outlets()?, model.output_outlets()?);
    let found = (inputs.len(), outputs.len());
    let allowed = (declared.inputs.len(), declared.outputs.len());
    if found != allowed {
        return Err(Error::invalid_model(format!(
            "planned inputs and outputs are {found:?}, declared are {allowed:?}"
        ))
        .into());
    }
    let specs = |declared: &[TensorSpec], outlets: &[_]| {
        let both = declared.iter().zip(outlets);
        let specs =
            both.map(|(spec, &outlet)| Ok(planned_spec(&spec.name, model.outlet_fact(outlet)?)?));
        specs.collect::<Result<Vec<_>>>()
    };
    Ok(Signature {
        inputs: specs(&declared.inputs, inputs)?,
        outputs: specs(&declared.outputs, outputs)?,
    })
}

/// The spec of a tensor of which tract knows datatype and shape.
pub(super) fn planned_spec(name: &str, fact: &TypedFact) -> Result<TensorSpec, Error> {
    let datum_type = fact.datum_type;
    let datatype = datatype(datum_type).ok_or_else(|| {
        Error::unsupported(format!(
            "'{name}' has elements of type {datum_type:?}, which no message carries"
        ))
    })?;
    let dims = fact.shape.iter().map(|dim| match dim.to_i64() {
        Ok(size) => Dim::Fixed(size.unsigned_abs()),
        Err(_) => Dim::Symbol(dim.to_string()),
    });
    Ok(TensorSpec { name: name.into(), datatype, dims: Some(dims.collect()) })
}
