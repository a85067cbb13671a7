//! Accounts: what one has, what moved on it; for operators, all of them, and their money.

use super::{
    extract::{Json, Operator, Path, Query, blocking},
    values::{Amount, Balance, Moment},
};
use crate::{
    access::Caller,
    app::App,
    refusal::{Code, Refusal},
};
use axum::{extract::State as Shared, http::StatusCode};
use fuelbox_ledger::{
    Account, AccountId, AccountKind, Credits, Line, Purpose, Recorded, Rejected, Span, TransferId,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(crate) struct AccountJson {
    id: String,
    /// `caller`, `publisher`; the host's own are `operator`, `revenue` and `escrow`.
    kind: &'static str,
    balance: Balance,
    /// For jobs that are under way.
    held: Amount,
    /// The balance without what is held.
    available: Balance,
    created: Moment,
}

impl From<&Account> for AccountJson {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id.to_string(),
            kind: account.kind.name(),
            balance: Balance(account.balance()),
            held: account.debits_pending.into(),
            available: Balance(account.available()),
            created: Moment(account.created_unix_ms),
        }
    }
}

/// Shows the account of the key.
#[utoipa::path(get, path = "/account", tag = "accounts", responses((status = 200, body = AccountJson)))]
pub(super) async fn own(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
) -> Result<axum::Json<AccountJson>, Refusal> {
    let account = app.host.accounts().show(caller.account())?;
    Ok(axum::Json((&account).into()))
}

/// Which lines are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatementQuery {
    /// Most of them: 1 to 1000, or 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Before this line: `next` of the page before.
    before: Option<u64>,
}

/// What moved on an account, the latest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Statement {
    lines: Vec<StatementLine>,
    /// `before` of the next page; null at the end.
    next: Option<u64>,
}

/// One movement, and the account as it was behind it.
#[derive(Serialize, ToSchema)]
pub(super) struct StatementLine {
    seq: u64,
    time: Moment,
    /// `top_up`, `payout`, `refund`, `hold`, `charge`, `share` or `fee`.
    purpose: &'static str,
    /// `direct`, `pending`, `post` or `void`.
    action: &'static str,
    /// The account on the other side. Publishers are not told who ran their packages.
    other: Option<String>,
    /// By how much the balance changed.
    change: Balance,
    amount: Amount,
    balance: Balance,
    held: Amount,
    /// Name of the movement; of a job's, it has the job's id. Not told where `other` is not.
    id: Option<String>,
}

/// Shows what moved on the account of the key, the latest first.
#[utoipa::path(
    get, path = "/account/statement", tag = "accounts",
    params(StatementQuery), responses((status = 200, body = Statement))
)]
pub(super) async fn statement(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Query(query): Query<StatementQuery>,
) -> Result<axum::Json<Statement>, Refusal> {
    let account = caller.account().clone();
    statement_of(&app, account, query, caller.is_operator()).await
}

async fn statement_of(
    app: &Arc<App>,
    account: AccountId,
    query: StatementQuery,
    all: bool,
) -> Result<axum::Json<Statement>, Refusal> {
    let limit = super::page(query.limit)?;
    let span = query.before.map_or(Span::Newest, Span::Before);
    let statement = blocking(app, move |app| {
        let lines = app.host.accounts().statement(&account, span, limit)?;
        let next = lines.last().filter(|_| lines.len() == limit).map(|line| line.recorded.seq);
        let lines = lines.iter().map(|line| of_line(line, &account, all)).collect();
        Ok(Statement { lines, next })
    });
    Ok(axum::Json(statement.await?))
}

