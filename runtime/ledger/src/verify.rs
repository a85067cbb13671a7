//! Adds everything up again, from the transfers alone, and compares.
//!
//! Knows the tables and none of the code that writes them: what is wrong there shows here.

use crate::{
    credits::Credits,
    error::StoreError,
    reader::Reader,
    rows::{self, number},
    transfer::{Action, Recorded},
};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Findings that are reported at most: who damages a ledger can make as many as it has rows.
pub const FINDINGS_MAX: usize = 100;

/// What a ledger has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Accounts.
    pub accounts: u64,
    /// Transfers of every kind.
    pub transfers: u64,
    /// Holds that are open.
    pub open_pendings: u64,
    /// Held, in micro-credits: the sum of all debits pending, and of all credits pending.
    pub pending_micros: u128,
    /// Moved, in micro-credits: the sum of all debits posted, and of all credits posted.
    pub posted_micros: u128,
}

/// Something that is never the case in a ledger that is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The store cannot be read, or has values in it that no ledger writes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SQLite finds its file damaged.
    #[error("database: {text}")]
    Database {
        /// SQLite's words.
        text: String,
    },
    /// Places of transfers are 1, 2, 3 and so on.
    #[error("transfer at place {found}, expected {expected}")]
    Gap {
        /// The place that was found.
        found: u64,
        /// The place that is missing.
        expected: u64,
    },
    /// Debits and credits of all accounts are equal.
    #[error("{total} of all accounts: debits {debits}, credits {credits} micro-credits")]
    Unbalanced {
        /// `pending` or `posted`.
        total: &'static str,
        /// Their sum.
        debits: u128,
        /// Their sum.
        credits: u128,
    },
    /// An account has what its transfers add up to.
    #[error("account '{account}': {stored:?} stored, transfers add up to {added:?} micro-credits")]
    Account {
        /// The account.
        account: String,
        /// Debits pending and posted, credits pending and posted, in its row.
        stored: [u64; 4],
        /// The same from its transfers.
        added: [i128; 4],
    },
    /// The history has, for each transfer and each of its accounts, what they had after it.
    #[error("history of account number {account} at {seq}: {stored:?} stored, expected {added:?}")]
    History {
        /// The account's number.
        account: i64,
        /// The transfer.
        seq: u64,
        /// Debits pending and posted, credits pending and posted; none when the line is missing.
        stored: Option<[u64; 4]>,
        /// The same from the transfers; none when there should be no line.
        added: Option<[i128; 4]>,
    },
    /// Only the operator's accounts debit more than they were credited.
    #[error("account '{account}': debits {debits} over credits {credits} micro-credits")]
    Uncovered {
        /// The account.
        account: String,
        /// Pending and posted.
        debits: i128,
        /// Posted.
        credits: i128,
    },
    /// A hold is posted or voided by one transfer.
    #[error("hold at {hold} resolved again by the transfer at {seq}")]
    ResolvedTwice {
        /// The hold.
        hold: u64,
        /// The second transfer.
        seq: u64,
    },
    /// What posts or voids comes after its hold, and names one.
    #[error("transfer at {seq} resolves '{hold}', which is no hold before it")]
    NoHold {
        /// The transfer.
        seq: u64,
        /// What it names.
        hold: String,
    },
    /// No more is posted than was held.
    #[error("transfer at {seq} posts {amount} of a hold of {held}")]
    OverHold {
        /// The transfer.
        seq: u64,
        /// What it posts.
        amount: Credits,
        /// What was held.
        held: Credits,
    },
    /// A post or a void has the accounts of its hold, and a void its amount.
    #[error("transfer at {seq} does not fit its hold")]
    OtherSides {
        /// The transfer.
        seq: u64,
    },
    /// The list of open holds has those that nothing resolved.
    #[error("hold at {seq}: open by the transfers {by_transfers}, by the list {by_list}")]
    Open {
        /// The hold.
        seq: u64,
        /// Whether it was not resolved.
        by_transfers: bool,
        /// Whether it is listed as open, with its time.
        by_list: bool,
    },
}

/// Debits pending and posted, credits pending and posted.
type Four = [i128; 4];

