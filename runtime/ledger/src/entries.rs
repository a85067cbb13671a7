//! Transfers become rows, with a line of history for each side.

use crate::{
    account::{Account, AccountId},
    credits::Credits,
    error::StoreError,
    plan::Step,
    rows,
    transfer::{Action, Recorded, Transfer},
};
use rusqlite::{CachedStatement, Connection};

/// Writes the rows of a batch but for its accounts', which are written at the end.
pub(crate) fn record(
    connection: &Connection,
    number: impl Fn(&AccountId) -> Option<i64>,
    steps: Vec<Step>,
) -> Result<Vec<Recorded>, StoreError> {
    let mut all = Vec::with_capacity(steps.len());
    for step in steps {
        let (recorded, hold_seq, debit, credit) = match step {
            Step::Repeat(recorded) => {
                all.push(recorded);
                continue;
            }
            Step::Write { recorded, hold_seq, debit, credit } => {
                (recorded, hold_seq, debit, credit)
            }
        };
        let number = |account: &Account| {
            let text = || format!("account '{}' went away", account.id);
            number(&account.id).ok_or_else(|| StoreError::Damaged { text: text() })
        };
        let (debit_number, credit_number) = (number(&debit)?, number(&credit)?);
        let seq = rows::stored(recorded.seq);
        let Transfer { id, purpose, action } = &recorded.transfer;
        let expires = match action {
            Action::Pending { expires_unix_ms, .. } => expires_unix_ms.map(rows::stored),
            Action::Direct { .. } | Action::Post { .. } | Action::Void { .. } => None,
        };
        connection
            .prepare_cached(
                "INSERT INTO transfer (seq, id, purpose, action, debit, credit, amount, pending,
                     expires_unix_ms, recorded_unix_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                seq,
                id.as_str(),
                purpose.name(),
                action.name(),
                debit_number,
                credit_number,
                recorded.amount.stored(),
                hold_seq.map(rows::stored),
                expires,
                rows::stored(recorded.recorded_unix_ms),
            ))?;
        match action {
            Action::Direct { .. } => {}
            Action::Pending { .. } => {
                connection
                    .prepare_cached(
                        "INSERT INTO open_pending (seq, expires_unix_ms) VALUES (?1, ?2)",
                    )?
                    .execute((seq, expires))?;
            }
            Action::Post { .. } | Action::Void { .. } => {
                let deleted = connection
                    .prepare_cached("DELETE FROM open_pending WHERE seq = ?1")?
                    .execute([hold_seq.map(rows::stored)])?;
                one_row(deleted)?;
            }
        }
        let mut history = connection.prepare_cached(
            "INSERT INTO history (account, seq, debits_pending, debits_posted, credits_pending,
                 credits_posted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        line(&mut history, debit_number, seq, &debit)?;
        line(&mut history, credit_number, seq, &credit)?;
        all.push(recorded);
    }
    Ok(all)
}

/// Transfers that void the holds that are overdue, the longest first.
pub(crate) fn overdue(
    connection: &Connection,
    now_unix_ms: u64,
    limit: usize,
) -> Result<Vec<Transfer>, StoreError> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT",
        rows::transfer_columns!(),
        "FROM open_pending JOIN transfer ON transfer.seq = open_pending.seq",
        rows::transfer_joins!(),
        "WHERE open_pending.expires_unix_ms <= ?1
         ORDER BY open_pending.expires_unix_ms, open_pending.seq LIMIT ?2",
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let holds = statement.query_map((rows::stored(now_unix_ms), limit), rows::recorded)?;
    holds
        .map(|hold| {
            let Transfer { id, purpose, .. } = hold?.transfer;
            Ok(Transfer { id: id.expiry(), purpose, action: Action::Void { pending: id } })
        })
        .collect()
}

/// The totals of an account after a transfer.
fn line(
    statement: &mut CachedStatement<'_>,
    number: i64,
    seq: i64,
    account: &Account,
) -> rusqlite::Result<()> {
    let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } = account;
    let totals = [debits_pending, debits_posted, credits_pending, credits_posted];
    let [debits_pending, debits_posted, credits_pending, credits_posted] =
        totals.map(|total| Credits::stored(*total));
    statement.execute((
        number,
        seq,
        debits_pending,
        debits_posted,
        credits_pending,
        credits_posted,
    ))?;
    Ok(())
}

/// A statement that is about one row has changed it.
pub(crate) fn one_row(changed: usize) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Damaged { text: format!("{changed} rows changed, expected 1") })
    }
}