fn of_line(line: &Line, account: &AccountId, all: bool) -> StatementLine {
    let Line { recorded, account: then } = line;
    let out = recorded.debit == *account;
    let other = if out { &recorded.credit } else { &recorded.debit };
    let purpose = recorded.transfer.purpose;
    // Who ran what is between the caller and the host.
    let told = all || out || purpose != Purpose::Share;
    let moved = match recorded.transfer.action.name() {
        "direct" | "post" => i128::from(recorded.amount.micros()),
        _ => 0,
    };
    StatementLine {
        seq: recorded.seq,
        time: Moment(recorded.recorded_unix_ms),
        purpose: purpose.name(),
        action: recorded.transfer.action.name(),
        other: told.then(|| other.to_string()),
        change: Balance(if out { -moved } else { moved }),
        amount: recorded.amount.into(),
        balance: Balance(then.balance()),
        held: then.debits_pending.into(),
        id: told.then(|| recorded.transfer.id.to_string()),
    }
}

/// What an account is for.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NewKind {
    Caller,
    Publisher,
}

/// An account to be opened.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// 1 to 64 of `a-z 0-9 . _ -`, the first a letter or a digit.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    id: String,
    #[schema(inline)]
    kind: NewKind,
}

/// Opens an account. The same once more changes nothing.
#[utoipa::path(
    post, path = "/accounts", tag = "operator", request_body = NewAccount,
    responses(
        (status = 201, body = AccountJson),
        (status = 200, description = "It was there.", body = AccountJson),
    )
)]
pub(super) async fn create(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, axum::Json<AccountJson>), Refusal> {
    let id: AccountId = new.id.parse().map_err(Refusal::bad)?;
    let kind = match new.kind {
        NewKind::Caller => AccountKind::Caller,
        NewKind::Publisher => AccountKind::Publisher,
    };
    let created = blocking(&app, move |app| {
        let there = app.host.accounts().show(&id).is_ok();
        let account = app.host.accounts().create(&id, kind)?;
        let status = if there { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, axum::Json(AccountJson::from(&account))))
    });
    created.await
}

/// Which accounts are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Most of them: 1 to 1000, or 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Behind this one: `next` of the page before.
    after: Option<String>,
}

/// A page of accounts, by id.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountPage {
    accounts: Vec<AccountJson>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// Lists all accounts.
#[utoipa::path(
    get, path = "/accounts", tag = "operator", params(ListQuery),
    responses((status = 200, body = AccountPage))
)]
pub(super) async fn list(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<AccountPage>, Refusal> {
    let limit = super::page(query.limit)?;
    let page = blocking(&app, move |app| {
        let all = app.host.accounts().list()?;
        let after = query.after.as_deref().unwrap_or_default();
        let first = all.partition_point(|account| account.id.as_str() <= after);
        let found = all.get(first..).unwrap_or_default();
        let next = found.get(limit).and(found.get(limit - 1));
        let next = next.map(|account| account.id.to_string());
        let accounts = found.iter().take(limit).map(AccountJson::from).collect();
        Ok(AccountPage { accounts, next })
    });
    Ok(axum::Json(page.await?))
}

fn named(id: &str) -> Result<AccountId, Refusal> {
    id.parse().map_err(|_| Refusal::not_found("account", id))
}

fn find(app: &App, id: &str) -> Result<Account, Refusal> {
    app.host.accounts().show(&named(id)?).map_err(|error| match error {
        fuelbox_jobs::JobError::Rejected(Rejected::UnknownAccount { .. }) => {
            Refusal::not_found("account", id)
        }
        error => error.into(),
    })
}

/// Shows an account.
#[utoipa::path(
    get, path = "/accounts/{id}", tag = "operator",
    params(("id" = String, Path, description = "The account.")),
    responses((status = 200, body = AccountJson))
)]
pub(super) async fn show(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Path(id): Path<String>,
) -> Result<axum::Json<AccountJson>, Refusal> {
    Ok(axum::Json((&find(&app, &id)?).into()))
}

/// Shows what moved on an account, the latest first.
#[utoipa::path(
    get, path = "/accounts/{id}/statement", tag = "operator",
    params(("id" = String, Path, description = "The account."), StatementQuery),
    responses((status = 200, body = Statement))
)]
pub(super) async fn statement_for(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Path(id): Path<String>,
    Query(query): Query<StatementQuery>,
) -> Result<axum::Json<Statement>, Refusal> {
    let account = find(&app, &id)?.id;
    statement_of(&app, account, query, true).await
}

