//! Publishers: the keys that they sign packages with, and the name spaces that are theirs.
//!
//! Invariants: a name space has one owner, and keeps him; a public key belongs to one account.

use crate::{
    access_key::space_of,
    fault::{HostFault, PublishError},
    shared::now_unix_ms,
    tables::{self, Tables, unsigned},
};
use fuelbox_ledger::{AccountId, AccountKind, Ledger, LedgerError, Rejected, StoreError, Tx};
use fuelbox_receipt::{KeyError, KeyId, KeyRing, PackageSignature, SignedPackage};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

/// Why a text is no name space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "name space '{found}', expected 1 to {SPACE_CHARS_MAX} of a-z 0-9 _ - and the first a letter or a digit"
)]
pub struct SpaceError {
    found: String,
}

/// Characters of a name space.
const SPACE_CHARS_MAX: usize = 64;

/// Whether a text can be a name space. Lower case alone: two that differ in case would be taken for one
/// another.
pub(crate) fn check_space(text: &str) -> Result<(), SpaceError> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= SPACE_CHARS_MAX
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().all(|byte| alphanumeric(byte) || b"_-".contains(&byte));
    let error = || SpaceError { found: text.escape_debug().take(80).collect() };
    if fits { Ok(()) } else { Err(error()) }
}

/// Why a key or a name space is not taken.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublisherError {
    /// Not a public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Several at once.
    #[error("public keys: found {found}, needed is 1")]
    Keys { found: usize },
    /// The key is another account's.
    #[error("publisher key {id} belongs to another account")]
    KeyTaken { id: KeyId },
    /// The key was taken back, for good.
    #[error("publisher key {id} was revoked")]
    KeyRevoked { id: KeyId },
    /// The account has no such key.
    #[error("no publisher key '{id}'")]
    UnknownKey { id: KeyId },
    /// Not a name space.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// It has an owner.
    #[error("name space '{space}' belongs to another account")]
    SpaceTaken { space: String },
    /// Somebody published in it before it had an owner.
    #[error("name space '{space}' has packages of another account, such as '{package}'")]
    SpaceInUse { space: String, package: String },
    /// The account is no publisher's.
    #[error("account '{account}' is of kind {kind}, publishers have the kind publisher")]
    NoPublisher { account: AccountId, kind: AccountKind },
    /// No such account.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

impl From<LedgerError> for PublisherError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Rejected(error) => Self::Rejected(error),
            LedgerError::Store(error) => Self::Fault(error.into()),
        }
    }
}

impl From<StoreError> for PublisherError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<rusqlite::Error> for PublisherError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// A key that a publisher signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherKey {
    /// Its name: that of keys of receipts.
    pub id: KeyId,
    /// Whose it is.
    pub account: AccountId,
    /// The 32 bytes of the public half.
    pub public_key: [u8; 32],
    /// When it was registered.
    pub created_unix_ms: u64,
    /// When it was taken back.
    pub revoked_unix_ms: Option<u64>,
}

impl PublisherKey {
    /// The public half as PEM.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn to_pem(&self) -> Result<String, HostFault> {
        Ok(self.ring()?.to_pem())
    }

    fn ring(&self) -> Result<KeyRing, HostFault> {
        KeyRing::from_raw(&self.public_key).map_err(|error| HostFault::Books(error.to_string()))
    }
}

/// A name space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// What is before the first dot of its packages' names.
    pub name: String,
    /// Who publishes in it.
    pub account: AccountId,
    /// When it got its owner.
    pub created_unix_ms: u64,
}

/// The publishers of a host.
pub struct Publishers<'a> {
    ledger: &'a Ledger<Tables>,
}

impl<'a> Publishers<'a> {
    pub(crate) fn new(ledger: &'a Ledger<Tables>) -> Self {
        Self { ledger }
    }

    /// Registers the one public key in this PEM for an account. The same key for the same account once
    /// more is no error.
    ///
    /// # Errors
    /// When it is no Ed25519 key, belongs to somebody else, or was revoked; when the account is no
    /// publisher's.
    pub fn register_key(
        &self,
        account: &AccountId,
        pem: &str,
    ) -> Result<PublisherKey, PublisherError> {
        self.register(account, &KeyRing::from_pem(pem)?)
    }

