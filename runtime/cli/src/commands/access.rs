//! `fuelbox access`: keys to a server, made and taken back while it is not running.

use super::{print, to_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
    output::{
        columns::{Align, Columns, facts},
        list::ListFormat,
        text::escaped,
    },
    time::{Until, now_unix_ms, show_time},
};
use fuelbox_jobs::{AccessKey, AccessKeyId, Host, NewAccessKey, Scope, Scopes};
use fuelbox_ledger::{AccountId, Credits};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  fuelbox access create --account operator --scope operator
  fuelbox access create --account alice --scope caller --spend-limit 5 --expires 30d
  fuelbox access list
  fuelbox access revoke abcdefghij234567
";

/// Make, list and revoke the access keys of a server that is not running.
///
/// For operators who lost their key, or make keys before the first start. A server that runs has the
/// same in its API: POST, GET and DELETE of /api/v1/keys.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AccessArgs {
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(clap::Subcommand, Debug)]
enum AccessCommand {
    /// Make a key and print it: this once, it is not kept.
    Create(CreateArgs),
    /// List keys, the oldest first. Never the keys themselves.
    List {
        /// Only those of this account.
        #[arg(long, value_name = "NAME")]
        account: Option<AccountId>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Take a key back, for good.
    Revoke {
        /// The 16 characters behind `fbx_`.
        id: AccessKeyId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// For whom the key acts: `operator` for that scope.
    #[arg(long, value_name = "NAME")]
    account: AccountId,

    /// What the key is for. Repeatable.
    #[arg(long, value_name = "SCOPE", required = true)]
    scope: Vec<ScopeName>,

    /// A name space that a publisher's key may publish in; all of its account's when not given.
    /// Repeatable.
    #[arg(long, value_name = "SPACE")]
    space: Vec<String>,

    /// What you call it.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,

    /// From when on it is of no use: a time like 24h or 30d, or a day like 2030-01-01.
    #[arg(long, value_name = "TIME", value_parser = Until::parse)]
    expires: Option<Until>,

    /// The most credits that may be spent with it, ever.
    #[arg(long, value_name = "CREDITS")]
    spend_limit: Option<Credits>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum ScopeName {
    /// Everything.
    Operator,
    /// Publish, and look after own packages.
    Publisher,
    /// Run jobs, and read own ones.
    Caller,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Operator => Self::Operator,
            ScopeName::Publisher => Self::Publisher,
            ScopeName::Caller => Self::Caller,
        }
    }
}

/// A key, as lists have it.
#[derive(Serialize)]
struct Json<'a> {
    id: &'a str,
    /// The key itself, when it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    account: &'a str,
    scopes: String,
    spaces: Option<String>,
    name: Option<&'a str>,
    created_unix_ms: u64,
    expires_unix_ms: Option<u64>,
    revoked_unix_ms: Option<u64>,
    spend_limit_micro: Option<u64>,
    spent_micro: u64,
}

/// The fields of [`Json`] in lists.
const FIELDS: [&str; 10] = [
    "id",
    "account",
    "scopes",
    "spaces",
    "name",
    "created_unix_ms",
    "expires_unix_ms",
    "revoked_unix_ms",
    "spend_limit_micro",
    "spent_micro",
];

impl<'a> Json<'a> {
    fn of(key: &'a AccessKey) -> Self {
        Self {
            id: key.id.as_str(),
            key: None,
            account: key.account.as_str(),
            scopes: key.scopes.to_string(),
            spaces: key.spaces.as_ref().map(|spaces| spaces.join(" ")),
            name: key.name.as_deref(),
            created_unix_ms: key.created_unix_ms,
            expires_unix_ms: key.expires_unix_ms,
            revoked_unix_ms: key.revoked_unix_ms,
            spend_limit_micro: key.spend_limit.map(|limit| limit.micros()),
            spent_micro: key.spent.micros(),
        }
    }
}