/// Credits to be moved.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMovement {
    /// Above zero.
    credits: Amount,
    /// Name of the movement: sent twice under one name, it happens once. Made up when not given.
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,80}$")]
    id: Option<String>,
}

/// Credits that were moved.
#[derive(Serialize, ToSchema)]
pub(super) struct Movement {
    id: String,
    seq: u64,
    /// `top_up`, `payout` or `refund`.
    purpose: &'static str,
    account: String,
    amount: Amount,
    /// Of the account, now.
    balance: Balance,
    /// Whether it had happened before.
    repeated: bool,
}

pub(super) type Moved = Result<(StatusCode, axum::Json<Movement>), Refusal>;

/// Gives credits to an account.
#[utoipa::path(
    post, path = "/accounts/{id}/top-ups", tag = "operator", request_body = NewMovement,
    params(("id" = String, Path, description = "The account.")),
    responses(
        (status = 201, body = Movement),
        (status = 200, description = "It had happened before.", body = Movement),
    )
)]
pub(super) async fn top_up(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Path(id): Path<String>,
    Json(new): Json<NewMovement>,
) -> Moved {
    moved(&app, id, new, Purpose::TopUp).await
}

/// Takes credits out of an account: what a publisher earned and was paid in money.
#[utoipa::path(
    post, path = "/accounts/{id}/payouts", tag = "operator", request_body = NewMovement,
    params(("id" = String, Path, description = "The account.")),
    responses(
        (status = 201, body = Movement),
        (status = 200, description = "It had happened before.", body = Movement),
    )
)]
pub(super) async fn pay_out(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Path(id): Path<String>,
    Json(new): Json<NewMovement>,
) -> Moved {
    moved(&app, id, new, Purpose::Payout).await
}

/// Gives credits back to an account, out of what the host earned.
#[utoipa::path(
    post, path = "/accounts/{id}/refunds", tag = "operator", request_body = NewMovement,
    params(("id" = String, Path, description = "The account.")),
    responses(
        (status = 201, body = Movement),
        (status = 200, description = "It had happened before.", body = Movement),
    )
)]
pub(super) async fn refund(
    Shared(app): Shared<Arc<App>>,
    _: Operator,
    Path(id): Path<String>,
    Json(new): Json<NewMovement>,
) -> Moved {
    moved(&app, id, new, Purpose::Refund).await
}

async fn moved(app: &Arc<App>, account: String, new: NewMovement, purpose: Purpose) -> Moved {
    let NewMovement { credits: Amount(amount), id } = new;
    let id = id.unwrap_or_else(|| format!("{}:{}", purpose.name(), uuid::Uuid::now_v7()));
    let id: TransferId = id.parse().map_err(Refusal::bad)?;
    blocking(app, move |app| {
        let account = find(app, &account)?.id;
        let recorded = move_credits(app, &account, amount, id, purpose)?;
        let balance = app.host.accounts().show(&account)?.balance();
        let status = if recorded.repeated { StatusCode::OK } else { StatusCode::CREATED };
        let movement = Movement {
            id: recorded.transfer.id.to_string(),
            seq: recorded.seq,
            purpose: purpose.name(),
            account: account.to_string(),
            amount: recorded.amount.into(),
            balance: Balance(balance),
            repeated: recorded.repeated,
        };
        Ok((status, axum::Json(movement)))
    })
    .await
}

fn move_credits(
    app: &App,
    account: &AccountId,
    amount: Credits,
    id: TransferId,
    purpose: Purpose,
) -> Result<Recorded, Refusal> {
    let accounts = app.host.accounts();
    let moved = match purpose {
        Purpose::TopUp => accounts.top_up(account, amount, id),
        Purpose::Payout => accounts.pay_out(account, amount, id),
        Purpose::Refund => accounts.refund(account, amount, id),
        Purpose::Hold | Purpose::Charge | Purpose::Share | Purpose::Fee => {
            return Err(Refusal::new(Code::BadInput, "jobs alone do this"));
        }
    };
    Ok(moved?)
}
