//! Rows of access keys.

use crate::{
    access_key::{AccessKey, AccessKeyId, Scope, SecretHash},
    tables,
};
use fuelbox_ledger::Credits;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

pub(crate) const COLUMNS: &str =
    "id, account, scopes, spaces, name, created_unix_ms, expires_unix_ms,
    revoked_unix_ms, spend_limit, spent";

pub(crate) fn insert(
    connection: &Connection,
    key: &AccessKey,
    hash: &SecretHash,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO access_key (id, secret, account, scopes, spaces, name, created_unix_ms,
        expires_unix_ms, spend_limit) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        key.id.as_str(),
        hash.as_bytes(),
        key.account.as_str(),
        key.scopes.to_string(),
        key.spaces.as_ref().map(|spaces| spaces.join(" ")),
        key.name,
        key.created_unix_ms.cast_signed(),
        key.expires_unix_ms.map(u64::cast_signed),
        key.spend_limit.map(|limit| limit.micros().cast_signed()),
    ])?;
    Ok(())
}

/// A key with the hash of its secret.
pub(crate) fn find(
    connection: &Connection,
    id: &AccessKeyId,
) -> rusqlite::Result<Option<(AccessKey, SecretHash)>> {
    let sql = format!("SELECT {COLUMNS}, secret FROM access_key WHERE id = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let read =
        |row: &Row<'_>| Ok((access_key(row)?, SecretHash::from_bytes(row.get::<_, [u8; 32]>(10)?)));
    select.query_row([id.as_str()], read).optional()
}

pub(crate) fn access_key(row: &Row<'_>) -> rusqlite::Result<AccessKey> {
    let time = |column| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
    };
    let scopes = row.get::<_, String>(2)?;
    let scopes = scopes.split_whitespace().map(|name| {
        let unknown = || format!("scope '{name}'").into();
        Scope::from_name(name)
            .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, unknown()))
    });
    let spaces = row.get::<_, Option<String>>(3)?;
    let limit = row.get::<_, Option<i64>>(8)?.map(|_| tables::credits(row, 8)).transpose()?;
    Ok(AccessKey {
        id: tables::parsed::<AccessKeyId>(&row.get::<_, String>(0)?)?,
        account: tables::parsed(&row.get::<_, String>(1)?)?,
        scopes: scopes.collect::<rusqlite::Result<_>>()?,
        spaces: spaces.map(|spaces| spaces.split_whitespace().map(str::to_owned).collect()),
        name: row.get(4)?,
        created_unix_ms: row.get::<_, i64>(5)?.cast_unsigned(),
        expires_unix_ms: time(6)?,
        revoked_unix_ms: time(7)?,
        spend_limit: limit,
        spent: tables::credits(row, 9)?,
    })
}

/// Adds to what was spent with a key. Part of the transaction that moves the money; only for keys with a
/// limit, whose constraint has the last word.
pub(crate) fn add_spent(
    connection: &Connection,
    id: &AccessKeyId,
    amount: Credits,
) -> rusqlite::Result<()> {
    let sql = "UPDATE access_key SET spent = spent + ?2 WHERE id = ?1";
    let mut update = connection.prepare_cached(sql)?;
    update.execute(params![id.as_str(), amount.micros().cast_signed()])?;
    Ok(())
}
