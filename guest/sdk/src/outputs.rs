//! What a run gives back: tensors that own their elements, and parameters.

use crate::{Element, Elements, Parameters, Value};
use anyhow::{Context, Result};
use fuelbox_abi::{DataType, RANK_MAX, Shape, TensorView, push_string_element};
use std::fmt;
use zerocopy::IntoBytes;

/// Named tensors, in order. Their elements stay where they are until the reply is written: that is
/// their only copy.
#[derive(Debug, Default)]
pub struct Outputs {
    tensors: Vec<Tensor>,
    parameters: Parameters,
}

/// Something that keeps the bytes of a tensor.
pub(crate) trait Payload {
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Payload for Vec<T> {
    fn bytes(&self) -> &[u8] {
        self.as_slice().as_bytes()
    }
}

struct Tensor {
    name: String,
    datatype: DataType,
    shape: Shape,
    payload: Box<dyn Payload>,
}

impl Tensor {
    fn view(&self) -> TensorView<'_> {
        TensorView {
            name: &self.name,
            datatype: self.datatype,
            shape: self.shape,
            bytes: self.payload.bytes(),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.datatype, self.shape)
    }
}

impl Outputs {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// These tensors, and one of numbers.
    ///
    /// # Errors
    /// When there are not as many elements as the shape says.
    pub fn with<T: Element>(self, name: &str, shape: &[u64], elements: Vec<T>) -> Result<Self> {
        self.with_payload(name, T::DATATYPE, shape, Box::new(elements))
    }

    /// These tensors, and one of truth values.
    ///
    /// # Errors
    /// When there are not as many elements as the shape says.
    pub fn with_bools(
        self,
        name: &str,
        shape: &[u64],
        elements: impl IntoIterator<Item = bool>,
    ) -> Result<Self> {
        let bytes: Vec<u8> = elements.into_iter().map(u8::from).collect();
        self.with_payload(name, DataType::Bool, shape, Box::new(bytes))
    }

    /// These tensors, and one of strings or blobs.
    ///
    /// # Errors
    /// When there are not as many elements as the shape says.
    pub fn with_strings<S: AsRef<[u8]>>(
        self,
        name: &str,
        shape: &[u64],
        elements: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut bytes = Vec::new();
        for element in elements {
            push_string_element(&mut bytes, element.as_ref()).with_context(|| {
                format!("output '{name}': element of more than {} bytes", u32::MAX)
            })?;
        }
        self.with_payload(name, DataType::Bytes, shape, Box::new(bytes))
    }

    /// These tensors, and a parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: Value) -> Self {
        self.parameters.set(name, value);
        self
    }

    pub(crate) fn with_payload(
        mut self,
        name: &str,
        datatype: DataType,
        shape: &[u64],
        payload: Box<dyn Payload>,
    ) -> Result<Self> {
        let tensor = Tensor {
            name: name.into(),
            datatype,
            shape: Shape::new(shape).with_context(|| {
                let rank = shape.len();
                format!("output '{name}': {rank} dimensions found, up to {RANK_MAX} allowed")
            })?,
            payload,
        };
        let checked = tensor.view().check();
        checked.with_context(|| format!("output '{name}'"))?;
        self.tensors.push(tensor);
        Ok(self)
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(Tensor::view)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors()
            .find(|tensor| tensor.name == name)
            .with_context(|| format!("output '{name}' is missing"))
    }

    /// The elements of the tensor of this name.
    ///
    /// # Errors
    /// When there is none, or it has another datatype.
    pub fn elements<T: Element>(&self, name: &str) -> Result<&[T]> {
        Ok(self.tensor(name)?.elements()?)
    }

    /// Settings that go with the tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}
