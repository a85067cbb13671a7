//! Options: headers and parameters become what a caller chose.
//!
//! Parameters with the names below are the server's and do not reach the model; a header of the same
//! meaning comes first. All others are the model's.

use crate::{
    infer::Options,
    refusal::{Code, Refusal, excerpt},
};
use axum::http::HeaderMap;
use fuelbox_engine::{OwnedParameter, OwnedValue};
use fuelbox_jobs::{LimitsWanted, Priority};
use std::time::Duration;

/// A deadline of no more than this: a day.
const DEADLINE_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// Splits the server's parameters from the model's, and adds the headers.
pub(crate) fn read(
    headers: &HeaderMap,
    parameters: Vec<OwnedParameter>,
) -> Result<(Options, Vec<OwnedParameter>), Refusal> {
    let mut options = Options::default();
    let mut own = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        if !read_parameter(&mut options, &parameter)? {
            own.push(parameter);
        }
    }
    read_headers(&mut options, headers)?;
    Ok((options, own))
}

/// Takes a parameter that is the server's.
fn read_parameter(options: &mut Options, parameter: &OwnedParameter) -> Result<bool, Refusal> {
    let name = parameter.name.as_str();
    let number = || whole(name, &parameter.value);
    match name {
        "fuelbox_seed" => options.seed = number()?,
        "fuelbox_fuel_limit" => options.limits.fuel = Some(number()?),
        "fuelbox_memory_limit" => options.limits.memory_bytes = Some(number()?),
        "fuelbox_load_fuel_limit" => options.limits.load_fuel = Some(number()?),
        "fuelbox_deadline_ms" => options.deadline = Some(deadline(name, number()?)?),
        "fuelbox_idempotency_key" => match &parameter.value {
            OwnedValue::String(key) => options.idempotency_key = Some(key.clone()),
            other => return Err(bad(name, other, "a string")),
        },
        // Of the protocol's schedule policy: microseconds, and 0 means none.
        "timeout" => match number()? {
            0 => {}
            micros => options.deadline = Some(deadline(name, micros.div_ceil(1_000))?),
        },
        // Of the same: 1 is the highest, 0 the default.
        "priority" => options.priority = priority(number()?)?,
        // What clients send along with requests of no sequence.
        "sequence_id" => match &parameter.value {
            OwnedValue::Int(0) => {}
            OwnedValue::String(id) if id.is_empty() => {}
            OwnedValue::Int(_)
            | OwnedValue::String(_)
            | OwnedValue::Bool(_)
            | OwnedValue::Float(_) => return Err(sequences()),
        },
        "sequence_start" | "sequence_end" => match parameter.value {
            OwnedValue::Bool(false) => {}
            OwnedValue::Bool(true)
            | OwnedValue::Int(_)
            | OwnedValue::Float(_)
            | OwnedValue::String(_) => return Err(sequences()),
        },
        "triton_enable_empty_final_response" => {}
        unknown if unknown.starts_with("fuelbox_") => {
            let sentence =
                format!("parameter '{}': no such option; allowed are {OWN}", excerpt(unknown));
            return Err(Refusal::bad(sentence));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

const OWN: &str = "fuelbox_seed, fuelbox_fuel_limit, fuelbox_memory_limit, fuelbox_load_fuel_limit, \
    fuelbox_deadline_ms, fuelbox_idempotency_key";

fn read_headers(options: &mut Options, headers: &HeaderMap) -> Result<(), Refusal> {
    let number = |name: &str| -> Result<Option<u64>, Refusal> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let text = value.to_str().ok();
        let found = || excerpt(&String::from_utf8_lossy(value.as_bytes()));
        text.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
            Refusal::bad(format!("header {name}: found '{}', expected a whole number", found()))
        })
    };
    if let Some(seed) = number("fuelbox-seed")? {
        options.seed = seed;
    }
    let LimitsWanted { fuel, memory_bytes, load_fuel } = &mut options.limits;
    for (limit, name) in [
        (fuel, "fuelbox-fuel-limit"),
        (memory_bytes, "fuelbox-memory-limit"),
        (load_fuel, "fuelbox-load-fuel-limit"),
    ] {
        *limit = number(name)?.or(*limit);
    }
    if let Some(millis) = number("fuelbox-deadline-ms")? {
        options.deadline = Some(deadline("fuelbox-deadline-ms", millis)?);
    }
    if let Some(key) = headers.get("idempotency-key") {
        options.idempotency_key = Some(idempotency_key(key)?);
    }
    Ok(())
}

/// A key, as it is or as a string of structured fields (RFC 8941), which is in quotes.
pub(crate) fn idempotency_key(value: &axum::http::HeaderValue) -> Result<String, Refusal> {
    let text = value.to_str().map_err(|_| {
        Refusal::bad("header idempotency-key: allowed are 1 to 255 printable ASCII characters")
    })?;
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Ok(quoted.unwrap_or(text).to_owned())
}

