//! `fuelbox account`: who has credits, and how they come and go.

use super::{print, to_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
    output::{
        columns::{Align, Columns, facts},
        list::ListFormat,
    },
    time::show_time,
    units::show_micros,
};
use fuelbox_ledger::{
    Account, AccountId, AccountKind, Action, Credits, Line, Purpose, Recorded, Rejected, Span,
    TransferId,
};
use serde::Serialize;
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  fuelbox account create alice --kind caller
  fuelbox account top-up alice 25 --id invoice-1001
  fuelbox account statement alice --csv > alice.csv
";

/// Make accounts, move credits, and show what moved.
///
/// A credit has a million parts; amounts have at most six decimals. Credits come from the operator's
/// account, whose balance is below zero by all that it gave out.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(clap::Subcommand, Debug)]
enum AccountCommand {
    /// Make an account; the data folder, too, when there is none. The same account again is no error.
    Create {
        /// 1 to 64 of a-z 0-9 . _ -, the first a letter or a digit.
        name: AccountId,
        /// Callers pay for jobs, publishers are paid for models.
        #[arg(long)]
        kind: Kind,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what an account has.
    Show {
        /// The account.
        name: AccountId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List all accounts.
    List {
        #[command(flatten)]
        format: ListFormat,
    },
    /// Give credits to an account.
    TopUp(Movement),
    /// Take credits out of an account: what a publisher earned and was paid in money.
    PayOut(Movement),
    /// Give credits back to an account, out of what the host earned.
    Refund(Movement),
    /// Show what moved on an account, the latest first, with the balance after each line.
    Statement {
        /// The account.
        name: AccountId,
        /// Only lines before this one: the last number of the page before.
        #[arg(long, value_name = "SEQ")]
        before: Option<u64>,
        /// Most lines.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        format: ListFormat,
    },
}

/// What an account that people make is for.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Kind {
    Caller,
    Publisher,
}

impl From<Kind> for AccountKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Caller => Self::Caller,
            Kind::Publisher => Self::Publisher,
        }
    }
}

