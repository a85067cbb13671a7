//! Refusals: what goes wrong, as a documented code, a sentence, and the numbers in it.
//!
//! Every error of the layers below becomes a [`Refusal`] here. What it looks like on the wire is decided
//! by `problem` for HTTP and by `grpc` for gRPC.

use fuelbox_jobs::{Full, HostFault, JobError, PriceError, PublishError, SpendError, State};
use fuelbox_ledger::Rejected;
use serde_json::{Value, json};
use std::time::Duration;

/// What kind of thing went wrong. Each has a row in docs/errors.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    BadInput,
    Unauthenticated,
    PaymentRequired,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    InFlight,
    TooLarge,
    UnsupportedMedia,
    KeyReused,
    ModelFailed,
    PackageRefused,
    RateLimited,
    HostFault,
    NotSupported,
    Busy,
    Stopping,
    Unavailable,
    Deadline,
}

impl Code {
    /// All of them.
    pub(crate) const ALL: [Self; 21] = [
        Self::BadInput,
        Self::Unauthenticated,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::InFlight,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::KeyReused,
        Self::ModelFailed,
        Self::PackageRefused,
        Self::RateLimited,
        Self::HostFault,
        Self::NotSupported,
        Self::Busy,
        Self::Stopping,
        Self::Unavailable,
        Self::Deadline,
    ];

    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::Unauthenticated => "unauthenticated",
            Self::PaymentRequired => "payment_required",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::InFlight => "in_flight",
            Self::TooLarge => "too_large",
            Self::UnsupportedMedia => "unsupported_media",
            Self::KeyReused => "key_reused",
            Self::ModelFailed => "model_failed",
            Self::PackageRefused => "package_refused",
            Self::RateLimited => "rate_limited",
            Self::HostFault => "host_fault",
            Self::NotSupported => "not_supported",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::BadInput => "The request is not understood",
            Self::Unauthenticated => "No valid key",
            Self::PaymentRequired => "Not enough credits",
            Self::Forbidden => "The key does not allow this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "The method does not apply here",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::Conflict => "The state of things does not allow this",
            Self::InFlight => "A request with this key is under way",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMedia => "The content type is not understood",
            Self::KeyReused => "The key belongs to another request",
            Self::ModelFailed => "The model failed",
            Self::PackageRefused => "The package is refused",
            Self::RateLimited => "Too many requests",
            Self::HostFault => "The host failed",
            Self::NotSupported => "This server does not do that",
            Self::Busy => "The host is busy",
            Self::Stopping => "The host is stopping",
            Self::Unavailable => "The model is not loaded",
            Self::Deadline => "The deadline has passed",
        }
    }

    /// The status of HTTP.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::BadInput => 400,
            Self::Unauthenticated => 401,
            Self::PaymentRequired => 402,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::InFlight => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMedia => 415,
            Self::KeyReused | Self::ModelFailed | Self::PackageRefused => 422,
            Self::RateLimited => 429,
            Self::HostFault => 500,
            Self::NotSupported => 501,
            Self::Busy | Self::Stopping | Self::Unavailable => 503,
            Self::Deadline => 504,
        }
    }
}

/// Why somebody does not get what he asked for.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// One sentence: what, found, allowed.
    pub(crate) sentence: String,
    /// The numbers, for programs.
    pub(crate) members: Vec<(&'static str, Value)>,
    /// When to come again.
    pub(crate) retry_after: Option<Duration>,
    /// The job that ran and was billed all the same.
    pub(crate) job: Option<Box<fuelbox_jobs::JobRecord>>,
    /// Whether that job was an earlier request's.
    pub(crate) repeated: bool,
    /// The rate that was passed, as `RateLimit-Policy` says it.
    pub(crate) rate_policy: Option<String>,
}

/// When to come again to a host that is busy: queues are seconds long.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// When to come again to a host that stops: as long as a restart takes.
const STOP_RETRY: Duration = Duration::from_secs(5);

impl Refusal {
    pub(crate) fn new(code: Code, sentence: impl ToString) -> Self {
        Self {
            code,
            sentence: sentence.to_string(),
            members: Vec::new(),
            retry_after: None,
            job: None,
            repeated: false,
            rate_policy: None,
        }
    }