fn whole(name: &str, value: &OwnedValue) -> Result<u64, Refusal> {
    let number = match value {
        OwnedValue::Int(number) => u64::try_from(*number).ok(),
        // Numbers over 63 bits, and clients without integers.
        OwnedValue::String(text) => text.parse().ok(),
        OwnedValue::Bool(_) | OwnedValue::Float(_) => None,
    };
    number.ok_or_else(|| bad(name, value, "a whole number of 0 to 2^64 - 1"))
}

fn bad(name: &str, value: &OwnedValue, expected: &str) -> Refusal {
    let found = match value {
        OwnedValue::Bool(value) => value.to_string(),
        OwnedValue::Int(value) => value.to_string(),
        OwnedValue::Float(value) => value.to_string(),
        OwnedValue::String(value) => format!("'{}'", excerpt(value)),
    };
    Refusal::bad(format!("parameter '{name}': found {found}, expected {expected}"))
}

/// A deadline of so many milliseconds.
pub(crate) fn deadline(name: &str, millis: u64) -> Result<Duration, Refusal> {
    if millis <= DEADLINE_MS_MAX {
        return Ok(Duration::from_millis(millis));
    }
    let sentence = format!("{name}: found {millis} ms, allowed are {DEADLINE_MS_MAX}");
    Err(Refusal::bad(sentence))
}

/// The protocol counts from 1, the highest; this host from 9 down to 0.
fn priority(level: u64) -> Result<Priority, Refusal> {
    let own = match level {
        0 => return Ok(Priority::default()),
        1..=10 => u8::try_from(10 - level).ok().and_then(Priority::new),
        _ => None,
    };
    own.ok_or_else(|| {
        Refusal::bad(format!(
            "parameter 'priority': found {level}, allowed are 1 (the highest) to 10, and 0 for the default"
        ))
    })
}

fn sequences() -> Refusal {
    let sentence = "sequences are not supported: every job runs in a fresh copy of its model";
    Refusal::new(Code::NotSupported, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, value: OwnedValue) -> OwnedParameter {
        OwnedParameter { name: name.into(), value }
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    axum::http::HeaderName::from_static(name),
                    axum::http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn options_are_taken_out_and_the_models_own_are_left() {
        use OwnedValue::{Bool, Int, String};
        let (options, own) = read(
            &headers(&[("idempotency-key", "\"k 1\""), ("fuelbox-fuel-limit", "7")]),
            vec![
                parameter("fuelbox_seed", String(u64::MAX.to_string())),
                parameter("fuelbox_fuel_limit", Int(6)),
                parameter("fuelbox_memory_limit", Int(65_536)),
                parameter("timeout", Int(1_500)),
                parameter("priority", Int(1)),
                parameter("sequence_id", Int(0)),
                parameter("sequence_start", Bool(false)),
                parameter("temperature", Int(1)),
            ],
        )
        .expect("options");
        let limits = LimitsWanted { fuel: Some(7), memory_bytes: Some(65_536), load_fuel: None };
        let expected = Options {
            seed: u64::MAX,
            limits,
            deadline: Some(Duration::from_millis(2)),
            priority: Priority::MAX,
            idempotency_key: Some("k 1".into()),
        };
        assert_eq!(options, expected);
        assert_eq!(own, [parameter("temperature", Int(1))]);
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_sentence() {
        use OwnedValue::{Bool, Float, Int, String};
        for (name, value, expected) in [
            (
                "fuelbox_seed",
                Int(-1),
                "parameter 'fuelbox_seed': found -1, expected a whole number of 0 to 2^64 - 1",
            ),
            (
                "fuelbox_seed",
                Float(1.5),
                "parameter 'fuelbox_seed': found 1.5, expected a whole number of 0 to 2^64 - 1",
            ),
            (
                "fuelbox_fuel_limit",
                String("x\n".into()),
                "parameter 'fuelbox_fuel_limit': found 'x\\n', expected a whole number of 0 to 2^64 - 1",
            ),
            (
                "fuelbox_deadline_ms",
                Int(86_400_001),
                "fuelbox_deadline_ms: found 86400001 ms, allowed are 86400000",
            ),
            (
                "priority",
                Int(11),
                "parameter 'priority': found 11, allowed are 1 (the highest) to 10, and 0 for the default",
            ),
            (
                "sequence_id",
                Int(7),
                "sequences are not supported: every job runs in a fresh copy of its model",
            ),
            (
                "sequence_end",
                Bool(true),
                "sequences are not supported: every job runs in a fresh copy of its model",
            ),
            (
                "fuelbox_fule",
                Int(1),
                "parameter 'fuelbox_fule': no such option; allowed are fuelbox_seed, fuelbox_fuel_limit, fuelbox_memory_limit, fuelbox_load_fuel_limit, fuelbox_deadline_ms, fuelbox_idempotency_key",
            ),
        ] {
            let error = read(&HeaderMap::new(), vec![parameter(name, value)]).unwrap_err();
            assert_eq!(error.sentence, expected);
        }
        let error = read(&headers(&[("fuelbox-seed", "0x1")]), Vec::new()).unwrap_err();
        assert_eq!(error.sentence, "header fuelbox-seed: found '0x1', expected a whole number");
    }
}
