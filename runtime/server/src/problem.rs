//! Refusals and callers on HTTP.

use crate::{
    access::{Caller, authenticate},
    app::App,
    bill::JobBill,
    refusal::{Code, Refusal},
    seeing::RefusedWith,
};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use std::{any::Any, sync::Arc};

/// RFC 9457.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.body().to_string()).into_response();
        response.extensions_mut().insert(RefusedWith(self.code.name()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM);
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, and not too early.
            headers
                .insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1_000) as u64));
        }
        if let Some(Ok(policy)) = self.rate_policy.clone().map(HeaderValue::try_from) {
            let seconds = self.retry_after.unwrap_or_default().as_millis().div_ceil(1_000);
            let left = format!("\"requests\";r=0;t={seconds}");
            headers.insert("ratelimit-policy", policy);
            if let Ok(left) = HeaderValue::try_from(left) {
                headers.insert("ratelimit", left);
            }
        }
        if let Some(bill) = self.job.as_deref().and_then(JobBill::of) {
            add_bill(headers, &bill, self.repeated);
        }
        response
    }
}

/// Says what a job cost.
pub(crate) fn add_bill(headers: &mut HeaderMap, bill: &JobBill, repeated: bool) {
    for (name, value) in bill.headers() {
        // Names, numbers and digests: always ASCII.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if repeated {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
}

/// Errors under `/v2` are of the type that clients of the inference protocol know.
pub(crate) async fn as_protocol(mut response: Response) -> Response {
    if response.headers().get(CONTENT_TYPE) == Some(&PROBLEM) {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    response
}

/// A path that is not there.
pub(crate) async fn no_such_path(OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal::not_found("path", uri.path())
}

/// A method that a path does not have.
pub(crate) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    let (method, path) = (method.as_str(), uri.path());
    let sentence = format!(
        "method {} does not apply to '{}'",
        crate::refusal::excerpt(method),
        crate::refusal::excerpt(path)
    );
    Refusal::new(Code::MethodNotAllowed, sentence)
}

/// A handler that panicked: a mistake of ours.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("without a word"), "a handler panicked");
    Refusal::new(Code::HostFault, "the host failed").into_response()
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let header = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let caller = authenticate(app, header)?;
        // For those who read the body.
        parts.extensions.insert(caller.account().clone());
        Ok(caller)
    }
}
