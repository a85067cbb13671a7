//! Parameters as `NAME=VALUE`.

use fuelbox_engine::{OwnedParameter, OwnedValue};
use fuelbox_oip::value_of_json;

/// `true`, `false`, numbers and quoted text are what JSON takes them for; anything else is text.
pub(crate) fn parse(text: &str) -> Result<OwnedParameter, String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE was expected")?;
    if name.is_empty() {
        return Err("NAME=VALUE was expected".into());
    }
    let value =
        value_of_json(value).unwrap_or_else(|| OwnedValue::String(text[name.len() + 1..].into()));
    Ok(OwnedParameter { name: name.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_kind_they_look_like() {
        let text = |text: &str| Some(OwnedValue::String(text.into()));
        for (given, expected) in [
            ("a=true", Some(OwnedValue::Bool(true))),
            ("a=-3", Some(OwnedValue::Int(-3))),
            ("a=0.5", Some(OwnedValue::Float(0.5))),
            ("a=\"3\"", text("3")),
            ("a=b=c", text("b=c")),
            ("a=", text("")),
            ("a=null", text("null")),
            ("a=18446744073709551615", text("18446744073709551615")),
            ("a", None),
            ("=1", None),
        ] {
            assert_eq!(parse(given).ok().map(|parameter| parameter.value), expected, "{given}");
        }
    }
}
