//! The protocol of peers: a line in, a line of JSON out, until stdin ends.
//!
//! | line | answer |
//! | --- | --- |
//! | `version` | names with versions |
//! | `load FOLDER` | [`Loaded`]: reads `model.onnx`, `inputs.json` and the inputs in the folder |
//! | `outputs FILE` | [`Answer`]: runs once, writes all output elements to the file as FP32 |
//! | `time RUNS` | [`Times`]: runs that often, one after the other, each on its own clock |
//! | `queue WORKERS JOBS` | [`Queue`]: fuelbox alone |
//!
//! A peer that cannot do it answers `{"error": TEXT}` and goes on. `inputs.json` lists `name`,
//! `datatype` (`FP32` or `INT64`), `shape` and `file`, which has the elements, little-endian.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A model is ready. All but the time is fuelbox' alone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Loaded {
    pub(super) load_ns: u64,
    /// Of the guest, when its code was not in the cache; not part of the above.
    pub(super) compile_ns: Option<u64>,
    pub(super) load_fuel: Option<u64>,
    pub(super) load_memory_bytes: Option<u64>,
    pub(super) image_bytes: Option<u64>,
    pub(super) image_digest: Option<String>,
    /// The host kernels that jobs run on.
    pub(super) kernels: Option<String>,
}

/// One run's outputs are in the file. All but the shapes is fuelbox' alone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) shapes: Vec<Vec<u64>>,
    pub(super) fuel: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) output_digest: Option<String>,
}

/// Some runs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Times {
    pub(super) ns: Vec<u64>,
}

/// A queue of jobs, all waiting at the start.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Queue {
    /// From the start to the last outcome.
    pub(super) wall_ns: u64,
    /// Of each job: from a worker taking it to its outcome.
    pub(super) execution_ns: Vec<u64>,
    /// Of each job: from the start until a worker takes it.
    pub(super) queued_ns: Vec<u64>,
}

/// Reads an answer.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    let value: Value =
        serde_json::from_str(line).with_context(|| format!("the answer is no JSON: {line:?}"))?;
    if let Some(error) = value.get("error") {
        bail!("{}", error.as_str().unwrap_or("an error without words"));
    }
    serde_json::from_value(value).with_context(|| format!("the answer lacks something: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_errors_are_errors() {
        let times: Times = parse(r#"{"ns": [1, 20]}"#).expect("times");
        assert_eq!(times.ns, [1, 20]);
        let loaded: Loaded = parse(r#"{"load_ns": 5}"#).expect("loaded");
        assert_eq!((loaded.load_ns, loaded.load_fuel), (5, None));
        let answer: Answer = parse(r#"{"shapes": [[1, 2]], "fuel": 7}"#).expect("answer");
        assert_eq!((answer.shapes, answer.fuel), (vec![vec![1, 2]], Some(7)));
        for (line, words) in [
            (r#"{"error": "no such operator"}"#, "no such operator"),
            (r#"{"error": 1}"#, "without words"),
            (r#"{"ms": [1]}"#, "lacks something"),
            (r#"{"ns": [-1]}"#, "lacks something"),
            ("Segmentation fault", "no JSON"),
            ("", "no JSON"),
        ] {
            let error = parse::<Times>(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
