//! What a server and a model say of themselves.

use fuelbox_engine::{OwnedDim, Signature, TensorSignature};
use serde::{Deserialize, Serialize};

/// `GET /v2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the protocol's names
pub struct ServerMetadata {
    pub name: String,
    pub version: String,
    pub extensions: Vec<String>,
}

/// `GET /v2/models/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModelMetadata {
    pub name: String,
    pub versions: Vec<String>,
    pub platform: String,
    pub inputs: Vec<TensorMetadata>,
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TensorMetadata {
    pub name: String,
    pub datatype: String,
    /// -1 stands for any number. The protocol has no word for a shape of any rank: it is `[-1]`.
    pub shape: Vec<i64>,
}

/// The server's own document. `extensions` have the names that Triton gives them.
pub fn server_metadata(name: &str, version: &str, extensions: &[&str]) -> ServerMetadata {
    let extensions = extensions.iter().map(|&extension| extension.into()).collect();
    ServerMetadata { name: name.into(), version: version.into(), extensions }
}

/// A model's document.
pub fn model_metadata(
    name: &str,
    versions: Vec<String>,
    platform: &str,
    signature: &Signature,
) -> ModelMetadata {
    let tensors = |list: &[TensorSignature]| list.iter().map(tensor).collect();
    ModelMetadata {
        name: name.into(),
        versions,
        platform: platform.into(),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
    }
}

fn tensor(signature: &TensorSignature) -> TensorMetadata {
    let TensorSignature { name, datatype, shape } = signature;
    let size = |dim: &OwnedDim| match dim {
        // No tensor has a dimension of over 63 bits.
        OwnedDim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        OwnedDim::Symbol(_) | OwnedDim::Any(()) => -1,
    };
    let shape = shape.as_ref().map_or(vec![-1], |dims| dims.iter().map(size).collect());
    TensorMetadata { name: name.clone(), datatype: datatype.name().into(), shape }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuelbox_engine::DataType;

    #[test]
    fn free_dimensions_are_minus_one() {
        let fixed = |size| OwnedDim::Fixed(size);
        let tensor = |shape| TensorSignature { name: "x".into(), datatype: DataType::Fp32, shape };
        let signature = Signature {
            inputs: vec![
                tensor(Some(vec![OwnedDim::Symbol("n".into()), OwnedDim::Any(()), fixed(3)])),
                tensor(None),
            ],
            outputs: vec![tensor(Some(vec![]))],
        };
        let model = model_metadata("m", vec!["1.0.0".into()], "fuelbox", &signature);
        assert_eq!(
            serde_json::to_string(&model).expect("serialises"),
            concat!(
                r#"{"name":"m","versions":["1.0.0"],"platform":"fuelbox","inputs":["#,
                r#"{"name":"x","datatype":"FP32","shape":[-1,-1,3]},"#,
                r#"{"name":"x","datatype":"FP32","shape":[-1]}],"#,
                r#""outputs":[{"name":"x","datatype":"FP32","shape":[]}]}"#
            )
        );
        let server = server_metadata("fuelbox", "0.1.0", &["classification"]);
        assert_eq!(
            serde_json::to_string(&server).expect("serialises"),
            r#"{"name":"fuelbox","version":"0.1.0","extensions":["classification"]}"#
        );
    }
}
