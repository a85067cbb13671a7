//! What a job gave becomes a message: the outputs that were asked for, in that order, raw. Outputs that
//! are not turned into classes are moved, not copied.

use super::{
    parameters::write as write_parameters,
    protocol::{ModelInferResponse, model_infer_response::InferOutputTensor},
};
use crate::{
    app::App,
    bill::JobBill,
    models::Model,
    refusal::{Code, Refusal, excerpt},
};
use fuelbox_engine::Tensor;
use fuelbox_jobs::Finished;
use fuelbox_oip::{OipError, Requested, RequestedOutput};
use prost::bytes::Bytes;
use tokio::task::block_in_place;

/// The answer of a job, with its bill among the parameters. The job's outputs are taken out of it.
pub(super) fn write(
    app: &App,
    model: &Model,
    id: Option<String>,
    requested: &Requested,
    finished: &mut Finished,
) -> Result<ModelInferResponse, Refusal> {
    let outputs = finished.outputs.take().ok_or_else(|| {
        Refusal::new(Code::NotFound, "the outputs of this job are not kept any more")
    })?;
    let wanted = match requested.outputs.as_slice() {
        [] => outputs,
        requested => pick(app, model, requested, outputs)?,
    };
    let bill = JobBill::of(&finished.job);
    let parameters = bill.map(|bill| bill.parameters(&finished.parameters)).unwrap_or_default();
    let (model_name, model_version) = model.key();
    let mut response = ModelInferResponse {
        model_name: model_name.into(),
        model_version: model_version.into(),
        id: id.unwrap_or_default(),
        parameters: write_parameters(parameters),
        outputs: Vec::with_capacity(wanted.len()),
        raw_output_contents: Vec::with_capacity(wanted.len()),
    };
    for Tensor { name, datatype, shape, bytes } in wanted {
        // No tensor has a dimension of over 63 bits: its bytes would not fit any memory.
        let size = |&size: &u64| i64::try_from(size).unwrap_or(i64::MAX);
        response.outputs.push(InferOutputTensor {
            name,
            datatype: datatype.name().into(),
            shape: shape.iter().map(size).collect(),
            ..InferOutputTensor::default()
        });
        response.raw_output_contents.push(Bytes::from(bytes));
    }
    Ok(response)
}

/// The outputs that are wanted. Each is asked for once, by a name that the model has.
fn pick(
    app: &App,
    model: &Model,
    requested: &[RequestedOutput],
    mut outputs: Vec<Tensor>,
) -> Result<Vec<Tensor>, Refusal> {
    let wants_classes = requested.iter().any(|output| output.classes.is_some());
    let labels = match wants_classes {
        true => block_in_place(|| app.models.labels(model))?,
        false => None,
    };
    let mut wanted = Vec::with_capacity(requested.len());
    for request in requested {
        let place = outputs.iter().position(|output| output.name == request.name);
        let unknown = || OipError::UnknownOutput {
            name: excerpt(&request.name),
            allowed: "those of the model".into(),
        };
        let output = outputs.swap_remove(place.ok_or_else(unknown)?);
        wanted.push(match request.classes {
            Some(top) => block_in_place(|| fuelbox_oip::classified(&output, top, labels))?,
            None => output,
        });
    }
    Ok(wanted)
}
