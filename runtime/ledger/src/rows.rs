//! Rows become values: accounts and transfers as the tables have them.
//!
//! Every column is checked once more, so that a damaged database gives an error and no money.

use crate::{
    account::{Account, AccountId, AccountKind},
    credits::{Credits, excerpt},
    error::StoreError,
    transfer::{Action, Purpose, Recorded, Transfer, TransferId},
};
use rusqlite::{
    Connection, OptionalExtension, Row,
    types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef},
};

impl FromSql for Credits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        u64::try_from(micros)
            .ok()
            .and_then(Self::from_micros)
            .ok_or(FromSqlError::OutOfRange(micros))
    }
}

/// A time or a place, as the store keeps it. Later than the store can say is as late as it can.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column that is a number from 0 on.
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn optional_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => number(row, column).map(Some),
    }
}

/// A column of text that is one of a few words, or an id.
fn word<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let failed = |why| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why);
    let text = row.get_ref(column)?.as_str().map_err(|error| failed(error.into()))?;
    parse(text).ok_or_else(|| failed(format!("'{}' is not known here", excerpt(text)).into()))
}

/// What [`account`] reads, behind `SELECT`.
macro_rules! account_columns {
    () => {
        " account.number, account.id, account.kind, account.debits_pending, account.debits_posted, \
         account.credits_pending, account.credits_posted, account.created_unix_ms "
    };
}
pub(crate) use account_columns;

/// An account and its number.
pub(crate) fn account(row: &Row<'_>) -> rusqlite::Result<(i64, Account)> {
    let account = Account {
        id: word(row, 1, |text| text.parse().ok())?,
        kind: word(row, 2, AccountKind::named)?,
        debits_pending: row.get(3)?,
        debits_posted: row.get(4)?,
        credits_pending: row.get(5)?,
        credits_posted: row.get(6)?,
        created_unix_ms: number(row, 7)?,
    };
    Ok((row.get(0)?, account))
}

/// The account of this name, and its number.
pub(crate) fn find_account(
    connection: &Connection,
    id: &AccountId,
) -> Result<Option<(i64, Account)>, StoreError> {
    let query = concat!("SELECT", account_columns!(), "FROM account WHERE id = ?1");
    let mut statement = connection.prepare_cached(query)?;
    Ok(statement.query_row([id.as_str()], account).optional()?)
}

/// What [`recorded`] reads, behind `SELECT`.
macro_rules! transfer_columns {
    () => {
        " transfer.seq, transfer.id, transfer.purpose, transfer.action, debit.id, credit.id, \
         transfer.amount, hold.id, transfer.expires_unix_ms, transfer.recorded_unix_ms "
    };
}
pub(crate) use transfer_columns;

/// The tables that [`transfer_columns`] are in, behind `FROM transfer`.
macro_rules! transfer_joins {
    () => {
        " JOIN account AS debit ON debit.number = transfer.debit \
         JOIN account AS credit ON credit.number = transfer.credit \
         LEFT JOIN transfer AS hold ON hold.seq = transfer.pending "
    };
}
pub(crate) use transfer_joins;

/// The words of the column `action`: the names of [`Action`]s.
#[derive(Clone, Copy)]
enum Kind {
    Direct,
    Pending,
    Post,
    Void,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "pending" => Some(Self::Pending),
            "post" => Some(Self::Post),
            "void" => Some(Self::Void),
            _ => None,
        }
    }
}

/// A transfer.
pub(crate) fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let debit: AccountId = word(row, 4, |text| text.parse().ok())?;
    let credit: AccountId = word(row, 5, |text| text.parse().ok())?;
    let amount: Credits = row.get(6)?;
    let pending = |row: &Row<'_>| word(row, 7, |text| Some(TransferId::stored(text)));
    let action = match word(row, 3, Kind::named)? {
        Kind::Direct => Action::Direct { debit: debit.clone(), credit: credit.clone(), amount },
        Kind::Pending => Action::Pending {
            debit: debit.clone(),
            credit: credit.clone(),
            amount,
            expires_unix_ms: optional_number(row, 8)?,
        },
        Kind::Post => Action::Post { pending: pending(row)?, amount },
        Kind::Void => Action::Void { pending: pending(row)? },
    };
    let transfer = Transfer {
        id: word(row, 1, |text| Some(TransferId::stored(text)))?,
        purpose: word(row, 2, Purpose::named)?,
        action,
    };
    Ok(Recorded {
        seq: number(row, 0)?,
        transfer,
        debit,
        credit,
        amount,
        recorded_unix_ms: number(row, 9)?,
        repeated: false,
    })
}

/// The transfer of this name.
pub(crate) fn find_transfer(
    connection: &Connection,
    id: &TransferId,
) -> Result<Option<Recorded>, StoreError> {
    let query = concat!(
        "SELECT",
        transfer_columns!(),
        "FROM transfer",
        transfer_joins!(),
        "WHERE transfer.id = ?1"
    );
    let mut statement = connection.prepare_cached(query)?;
    Ok(statement.query_row([id.as_str()], recorded).optional()?)
}

/// The transfer that posted or voided the hold at this place.
pub(crate) fn find_resolution(
    connection: &Connection,
    seq: u64,
) -> Result<Option<Recorded>, StoreError> {
    let query = concat!(
        "SELECT",
        transfer_columns!(),
        "FROM transfer",
        transfer_joins!(),
        "WHERE transfer.pending = ?1"
    );
    let mut statement = connection.prepare_cached(query)?;
    Ok(statement.query_row([stored(seq)], recorded).optional()?)
}
