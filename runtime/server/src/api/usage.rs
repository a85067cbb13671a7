//! Usage and prices: what jobs came to, and what they cost.

use super::{
    extract::{Query, blocking},
    values::{Amount, Moment, Sha256},
};
use crate::{access::Caller, app::App, refusal::Refusal};
use axum::extract::State as Shared;
use fuelbox_jobs::{EarningLine, Scope, UsageBy, UsageFilter, UsageLine};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// What is added up by.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    Account,
    #[default]
    Package,
}

/// Which jobs are added up.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// Package when not given.
    #[param(inline)]
    by: Option<By>,
    /// Jobs that ended since then; all when not given.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Moment>,
    /// Of this account alone: for operators.
    account: Option<String>,
}

/// Jobs, fuel and credits, added up.
#[derive(Serialize, ToSchema)]
pub(super) struct Usage {
    /// Of one's own jobs, or of all for operators. The most expensive first.
    usage: Vec<UsageEntry>,
    /// Of all jobs of one's own packages, when added up by package: for publishers.
    #[serde(skip_serializing_if = "Option::is_none")]
    earnings: Option<Vec<Earning>>,
}

/// Jobs of one account, or of one package.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageEntry {
    /// The account, or `NAME:VERSION` of the package.
    name: String,
    jobs: u64,
    succeeded: u64,
    failed: u64,
    /// Of runs.
    fuel: u64,
    /// Of loads that jobs paid for.
    load_fuel: u64,
    /// All that was paid.
    credits: Amount,
}

impl From<UsageLine> for UsageEntry {
    fn from(line: UsageLine) -> Self {
        Self {
            name: line.name,
            jobs: line.jobs,
            succeeded: line.succeeded,
            failed: line.failed,
            fuel: line.fuel,
            load_fuel: line.load_fuel,
            credits: line.credits.into(),
        }
    }
}

/// What one's own package earned, whoever ran it.
#[derive(Serialize, ToSchema)]
pub(super) struct Earning {
    /// The package.
    digest: Sha256,
    name: String,
    version: String,
    jobs: u64,
    succeeded: u64,
    failed: u64,
    fuel: u64,
    earned: Amount,
}

impl From<EarningLine> for Earning {
    fn from(line: EarningLine) -> Self {
        Self {
            digest: line.digest.into(),
            name: line.name,
            version: line.version,
            jobs: line.jobs,
            succeeded: line.succeeded,
            failed: line.failed,
            fuel: line.fuel,
            earned: line.earned.into(),
        }
    }
}

/// Adds up jobs, fuel and credits.
#[utoipa::path(get, path = "/usage", tag = "accounts", params(UsageQuery), responses((status = 200, body = Usage)))]
pub(super) async fn usage(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<UsageQuery>,
) -> Result<axum::Json<Usage>, Refusal> {
    let account = super::account_filter(&caller, query.account.as_deref())?;
    let since_unix_ms = query.since.map_or(0, |since| since.0.min(i64::MAX.cast_unsigned()));
    let by = query.by.unwrap_or_default();
    let publisher = caller.grant.scopes.contains(Scope::Publisher) && by == By::Package;
    let publisher = publisher.then(|| caller.account().clone());
    let by = match by {
        By::Account => UsageBy::Account,
        By::Package => UsageBy::Package,
    };
    let usage = blocking(&app, move |app| {
        let filter = UsageFilter { since_unix_ms, account };
        let usage = app.host.read(|records| records.usage_of(by, &filter))??;
        let earnings = match publisher {
            None => None,
            Some(publisher) => {
                let lines =
                    app.host.read(|records| records.earnings(&publisher, since_unix_ms))??;
                Some(lines.into_iter().map(Earning::from).collect())
            }
        };
        Ok(Usage { usage: usage.into_iter().map(UsageEntry::from).collect(), earnings })
    });
    Ok(axum::Json(usage.await?))
}

/// What things cost, in micro-credits: millionths of a credit. Each receipt names the digest of the
/// schedule that it was billed by.
#[derive(Serialize, ToSchema)]
pub(super) struct Prices {
    digest: Sha256,
    /// `fuelbox-prices/1`.
    format: String,
    version: u64,
    /// For a million fuel of a run.
    run_micro_per_mfuel: u64,
    /// For a million fuel of a run while it holds 64 MiB; in proportion to the pages at the peak.
    memory_micro_per_mfuel_64mib: u64,
    /// For a million fuel of a load.
    load_micro_per_mfuel: u64,
    /// Least that a run costs.
    minimum_micro: u64,
    /// The publisher's part of a run that completed, in millionths.
    publisher_share_ppm: u64,
}

/// Shows what things cost.
#[utoipa::path(get, path = "/prices", tag = "public", responses((status = 200, body = Prices)))]
pub(super) async fn prices(Shared(app): Shared<Arc<App>>) -> axum::Json<Prices> {
    let schedule = app.host.prices();
    axum::Json(Prices {
        digest: schedule.digest().into(),
        format: schedule.format.clone(),
        version: schedule.version,
        run_micro_per_mfuel: schedule.run_micro_per_mfuel,
        memory_micro_per_mfuel_64mib: schedule.memory_micro_per_mfuel_64mib,
        load_micro_per_mfuel: schedule.load_micro_per_mfuel,
        minimum_micro: schedule.minimum_micro,
        publisher_share_ppm: schedule.publisher_share_ppm,
    })
}
