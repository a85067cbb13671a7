//! The answer of a paid job: what the model gave, what it cost, and where the proof is.

use super::table;
use crate::{
    exit::Result,
    units::{grouped, show_bytes},
};
use fuelbox_engine::{Digest, Tensor, output_digest};
use fuelbox_jobs::Finished;
use fuelbox_ledger::Credits;
use fuelbox_oip::{Labels, ParametersJson, TensorJson};
use fuelbox_receipt::Receipt;
use serde::Serialize;

/// A job that ended, with its receipt read.
pub(crate) struct Answer<'a> {
    finished: &'a Finished,
    receipt: Receipt,
    digest: Digest,
}

/// One object (`docs/cli.md`).
#[derive(Serialize)]
struct Json<'a> {
    job: String,
    state: &'static str,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// None when they are no longer kept.
    outputs: Option<Vec<TensorJson<'a>>>,
    output_digest: Digest,
    #[serde(skip_serializing_if = "ParametersJson::is_empty")]
    parameters: ParametersJson<'a>,
    fuel: Fuel,
    memory_bytes_peak: u64,
    account: &'a str,
    package: Digest,
    credits_micro: u64,
    bill: Bill<'a>,
    receipt: Digest,
    repeated: bool,
    log: &'a str,
}

/// None where no load was billed.
#[derive(Serialize)]
struct Fuel {
    load: Option<u64>,
    run: u64,
}

#[derive(Serialize)]
struct Bill<'a> {
    run_micro: u64,
    load_micro: Option<u64>,
    publisher: &'a str,
    publisher_micro: u64,
    price_version: u64,
}

impl<'a> Answer<'a> {
    /// Reads the receipt. It is this host's own: its signature is for others to check.
    pub(crate) fn of(finished: &'a Finished) -> Result<Self> {
        let receipt = Receipt::from_statement_bytes(finished.receipt.payload())?;
        Ok(Self { finished, receipt, digest: finished.receipt.digest() })
    }

    fn outputs(&self) -> &'a [Tensor] {
        self.finished.outputs.as_deref().unwrap_or_default()
    }

    /// Whether the model answered, and what it gave is gone.
    fn is_forgotten(&self) -> bool {
        self.finished.outputs.is_none() && self.receipt.output != output_digest(&[])
    }

    fn credits(&self) -> u64 {
        let load = self.receipt.load.map_or(0, |load| load.credits_micro);
        self.receipt.price.credits_micro.saturating_add(load)
    }

    /// For programs.
    pub(crate) fn json(&self) -> impl Serialize {
        let Receipt { load, price, usage, publisher, package, output, .. } = &self.receipt;
        let Finished { job, parameters, log, repeated, .. } = self.finished;
        let outputs = || self.outputs().iter().map(TensorJson::of).collect();
        Json {
            job: job.id.to_string(),
            state: job.state.name(),
            verdict: &self.receipt.verdict.name,
            detail: job.detail.as_deref(),
            outputs: (!self.is_forgotten()).then(outputs),
            output_digest: *output,
            parameters: ParametersJson(parameters),
            fuel: Fuel { load: load.map(|load| load.fuel), run: usage.fuel },
            memory_bytes_peak: usage.memory_bytes_peak,
            account: job.account.as_str(),
            package: *package,
            credits_micro: self.credits(),
            bill: Bill {
                run_micro: price.credits_micro,
                load_micro: load.map(|load| load.credits_micro),
                publisher,
                publisher_micro: price.publisher_micro,
                price_version: price.version,
            },
            receipt: self.digest,
            repeated: *repeated,
            log,
        }
    }

    /// For people.
    pub(crate) fn table(&self, labels: Option<&Labels>) -> String {
        let Receipt { verdict, load, price, usage, .. } = &self.receipt;
        let job = &self.finished.job;
        let verdict = match &verdict.kind {
            Some(kind) => format!("{} ({kind})", verdict.name),
            None => verdict.name.clone(),
        };
        let mut fuel = format!("{} to run", grouped(usage.fuel));
        let mut bill = format!("{} credits, paid by {}", show(self.credits()), job.account);
        if let Some(load) = load {
            fuel += &format!(", {} to load for new input shapes", grouped(load.fuel));
            let (run, load) = (show(price.credits_micro), show(load.credits_micro));
            bill += &format!(": {run} to run, {load} to load");
        }
        if self.finished.repeated {
            bill += "; nothing was billed this time";
        }
        let mut facts = vec![
            ("verdict", verdict),
            ("fuel", fuel),
            ("memory", format!("{} at its peak", show_bytes(usage.memory_bytes_peak))),
            ("bill", bill),
            ("job", job.id.to_string()),
            ("receipt", self.digest.to_string()),
        ];
        if self.is_forgotten() {
            facts.insert(1, ("outputs", "no longer kept".into()));
        }
        table::answer(self.outputs(), labels) + &super::columns::facts(&facts)
    }
}

/// Micro-credits of a receipt, as credits.
pub(crate) fn show(micros: u64) -> String {
    // More than the ledger can hold is shown all the same: a receipt may say anything.
    Credits::from_micros(micros)
        .map_or_else(|| crate::units::show_micros(micros.into()), |credits| credits.to_string())
}
