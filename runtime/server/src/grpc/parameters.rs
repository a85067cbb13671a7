//! Parameters of messages, both ways.

use super::protocol::{InferParameter, infer_parameter::ParameterChoice};
use crate::refusal::{Refusal, excerpt};
use fuelbox_abi::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use fuelbox_engine::{OwnedParameter, OwnedValue};
use fuelbox_oip::OipError;
use std::collections::BTreeMap;

/// Parameters of a request, by name.
pub(super) fn read(
    parameters: BTreeMap<String, InferParameter>,
) -> Result<Vec<OwnedParameter>, Refusal> {
    parameters.into_iter().map(|(name, parameter)| read_one(name, parameter)).collect()
}

fn read_one(name: String, parameter: InferParameter) -> Result<OwnedParameter, Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(OipError::Name { found: name.len(), allowed: NAME_BYTES_MAX }.into());
    }
    let refused = |found: String, allowed: String| {
        let name = excerpt(&name);
        Err(OipError::Parameter { name, found, allowed }.into())
    };
    let value = match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => OwnedValue::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => OwnedValue::Int(value),
        Some(ParameterChoice::StringParam(text)) if text.len() > TEXT_BYTES_MAX => {
            return refused(format!("text of {} bytes", text.len()), TEXT_BYTES_MAX.to_string());
        }
        Some(ParameterChoice::StringParam(text)) => OwnedValue::String(text),
        Some(ParameterChoice::DoubleParam(value)) if value.is_finite() => OwnedValue::Float(value),
        Some(ParameterChoice::DoubleParam(value)) => {
            return refused(value.to_string(), format!("floats up to {:e}", f64::MAX));
        }
        Some(ParameterChoice::Uint64Param(value)) => match i64::try_from(value) {
            Ok(value) => OwnedValue::Int(value),
            // Those are the server's, which reads numbers over 63 bits as text.
            Err(_) if name.starts_with("fuelbox_") => OwnedValue::String(value.to_string()),
            Err(_) => {
                return refused(value.to_string(), format!("whole numbers up to {}", i64::MAX));
            }
        },
        None => return refused("no value".into(), "true, false, numbers and text".into()),
    };
    Ok(OwnedParameter { name, value })
}

/// Parameters of an answer.
pub(super) fn write(parameters: Vec<OwnedParameter>) -> BTreeMap<String, InferParameter> {
    let one = |OwnedParameter { name, value }| (name, write_one(value));
    parameters.into_iter().map(one).collect()
}

fn write_one(value: OwnedValue) -> InferParameter {
    let choice = match value {
        OwnedValue::Bool(value) => ParameterChoice::BoolParam(value),
        OwnedValue::Int(value) => ParameterChoice::Int64Param(value),
        OwnedValue::Float(value) => ParameterChoice::DoubleParam(value),
        OwnedValue::String(text) => ParameterChoice::StringParam(text),
    };
    InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_kind_or_are_refused() {
        use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
        let read_choice = |name: &str, choice: Option<ParameterChoice>| {
            let parameters = [(name.into(), InferParameter { parameter_choice: choice })];
            let read = read(parameters.into()).map_err(|refusal| refusal.sentence)?;
            Ok::<_, String>(read[0].value.clone())
        };
        for (name, choice, expected) in [
            ("a", Some(BoolParam(true)), Ok(OwnedValue::Bool(true))),
            ("a", Some(Int64Param(-1)), Ok(OwnedValue::Int(-1))),
            ("a", Some(DoubleParam(0.5)), Ok(OwnedValue::Float(0.5))),
            ("a", Some(StringParam("b".into())), Ok(OwnedValue::String("b".into()))),
            ("a", Some(Uint64Param(7)), Ok(OwnedValue::Int(7))),
            (
                "fuelbox_seed",
                Some(Uint64Param(u64::MAX)),
                Ok(OwnedValue::String("18446744073709551615".into())),
            ),
            (
                "a",
                Some(Uint64Param(1 << 63)),
                Err(
                    "parameter 'a': found 9223372036854775808, allowed are whole numbers up to 9223372036854775807",
                ),
            ),
            (
                "a",
                Some(DoubleParam(f64::NAN)),
                Err("parameter 'a': found NaN, allowed are floats up to 1.7976931348623157e308"),
            ),
            (
                "a",
                None,
                Err("parameter 'a': found no value, allowed are true, false, numbers and text"),
            ),
            (
                "a",
                Some(StringParam("b".repeat(TEXT_BYTES_MAX + 1))),
                Err("parameter 'a': found text of 65537 bytes, allowed are 65536"),
            ),
            (
                &"a".repeat(NAME_BYTES_MAX + 1),
                Some(BoolParam(true)),
                Err("name of 513 bytes, allowed are 512"),
            ),
        ] {
            assert_eq!(read_choice(name, choice), expected.map_err(String::from));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parameters: Vec<_> = [
            OwnedValue::Bool(false),
            OwnedValue::Int(i64::MIN),
            OwnedValue::Float(-0.1),
            OwnedValue::String("ä".into()),
        ]
        .into_iter()
        .enumerate()
        .map(|(index, value)| OwnedParameter { name: index.to_string(), value })
        .collect();
        assert_eq!(read(write(parameters.clone())).expect("read"), parameters);
    }
}
