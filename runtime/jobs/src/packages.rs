//! Packages after they were published: who sees them, whether they should be used, and their end.
//!
//! What a change says is in the store and in the catalogue when the call returns. Says nothing of who
//! may change what: that is for whoever knows who asks.

use crate::{
    catalogue::Catalogue,
    fault::HostFault,
    records::{PackageRecord, Records},
    tables::Tables,
};
use fuelbox_digest::Digest;
use fuelbox_ledger::{AccountId, Ledger, LedgerError, Rejected, StoreError, Tx};
use rusqlite::{OptionalExtension, params};
use std::{fs, io};

/// Who sees and runs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Visibility {
    /// Everybody.
    #[default]
    Public,
    /// Its publisher and its readers. To others it is not there.
    Private,
}

impl Visibility {
    /// The name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// The visibility of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Public, Self::Private].into_iter().find(|known| known.name() == name)
    }
}

/// Why a package is not changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PackageError {
    /// No such package.
    #[error("no package '{found}' is published here")]
    UnknownPackage { found: String },
    /// Receipts name it.
    #[error(
        "package {name}:{version} was used by jobs, and stays for their receipts: deprecate it"
    )]
    Used { name: String, version: String },
    /// Jobs of it, or its model, are under way.
    #[error("package {digest} is in use now")]
    InUse { digest: Digest },
    /// Too many readers.
    #[error("package: {found} readers, allowed are {READERS_MAX}")]
    Readers { found: usize },
    /// Nothing, too much, or what moves a cursor.
    #[error(
        "deprecation '{found}': allowed are 1 to {DEPRECATED_CHARS_MAX} characters, none of control"
    )]
    Deprecated { found: String },
    /// A reader is no account.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The host failed.
    #[error(transparent)]
    Fault(#[from] HostFault),
}

impl From<LedgerError> for PackageError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Rejected(error) => Self::Rejected(error),
            LedgerError::Store(error) => Self::Fault(error.into()),
        }
    }
}

impl From<StoreError> for PackageError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<rusqlite::Error> for PackageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Readers of one package: a few thousand customers.
const READERS_MAX: usize = 4_096;

/// Characters of a deprecation: a few sentences.
const DEPRECATED_CHARS_MAX: usize = 500;

/// What is to be different. What is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageChange {
    /// Who sees and runs it.
    pub visibility: Option<Visibility>,
    /// Who does so besides its publisher while it is private: these, and no others.
    pub readers: Option<Vec<AccountId>>,
    /// Why it should not be used any more; `Some(None)`: it should.
    pub deprecated: Option<Option<String>>,
}

impl PackageChange {
    fn check(&self) -> Result<(), PackageError> {
        if let Some(readers) = &self.readers
            && readers.len() > READERS_MAX
        {
            return Err(PackageError::Readers { found: readers.len() });
        }
        if let Some(Some(text)) = &self.deprecated {
            let chars = text.chars().take(DEPRECATED_CHARS_MAX + 1).count();
            if !(1..=DEPRECATED_CHARS_MAX).contains(&chars) || text.chars().any(char::is_control) {
                let found = text.escape_debug().take(80).collect();
                return Err(PackageError::Deprecated { found });
            }
        }
        Ok(())
    }
}

/// The packages of a host, to be changed.
pub struct Packages<'a> {
    catalogue: &'a Catalogue,
    ledger: &'a Ledger<Tables>,
}

impl<'a> Packages<'a> {
    pub(crate) fn new(catalogue: &'a Catalogue, ledger: &'a Ledger<Tables>) -> Self {
        Self { catalogue, ledger }
    }

    /// Changes all of this at once, or nothing. Jobs that were taken in go on.
    ///
    /// # Errors
    /// When there is no such package, or a reader is no account, and when the store fails.
    pub fn change(
        &self,
        digest: &Digest,
        change: PackageChange,
    ) -> Result<PackageRecord, PackageError> {
        change.check()?;
        let _alone = self.catalogue.alone();
        let digest = *digest;
        self.ledger.write(move |tx| -> Result<(), PackageError> { write(tx, &digest, &change) })?;
        let found = self.ledger.read(|reader| -> Result<_, HostFault> {
            let records = Records::new(reader);
            let digest_text = digest.to_string();
            Ok(records.find_package(&digest_text)?.zip(Some(records.readers(&digest)?)))
        })??;
        let (record, readers) = found.ok_or_else(|| unknown(&digest))?;
        let readers = match record.visibility {
            Visibility::Public => None,
            Visibility::Private => Some(readers),
        };
        self.catalogue.changed(&digest, readers);
        Ok(record)
    }

