//! The books afterwards: every job that was admitted is settled once, and for what its caller was told.

use crate::serving::{Account, Folder};
use anyhow::Result;
use fuelbox_load::Tally;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the store says, by fuelbox' own commands.
#[derive(Debug, Default)]
pub(crate) struct Books {
    usage: BTreeMap<String, Usage>,
    accounts: Vec<Account>,
    /// Jobs that wait or run.
    pub(crate) unfinished: usize,
    pub(crate) audit: Audit,
}

/// A line of `usage --by account`.
#[derive(Clone, Debug, Default, Deserialize)]
struct Usage {
    name: String,
    jobs: u64,
    succeeded: u64,
    credits_micro: u64,
}

/// What `audit` says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Audit {
    /// Receipts in the log.
    pub(crate) size: u64,
    pub(crate) replayed: u64,
    pub(crate) same: u64,
    #[serde(default)]
    different: Vec<serde_json::Value>,
}

impl Books {
    /// Reads them; about so many receipts are replayed.
    pub(crate) fn read(folder: &Folder<'_>, replays: u64) -> Result<Self> {
        let usage: Vec<Usage> = folder.json(&["usage", "--by", "account"])?;
        let jobs: u64 = usage.iter().map(|line| line.jobs).sum();
        let mut unfinished = 0;
        for state in ["queued", "running"] {
            let jobs: Vec<serde_json::Value> = folder.json(&["jobs", "list", "--state", state])?;
            unfinished += jobs.len();
        }
        folder.ask(&["log", "check"])?;
        let percent = (replays as f64 * 100.0 / jobs.max(1) as f64).clamp(0.0001, 100.0);
        let audit = folder.json(&["audit", "--sample", &format!("{percent:.4}%")])?;
        Ok(Self {
            usage: usage.into_iter().map(|line| (line.name.clone(), line)).collect(),
            accounts: folder.json(&["account", "list"])?,
            unfinished,
            audit,
        })
    }

    /// Jobs that succeeded.
    pub(crate) fn succeeded(&self) -> u64 {
        self.usage.values().map(|line| line.succeeded).sum()
    }

    /// Where the books and the callers do not agree. `given_micro` is what each caller had at first.
    pub(crate) fn failures(
        &self,
        tallies: &BTreeMap<String, Tally>,
        given_micro: i128,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |holds: bool, what: String| {
            if !holds {
                failures.push(what);
            }
        };
        for (name, tally) in tallies {
            let usage = self.usage.get(name).cloned().unwrap_or_default();
            let (told, done) = (tally.succeeded, usage.succeeded);
            let most = told + tally.left;
            fail(
                (told..=most).contains(&done),
                format!("{name}: {done} jobs succeeded, callers know of {told} to {most}"),
            );
            // Those who left have jobs with bills that they never saw.
            let (billed, seen) = (usage.credits_micro, tally.credits_micro);
            let agrees = if tally.left == 0 { billed == seen } else { billed >= seen };
            fail(agrees, format!("{name}: billed {billed} micro-credits, callers saw {seen}"));
            let account = self.accounts.iter().find(|account| account.account == *name);
            let left = account.map(|account| account.balance_micro);
            let expected = given_micro - i128::from(billed);
            fail(left == Some(expected), format!("{name}: has {left:?}, expected {expected}"));
        }
        let held: u64 = self.accounts.iter().map(|account| account.held_micro).sum();
        fail(held == 0, format!("{held} micro-credits are still held"));
        let sum: i128 = self.accounts.iter().map(|account| account.balance_micro).sum();
        fail(sum == 0, format!("all accounts add up to {sum}, expected 0"));
        fail(self.unfinished == 0, format!("{} jobs have no end", self.unfinished));
        let Audit { size, replayed, same, different } = &self.audit;
        let jobs: u64 = self.usage.values().map(|line| line.jobs).sum();
        fail(*size <= jobs, format!("{size} receipts of {jobs} jobs"));
        fail(*size >= self.succeeded(), format!("{size} receipts of {} jobs", self.succeeded()));
        fail(
            *replayed > 0 && same == replayed && different.is_empty(),
            format!(
                "{same} of {replayed} replays are the same, {} receipts differ",
                different.len()
            ),
        );
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let usage = |name: &str, jobs, succeeded, credits_micro| {
            (name.to_owned(), Usage { name: name.into(), jobs, succeeded, credits_micro })
        };
        let account = |name: &str, balance_micro| Account {
            account: name.into(),
            balance_micro,
            held_micro: 0,
        };
        Books {
            usage: [usage("alice", 10, 10, 100), usage("carol", 7, 5, 60)].into(),
            accounts: vec![
                account("alice", 900),
                account("carol", 940),
                account("operator", -1_840),
            ],
            unfinished: 0,
            audit: Audit { size: 15, replayed: 3, same: 3, different: Vec::new() },
        }
    }

    fn tallies() -> BTreeMap<String, Tally> {
        let tally = |succeeded, left, credits_micro| Tally {
            succeeded,
            left,
            credits_micro,
            ..Tally::default()
        };
        [("alice".into(), tally(10, 0, 100)), ("carol".into(), tally(4, 3, 40))].into()
    }

    #[test]
    fn books_that_agree_with_callers_pass() {
        assert_eq!(books().failures(&tallies(), 1_000), Vec::<String>::new());
    }

    #[test]
    fn every_disagreement_is_named() {
        type Change = fn(&mut Books, &mut BTreeMap<String, Tally>);
        let cases: [(Change, &str); 8] = [
            (
                |_, tallies| tallies.get_mut("alice").expect("alice").succeeded = 11,
                "alice: 10 jobs succeeded, callers know of 11 to 11",
            ),
            (
                |_, tallies| tallies.get_mut("carol").expect("carol").left = 0,
                "carol: 5 jobs succeeded, callers know of 4 to 4; \
                 carol: billed 60 micro-credits, callers saw 40",
            ),
            (
                |_, tallies| tallies.get_mut("alice").expect("alice").credits_micro = 99,
                "alice: billed 100 micro-credits, callers saw 99",
            ),
            (
                |books, _| {
                    books.accounts[0].balance_micro -= 1;
                    books.accounts[2].balance_micro += 1;
                },
                "alice: has Some(899), expected 900",
            ),
            (|books, _| books.accounts[1].held_micro = 5, "5 micro-credits are still held"),
            (
                |books, _| books.accounts[2].balance_micro += 1,
                "all accounts add up to 1, expected 0",
            ),
            (|books, _| books.unfinished = 2, "2 jobs have no end"),
            (|books, _| books.audit.same = 2, "2 of 3 replays are the same, 0 receipts differ"),
        ];
        for (change, expected) in cases {
            let (mut books, mut tallies) = (books(), tallies());
            change(&mut books, &mut tallies);
            assert_eq!(books.failures(&tallies, 1_000).join("; "), expected);
        }
    }
}
