//! Tensors and parameters that the host owns, and the canonical digest of an output.

use fuelbox_abi::{DataType, Parameter, ParameterValue, Shape, TensorView};
use fuelbox_digest::{Digest, Hasher};

/// A tensor with its own bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Type of the elements.
    pub datatype: DataType,
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Elements in row-major order, little-endian; `BYTES` elements behind their `u32` lengths.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// The tensor in place.
    pub fn view(&self) -> TensorView<'_> {
        let Self { name, datatype, shape, bytes } = self;
        TensorView { name, datatype: *datatype, shape: *shape, bytes }
    }
}

impl From<TensorView<'_>> for Tensor {
    fn from(view: TensorView<'_>) -> Self {
        Self {
            name: view.name.into(),
            datatype: view.datatype,
            shape: view.shape,
            bytes: view.bytes.into(),
        }
    }
}

/// A parameter with its own text.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedParameter {
    /// Unique within its request.
    pub name: String,
    /// What it is set to.
    pub value: OwnedValue,
}

/// The value of an [`OwnedParameter`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum OwnedValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
}

impl OwnedParameter {
    /// The parameter in place.
    pub fn view(&self) -> Parameter<'_> {
        let value = match &self.value {
            OwnedValue::Bool(value) => ParameterValue::Bool(*value),
            OwnedValue::Int(value) => ParameterValue::Int(*value),
            OwnedValue::Float(value) => ParameterValue::Float(*value),
            OwnedValue::String(value) => ParameterValue::String(value),
        };
        Parameter { name: &self.name, value }
    }
}

impl From<Parameter<'_>> for OwnedParameter {
    fn from(parameter: Parameter<'_>) -> Self {
        let value = match parameter.value {
            ParameterValue::Bool(value) => OwnedValue::Bool(value),
            ParameterValue::Int(value) => OwnedValue::Int(value),
            ParameterValue::Float(value) => OwnedValue::Float(value),
            ParameterValue::String(value) => OwnedValue::String(value.into()),
        };
        Self { name: parameter.name.into(), value }
    }
}

/// The digest of a job's outputs (`docs/formats/digests.md`): the tensors in the model's order, each
/// as name, datatype code, rank, dimensions and bytes.
pub fn output_digest(tensors: &[Tensor]) -> Digest {
    let mut hasher = Hasher::new("fuelbox outputs 1");
    hasher.number(tensors.len() as u64);
    for tensor in tensors {
        hasher.field(tensor.name.as_bytes());
        hasher.number(tensor.datatype.code().into());
        hasher.number(tensor.shape.len() as u64);
        for &dim in tensor.shape.iter() {
            hasher.number(dim);
        }
        hasher.field(&tensor.bytes);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_digest_is_pinned_and_sees_every_field() {
        let tensor = Tensor {
            name: "y".into(),
            datatype: DataType::Fp32,
            shape: Shape::new(&[1, 2]).expect("rank"),
            bytes: vec![0, 0, 128, 63, 0, 0, 0, 64],
        };
        let pinned = output_digest(std::slice::from_ref(&tensor));
        let mut others = vec![tensor.clone(); 4];
        others[0].name = "z".into();
        others[1].datatype = DataType::Int32;
        others[2].shape = Shape::new(&[2, 1]).expect("rank");
        others[3].bytes[7] = 65;
        for other in others {
            assert_ne!(output_digest(&[other]), pinned);
        }
        assert_eq!(
            pinned.to_string(),
            "sha256:ad646f79f2c554dc6d1676576579ffd426ac68b394d197beb52bbfb5b5dd41db"
        );
    }
}
