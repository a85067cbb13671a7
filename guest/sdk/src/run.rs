//! The request to run a model once: its inputs, parameters.

use crate::{Element, Elements, Error, Parameters};
use fuelbox_abi::{Kind, Message, TensorView};

/// A request to run a model. Its tensors are read where the host wrote them.
#[derive(Debug)]
pub struct Run<'a> {
    inputs: Vec<TensorView<'a>>,
    parameters: Parameters,
}

impl<'a> Run<'a> {
    /// All inputs, in the caller's order.
    pub fn inputs(&self) -> &[TensorView<'a>] {
        &self.inputs
    }

    /// The input of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn input(&self, name: &str) -> Result<TensorView<'a>, Error> {
        let input = self.inputs.iter().find(|input| input.name == name);
        input
            .copied()
            .ok_or_else(|| Error::invalid_input(format!("input '{name}' is missing")))
    }

    /// The elements of the input of this name.
    ///
    /// # Errors
    /// When there is none, or it has another datatype.
    pub fn elements<T: Element>(&self, name: &str) -> Result<&'a [T], Error> {
        self.input(name)?.elements()
    }

    /// Settings.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn decode(request: &'a [u8]) -> anyhow::Result<Self> {
        let message = Message::decode(request)?;
        if message.kind() != Kind::Run {
            let text = format!("{:?} message found, Run allowed", message.kind());
            return Err(Error::invalid_input(text).into());
        }
        Ok(Self {
            inputs: message.tensors().collect(),
            parameters: Parameters::of(&message),
        })
    }
}