/// Credits between an account and the operator.
#[derive(clap::Args, Debug)]
struct Movement {
    /// The account.
    name: AccountId,
    /// Credits: 25, 0.5, 0.000001.
    #[arg(allow_negative_numbers = true)]
    amount: Credits,
    /// Name of the movement: sent twice under one name, it happens once. Made up when not given.
    #[arg(long, value_name = "ID")]
    id: Option<TransferId>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct AccountJson {
    account: String,
    kind: &'static str,
    balance_micro: i128,
    held_micro: u64,
    available_micro: i128,
    created_unix_ms: u64,
}

#[derive(Serialize)]
struct MovementJson {
    id: String,
    seq: u64,
    purpose: &'static str,
    account: String,
    amount_micro: u64,
    balance_micro: i128,
    repeated: bool,
}

#[derive(Serialize)]
struct LineJson {
    seq: u64,
    time_unix_ms: u64,
    purpose: &'static str,
    action: &'static str,
    other: String,
    change_micro: i128,
    amount_micro: u64,
    balance_micro: i128,
    held_micro: u64,
    id: String,
}

/// The fields of [`LineJson`].
const LINE_FIELDS: [&str; 10] = [
    "seq",
    "time_unix_ms",
    "purpose",
    "action",
    "other",
    "change_micro",
    "amount_micro",
    "balance_micro",
    "held_micro",
    "id",
];

/// The fields of [`AccountJson`].
const ACCOUNT_FIELDS: [&str; 6] =
    ["account", "kind", "balance_micro", "held_micro", "available_micro", "created_unix_ms"];

/// Runs the command.
pub(crate) fn account(args: AccountArgs, global: &Global) -> Result<Exit> {
    match args.command {
        AccountCommand::Create { name, kind, json } => {
            let folder = data::place(global)?;
            let host = data::open(global, &folder, Some(0))?.host;
            show(&host.accounts().create(&name, kind.into())?, json)?;
        }
        AccountCommand::Show { name, json } => {
            let (_, look) = data::look(global)?;
            show(&find(look.reader().account(&name)?, &name)?, json)?;
        }
        AccountCommand::List { format } => {
            let (_, look) = data::look(global)?;
            list(&look.reader().accounts()?, format)?;
        }
        AccountCommand::TopUp(movement) => move_credits(Way::TopUp, movement, global)?,
        AccountCommand::PayOut(movement) => move_credits(Way::PayOut, movement, global)?,
        AccountCommand::Refund(movement) => move_credits(Way::Refund, movement, global)?,
        AccountCommand::Statement { name, before, limit, format } => {
            let (_, look) = data::look(global)?;
            find(look.reader().account(&name)?, &name)?;
            let span = before.map_or(Span::Newest, Span::Before);
            statement(&look.reader().history(&name, span, limit)?, &name, format)?;
        }
    }
    Ok(Exit::Completed)
}

fn find(found: Option<Account>, name: &AccountId) -> Result<Account> {
    found.ok_or_else(|| Rejected::UnknownAccount { account: name.clone() }.into())
}

fn of_account(account: &Account) -> AccountJson {
    AccountJson {
        account: account.id.to_string(),
        kind: account.kind.name(),
        balance_micro: account.balance(),
        held_micro: account.debits_pending.micros(),
        available_micro: account.available(),
        created_unix_ms: account.created_unix_ms,
    }
}

fn show(account: &Account, json: bool) -> Result<()> {
    print(json, &of_account(account), || {
        facts(&[
            ("account", account.id.to_string()),
            ("kind", account.kind.to_string()),
            ("balance", show_micros(account.balance())),
            ("held", account.debits_pending.to_string()),
            ("available", show_micros(account.available())),
            ("created", show_time(account.created_unix_ms)),
        ])
    })
}

fn list(accounts: &[Account], format: ListFormat) -> Result<()> {
    let rows: Vec<_> = accounts.iter().map(of_account).collect();
    let table = || {
        let mut columns = Columns::new([
            ("account", Align::Left),
            ("kind", Align::Left),
            ("balance", Align::Right),
            ("held", Align::Right),
            ("available", Align::Right),
        ]);
        for account in accounts {
            columns.row([
                account.id.to_string(),
                account.kind.to_string(),
                show_micros(account.balance()),
                account.debits_pending.to_string(),
                show_micros(account.available()),
            ]);
        }
        columns.text()
    };
    to_stdout(|out| format.write(out, &ACCOUNT_FIELDS, &rows, table))
}

/// Which way credits move.
#[derive(Clone, Copy, Debug)]
enum Way {
    TopUp,
    PayOut,
    Refund,
}

impl Way {
    fn purpose(self) -> Purpose {
        match self {
            Self::TopUp => Purpose::TopUp,
            Self::PayOut => Purpose::Payout,
            Self::Refund => Purpose::Refund,
        }
    }
}

fn move_credits(way: Way, movement: Movement, global: &Global) -> Result<()> {
    let Movement { name, amount, id, json } = movement;
    let id = match id {
        Some(id) => id,
        None => fresh_id(way.purpose())?,
    };
    let host = data::open_books(global)?;
    let accounts = host.accounts();
    let recorded = match way {
        Way::TopUp => accounts.top_up(&name, amount, id)?,
        Way::PayOut => accounts.pay_out(&name, amount, id)?,
        Way::Refund => accounts.refund(&name, amount, id)?,
    };
    let purpose = recorded.transfer.purpose;
    let account = accounts.show(&name)?;
    let Recorded { seq, repeated, .. } = recorded;
    let value = MovementJson {
        id: recorded.transfer.id.to_string(),
        seq,
        purpose: purpose.name(),
        account: name.to_string(),
        amount_micro: recorded.amount.micros(),
        balance_micro: account.balance(),
        repeated,
    };
    print(json, &value, || {
        let amount = match repeated {
            true => format!("{}, moved before under this id; nothing moved now", recorded.amount),
            false => recorded.amount.to_string(),
        };
        facts(&[
            ("id", value.id.clone()),
            ("purpose", purpose.to_string()),
            ("amount", amount),
            ("balance", format!("{} of {name}", show_micros(account.balance()))),
        ])
    })
}

/// A name that no movement has.
fn fresh_id(purpose: Purpose) -> Result<TransferId> {
    let id = format!("{}:{}", purpose.name(), Uuid::now_v7());
    id.parse().map_err(|error| Failure::new(Exit::Host, error))
}

/// One line from the side of an account.
fn of_line(line: &Line, name: &AccountId) -> LineJson {
    let Line { recorded, account } = line;
    let Recorded { seq, transfer, debit, credit, amount, recorded_unix_ms, .. } = recorded;
    let micros = i128::from(amount.micros());
    let is_debit = debit == name;
    let moved = match transfer.action {
        Action::Direct { .. } | Action::Post { .. } => micros,
        // Holding and letting go move nothing.
        Action::Pending { .. } | Action::Void { .. } => 0,
    };
    LineJson {
        seq: *seq,
        time_unix_ms: *recorded_unix_ms,
        purpose: transfer.purpose.name(),
        action: transfer.action.name(),
        other: if is_debit { credit } else { debit }.to_string(),
        change_micro: if is_debit { -moved } else { moved },
        amount_micro: amount.micros(),
        balance_micro: account.balance(),
        held_micro: account.debits_pending.micros(),
        id: transfer.id.to_string(),
    }
}

fn statement(lines: &[Line], name: &AccountId, format: ListFormat) -> Result<()> {
    let rows: Vec<_> = lines.iter().map(|line| of_line(line, name)).collect();
    let table = || {
        let mut columns = Columns::new([
            ("seq", Align::Right),
            ("time", Align::Left),
            ("what", Align::Left),
            ("with", Align::Left),
            ("change", Align::Right),
            ("held", Align::Right),
            ("balance", Align::Right),
        ]);
        for row in &rows {
            columns.row([
                row.seq.to_string(),
                show_time(row.time_unix_ms),
                what(row),
                row.other.clone(),
                show_micros(row.change_micro),
                show_micros(row.held_micro.into()),
                show_micros(row.balance_micro),
            ]);
        }
        columns.text()
    };
    to_stdout(|out| format.write(out, &LINE_FIELDS, &rows, table))
}

/// `charge`; of a hold that was let go, `hold void`.
fn what(row: &LineJson) -> String {
    match row.action {
        "void" => format!("{} {}", row.purpose, row.action),
        _ => row.purpose.to_owned(),
    }
}