/// What was found so far.
struct Audit {
    findings: Vec<Finding>,
    /// By account number.
    added: BTreeMap<i64, Four>,
    /// Holds that nothing has resolved yet, by place.
    open: BTreeMap<u64, Recorded>,
    transfers: u64,
}

impl Reader {
    /// Adds everything up again and compares, as of one moment. Takes time and reads all; memory grows
    /// with the number of accounts and of open holds.
    ///
    /// # Errors
    /// What is wrong, up to [`FINDINGS_MAX`] findings.
    pub fn verify(&self) -> Result<Totals, Vec<Finding>> {
        let mut audit = Audit {
            findings: Vec::new(),
            added: BTreeMap::new(),
            open: BTreeMap::new(),
            transfers: 0,
        };
        let totals = self.at_once(|reader| audit.run(reader.connection())).and_then(|done| done);
        match totals {
            Ok(totals) if audit.findings.is_empty() => Ok(totals),
            Ok(_) => Err(audit.findings),
            Err(error) => {
                audit.findings.push(error.into());
                Err(audit.findings)
            }
        }
    }
}

impl Audit {
    fn run(&mut self, connection: &Connection) -> Result<Totals, StoreError> {
        let said: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if said != "ok" {
            self.find(Finding::Database { text: said });
        }
        self.transfers(connection)?;
        self.open_pendings(connection)?;
        self.accounts(connection)
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Replays every transfer, next to the history.
    fn transfers(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut transfers = connection.prepare(concat!(
            "SELECT",
            rows::transfer_columns!(),
            ", transfer.debit, transfer.credit, transfer.pending FROM transfer",
            rows::transfer_joins!(),
            "ORDER BY transfer.seq"
        ))?;
        let mut lines = connection.prepare(
            "SELECT debits_pending, debits_posted, credits_pending, credits_posted
             FROM history WHERE account = ?1 AND seq = ?2",
        )?;
        let mut rows = transfers.query([])?;
        let mut lines_seen = 0u64;
        while let Some(row) = rows.next()? {
            let recorded = rows::recorded(row)?;
            let (debit, credit): (i64, i64) = (row.get(10)?, row.get(11)?);
            let hold: Option<i64> = row.get(12)?;
            self.transfers += 1;
            if recorded.seq != self.transfers {
                self.find(Finding::Gap { found: recorded.seq, expected: self.transfers });
                self.transfers = recorded.seq;
            }
            let seq = recorded.seq;
            self.replay(recorded, debit, credit, hold.map(i64::unsigned_abs));
            for account in [debit, credit] {
                let mut found = lines.query((account, rows::stored(seq)))?;
                let stored = found.next()?.map(|row| four(row, 0)).transpose()?;
                lines_seen += u64::from(stored.is_some());
                let added = self.added.get(&account).copied().unwrap_or_default();
                if stored.map(|stored| stored.map(i128::from)) != Some(added) {
                    self.find(Finding::History { account, seq, stored, added: Some(added) });
                }
            }
        }
        let lines: i64 =
            connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0))?;
        if lines.unsigned_abs() != lines_seen {
            self.strange_lines(connection)?;
        }
        Ok(())
    }

    /// Lines of history that belong to no transfer of their account.
    fn strange_lines(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut strange = connection.prepare(
            "SELECT account, history.seq, debits_pending, debits_posted, credits_pending,
                 credits_posted
             FROM history LEFT JOIN transfer ON transfer.seq = history.seq
             WHERE transfer.seq IS NULL OR account NOT IN (transfer.debit, transfer.credit)",
        )?;
        let mut rows = strange.query([])?;
        while let Some(row) = rows.next()? {
            let (account, seq, stored) = (row.get(0)?, number(row, 1)?, Some(four(row, 2)?));
            self.find(Finding::History { account, seq, stored, added: None });
        }
        Ok(())
    }

    /// Adds one transfer to its accounts.
    fn replay(&mut self, recorded: Recorded, debit: i64, credit: i64, hold: Option<u64>) {
        let seq = recorded.seq;
        let amount = i128::from(recorded.amount.micros());
        match &recorded.transfer.action {
            Action::Direct { .. } => self.add(debit, credit, 0, amount),
            Action::Pending { .. } => {
                self.add(debit, credit, amount, 0);
                self.open.insert(seq, recorded);
            }
            Action::Post { pending, .. } | Action::Void { pending } => {
                let posts = matches!(recorded.transfer.action, Action::Post { .. });
                let Some(held) = hold.and_then(|place| self.open.remove(&place)) else {
                    let finding = match hold {
                        Some(hold) if hold < seq => Finding::ResolvedTwice { hold, seq },
                        _ => Finding::NoHold { seq, hold: pending.to_string() },
                    };
                    return self.find(finding);
                };
                let held_micros = i128::from(held.amount.micros());
                let sides = held.debit == recorded.debit && held.credit == recorded.credit;
                if !sides || (!posts && held.amount != recorded.amount) {
                    self.find(Finding::OtherSides { seq });
                }
                if amount > held_micros {
                    let (amount, held) = (recorded.amount, held.amount);
                    self.find(Finding::OverHold { seq, amount, held });
                }
                self.add(debit, credit, -held_micros, if posts { amount } else { 0 });
            }
        }
    }

    fn add(&mut self, debit: i64, credit: i64, pending: i128, posted: i128) {
        let [debits_pending, debits_posted, _, _] = self.added.entry(debit).or_default();
        *debits_pending += pending;
        *debits_posted += posted;
        let [_, _, credits_pending, credits_posted] = self.added.entry(credit).or_default();
        *credits_pending += pending;
        *credits_posted += posted;
    }

    /// The list of open holds against those that are left.
    fn open_pendings(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut listed = connection
            .prepare("SELECT seq, expires_unix_ms FROM open_pending ORDER BY open_pending.seq")?;
        let mut rows = listed.query([])?;
        let mut left = self.open.clone();
        while let Some(row) = rows.next()? {
            let seq = number(row, 0)?;
            let listed: Option<i64> = row.get(1)?;
            let open = left.remove(&seq);
            let fits = open.as_ref().is_some_and(|hold| match hold.transfer.action {
                Action::Pending { expires_unix_ms, .. } => {
                    expires_unix_ms.map(rows::stored) == listed
                }
                Action::Direct { .. } | Action::Post { .. } | Action::Void { .. } => false,
            });
            if !fits {
                let by_transfers = open.is_some();
                self.find(Finding::Open { seq, by_transfers, by_list: !by_transfers });
            }
        }
        for seq in left.into_keys() {
            self.find(Finding::Open { seq, by_transfers: true, by_list: false });
        }
        Ok(())
    }

    /// The rows of accounts against what was added.
    fn accounts(&mut self, connection: &Connection) -> Result<Totals, StoreError> {
        let mut accounts =
            connection.prepare(concat!("SELECT", rows::account_columns!(), "FROM account"))?;
        let mut rows = accounts.query([])?;
        let mut totals = Totals {
            transfers: self.transfers,
            open_pendings: self.open.len() as u64,
            ..Totals::default()
        };
        let mut sums = [0u128; 4];
        while let Some(row) = rows.next()? {
            totals.accounts += 1;
            let (number, account) = rows::account(row)?;
            let stored = [
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            ]
            .map(Credits::micros);
            let added = self.added.get(&number).copied().unwrap_or_default();
            if stored.map(i128::from) != added {
                self.find(Finding::Account { account: account.id.to_string(), stored, added });
            }
            if account.available() < 0 && !account.kind.may_go_negative() {
                let credits = i128::from(account.credits_posted.micros());
                let debits = credits - account.available();
                self.find(Finding::Uncovered { account: account.id.to_string(), debits, credits });
            }
            for (sum, total) in sums.iter_mut().zip(stored) {
                *sum += u128::from(total);
            }
        }
        let [debits_pending, debits_posted, credits_pending, credits_posted] = sums;
        for (total, debits, credits) in [
            ("pending", debits_pending, credits_pending),
            ("posted", debits_posted, credits_posted),
        ] {
            if debits != credits {
                self.find(Finding::Unbalanced { total, debits, credits });
            }
        }
        (totals.pending_micros, totals.posted_micros) = (debits_pending, debits_posted);
        Ok(totals)
    }
}

fn four(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<[u64; 4]> {
    Ok([
        number(row, column)?,
        number(row, column + 1)?,
        number(row, column + 2)?,
        number(row, column + 3)?,
    ])
}
