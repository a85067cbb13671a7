//! Refusals on gRPC: a code, a sentence, and what is known of the bill as metadata.

use crate::{
    bill::JobBill,
    problem::add_bill,
    refusal::{Code, Refusal},
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use std::any::Any;
use tonic::{Status, metadata::MetadataMap};

/// Where the code of a refusal stands.
pub(super) const CODE: &str = "fuelbox-code";

/// Characters of a sentence. Clients take 8 KiB of metadata, and a character may be nine of its bytes.
const SENTENCE_CHARS_MAX: usize = 700;

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = HeaderMap::new();
        metadata.insert(CODE, HeaderValue::from_static(refusal.code.name()));
        if let Some(after) = refusal.retry_after {
            // Whole seconds, and not too early.
            let seconds = u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            metadata.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(bill) = refusal.job.as_deref().and_then(JobBill::of) {
            add_bill(&mut metadata, &bill, refusal.repeated);
        }
        let sentence: String = refusal.sentence.chars().take(SENTENCE_CHARS_MAX).collect();
        Self::with_metadata(code(refusal.code), sentence, MetadataMap::from_headers(metadata))
    }
}

/// The code of gRPC, as docs/errors.md has it.
fn code(code: Code) -> tonic::Code {
    match code {
        Code::BadInput | Code::UnsupportedMedia => tonic::Code::InvalidArgument,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PaymentRequired | Code::RateLimited => tonic::Code::ResourceExhausted,
        Code::Forbidden => tonic::Code::PermissionDenied,
        Code::NotFound => tonic::Code::NotFound,
        Code::MethodNotAllowed | Code::NotSupported => tonic::Code::Unimplemented,
        Code::RequestTimeout | Code::Deadline => tonic::Code::DeadlineExceeded,
        Code::Conflict | Code::InFlight => tonic::Code::Aborted,
        Code::TooLarge => tonic::Code::OutOfRange,
        Code::KeyReused => tonic::Code::AlreadyExists,
        Code::ModelFailed | Code::PackageRefused => tonic::Code::FailedPrecondition,
        Code::HostFault => tonic::Code::Internal,
        Code::Busy | Code::Stopping | Code::Unavailable => tonic::Code::Unavailable,
    }
}

/// A service or call that is not there.
pub(super) fn no_such_call() -> Status {
    Refusal::new(Code::NotSupported, NO_SUCH_CALL).into()
}

/// As a header has it: ASCII without percent signs.
const NO_SUCH_CALL: &str = "this server has no such call";

/// Makes a refusal of a status that the library made: of a call that is not there, of what is no
/// message, or packed in a way that is not known here.
pub(super) fn complete(response: &mut Response) {
    let headers = response.headers_mut();
    let Some(status) = headers.get(Status::GRPC_STATUS) else { return };
    if headers.contains_key(CODE) {
        return;
    }
    let refused = match tonic::Code::from_bytes(status.as_bytes()) {
        tonic::Code::Ok => return,
        tonic::Code::Unimplemented => Code::NotSupported,
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => Code::TooLarge,
        tonic::Code::InvalidArgument
        | tonic::Code::Internal
        | tonic::Code::Cancelled
        | tonic::Code::Unknown
        | tonic::Code::DeadlineExceeded
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::PermissionDenied
        | tonic::Code::FailedPrecondition
        | tonic::Code::Aborted
        | tonic::Code::Unavailable
        | tonic::Code::DataLoss
        | tonic::Code::Unauthenticated => Code::BadInput,
    };
    headers.insert(CODE, HeaderValue::from_static(refused.name()));
    headers.insert(Status::GRPC_STATUS, HeaderValue::from(code(refused) as i32));
    if refused == Code::NotSupported {
        // Mostly without a word.
        headers.entry(Status::GRPC_MESSAGE).or_insert(HeaderValue::from_static(NO_SUCH_CALL));
    }
}

/// A handler that panicked: a mistake of ours.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("without a word"), "a call panicked");
    Status::from(Refusal::new(Code::HostFault, "the host failed"))
        .into_http::<Body>()
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_status_that_the_docs_say() {
        let docs = include_str!("../../../../docs/errors.md");
        for refused in Code::ALL {
            let name = match code(refused) {
                tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
                tonic::Code::Unauthenticated => "UNAUTHENTICATED",
                tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
                tonic::Code::PermissionDenied => "PERMISSION_DENIED",
                tonic::Code::NotFound => "NOT_FOUND",
                tonic::Code::Unimplemented => "UNIMPLEMENTED",
                tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
                tonic::Code::Aborted => "ABORTED",
                tonic::Code::OutOfRange => "OUT_OF_RANGE",
                tonic::Code::AlreadyExists => "ALREADY_EXISTS",
                tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
                tonic::Code::Internal => "INTERNAL",
                tonic::Code::Unavailable => "UNAVAILABLE",
                other => panic!("{other:?} is not in the docs"),
            };
            let row = format!("| `{}` | {} | {name} |", refused.name(), refused.status());
            assert!(docs.contains(&row), "docs/errors.md has no row {row}");
        }
    }

    #[test]
    fn a_status_says_when_to_come_again_and_fits_what_clients_take() {
        let refusal = Refusal::new(Code::Busy, "ä".repeat(10_000))
            .retry_after(std::time::Duration::from_millis(1_001));
        let response = Status::from(refusal).into_http::<Body>();
        let headers = response.headers();
        assert_eq!(headers[CODE], "busy");
        assert_eq!(headers["retry-after"], "2");
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes < 8_192, "{bytes}");
    }
}
