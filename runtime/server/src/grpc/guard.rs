//! Before a call: who makes it, and how large and how slow its messages may be.
//!
//! Nobody without a key makes the host receive more than a small message.

use super::{
    MESSAGE_EXTRA_BYTES, SERVICE, incoming::Incoming, message_bytes_max, share::Share,
    status::complete,
};
use crate::{
    access::{Caller, authenticate},
    app::App,
    config::Limits,
    refusal::Refusal,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use fuelbox_jobs::Scope;
use std::sync::Arc;
use tonic::Status;

/// Bytes of a message that needs no key. Such messages are empty or carry a name, and take nothing of the
/// memory that all bodies share: they are shorter than the 8 KiB that the codec takes for any call.
const KEYLESS_BYTES: usize = 4 << 10;

/// What holds for the messages of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) needs: Needs,
    /// Bytes of one message, as it travels.
    pub(super) message_bytes_max: usize,
    /// Whether the client may take its time between two messages.
    pub(super) streams: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    #[default]
    Key,
    /// A key that may run jobs.
    CallerKey,
}

impl Rules {
    fn of(path: &str, limits: &Limits) -> Self {
        let (service, call) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let small = MESSAGE_EXTRA_BYTES;
        let large = message_bytes_max(limits);
        let (needs, message_bytes_max, streams) = match (service, call) {
            (SERVICE, "ServerLive" | "ServerReady" | "ServerMetadata") => {
                (Needs::Nothing, KEYLESS_BYTES, false)
            }
            (SERVICE, "ModelInfer") => (Needs::CallerKey, large, false),
            (SERVICE, "ModelStreamInfer") => (Needs::CallerKey, large, true),
            (SERVICE, _) => (Needs::Key, small, false),
            // Reflection, which tells what the protocol's file does.
            (_, call) => (Needs::Nothing, KEYLESS_BYTES, call == "ServerReflectionInfo"),
        };
        Self { needs, message_bytes_max, streams }
    }
}

/// Lets a call in, with its [`Caller`] and its [`Share`], or answers it.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let rules = Rules::of(request.uri().path(), &app.limits);
    let (mut parts, body) = request.into_parts();
    let header = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let share = match caller(&app, rules.needs, header) {
        Ok(None) => Share::default(),
        Ok(Some(caller)) => {
            tracing::Span::current().record("key", tracing::field::display(caller.key()));
            let share = Share::of(app.bodies.part(caller.account()));
            parts.extensions.insert(caller);
            share
        }
        Err(refusal) => return Status::from(refusal).into_http::<Body>().into_response(),
    };
    // Most clients can unpack; those that pack want it. Floats hardly get shorter by it.
    let packs = |value: &HeaderValue| value != "identity";
    if !parts.headers.get("grpc-encoding").is_some_and(packs) {
        parts.headers.remove("grpc-accept-encoding");
    }
    let body = Incoming::new(body, rules, app.limits.body_pause, share.clone());
    parts.extensions.insert(share);
    let mut response = next.run(Request::from_parts(parts, Body::new(body))).await;
    complete(&mut response);
    response
}

fn caller(app: &App, needs: Needs, header: Option<&[u8]>) -> Result<Option<Caller>, Refusal> {
    match needs {
        Needs::Nothing => Ok(None),
        Needs::Key => authenticate(app, header).map(Some),
        Needs::CallerKey => {
            let caller = authenticate(app, header)?;
            caller.must(Scope::Caller)?;
            Ok(Some(caller))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inference_takes_large_messages_and_only_what_tells_nothing_needs_no_key() {
        let limits = Limits::default();
        let rules = |path: &str| {
            let Rules { needs, message_bytes_max, streams } = Rules::of(path, &limits);
            let is_keyless = needs == Needs::Nothing;
            assert_eq!(message_bytes_max == KEYLESS_BYTES, is_keyless, "{path}");
            (needs, message_bytes_max > MESSAGE_EXTRA_BYTES, streams)
        };
        for (path, expected) in [
            ("/inference.GRPCInferenceService/ServerLive", (Needs::Nothing, false, false)),
            ("/inference.GRPCInferenceService/ModelInfer", (Needs::CallerKey, true, false)),
            ("/inference.GRPCInferenceService/ModelStreamInfer", (Needs::CallerKey, true, true)),
            ("/inference.GRPCInferenceService/ModelReady", (Needs::Key, false, false)),
            ("/inference.GRPCInferenceService/Unknown", (Needs::Key, false, false)),
            ("/inference.GRPCInferenceService/", (Needs::Key, false, false)),
            ("/grpc.health.v1.Health/Check", (Needs::Nothing, false, false)),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                (Needs::Nothing, false, true),
            ),
            ("/", (Needs::Nothing, false, false)),
        ] {
            assert_eq!(rules(path), expected, "{path}");
        }
    }
}