    /// As [`Publishers::register_key`], from the 32 bytes of the public half.
    ///
    /// # Errors
    /// See there.
    pub fn register_raw_key(
        &self,
        account: &AccountId,
        raw: &[u8; 32],
    ) -> Result<PublisherKey, PublisherError> {
        self.register(account, &KeyRing::from_raw(raw)?)
    }

    fn register(
        &self,
        account: &AccountId,
        ring: &KeyRing,
    ) -> Result<PublisherKey, PublisherError> {
        let mut keys = ring.raw();
        let (Some((id, public_key)), None) = (keys.next(), keys.next()) else {
            return Err(PublisherError::Keys { found: ring.ids().count() });
        };
        let created_unix_ms = now_unix_ms();
        let account = account.clone();
        let new = PublisherKey { id, account, public_key, created_unix_ms, revoked_unix_ms: None };
        self.ledger.write(move |tx| -> Result<PublisherKey, PublisherError> {
            check_publisher(tx, &new.account)?;
            if let Some(known) = find_key(tx.connection(), &id)? {
                return match known.revoked_unix_ms {
                    _ if known.account != new.account => Err(PublisherError::KeyTaken { id }),
                    Some(_) => Err(PublisherError::KeyRevoked { id }),
                    None => Ok(known),
                };
            }
            let sql = "INSERT INTO publisher_key (id, account, public_key, created_unix_ms)
                VALUES (?1, ?2, ?3, ?4)";
            tx.connection().prepare_cached(sql)?.execute(params![
                id.as_bytes(),
                new.account.as_str(),
                new.public_key,
                created_unix_ms.cast_signed()
            ])?;
            Ok(new.clone())
        })
    }

    /// Takes a key of an account back: what it signed before stays published, and nothing more is
    /// published with it. One that was taken back before stays as it is.
    ///
    /// # Errors
    /// When the account has no such key, and when the store fails.
    pub fn revoke_key(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<PublisherKey, PublisherError> {
        let (account, id, now) = (account.clone(), *id, now_unix_ms());
        self.ledger.write(move |tx| -> Result<PublisherKey, PublisherError> {
            let found = find_key(tx.connection(), &id)?.filter(|key| key.account == account);
            let mut key = found.ok_or(PublisherError::UnknownKey { id })?;
            if key.revoked_unix_ms.is_none() {
                let sql = "UPDATE publisher_key SET revoked_unix_ms = ?2 WHERE id = ?1";
                let values = params![id.as_bytes(), now.cast_signed()];
                tx.connection().prepare_cached(sql)?.execute(values)?;
                key.revoked_unix_ms = Some(now);
            }
            Ok(key)
        })
    }

    /// A key.
    ///
    /// # Errors
    /// When the store fails.
    pub fn key(&self, id: &KeyId) -> Result<Option<PublisherKey>, HostFault> {
        Ok(self.ledger.read(|reader| find_key(reader.connection(), id))??)
    }

    /// Keys of an account, or of all, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn keys(&self, account: Option<&AccountId>) -> Result<Vec<PublisherKey>, HostFault> {
        let found = self.ledger.read(|reader| -> rusqlite::Result<Vec<PublisherKey>> {
            let sql = format!(
                "SELECT {KEY_COLUMNS} FROM publisher_key WHERE ?1 IS NULL OR account = ?1
                 ORDER BY created_unix_ms, id"
            );
            let mut select = reader.connection().prepare_cached(&sql)?;
            select.query_map([account.map(AccountId::as_str)], publisher_key)?.collect()
        })?;
        Ok(found?)
    }

    /// Gives a name space to an account, for good. The same once more is no error.
    ///
    /// # Errors
    /// When it has another owner, or packages of others; when the account is no publisher's.
    pub fn claim_space(&self, space: &str, account: &AccountId) -> Result<Space, PublisherError> {
        check_space(space)?;
        let (name, account, created_unix_ms) = (space.to_owned(), account.clone(), now_unix_ms());
        let new = Space { name, account, created_unix_ms };
        self.ledger.write(move |tx| -> Result<Space, PublisherError> {
            check_publisher(tx, &new.account)?;
            if let Some(known) = find_space(tx.connection(), &new.name)? {
                let space = new.name.clone();
                let same = known.account == new.account;
                return if same { Ok(known) } else { Err(PublisherError::SpaceTaken { space }) };
            }
            // From before this name space had an owner: its names stay their publisher's.
            let sql = "SELECT name FROM package WHERE name >= ?1 || '.' AND name < ?1 || '/'
                AND publisher <> ?2 ORDER BY name LIMIT 1";
            let mut select = tx.connection().prepare_cached(sql)?;
            let values = [new.name.as_str(), new.account.as_str()];
            if let Some(package) = select.query_row(values, |row| row.get(0)).optional()? {
                return Err(PublisherError::SpaceInUse { space: new.name.clone(), package });
            }
            let sql = "INSERT INTO space (name, account, created_unix_ms) VALUES (?1, ?2, ?3)";
            tx.connection().prepare_cached(sql)?.execute(params![
                new.name,
                new.account.as_str(),
                created_unix_ms.cast_signed()
            ])?;
            Ok(new.clone())
        })
    }

