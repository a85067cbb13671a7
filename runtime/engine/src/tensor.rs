//! Tensors and parameters that the host owns.

use fuelbox_abi::{DataType, Parameter, ParameterValue, Shape, TensorView};

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
