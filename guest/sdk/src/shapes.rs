//! The input shapes that a model is to be planned for.

use crate::Error;
use fuelbox_abi::{Dims, Message, Role, Shape};
use std::collections::BTreeMap;

/// Shapes of inputs, by the inputs' names. Empty when the host does not know them yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes(BTreeMap<String, Shape>);

impl Shapes {
    /// No shapes.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and one more.
    ///
    /// # Errors
    /// When the shape has too many dimensions, or the input has a shape already.
    pub fn with(mut self, input: impl Into<String>, dims: &[u64]) -> Result<Self, Error> {
        let input = input.into();
        let shape = Shape::new(dims).ok_or_else(|| {
            Error::invalid_input(format!(
                "input '{input}': {} dimensions found, up to {} allowed",
                dims.len(),
                fuelbox_abi::RANK_MAX
            ))
        })?;
        self.insert(input, shape)?;
        Ok(self)
    }

    /// The shape of this input.
    pub fn get(&self, input: &str) -> Option<Shape> {
        self.0.get(input).copied()
    }

    /// All of them, by input.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Shape)> {
        self.0.iter().map(|(input, shape)| (input.as_str(), *shape))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of(message: &Message<'_>) -> Result<Self, Error> {
        let mut shapes = Self::new();
        for spec in message.specs().filter(|spec| spec.role == Role::Input) {
            let shape = spec.dims.as_ref().and_then(Dims::fixed).ok_or_else(|| {
                Error::invalid_input(format!(
                    "input '{}': shapes to plan for have a number in every dimension",
                    spec.name
                ))
            })?;
            shapes.insert(spec.name.into(), shape)?;
        }
        Ok(shapes)
    }

    fn insert(&mut self, input: String, shape: Shape) -> Result<(), Error> {
        if self.0.contains_key(&input) {
            let text = format!("input '{input}' has two shapes to plan for");
            return Err(Error::invalid_input(text));
        }
        self.0.insert(input, shape);
        Ok(())
    }
}
