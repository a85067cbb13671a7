//! The OpenAPI document: what the handlers say of themselves, and what holds for all of them.

use super::ROOT;
use crate::refusal::Code;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// What any request with a key may be answered.
const REFUSALS: [Code; 11] = [
    Code::BadInput,
    Code::Unauthenticated,
    Code::Forbidden,
    Code::NotFound,
    Code::MethodNotAllowed,
    Code::RequestTimeout,
    Code::TooLarge,
    Code::UnsupportedMedia,
    Code::RateLimited,
    Code::HostFault,
    Code::Busy,
];

/// What requests that change or run something may be answered beside those.
const CHANGES: [Code; 3] = [Code::PaymentRequired, Code::Conflict, Code::ModelFailed];

/// What jobs' requests may be answered beside all of those.
const RUNS: [Code; 2] = [Code::NotSupported, Code::Deadline];

/// The document as it is sent.
pub(super) fn finish(document: OpenApi) -> String {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["info"] = json!({
        "title": "fuelbox",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "A host that runs models in a sandbox, for money, with signed receipts.",
        "description": "Inference itself is the Open Inference Protocol, version 2, under /v2. \
            Every refusal is a problem document (RFC 9457); docs/errors.md has its codes.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["components"]["securitySchemes"]["key"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "An access key: fbx_...",
    });
    document["components"]["schemas"]["Problem"] = problem();
    let paths = document["paths"].as_object_mut().map(std::mem::take).unwrap_or_default();
    let mut paths: Map<String, Value> =
        paths.into_iter().map(|(path, item)| (format!("{ROOT}{path}"), item)).collect();
    paths.insert(format!("{ROOT}/openapi.json"), own());
    for (path, item) in &mut paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(path, method, operation);
        }
    }
    document["paths"] = paths.into();
    document.to_string()
}

/// This document's own entry.
fn own() -> Value {
    json!({"get": {
        "tags": ["public"],
        "summary": "Shows this document.",
        "operationId": "openapi",
        "responses": {"200": {
            "description": "The document.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }},
    }})
}

/// Adds what holds for all operations: the key, and the refusals.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let public = operation["tags"][0] == "public";
    operation["security"] = if public { json!([]) } else { json!([{"key": []}]) };
    let resource = path.trim_start_matches(ROOT).split('/').nth(1).unwrap_or_default();
    if let Some(name) = operation["operationId"].as_str() {
        // Handlers of different files have one name.
        operation["operationId"] = format!("{name}_{}", resource.replace(['-', '.'], "_")).into();
    }
    let changes = method != "get" || path.contains("/jobs/{id}/");
    let runs = changes && resource == "jobs";
    let mut codes = REFUSALS.to_vec();
    if changes {
        codes.extend(CHANGES);
    }
    if runs {
        codes.extend(RUNS);
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for code in codes {
        let keyed = matches!(code, Code::Unauthenticated | Code::Forbidden | Code::RateLimited);
        let status = code.status().to_string();
        if (public && keyed) || responses.contains_key(&status) {
            continue;
        }
        let mut response = json!({
            "description": code.title(),
            "content": {"application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
            }},
        });
        let header = |what: &str| json!({"description": what, "schema": {"type": "string"}});
        match code {
            Code::RateLimited | Code::Busy => {
                response["headers"]["Retry-After"] = header("Seconds until it may be sent again.");
            }
            Code::Unauthenticated => {
                response["headers"]["WWW-Authenticate"] = header("`Bearer`.");
            }
            _ => {}
        }
        responses.insert(status, response);
    }
}

/// What every refusal is.
fn problem() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
    json!({
        "type": "object",
        "description": "A refusal. Members beside these have the numbers of the sentence.",
        "required": ["error", "type", "title", "status", "detail", "code"],
        "properties": {
            "error": text("What happened, as clients of the inference protocol look for it."),
            "type": text("`urn:fuelbox:error:` and the code."),
            "title": text("What kind of thing happened."),
            "status": {"type": "integer"},
            "detail": text("What happened: one sentence with what was found and what is allowed."),
            "code": {"type": "string", "enum": codes},
        },
    })
}
