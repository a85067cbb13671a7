//! fuelbox's own API, under `/api/v1`: what the inference protocol has no words for.
//!
//! One file a resource. Handlers come in the order: who is it, may he, what does he want. Every route is
//! in the OpenAPI document, because it is made of the same list.

mod values;
mod extract;
mod job;
mod jobs;
mod answers;
mod events;
mod accounts;
mod keys;
mod publishers;
mod uploads;
mod package;
mod packages;
mod usage;
mod log;
mod document;
mod page;

pub(crate) use events::STREAMS_MAX;
pub(crate) use job::JobJson;
pub(crate) use packages::PACKAGE;

use crate::{
    access::Caller,
    app::App,
    problem,
    refusal::{Code, Refusal},
};
use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use fuelbox_ledger::AccountId;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Where all of it is.
const ROOT: &str = "/api/v1";

/// All paths under `/api/v1`, and the page that shows them.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (api, document) = described().split_for_parts();
    let document = document::finish(document);
    let show = move || async move { ([(CONTENT_TYPE, "application/json")], document) };
    // A path that nobody knows: whoever asks.
    let api = api.route("/openapi.json", get(show)).fallback(problem::no_such_path);
    let api = api.method_not_allowed_fallback(problem::no_such_method);
    let api = Router::new().nest(ROOT, api.with_state(app.clone()));
    api.merge(page::router())
}

/// Every route with its description, but for the description itself.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(answers::result))
        .routes(routes!(events::events))
        .routes(routes!(answers::receipt))
        .routes(routes!(answers::proof))
        .routes(routes!(answers::input))
        .routes(routes!(accounts::own))
        .routes(routes!(accounts::statement))
        .routes(routes!(accounts::create, accounts::list))
        .routes(routes!(accounts::show))
        .routes(routes!(accounts::statement_for))
        .routes(routes!(accounts::top_up))
        .routes(routes!(accounts::pay_out))
        .routes(routes!(accounts::refund))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(publishers::register, publishers::list))
        .routes(routes!(publishers::revoke))
        .routes(routes!(publishers::claim, publishers::spaces))
        .routes(routes!(uploads::begin))
        .routes(routes!(uploads::show, uploads::write, uploads::remove))
        .routes(routes!(packages::publish, packages::list))
        .routes(routes!(packages::versions))
        .routes(routes!(packages::show, packages::change, packages::remove))
        .routes(routes!(packages::file))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::prices))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::keys))
        .routes(routes!(log::consistency))
}

/// Whose things are listed: those of the caller's account, and for operators of any, or of all.
fn account_filter(caller: &Caller, wanted: Option<&str>) -> Result<Option<AccountId>, Refusal> {
    let wanted: Option<AccountId> =
        wanted.map(|text| text.parse().map_err(Refusal::bad)).transpose()?;
    if caller.is_operator() {
        return Ok(wanted);
    }
    let own = caller.account();
    if wanted.is_some_and(|wanted| wanted != *own) {
        let sentence = format!("the key is of account '{own}': other accounts are for operators");
        return Err(Refusal::new(Code::Forbidden, sentence));
    }
    Ok(Some(own.clone()))
}

/// Entries of a page when nobody says.
const PAGE_DEFAULT: u64 = 50;

/// Entries of a page, at most.
const PAGE_MAX: u64 = fuelbox_jobs::PAGE_ROWS_MAX as u64;

fn page(limit: Option<u64>) -> Result<usize, Refusal> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(Refusal::bad(format!("limit: found {limit}, allowed are 1 to {PAGE_MAX}")))
}
