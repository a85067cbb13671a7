//! Parameters: text of JSON becomes a value, straight from its digits.

use crate::{error::OipError, text::excerpt};
use fuelbox_abi::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use fuelbox_engine::{OwnedParameter, OwnedValue};

/// The value that a piece of JSON has: none for lists, objects, `null`, integers over 63 bits, floats
/// beyond the largest, and what is no JSON.
pub fn value_of_json(text: &str) -> Option<OwnedValue> {
    let text = text.trim_ascii();
    match text.bytes().next()? {
        b't' | b'f' => text.parse().ok().map(OwnedValue::Bool),
        b'"' => serde_json::from_str(text).ok().map(OwnedValue::String),
        b'-' | b'0'..=b'9' => number(text),
        _ => None,
    }
}

fn number(text: &str) -> Option<OwnedValue> {
    // What JSON takes for a number: Rust reads more.
    serde_json::from_str::<serde_json::Number>(text).ok()?;
    match text.contains(['.', 'e', 'E']) {
        true => text.parse().ok().filter(|float: &f64| float.is_finite()).map(OwnedValue::Float),
        false => text.parse().ok().map(OwnedValue::Int),
    }
}

/// A parameter of a request, within what messages to a model hold.
pub(crate) fn checked(name: String, json: &str) -> Result<OwnedParameter, OipError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(OipError::Name { found: name.len(), allowed: NAME_BYTES_MAX });
    }
    let refused = |found: &str, allowed: String| OipError::Parameter {
        name: excerpt(&name),
        found: found.into(),
        allowed,
    };
    match value_of_json(json) {
        Some(OwnedValue::String(text)) if text.len() > TEXT_BYTES_MAX => {
            Err(refused(&format!("text of {} bytes", text.len()), TEXT_BYTES_MAX.to_string()))
        }
        Some(value) => Ok(OwnedParameter { name, value }),
        None => {
            let kinds = "true, false, numbers and text".to_owned();
            let numbers =
                || format!("whole numbers up to {} and floats up to {:e}", i64::MAX, f64::MAX);
            Err(match json.bytes().next() {
                Some(b'[') => refused("a list", kinds),
                Some(b'{') => refused("an object", kinds),
                Some(b'n') => refused("null", kinds),
                Some(b'"') => refused("text that is not Unicode", kinds),
                _ => refused(&excerpt(json), numbers()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_kind_they_look_like() {
        let text = |text: &str| Some(OwnedValue::String(text.into()));
        for (json, expected) in [
            ("true", Some(OwnedValue::Bool(true))),
            ("-3", Some(OwnedValue::Int(-3))),
            ("9223372036854775807", Some(OwnedValue::Int(i64::MAX))),
            ("9223372036854775808", None),
            ("0.5", Some(OwnedValue::Float(0.5))),
            ("1e2", Some(OwnedValue::Float(100.0))),
            ("1e400", None),
            ("01", None),
            ("-", None),
            ("1.", None),
            ("\"3\"", text("3")),
            ("\"\\u00e4\"", text("ä")),
            ("\"\\ud800\"", None),
            ("null", None),
            ("[]", None),
            ("truth", None),
            ("", None),
        ] {
            assert_eq!(value_of_json(json), expected, "{json}");
        }
    }
}
