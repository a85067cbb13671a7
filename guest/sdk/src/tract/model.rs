//! A model that tract runs, whatever format it came in.

use super::{nnef, onnx, plan::Plan, shape::bind};
use crate::{Error, Outputs, Shapes, Signature};
use anyhow::Result;
use fuelbox_abi::TensorView;

/// An ONNX or NNEF model: planned, when all its input shapes are known.
#[derive(Debug)]
pub struct TractModel {
    signature: Signature,
    plan: Option<Plan>,
}

impl TractModel {
    /// Reads an ONNX file, and plans it for these input shapes. Where the model itself leaves no
    /// choice, no shapes are needed; a model with symbolic inputs that is read without shapes has a
    /// signature, and does not run.
    ///
    /// `bytes` are dropped before the model is built, so that a load takes about twice the file's size:
    /// [`Load::into_asset`](crate::Load::into_asset) gives them without a copy.
    ///
    /// # Errors
    /// When the file is no model, has operators that tract lacks (all of them are named), keeps data
    /// in other files, or contradicts the shapes.
    pub fn from_onnx(bytes: impl AsRef<[u8]> + Send + 'static, shapes: &Shapes) -> Result<Self> {
        let checked = onnx::check(onnx::decode(bytes)?)?;
        let signature = checked.signature().clone();
        let Some(bound) = bind(&signature, shapes)? else {
            let plan = None;
            return Ok(Self { signature, plan });
        };
        Ok(Self::planned(Plan::new(checked.build(&bound)?, &signature)?))
    }

    /// Reads an NNEF archive (a tar file, plain or gzip), and plans it as
    /// [`from_onnx`](Self::from_onnx) does.
    ///
    /// # Errors
    /// When the file is no model, has operators that tract lacks, or contradicts the shapes.
    pub fn from_nnef(bytes: impl AsRef<[u8]>, shapes: &Shapes) -> Result<Self> {
        let model = nnef::read(bytes.as_ref())?;
        drop(bytes);
        let signature = nnef::signature(&model)?;
        let Some(bound) = bind(&signature, shapes)? else {
            let plan = None;
            return Ok(Self { signature, plan });
        };
        Ok(Self::planned(Plan::new(nnef::build(model, &bound)?, &signature)?))
    }

    fn planned(plan: Plan) -> Self {
        let signature = plan.signature().clone();
        let plan = Some(plan);
        Self { signature, plan }
    }

    /// What goes in and what comes out: as the file declares it, with symbols, or all numbers once
    /// the model is planned.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs the model. Inputs may come in any order.
    ///
    /// # Errors
    /// When the inputs do not fit the signature, the model was not planned, or tract fails.
    pub fn run(&self, inputs: &[TensorView<'_>]) -> Result<Outputs> {
        self.signature.check(inputs)?;
        let plan = self.plan.as_ref().ok_or_else(|| self.unplanned())?;
        let in_order = self.signature.inputs.iter().map(|spec| {
            // There, as `check` says.
            let input = inputs.iter().find(|input| input.name == spec.name);
            let missing = || Error::invalid_input(format!("input '{}' is missing", spec.name));
            input.ok_or_else(missing)
        });
        plan.run(&in_order.collect::<Result<Vec<_>, _>>()?)
    }

    fn unplanned(&self) -> Error {
        let symbolic = |dims: &Vec<crate::Dim>| {
            let fixed = |dim| matches!(dim, &crate::Dim::Fixed(_));
            !dims.iter().all(fixed)
        };
        let inputs = &self.signature.inputs;
        let open = inputs
            .iter()
            .filter(|spec| spec.dims.as_ref().is_none_or(symbolic))
            .map(|spec| format!("'{}' {}", spec.name, spec.shape()));
        Error::invalid_input(format!(
            "the model was loaded without input shapes, and needs them for {}",
            open.collect::<Vec<_>>().join(", ")
        ))
    }
}
