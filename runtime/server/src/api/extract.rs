//! What handlers are given: path, query and JSON body, checked, or a refusal in our own form.
//!
//! JSON is strict: members that nobody knows and members that are there twice are refused, and an object
//! is an object. A sentence says where.

use crate::{
    access::Caller,
    app::App,
    refusal::{Code, Refusal, excerpt},
    serve::read_body,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header::CONTENT_TYPE, request::Parts},
};
use fuelbox_jobs::Scope;
use fuelbox_ledger::AccountId;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, sync::Arc};
use tokio::task;

/// Bytes of a JSON body that carries no tensors: readers and name spaces are the longest lists.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Somebody with an operator's key.
pub(crate) struct Operator;

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.must(Scope::Operator)?;
        Ok(Self)
    }
}

/// What a path names.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        // All of them are texts: only bytes that are no UTF-8 do not fit, and nothing has such a name.
        path.map(|path| Self(path.0)).map_err(|_| Refusal::not_found("path", parts.uri.path()))
    }
}

/// What a query asks for.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let error: &dyn std::error::Error = &rejection;
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Refusal::bad(format!("query: {}", bounded(&cause)))
        })
    }
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        check_json(request.headers())?;
        // Whoever takes a body asked for a key before.
        let account = request.extensions().get::<AccountId>();
        let account = account.ok_or_else(|| Refusal::new(Code::Unauthenticated, "no key"))?;
        let part = app.bodies.part(account);
        let pause = app.limits.body_pause;
        let received = read_body(request.into_body(), BODY_BYTES_MAX, pause, part).await?;
        parse(&received.bytes).map(Self)
    }
}

/// Whether a body says that it is JSON.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let found = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let found = found.unwrap_or_default();
    if media(&found).eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(unsupported(&found, "application/json"))
}

/// A content type without its parameters.
pub(crate) fn media(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// A content type that is not taken.
pub(crate) fn unsupported(found: &str, allowed: &str) -> Refusal {
    let sentence = format!("content type: found '{}', allowed is {allowed}", excerpt(found));
    Refusal::new(Code::UnsupportedMedia, sentence)
}

/// Reads strict JSON.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    let parsed = serde_json::from_slice::<Object<T>>(bytes);
    parsed.map(|Object(value)| value).map_err(|error| {
        Refusal::bad(format!("body: {}", bounded(&error.to_string()))).with("reason", "bad_json")
    })
}

/// A sentence that may have a stranger's words in it.
fn bounded(text: &str) -> String {
    let mut out: String = text.chars().flat_map(char::escape_debug).take(300).collect();
    // Quotes are no danger, and half of what these sentences consist of.
    out = out.replace("\\'", "'").replace("\\\"", "\"");
    out
}

/// A structure that is an object in JSON: serde would take a list for one, too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Map(PhantomData)).map(Self)
    }
}

/// A member that may be `null`, or not be there: two different things.
pub(crate) fn given<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Some)
}

/// Does what may take more than a millisecond, on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let app = app.clone();
    task::spawn_blocking(move || work(&app)).await.map_err(|error| Refusal::fault(&error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        n: u64,
        #[serde(default, deserialize_with = "given")]
        text: Option<Option<String>>,
    }

    fn sentence(body: &str) -> String {
        parse::<Sample>(body.as_bytes()).expect_err(body).sentence
    }

    #[test]
    fn json_is_taken_in_one_form() {
        let parsed = |body: &str| parse::<Sample>(body.as_bytes()).expect(body).text;
        assert_eq!(parsed(r#"{"n": 1}"#), None);
        assert_eq!(parsed(r#"{"n": 1, "text": null}"#), Some(None));
        assert_eq!(parsed(r#"{"n": 1, "text": "a"}"#), Some(Some("a".into())));
        for (body, expected) in [
            ("", "body: EOF while parsing a value at line 1 column 0"),
            ("[1]", "body: invalid type: sequence, expected an object at line 1 column 0"),
            (
                r#"{"n": 1, "m": 2}"#,
                "body: unknown field `m`, expected `n` or `text` at line 1 column 12",
            ),
            ("{\"n\": 1,\n \"n\": 1}", "body: duplicate field `n` at line 2 column 4"),
            (r#"{"n": -1}"#, "body: invalid value: integer `-1`, expected u64 at line 1 column 8"),
            (r#"{"n": 1} {"#, "body: trailing characters at line 1 column 10"),
            (
                "{\"\u{1b}\": 1}",
                "body: control character (\\\\u0000-\\\\u001F) found while parsing a string at line 1 column 3",
            ),
        ] {
            assert_eq!(sentence(body), expected, "{body}");
        }
        assert!(sentence(&format!("{{\"{}\": 1}}", "x".repeat(5_000))).len() < 400);
    }
}
