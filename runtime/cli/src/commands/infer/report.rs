//! What became of a job on a server: the answer, and the bill in its headers.

use super::digest;
use crate::{
    client::{Refused, header},
    commands::print,
    exit::{Exit, Result},
    output::{columns::facts, table, text::escaped},
    units::grouped,
};
use fuelbox_engine::{Digest, OwnedParameter, Tensor, output_digest};
use fuelbox_ledger::Credits;
use fuelbox_oip::{Labels, ParametersJson, Reply, TensorJson};
use reqwest::header::HeaderMap;
use serde::Serialize;

/// A job's end.
#[derive(Debug)]
pub(super) struct Report {
    /// Name and version, of a job that completed.
    model: Option<(String, Option<String>)>,
    outputs: Vec<Tensor>,
    parameters: Vec<OwnedParameter>,
    pub(super) verdict: String,
    /// Why there is no answer.
    detail: Option<String>,
    exit: Exit,
    pub(super) bill: Bill,
}

/// What a fuelbox server says of a job; others say nothing.
#[derive(Debug)]
pub(super) struct Bill {
    pub(super) job: Option<String>,
    pub(super) fuel: Option<u64>,
    credits: Option<Credits>,
    pub(super) receipt: Option<Digest>,
    pub(super) package: Option<Digest>,
    verdict: Option<String>,
    /// Whether this is an earlier request's answer.
    repeated: bool,
}

/// One object (`docs/cli.md`).
#[derive(Serialize)]
struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    job: Option<&'a str>,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    outputs: Vec<TensorJson<'a>>,
    output_digest: Digest,
    #[serde(skip_serializing_if = "ParametersJson::is_empty")]
    parameters: ParametersJson<'a>,
    fuel: Fuel,
    package: Option<Digest>,
    credits_micro: Option<u64>,
    receipt: Option<Digest>,
    repeated: bool,
    /// Only when it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
}

#[derive(Serialize)]
struct Fuel {
    run: Option<u64>,
}

impl Bill {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| header(headers, name).map(str::to_owned);
        Self {
            job: text("fuelbox-job"),
            fuel: header(headers, "fuelbox-fuel").and_then(|fuel| fuel.parse().ok()),
            credits: header(headers, "fuelbox-credits").and_then(|credits| credits.parse().ok()),
            receipt: digest(headers, "fuelbox-receipt"),
            package: digest(headers, "fuelbox-package"),
            verdict: text("fuelbox-verdict"),
            repeated: header(headers, "idempotent-replayed") == Some("true"),
        }
    }
}

impl Report {
    pub(super) fn of_completed(reply: Reply, headers: &HeaderMap) -> Self {
        let Reply { model_name, model_version, mut parameters, outputs, .. } = reply;
        // The bill once more.
        parameters.retain(|parameter| !parameter.name.starts_with("fuelbox_"));
        Self {
            model: Some((model_name, model_version)),
            outputs,
            parameters,
            verdict: "completed".into(),
            detail: None,
            exit: Exit::Completed,
            bill: Bill::read(headers),
        }
    }

    /// A job that gave no answer, and was billed.
    pub(super) fn of_failed(refused: &Refused) -> Self {
        let bill = Bill::read(&refused.headers);
        let verdict = refused.verdict.clone().or_else(|| bill.verdict.clone());
        Self {
            model: None,
            outputs: Vec::new(),
            parameters: Vec::new(),
            verdict: verdict.unwrap_or_else(|| refused.code.clone()),
            detail: Some(refused.to_string()),
            exit: refused.exit(),
            bill,
        }
    }

    pub(super) fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    pub(super) fn job(&self) -> Option<&str> {
        self.bill.job.as_deref()
    }

    /// Why the job failed.
    pub(super) fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the answer. `verified`: whether the receipt holds, when somebody looked.
    pub(super) fn print(
        &self,
        json: bool,
        labels: Option<&Labels>,
        verified: Option<bool>,
    ) -> Result<()> {
        print(json, &self.json(verified), || self.table(labels, verified))
    }

    fn json(&self, verified: Option<bool>) -> impl Serialize {
        let Bill { job, fuel, credits, receipt, package, repeated, .. } = &self.bill;
        let (model, version) = match &self.model {
            Some((model, version)) => (Some(model.as_str()), version.as_deref()),
            None => (None, None),
        };
        Json {
            model,
            version,
            job: job.as_deref(),
            verdict: &self.verdict,
            detail: self.detail(),
            outputs: self.outputs.iter().map(TensorJson::of).collect(),
            output_digest: output_digest(&self.outputs),
            parameters: ParametersJson(&self.parameters),
            fuel: Fuel { run: *fuel },
            package: *package,
            credits_micro: credits.map(|credits| credits.micros()),
            receipt: *receipt,
            repeated: *repeated,
            verified,
        }
    }

    fn table(&self, labels: Option<&Labels>, verified: Option<bool>) -> String {
        let Bill { job, fuel, credits, receipt, repeated, .. } = &self.bill;
        let mut lines = vec![("verdict", escaped(&self.verdict))];
        if let Some(fuel) = fuel {
            lines.push(("fuel", format!("{} to run", grouped(*fuel))));
        }
        if let Some(credits) = credits {
            let note = if *repeated { "; nothing was billed this time" } else { "" };
            lines.push(("bill", format!("{credits} credits{note}")));
        }
        if let Some(job) = job {
            lines.push(("job", escaped(job)));
        }
        if let Some(receipt) = receipt {
            lines.push(("receipt", receipt.to_string()));
        }
        match verified {
            Some(true) => lines.push(("", "its signature holds, it is of this answer".into())),
            Some(false) => lines.push(("", "DOES NOT HOLD".into())),
            None => {}
        }
        table::answer(&self.outputs, labels) + &facts(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(headers: &[(&'static str, &str)]) -> Report {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let reply = Reply {
            model_name: "m".into(),
            model_version: None,
            id: None,
            parameters: vec![],
            outputs: vec![],
        };
        Report::of_completed(reply, &map)
    }

    #[test]
    fn a_bill_is_read_from_the_headers() {
        let zeros = format!("sha256:{}", "0".repeat(64));
        let report = report(
            &[
                ("fuelbox-job", "j\u{1b}"),
                ("fuelbox-fuel", "1234"),
                ("fuelbox-credits", "0.000012"),
                ("fuelbox-receipt", &zeros),
                ("idempotent-replayed", "true"),
            ][1..],
        );
        let expected = format!(
            "verdict  completed\nfuel     1,234 to run\n\
             bill     0.000012 credits; nothing was billed this time\n\
             receipt  {zeros}\n         its signature holds, it is of this answer\n"
        );
        assert_eq!(report.table(None, Some(true)), expected);
        let json = serde_json::to_value(report.json(None)).expect("json");
        assert_eq!((&json["credits_micro"], &json["fuel"]["run"]), (&12.into(), &1234.into()));
        assert_eq!(json.get("verified"), None);
    }

    #[test]
    fn a_server_of_another_kind_has_no_bill() {
        assert_eq!(report(&[]).table(None, None), "verdict  completed\n");
    }
}
