//! A few requests to a server, apart from the load.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use ureq::Agent;

/// One request, no more: none of these asks for work.
const REQUEST_MAX: Duration = Duration::from_secs(10);

fn agent() -> Agent {
    let config = Agent::config_builder();
    config.timeout_global(Some(REQUEST_MAX)).http_status_as_error(false).build().into()
}

/// Whether the answer is a 200.
pub(crate) fn is_ok(url: &str) -> bool {
    agent().get(url).call().is_ok_and(|response| response.status() == 200)
}

/// Posts an object and has one back.
pub(super) fn post(url: &str, key: &str, body: &Value) -> Result<Value> {
    let request = agent().post(url).header("Authorization", &format!("Bearer {key}"));
    let mut response = request.send_json(body).with_context(|| url.to_owned())?;
    let text = response.body_mut().read_to_string()?;
    ensure!(response.status().is_success(), "{url}: {}: {text}", response.status());
    serde_json::from_str(&text).with_context(|| format!("{url}: {text}"))
}
