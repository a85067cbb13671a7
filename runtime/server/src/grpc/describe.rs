//! Descriptions of models as messages.

use super::protocol::{
    DataType, InferStatistics, ModelConfig, ModelInput, ModelMetadataResponse, ModelOutput,
    ModelStatistics, StatisticDuration, model_metadata_response::TensorMetadata,
    repository_index_response::ModelIndex,
};
use crate::describe::{self, CountTime};

pub(super) fn metadata(of: fuelbox_oip::ModelMetadata) -> ModelMetadataResponse {
    let fuelbox_oip::ModelMetadata { name, versions, platform, inputs, outputs } = of;
    let tensors = |list: Vec<fuelbox_oip::TensorMetadata>| {
        let one = |fuelbox_oip::TensorMetadata { name, datatype, shape }| TensorMetadata {
            name,
            datatype,
            shape,
        };
        list.into_iter().map(one).collect()
    };
    ModelMetadataResponse {
        name,
        versions,
        platform,
        inputs: tensors(inputs),
        outputs: tensors(outputs),
    }
}

pub(super) fn config(of: describe::Config) -> ModelConfig {
    let describe::Config { name, platform, backend, max_batch_size, input, output } = of;
    let data_type = |name: &str| {
        let known = DataType::from_str_name(name);
        known.unwrap_or(DataType::TypeInvalid).into()
    };
    let inputs = input.into_iter().map(|describe::ConfigTensor { name, data_type: of, dims }| {
        ModelInput { name, data_type: data_type(&of), dims }
    });
    let outputs = output.into_iter().map(|describe::ConfigTensor { name, data_type: of, dims }| {
        ModelOutput { name, data_type: data_type(&of), dims }
    });
    ModelConfig {
        name,
        platform: platform.into(),
        max_batch_size,
        input: inputs.collect(),
        output: outputs.collect(),
        backend: backend.into(),
    }
}

pub(super) fn statistics(of: describe::Statistics) -> ModelStatistics {
    let times = of.inference_stats;
    let phase = |CountTime { count, ns }| Some(StatisticDuration { count, ns });
    ModelStatistics {
        name: of.name,
        version: of.version,
        last_inference: of.last_inference,
        inference_count: of.inference_count,
        execution_count: of.execution_count,
        inference_stats: Some(InferStatistics {
            success: phase(times.success),
            fail: phase(times.fail),
            queue: phase(times.queue),
            compute_input: phase(times.compute_input),
            compute_infer: phase(times.compute_infer),
            compute_output: phase(times.compute_output),
        }),
    }
}

pub(super) fn entry(of: describe::IndexEntry) -> ModelIndex {
    let describe::IndexEntry { name, version, state, reason } = of;
    ModelIndex { name, version, state: state.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_has_a_name_in_configurations() {
        for datatype in fuelbox_abi::DataType::ALL {
            let name = match datatype {
                fuelbox_abi::DataType::Bytes => "TYPE_STRING".to_owned(),
                other => format!("TYPE_{}", other.name()),
            };
            let tensor = describe::ConfigTensor { name: "x".into(), data_type: name, dims: vec![] };
            let config = config(describe::Config {
                name: "m".into(),
                platform: describe::PLATFORM,
                backend: describe::PLATFORM,
                max_batch_size: 0,
                input: vec![tensor],
                output: Vec::new(),
            });
            assert_ne!(config.input[0].data_type(), DataType::TypeInvalid, "{datatype}");
        }
    }
}