    /// A name space, when it has an owner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn space(&self, name: &str) -> Result<Option<Space>, HostFault> {
        Ok(self.ledger.read(|reader| find_space(reader.connection(), name))??)
    }

    /// All name spaces, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn spaces(&self) -> Result<Vec<Space>, HostFault> {
        let found = self.ledger.read(|reader| -> rusqlite::Result<Vec<Space>> {
            let sql = "SELECT name, account, created_unix_ms FROM space ORDER BY name";
            reader.connection().prepare_cached(sql)?.query_map([], space)?.collect()
        })?;
        Ok(found?)
    }
}

/// Whether an account may publish this package under its name: the name space is the account's, and the
/// signature is by a key of the account. Says nothing of names without a name space: those belong to
/// whoever came first.
pub(crate) fn check_name(
    connection: &Connection,
    account: &AccountId,
    package: &SignedPackage,
    signature: Option<&PackageSignature>,
    signature_required: bool,
) -> Result<(), PublishError> {
    let space = space_of(&package.name);
    if let Some(space) = space {
        let owner = find_space(connection, space).map_err(HostFault::from)?;
        if owner.is_none_or(|owner| owner.account != *account) {
            let (name, space) = (package.name.clone(), space.to_owned());
            return Err(PublishError::Space { name, space });
        }
    }
    let Some(signature) = signature else {
        let name = package.name.clone();
        let needed = signature_required || space.is_some();
        return if needed { Err(PublishError::Unsigned { name }) } else { Ok(()) };
    };
    let id = signature.key_id();
    let found = find_key(connection, &id).map_err(HostFault::from)?;
    let found = found.filter(|key| key.account == *account && key.revoked_unix_ms.is_none());
    let key = found.ok_or(PublishError::PublisherKey { id })?;
    Ok(signature.verify(&key.ring()?, package)?)
}

fn check_publisher(tx: &mut Tx<'_, Tables>, account: &AccountId) -> Result<(), PublisherError> {
    let found = tx.account(account)?;
    let kind = found.ok_or_else(|| Rejected::UnknownAccount { account: account.clone() })?.kind;
    if kind == AccountKind::Publisher {
        Ok(())
    } else {
        Err(PublisherError::NoPublisher { account: account.clone(), kind })
    }
}

const KEY_COLUMNS: &str = "id, account, public_key, created_unix_ms, revoked_unix_ms";

fn find_key(connection: &Connection, id: &KeyId) -> rusqlite::Result<Option<PublisherKey>> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM publisher_key WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], publisher_key).optional()
}

fn publisher_key(row: &Row<'_>) -> rusqlite::Result<PublisherKey> {
    let public_key: [u8; 32] = row.get(2)?;
    let id = KeyId::from_bytes(row.get(0)?);
    // Who can write into the store can put in a key, but not under the name of another.
    let ring = KeyRing::from_raw(&public_key).ok().filter(|ring| ring.contains(&id));
    let damaged = || format!("public key {id}").into();
    ring.ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, damaged()))?;
    Ok(PublisherKey {
        id,
        account: tables::parsed(&row.get::<_, String>(1)?)?,
        public_key,
        created_unix_ms: unsigned(row, 3)?,
        revoked_unix_ms: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
    })
}

fn find_space(connection: &Connection, name: &str) -> rusqlite::Result<Option<Space>> {
    let sql = "SELECT name, account, created_unix_ms FROM space WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], space).optional()
}

fn space(row: &Row<'_>) -> rusqlite::Result<Space> {
    Ok(Space {
        name: row.get(0)?,
        account: tables::parsed(&row.get::<_, String>(1)?)?,
        created_unix_ms: unsigned(row, 2)?,
    })
}