    /// Says who sees and runs a package.
    ///
    /// # Errors
    /// See [`Packages::change`].
    pub fn set_visibility(
        &self,
        digest: &Digest,
        visibility: Visibility,
    ) -> Result<PackageRecord, PackageError> {
        let visibility = Some(visibility);
        self.change(digest, PackageChange { visibility, ..PackageChange::default() })
    }

    /// Says who sees and runs a package besides its publisher while it is private.
    ///
    /// # Errors
    /// See [`Packages::change`].
    pub fn set_readers(
        &self,
        digest: &Digest,
        readers: Vec<AccountId>,
    ) -> Result<PackageRecord, PackageError> {
        let readers = Some(readers);
        self.change(digest, PackageChange { readers, ..PackageChange::default() })
    }

    /// Says why a package should not be used any more, or that it should. It runs all the same.
    ///
    /// # Errors
    /// See [`Packages::change`].
    pub fn deprecate(
        &self,
        digest: &Digest,
        text: Option<String>,
    ) -> Result<PackageRecord, PackageError> {
        let deprecated = Some(text);
        self.change(digest, PackageChange { deprecated, ..PackageChange::default() })
    }

    /// Removes a package that no job ever used, with its file. Its version is free again; its name, too,
    /// when it was the last of it.
    ///
    /// # Errors
    /// When there is no such package, when jobs used it or do so now, and when the store fails.
    pub fn delete(&self, digest: &Digest) -> Result<(), PackageError> {
        let digest = *digest;
        let _alone = self.catalogue.alone();
        let leaving = self.catalogue.take_away(&digest);
        let _leaving = leaving.ok_or(PackageError::InUse { digest })?;
        self.ledger.write(move |tx| -> Result<(), PackageError> { delete(tx, &digest) })?;
        match fs::remove_file(self.catalogue.path(&digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // It is gone all the same: the janitor finds the file.
                Ok(())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn unknown(digest: &Digest) -> PackageError {
    PackageError::UnknownPackage { found: digest.to_string() }
}

fn write(
    tx: &mut Tx<'_, Tables>,
    digest: &Digest,
    change: &PackageChange,
) -> Result<(), PackageError> {
    // Whatever may be refused comes first.
    for account in change.readers.iter().flatten() {
        if tx.account(account)?.is_none() {
            return Err(Rejected::UnknownAccount { account: account.clone() }.into());
        }
    }
    let connection = tx.connection();
    let sql = "UPDATE package SET visibility = coalesce(?2, visibility),
        deprecated = CASE WHEN ?3 THEN ?4 ELSE deprecated END WHERE digest = ?1";
    let found = connection.prepare_cached(sql)?.execute(params![
        digest.as_bytes(),
        change.visibility.map(Visibility::name),
        change.deprecated.is_some(),
        change.deprecated.as_ref().and_then(Option::as_ref),
    ])?;
    if found == 0 {
        return Err(unknown(digest));
    }
    if let Some(readers) = &change.readers {
        let sql = "DELETE FROM reader WHERE package = ?1";
        connection.prepare_cached(sql)?.execute([digest.as_bytes()])?;
        let sql = "INSERT INTO reader (package, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        let mut insert = connection.prepare_cached(sql)?;
        for account in readers {
            insert.execute(params![digest.as_bytes(), account.as_str()])?;
        }
    }
    Ok(())
}

fn delete(tx: &Tx<'_, Tables>, digest: &Digest) -> Result<(), PackageError> {
    let connection = tx.connection();
    let sql = "SELECT name, version, EXISTS (SELECT 1 FROM job WHERE job.package = ?1)
        FROM package WHERE digest = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?));
    let found = connection.prepare_cached(sql)?.query_row([digest.as_bytes()], read).optional()?;
    let (name, version, used) = found.ok_or_else(|| unknown(digest))?;
    if used {
        return Err(PackageError::Used { name, version });
    }
    for sql in [
        "DELETE FROM reader WHERE package = ?1",
        "DELETE FROM shape WHERE package = ?1",
        "DELETE FROM quote WHERE package = ?1",
        "DELETE FROM package WHERE digest = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([digest.as_bytes()])?;
    }
    Ok(())
}
