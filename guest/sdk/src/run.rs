//! The request to run a model once: its inputs, parameters.

use crate::{Element, Elements, Error, Parameters, elements::expect};
use fuelbox_abi::{DataType, Kind, Message, StringElements, TensorView};

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
        input.copied().ok_or_else(|| Error::invalid_input(format!("input '{name}' is missing")))
    }

    /// The elements of the input of this name.
    ///
    /// # Errors
    /// When there is none, or it has another datatype.
    pub fn elements<T: Element>(&self, name: &str) -> Result<&'a [T], Error> {
        self.input(name)?.elements()
    }

    /// The truth values of the input of this name.
    ///
    /// # Errors
    /// When there is none, or it is not `BOOL`.
    pub fn bools(&self, name: &str) -> Result<impl Iterator<Item = bool> + use<'a>, Error> {
        self.input(name)?.bools()
    }

    /// The strings or blobs of the input of this name.
    ///
    /// # Errors
    /// When there is none, or it is not `BYTES`.
    pub fn strings(&self, name: &str) -> Result<StringElements<'a>, Error> {
        let input = self.input(name)?;
        expect(&input, DataType::Bytes)?;
        Ok(input.strings())
    }

    /// Settings.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// A request as a host would make it: for tests of a guest, which then need no Wasm.
    pub fn for_test(inputs: &[TensorView<'a>]) -> Self {
        Self { inputs: inputs.to_vec(), parameters: Parameters::default() }
    }

    pub(crate) fn decode(request: &'a [u8]) -> anyhow::Result<Self> {
        let message = Message::decode(request)?;
        if message.kind() != Kind::Run {
            let text = format!("{:?} message found, Run allowed", message.kind());
            return Err(Error::invalid_input(text).into());
        }
        Ok(Self { inputs: message.tensors().collect(), parameters: Parameters::of(&message) })
    }
}