    /// A request that cannot be understood.
    pub(crate) fn bad(sentence: impl ToString) -> Self {
        Self::new(Code::BadInput, sentence)
    }

    /// Something that is not there, or not for this caller.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("no {what} '{}'", excerpt(name)))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A host's own failure. What it was is for the log; the caller hears that it was not his fault.
    pub(crate) fn fault(fault: &dyn std::error::Error) -> Self {
        tracing::error!(fault = %chain(fault), "host fault");
        let sentence =
            "the host failed: nothing was billed, and the same request may be sent again";
        Self::new(Code::HostFault, sentence)
    }
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// A caller's words in a sentence: bounded, and nothing that moves a cursor.
pub(crate) fn excerpt(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

impl From<HostFault> for Refusal {
    fn from(fault: HostFault) -> Self {
        Self::fault(&fault)
    }
}

impl From<fuelbox_ledger::StoreError> for Refusal {
    fn from(error: fuelbox_ledger::StoreError) -> Self {
        Self::fault(&error)
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        let sentence = full.to_string();
        match full {
            Full::Jobs { .. } | Full::Bytes { .. } | Full::Work { .. } => {
                Self::new(Code::Busy, sentence).retry_after(BUSY_RETRY)
            }
            Full::Account { .. } => Self::new(Code::RateLimited, sentence).retry_after(BUSY_RETRY),
            Full::Closed => Self::new(Code::Stopping, sentence).retry_after(STOP_RETRY),
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(error: Rejected) -> Self {
        let sentence = error.to_string();
        match error {
            Rejected::InsufficientFunds { available, needed, shortfall, .. } => {
                Self::new(Code::PaymentRequired, sentence)
                    .with("balance", available.to_string())
                    .with("price", needed.to_string())
                    .with("shortfall", shortfall.to_string())
            }
            Rejected::UnknownAccount { .. } => Self::new(Code::NotFound, sentence),
            Rejected::OtherKind { .. } | Rejected::IdReused { .. } => {
                Self::new(Code::Conflict, sentence)
            }
            Rejected::AmountZero { .. }
            | Rejected::AmountOverflow { .. }
            | Rejected::SameAccount { .. } => Self::bad(sentence),
            Rejected::UnknownPending { .. }
            | Rejected::PendingPosted { .. }
            | Rejected::PendingVoided { .. }
            | Rejected::PendingExpired { .. }
            | Rejected::OverPending { .. }
            | Rejected::OverReservation { .. } => Self::fault(&error),
        }
    }
}

impl From<SpendError> for Refusal {
    fn from(error: SpendError) -> Self {
        let sentence = error.to_string();
        match error {
            SpendError::Limit { limit, left, needed, .. } => {
                Self::new(Code::PaymentRequired, sentence)
                    .with("balance", left.to_string())
                    .with("price", needed.to_string())
                    .with("spend_limit", limit.to_string())
            }
            // The key was there a moment ago.
            SpendError::UnknownKey { .. } | SpendError::OtherAccount { .. } => {
                Self::new(Code::Unauthenticated, fuelbox_jobs::ACCESS_REFUSED)
            }
        }
    }
}

impl From<PriceError> for Refusal {
    fn from(error: PriceError) -> Self {
        match error {
            PriceError::Overflow { .. } => Self::bad(error),
            PriceError::Json(_)
            | PriceError::Format { .. }
            | PriceError::Share { .. }
            | PriceError::Changed { .. } => Self::fault(&error),
        }
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        let sentence = error.to_string();
        match error {
            JobError::UnknownPackage { .. } | JobError::UnknownJob { .. } => {
                Self::new(Code::NotFound, sentence)
            }
            JobError::Input(_)
            | JobError::ParameterTwice { .. }
            | JobError::Limit { .. }
            | JobError::Key { .. } => Self::bad(sentence),
            JobError::KeyReused { .. } => Self::new(Code::KeyReused, sentence),
            JobError::InFlight { .. } => {
                Self::new(Code::InFlight, sentence).retry_after(BUSY_RETRY)
            }
            JobError::Rejected(error) => error.into(),
            JobError::Spend(error) => error.into(),
            JobError::Price(error) => error.into(),
            JobError::Busy(full) => full.into(),
            JobError::Forgotten => Self::new(Code::Busy, sentence).retry_after(BUSY_RETRY),
            JobError::CancelledEarly => Self::new(Code::Deadline, sentence),
            JobError::Ended { state, .. } => {
                Self::new(Code::Conflict, sentence).with("state", state)
            }
            JobError::Fault(fault) => fault.into(),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let sentence = error.to_string();
        match error {
            PublishError::Archive(_)
            | PublishError::Model(_)
            | PublishError::LoadLimit { .. }
            | PublishError::Signature
            | PublishError::Golden { .. } => Self::new(Code::PackageRefused, sentence),
            PublishError::Taken { digest, .. } => {
                Self::new(Code::Conflict, sentence).with("package", digest.to_string())
            }
            PublishError::NameOwned { .. }
            | PublishError::Space { .. }
            | PublishError::KeySpaces { .. }
            | PublishError::Unsigned { .. }
            | PublishError::PublisherKey { .. }
            | PublishError::NoPublisher { .. } => Self::new(Code::Forbidden, sentence),
            PublishError::PackageSignature(_) => Self::new(Code::PackageRefused, sentence),
            PublishError::Spend(error) => error.into(),
            PublishError::Rejected(error) => error.into(),
            PublishError::Price(error) => error.into(),
            PublishError::Fault(fault) => fault.into(),
        }
    }
}

/// What a caller is told whose model did not answer. The job is billed, and has a receipt.
pub(crate) fn not_completed(job: fuelbox_jobs::JobRecord) -> Refusal {
    let verdict = job.end.as_ref().map_or("", |end| end.verdict.as_str()).to_owned();
    let detail = job.detail.clone().unwrap_or_else(|| verdict.replace('_', " "));
    let code = match job.state {
        State::Cancelled => Code::Deadline,
        State::Faulted => Code::HostFault,
        State::Queued | State::Running | State::Succeeded | State::Failed => Code::ModelFailed,
    };
    let sentence = match code {
        Code::Deadline => "the job was stopped at its deadline; what it burned is billed".into(),
        Code::HostFault => "the host failed: nothing was billed".into(),
        _ => format!("the model failed: {detail}"),
    };
    let mut refusal = Refusal::new(code, sentence).with("verdict", verdict);
    if let Some(end) = &job.end {
        refusal = refusal
            .with("job", job.id.to_string())
            .with("fuel", end.fuel)
            .with("credits", end.credits.to_string())
            .with("receipt", end.receipt.to_string());
    }
    refusal.job = Some(Box::new(job));
    refusal
}

impl Refusal {
    /// The body: the inference protocol's `error`, and the members of RFC 9457 beside it.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "error": self.sentence,
            "type": format!("urn:fuelbox:error:{}", self.code.name()),
            "title": self.code.title(),
            "status": self.code.status(),
            "detail": self.sentence,
            "code": self.code.name(),
        });
        if let Some(body) = body.as_object_mut() {
            for (name, value) in &self.members {
                body.insert((*name).to_owned(), value.clone());
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_code_has_a_row_in_the_docs_and_no_two_share_a_name() {
        let docs = include_str!("../../../docs/errors.md");
        let mut names = HashSet::new();
        for code in Code::ALL {
            assert!(names.insert(code.name()));
            let row = format!("| `{}` | {} |", code.name(), code.status());
            assert!(docs.contains(&row), "docs/errors.md has no row {row}");
        }
        let rows = docs.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Code::ALL.len());
    }

    #[test]
    fn a_body_serves_both_conventions() {
        let refusal = Refusal::not_found("model", "a\u{1b}[2J").with("n", 1);
        let expected = json!({
            "error": "no model 'a\\u{1b}[2J'",
            "type": "urn:fuelbox:error:not_found",
            "title": "There is no such thing",
            "status": 404,
            "detail": "no model 'a\\u{1b}[2J'",
            "code": "not_found",
            "n": 1,
        });
        assert_eq!(refusal.body(), expected);
    }
}
