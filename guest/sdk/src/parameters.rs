//! The named settings of a request, and of a reply.

use fuelbox_abi::{Message, Parameter, ParameterValue};
use std::collections::BTreeMap;

/// What a parameter is set to.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
}

/// Named settings. Of two with one name the later one counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, Value>);

impl Parameters {
    /// The setting of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets one.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn of(message: &Message<'_>) -> Self {
        let owned = |parameter: Parameter<'_>| {
            let value = match parameter.value {
                ParameterValue::Bool(value) => Value::Bool(value),
                ParameterValue::Int(value) => Value::Int(value),
                ParameterValue::Float(value) => Value::Float(value),
                ParameterValue::String(value) => Value::String(value.into()),
            };
            (parameter.name.into(), value)
        };
        Self(message.parameters().map(owned).collect())
    }

    pub(crate) fn to_abi(&self) -> Vec<Parameter<'_>> {
        let borrowed = |(name, value)| Parameter {
            name,
            value: match value {
                &Value::Bool(value) => ParameterValue::Bool(value),
                &Value::Int(value) => ParameterValue::Int(value),
                &Value::Float(value) => ParameterValue::Float(value),
                Value::String(value) => ParameterValue::String(value),
            },
        };
        self.iter().map(borrowed).collect()
    }
}
