//! Planning: a typed model becomes an order of optimised operators.

use super::tensor::{datatype, from_tract};
use crate::{Dim, Error, Outputs, Signature, TensorSpec};
use anyhow::{Context, Result};
use std::sync::Arc;
use tract_onnx::prelude::{IntoRunnable, TValue, TVec, TypedModel, TypedRunnableModel};
use tract_onnx::tract_core::internal::TypedFact;

/// A model that is ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    /// As declared. Optimisation renames nodes, so names are kept here.
    declared: Signature,
}

impl Plan {
    /// `declared` has the inputs and outputs of the model in its own order.
    pub(super) fn new(model: TypedModel, declared: Signature) -> Result<Self> {
        let optimized = model
            .into_optimized()
            .context(Error::invalid_model("the model cannot be optimised"))?;
        let runnable = optimized
            .into_runnable()
            .context(Error::invalid_model("the model cannot be planned"))?;
        let plan = Self { runnable, declared };
        let (inputs, outputs) = plan.facts()?;
        let found = (inputs.len(), outputs.len());
        let allowed = (plan.declared.inputs.len(), plan.declared.outputs.len());
        if found != allowed {
            return Err(Error::invalid_model(format!(
                "planned inputs and outputs are {found:?}, declared are {allowed:?}"
            ))
            .into());
        }
        Ok(plan)
    }

    /// The declared names with the datatypes and shapes that running the plan takes and gives.
    pub(super) fn signature(&self) -> Result<Signature> {
        let (inputs, outputs) = self.facts()?;
        let specs = |declared: &[TensorSpec], facts: Vec<&TypedFact>| {
            let both = declared.iter().zip(facts);
            both.map(|(spec, fact)| planned_spec(&spec.name, fact))
                .collect::<Result<Vec<_>, Error>>()
        };
        Ok(Signature {
            inputs: specs(&self.declared.inputs, inputs)?,
            outputs: specs(&self.declared.outputs, outputs)?,
        })
    }

    /// Runs the plan on inputs in the order of the signature.
    pub(super) fn run(&self, inputs: TVec<TValue>) -> Result<Outputs> {
        let results = self.runnable.run(inputs)?;
        let named = self.declared.outputs.iter().zip(results);
        named.into_iter().try_fold(Outputs::new(), |outputs, (spec, tensor)| {
            from_tract(outputs, &spec.name, tensor)
        })
    }

    fn facts(&self) -> Result<(Vec<&TypedFact>, Vec<&TypedFact>)> {
        let model = self.runnable.model();
        let facts = |outlets: &[_]| {
            let facts = outlets.iter().map(|&outlet| model.outlet_fact(outlet));
            facts.collect::<Result<Vec<_>>>()
        };
        Ok((facts(model.input_outlets()?)?, facts(model.output_outlets()?)?))
    }
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