/// Runs the command.
pub(crate) fn access(args: AccessArgs, global: &Global) -> Result<Exit> {
    let host = open(global)?;
    match args.command {
        AccessCommand::Create(args) => create(&host, args)?,
        AccessCommand::List { account, format } => list(&host, account.as_ref(), format)?,
        AccessCommand::Revoke { id, json } => {
            let key = host.access().revoke(&id)?;
            print(json, &Json::of(&key), || facts(&lines(&key)))?;
        }
    }
    Ok(Exit::Completed)
}

/// Opens the data folder, and makes it when there is none: keys may come before the first start.
fn open(global: &Global) -> Result<Host> {
    let folder = data::place(global)?;
    match data::try_open(global, &folder, Some(0))? {
        Ok(open) => Ok(open.host),
        Err(error) if data::is_locked(&error) => {
            let path = folder.path().display();
            let text = format!(
                "{path}: a server works on this data folder: its keys are made, listed and revoked by its API (/api/v1/keys)"
            );
            Err(Failure::message(Exit::Host, text))
        }
        Err(error) => Err(error.into()),
    }
}

fn create(host: &Host, args: CreateArgs) -> Result<()> {
    let CreateArgs { account, scope, space, name, expires, spend_limit, json } = args;
    let scopes: Scopes = scope.into_iter().map(Scope::from).collect();
    let wanted = NewAccessKey {
        spaces: (!space.is_empty()).then_some(space),
        name,
        expires_unix_ms: expires.map(|expires| expires.unix_ms(now_unix_ms())),
        spend_limit,
        ..NewAccessKey::new(account, scopes)
    };
    let (key, secret) = host.access().create(wanted)?;
    let secret = secret.to_string();
    let value = Json { key: Some(secret.clone()), ..Json::of(&key) };
    print(json, &value, || {
        let mut lines = lines(&key);
        lines.insert(0, ("key", secret));
        facts(&lines) + "The key is shown this once.\n"
    })
}

fn lines(key: &AccessKey) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("id", key.id.to_string()),
        ("account", key.account.to_string()),
        ("scopes", key.scopes.to_string()),
    ];
    if let Some(spaces) = &key.spaces {
        lines.push(("spaces", spaces.join(" ")));
    }
    if let Some(name) = &key.name {
        lines.push(("name", escaped(name)));
    }
    if let Some(at) = key.expires_unix_ms {
        lines.push(("expires", show_time(at)));
    }
    if let Some(at) = key.revoked_unix_ms {
        lines.push(("revoked", show_time(at)));
    }
    if let Some(limit) = key.spend_limit {
        lines.push(("limit", format!("{limit} credits, {} of them spent", key.spent)));
    }
    lines
}

fn list(host: &Host, account: Option<&AccountId>, format: ListFormat) -> Result<()> {
    let keys = host.access().list(account)?;
    let rows: Vec<_> = keys.iter().map(Json::of).collect();
    let table = || {
        let mut columns = Columns::new([
            ("id", Align::Left),
            ("account", Align::Left),
            ("scopes", Align::Left),
            ("created", Align::Left),
            ("state", Align::Left),
            ("spent", Align::Right),
            ("limit", Align::Right),
            ("name", Align::Left),
        ]);
        let now = now_unix_ms();
        for key in &keys {
            columns.row([
                key.id.to_string(),
                key.account.to_string(),
                key.scopes.to_string(),
                show_time(key.created_unix_ms),
                state(key, now),
                key.spent.to_string(),
                key.spend_limit.map_or_else(|| "-".into(), |limit| limit.to_string()),
                key.name.as_deref().map_or_else(String::new, escaped),
            ]);
        }
        columns.text()
    };
    to_stdout(|out| format.write(out, &FIELDS, &rows, table))
}

fn state(key: &AccessKey, now_unix_ms: u64) -> String {
    match (key.revoked_unix_ms, key.expires_unix_ms) {
        (Some(at), _) => format!("revoked {}", show_time(at)),
        (None, Some(at)) if at <= now_unix_ms => format!("expired {}", show_time(at)),
        (None, Some(at)) => format!("good until {}", show_time(at)),
        (None, None) => "good".into(),
    }
}
