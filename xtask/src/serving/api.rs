//! Whether a server is there: the one question apart from the load.

use std::time::Duration;
use ureq::Agent;

/// Nothing here asks for work.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Whether the answer is a 200.
pub(crate) fn is_ok(url: &str) -> bool {
    let config = Agent::config_builder().timeout_global(Some(REQUEST_MAX));
    let agent: Agent = config.http_status_as_error(false).build().into();
    agent.get(url).call().is_ok_and(|response| response.status() == 200)
}
