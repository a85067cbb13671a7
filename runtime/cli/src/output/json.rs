//! The JSON of `run --json`: one object on one line (`docs/cli.md`).

use super::{Report, digest};
use anyhow::Result;
use fuelbox_engine::{Digest, OwnedParameter, Verdict};
use fuelbox_oip::{ParametersJson, TensorJson};
use serde::Serialize;
use std::{io::Write, time::Duration};

#[derive(Serialize)]
struct Job<'a> {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    outputs: Vec<TensorJson<'a>>,
    output_digest: Digest,
    /// Settings that the model gave beside its outputs; not there when it gave none.
    #[serde(skip_serializing_if = "ParametersJson::is_empty")]
    parameters: ParametersJson<'a>,
    fuel: LoadAndRun,
    memory_bytes_peak: u64,
    wall_us: LoadAndRun,
    engine_profile: Digest,
    log: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<Run>>,
}

#[derive(Serialize)]
struct LoadAndRun {
    load: u64,
    run: u64,
}

#[derive(Serialize)]
struct Run {
    fuel: u64,
    wall_us: u64,
}

/// Writes a report.
pub(crate) fn write(report: &Report, mut out: impl Write) -> Result<()> {
    let parameters: &[OwnedParameter] = match report.verdict() {
        Verdict::Completed { parameters, .. } => parameters,
        Verdict::GuestError { .. }
        | Verdict::Trap { .. }
        | Verdict::OutOfFuel
        | Verdict::BadOutput { .. }
        | Verdict::Cancelled => &[],
    };
    let runs = report.runs.as_ref().map(|runs| {
        runs.iter().map(|run| Run { fuel: run.fuel, wall_us: micros(run.wall) }).collect()
    });
    let job = Job {
        verdict: report.verdict().name(),
        detail: report.verdict().detail(),
        outputs: report.outputs().iter().map(TensorJson::of).collect(),
        output_digest: digest(report.verdict()),
        parameters: ParametersJson(parameters),
        fuel: LoadAndRun { load: report.fuel_load, run: report.fuel_run },
        memory_bytes_peak: report.usage().memory_bytes_peak,
        wall_us: LoadAndRun { load: micros(report.load_time.wall), run: micros(report.wall_run) },
        engine_profile: report.engine_profile,
        log: &report.outcome.log,
        runs,
    };
    serde_json::to_writer(&mut out, &job)?;
    Ok(out.write_all(b"\n")?)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{RunFacts, elements::tests::tensor},
        *,
    };
    use crate::host::LoadTime;
    use fuelbox_engine::{DataType, Outcome, OwnedValue, Usage};

    fn check(verdict: Verdict, runs: Option<Vec<RunFacts>>) -> String {
        let usage = Usage { fuel: 7, memory_bytes_peak: 65536 };
        let report = Report {
            outcome: Outcome { verdict, usage, log: "hi\n".into() },
            fuel_load: 9,
            fuel_run: 7,
            load_time: LoadTime { wall: Duration::from_millis(2), compile: None },
            wall_run: Duration::from_micros(3),
            runs,
            engine_profile: Digest::from_bytes([0; 32]),
        };
        let mut out = Vec::new();
        write(&report, &mut out).expect("writes");
        let text = String::from_utf8(out).expect("text");
        text.replace(&digest(&report.outcome.verdict).hex(), "D").replace(&"0".repeat(64), "P")
    }

    #[test]
    fn every_field_has_its_place() {
        let outputs = vec![tensor(DataType::Fp32, &[1, 2], &[0, 0, 128, 63, 0, 0, 0, 64])];
        let facts = RunFacts { fuel: 7, wall: Duration::from_micros(3) };
        assert_eq!(
            check(Verdict::Completed { outputs, parameters: vec![] }, Some(vec![facts])),
            concat!(
                r#"{"verdict":"completed","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"#,
                r#""data":[1.0,2.0]}],"output_digest":"sha256:D","fuel":{"load":9,"run":7},"#,
                r#""memory_bytes_peak":65536,"wall_us":{"load":2000,"run":3},"#,
                r#""engine_profile":"sha256:P","log":"hi\n","runs":[{"fuel":7,"wall_us":3}]}"#,
                "\n"
            )
        );
        let failed = check(Verdict::OutOfFuel, None);
        let start = r#"{"verdict":"out_of_fuel","detail":"all fuel was used","outputs":[],"#;
        assert!(failed.starts_with(start), "{failed}");
        let parameter = OwnedParameter { name: "b".into(), value: OwnedValue::Bool(true) };
        let with = check(Verdict::Completed { outputs: vec![], parameters: vec![parameter] }, None);
        assert!(with.contains(r#""parameters":{"b":true},"fuel""#), "{with}");
    }
}
