//! The bill: what every answer says of its job, as headers and as parameters.

use fuelbox_engine::{OwnedParameter, OwnedValue};
use fuelbox_jobs::JobRecord;

/// The header that every answer of a job has.
pub(crate) const JOB: &str = "fuelbox-job";

/// What a job that was settled says of itself.
pub(crate) struct JobBill {
    pub(crate) job: String,
    pub(crate) fuel: u64,
    pub(crate) credits: String,
    pub(crate) receipt: String,
    pub(crate) package: String,
    pub(crate) verdict: String,
}

impl JobBill {
    /// None for a job that was not billed.
    pub(crate) fn of(job: &JobRecord) -> Option<Self> {
        let end = job.end.as_ref()?;
        Some(Self {
            job: job.id.to_string(),
            fuel: end.fuel,
            credits: end.credits.to_string(),
            receipt: end.receipt.to_string(),
            package: job.package.to_string(),
            verdict: end.verdict.clone(),
        })
    }

    /// As headers of HTTP, and as metadata of gRPC.
    pub(crate) fn headers(&self) -> [(&'static str, String); 6] {
        [
            (JOB, self.job.clone()),
            ("fuelbox-fuel", self.fuel.to_string()),
            ("fuelbox-credits", self.credits.clone()),
            ("fuelbox-receipt", self.receipt.clone()),
            ("fuelbox-package", self.package.clone()),
            ("fuelbox-verdict", self.verdict.clone()),
        ]
    }

    /// As parameters of an answer, behind the model's own. A model that gives one of these names
    /// itself is not listened to.
    pub(crate) fn parameters(&self, own: &[OwnedParameter]) -> Vec<OwnedParameter> {
        let text = |text: &str| OwnedValue::String(text.to_owned());
        let mine = [
            ("fuelbox_job", text(&self.job)),
            ("fuelbox_fuel", OwnedValue::Int(self.fuel.cast_signed())),
            ("fuelbox_credits", text(&self.credits)),
            ("fuelbox_receipt", text(&self.receipt)),
            ("fuelbox_package", text(&self.package)),
        ];
        let own = own.iter().filter(|own| !own.name.starts_with("fuelbox_")).cloned();
        own.chain(mine.map(|(name, value)| OwnedParameter { name: name.into(), value })).collect()
    }
}
