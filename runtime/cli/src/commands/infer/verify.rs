//! Whether a receipt is of this request and this answer.

use super::{Report, Sent};
use crate::exit::{Exit, Failure, Result};
use fuelbox_engine::{Digest, Place, encode_parameters, encode_tensors, output_digest};
use fuelbox_receipt::{Envelope, KeyRing, Verified};

/// Checks the signature, and then everything that this side knows too.
pub(super) fn verify(
    envelope: &Envelope,
    keys: &KeyRing,
    sent: &Sent,
    report: &Report,
) -> Result<()> {
    let proof = |text: String| Failure::message(Exit::Proof, text);
    let verified = envelope.verify(keys).map_err(|error| {
        // Signed by a host that is trusted, and not understood: a later version's.
        Failure::from(error).with_exit(Exit::Proof)
    })?;
    let Verified { receipt, .. } = verified;
    if let Some(said) = report.bill.receipt.filter(|said| *said != envelope.digest()) {
        let found = envelope.digest();
        return Err(proof(format!("receipt: the answer names {said}, the server gave {found}")));
    }
    let mut found = receipt.clone();
    found.output = output_digest(report.outputs());
    found.input = Digest::of(&encode_tensors(Place::Inputs, &sent.inputs.tensors));
    found.parameters = Digest::of(&encode_parameters(&sent.inputs.parameters));
    found.seed = sent.seed;
    found.verdict.name.clone_from(&report.verdict);
    found.usage.fuel = report.bill.fuel.unwrap_or(found.usage.fuel);
    if let Some(job) = report.job() {
        found.job = job.to_owned();
    }
    if let Some(package) = report.bill.package {
        found.package = package;
    }
    let differences = receipt.differences(&found);
    let Some(first) = differences.first() else {
        return Ok(());
    };
    let names: Vec<_> = differences.iter().map(|difference| difference.field.as_str()).collect();
    let text = format!(
        "the receipt is not of this request and answer: {} ({} in the receipt, {} here)",
        names.join(", "),
        first.here,
        first.there
    );
    Err(proof(text))
}
