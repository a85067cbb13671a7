//! What is written of a package, and who has its name.

use crate::{
    books::prepare_shape,
    catalogue::Quote,
    fault::PublishError,
    packages::Visibility,
    publish::{Publication, PublishRequest},
    publishers::check_name,
    tables::Tables,
};
use fuelbox_digest::Digest;
use fuelbox_engine::Manifest;
use fuelbox_ledger::{AccountId, Credits, Tx};
use fuelbox_receipt::{PackageSignature, SignedPackage};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

/// What is written of a package.
pub(crate) struct Row {
    pub(crate) package: SignedPackage,
    pub(crate) publisher: AccountId,
    pub(crate) manifest: Vec<u8>,
    pub(crate) load_fuel: u64,
    pub(crate) credits: Credits,
    pub(crate) now_unix_ms: u64,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Option<PackageSignature>,
    pub(crate) signature_required: bool,
    pub(crate) quotes: HashMap<Digest, Quote>,
    pub(crate) shapes: Vec<(Digest, u64)>,
}

impl Row {
    pub(crate) fn check(&self, connection: &Connection) -> Result<(), PublishError> {
        let (signature, required) = (self.signature.as_ref(), self.signature_required);
        check_name(connection, &self.publisher, &self.package, signature, required)
    }

    pub(crate) fn insert(&self, tx: &Tx<'_, Tables>) -> rusqlite::Result<()> {
        let SignedPackage { digest, name, version } = &self.package;
        let sql = "INSERT INTO package (digest, name, version, publisher, manifest, load_fuel,
            load_credits, published_unix_ms, visibility, signature_key, signature)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        tx.connection().prepare_cached(sql)?.execute(rusqlite::params![
            digest.as_bytes(),
            name,
            version,
            self.publisher.as_str(),
            self.manifest,
            self.load_fuel.cast_signed(),
            self.credits.micros().cast_signed(),
            self.now_unix_ms.cast_signed(),
            self.visibility.name(),
            self.signature.as_ref().map(|signature| *signature.key_id().as_bytes()),
            self.signature.as_ref().map(PackageSignature::signature),
        ])?;
        for (shapes, quote) in &self.quotes {
            let sql =
                "INSERT INTO quote (package, shapes, fuel, memory_bytes) VALUES (?1, ?2, ?3, ?4)";
            tx.connection().prepare_cached(sql)?.execute(rusqlite::params![
                digest.as_bytes(),
                shapes.as_bytes(),
                quote.fuel.cast_signed(),
                quote.memory_bytes.cast_signed()
            ])?;
        }
        for (shapes, fuel) in &self.shapes {
            prepare_shape(tx, digest, shapes, *fuel, self.now_unix_ms)?;
        }
        Ok(())
    }
}

pub(crate) fn named(manifest: &Manifest) -> SignedPackage {
    let (name, version) = (manifest.name.clone(), manifest.version.clone());
    SignedPackage { digest: manifest.digest(), name, version }
}

pub(crate) fn check_request(
    connection: &Connection,
    request: &PublishRequest<'_>,
    package: &SignedPackage,
) -> Result<(), PublishError> {
    let (signature, required) = (request.signature.as_ref(), request.signature_required);
    check_name(connection, &request.account, package, signature, required)
}

/// Who has the name of a package: its first publisher, and of this version perhaps a package.
pub(crate) struct Holder {
    pub(crate) publisher: String,
    pub(crate) digest: Option<Digest>,
}

/// Who has this name, if anybody.
pub(crate) fn holder(
    connection: &Connection,
    name: &str,
    version: &str,
) -> rusqlite::Result<Option<Holder>> {
    // All of a name have one publisher; the one of this version first.
    let sql = "SELECT publisher, version = ?2, digest FROM package WHERE name = ?1
        ORDER BY version = ?2 DESC LIMIT 1";
    let mut select = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let digest = row.get::<_, bool>(1)?.then(|| row.get(2)).transpose()?;
        Ok(Holder { publisher: row.get(0)?, digest: digest.map(Digest::from_bytes) })
    };
    select.query_row([name, version], read).optional()
}

impl Holder {
    /// Whether this publisher cannot have the version for a new package.
    pub(crate) fn keeps_out(&self, account: &AccountId) -> bool {
        self.digest.is_some() || self.publisher != account.as_str()
    }

    /// What somebody is told who publishes this package now: that it was published before, or why it
    /// cannot be.
    pub(crate) fn answer(
        self,
        account: &AccountId,
        manifest: &Manifest,
    ) -> Result<Publication, PublishError> {
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        let digest = manifest.digest();
        if self.publisher != account.as_str() {
            return Err(PublishError::NameOwned { name });
        }
        match self.digest {
            Some(taken) if taken != digest => {
                Err(PublishError::Taken { name, version, digest: taken })
            }
            Some(_) | None => {
                let credits = Credits::ZERO;
                Ok(Publication { digest, name, version, fuel: 0, credits, repeated: true })
            }
        }
    }
}
