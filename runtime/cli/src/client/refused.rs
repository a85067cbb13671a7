//! Refusals of a server: its document, and the exit code that the same thing has without a server
//! (`docs/errors.md`, `docs/cli.md`).

use super::header;
use crate::exit::Exit;
use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// What a server says when it does not do what it was asked.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    /// The name of what went wrong; empty when the server is another kind of server.
    pub(crate) code: String,
    sentence: String,
    /// How a job ended that was billed all the same.
    pub(crate) verdict: Option<String>,
    /// When to come again.
    pub(crate) retry_after: Option<Duration>,
    /// With the bill, if there is one.
    pub(crate) headers: HeaderMap,
}

/// The parts of the document that are read.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    verdict: Option<String>,
}

/// Characters of a server's sentence that are shown.
const SENTENCE_CHARS_MAX: usize = 2_000;

impl Refused {
    /// Reads an answer that is no success.
    pub(crate) fn read(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Self {
        let document: Document = serde_json::from_slice(body).unwrap_or_default();
        let sentence = document.detail.or(document.error).filter(|text| !text.is_empty());
        let sentence = match sentence {
            Some(text) => text.chars().take(SENTENCE_CHARS_MAX).collect(),
            None if status.is_redirection() => {
                format!("the server answered {status}: it is at another address")
            }
            None => format!("the server answered {status} without a reason"),
        };
        let seconds = header(&headers, "retry-after").and_then(|text| text.trim().parse().ok());
        Self {
            status,
            code: document.code,
            sentence,
            verdict: document.verdict.filter(|verdict| !verdict.is_empty()),
            retry_after: seconds.map(Duration::from_secs),
            headers,
        }
    }

    /// Whether the server says that it may go well another time.
    pub(crate) fn is_passing(&self) -> bool {
        let by_status = matches!(self.status.as_u16(), 429 | 503) || self.code == "in_flight";
        by_status && self.retry_after.is_some()
    }

    /// Whether the server says that it failed itself.
    pub(crate) fn is_fault(&self) -> bool {
        self.status.is_server_error() && !matches!(self.status.as_u16(), 501 | 503 | 504)
    }

    /// A header; none when it is not there, or no text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// What it means for the program.
    pub(crate) fn exit(&self) -> Exit {
        if self.code == "model_failed" {
            return Exit::of_failed(self.verdict.as_deref());
        }
        match self.status.as_u16() {
            402 => Exit::Payment,
            // Sizes, and what passes with time.
            408 | 413 | 429 | 503 | 504 => Exit::Limit,
            500..=599 => Exit::Host,
            409 if self.code == "in_flight" => Exit::Limit,
            // No such thing, no such key, not understood.
            400..=499 => Exit::BadInput,
            // A redirect, or no HTTP that we speak: the server is not what it should be.
            _ => Exit::Host,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Refused {
        let status = StatusCode::from_u16(status).expect("a status");
        Refused::read(status, HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn refusals_have_the_exit_codes_of_the_same_things_without_a_server() {
        for (status, body, code) in [
            (400, r#"{"code":"bad_input"}"#, 3),
            (401, r#"{"code":"unauthenticated"}"#, 3),
            (402, r#"{"code":"payment_required"}"#, 7),
            (403, r#"{"code":"forbidden"}"#, 3),
            (404, r#"{"code":"not_found"}"#, 3),
            (408, r#"{"code":"request_timeout"}"#, 5),
            (409, r#"{"code":"conflict"}"#, 3),
            (409, r#"{"code":"in_flight"}"#, 5),
            (413, r#"{"code":"too_large"}"#, 5),
            (415, r#"{"code":"unsupported_media"}"#, 3),
            (422, r#"{"code":"key_reused"}"#, 3),
            (422, r#"{"code":"model_failed","verdict":"trap"}"#, 4),
            (422, r#"{"code":"model_failed","verdict":"out_of_fuel"}"#, 5),
            (422, r#"{"code":"package_refused"}"#, 3),
            (429, r#"{"code":"rate_limited"}"#, 5),
            (500, r#"{"code":"host_fault"}"#, 6),
            (501, r#"{"code":"not_supported"}"#, 6),
            (503, r#"{"code":"busy"}"#, 5),
            (504, r#"{"code":"deadline"}"#, 5),
            (302, "", 6),
            (502, "<html>", 6),
        ] {
            assert_eq!(read(status, body).exit() as u8, code, "{status} {body}");
        }
    }

    #[test]
    fn the_servers_sentence_is_shown_and_bounded() {
        assert_eq!(read(404, r#"{"error":"no model 'x'"}"#).to_string(), "no model 'x'");
        assert_eq!(read(404, r#"{"error":"a","detail":"b"}"#).to_string(), "b");
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(9_999));
        assert_eq!(read(404, &long).to_string().len(), SENTENCE_CHARS_MAX);
        let text = "the server answered 502 Bad Gateway without a reason";
        assert_eq!(read(502, "<html>").to_string(), text);
    }
}
