//! A package as the API shows it: what everybody who sees it is told, and what its publisher is.

use super::values::{Amount, Moment, Sha256};
use crate::{access::Caller, app::App, refusal::Refusal};
use fuelbox_jobs::{PackageRecord, Visibility as HostVisibility};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use utoipa::ToSchema;

/// Who sees and runs a package.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Visibility {
    /// Everybody with a key.
    Public,
    /// Its publisher and its readers.
    Private,
}

impl From<Visibility> for HostVisibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Private => Self::Private,
        }
    }
}

impl From<HostVisibility> for Visibility {
    fn from(visibility: HostVisibility) -> Self {
        match visibility {
            HostVisibility::Public => Self::Public,
            HostVisibility::Private => Self::Private,
        }
    }
}

/// A published package.
#[derive(Serialize, ToSchema)]
#[schema(as = Package)]
pub(super) struct PackageJson {
    name: String,
    version: String,
    /// Its identity: in jobs, and in receipts.
    digest: Sha256,
    /// Who earns by it.
    publisher: String,
    visibility: Visibility,
    /// Why it should not be used any more. It runs all the same.
    deprecated: Option<String>,
    published: Moment,
    /// Fuel of its loads when it was published.
    load_fuel: u64,
    /// A DSSE envelope by a key of its publisher.
    #[schema(value_type = Option<super::answers::EnvelopeJson>)]
    signature: Option<Value>,
    /// What publishing cost: for its publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_credits: Option<Amount>,
    /// Who sees and runs it while it is private: for its publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<Vec<String>>,
    /// Bytes of the package file. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    /// What the package says of itself: its inputs and outputs, its parts, its licence. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    manifest: Option<Value>,
}

impl PackageJson {
    /// A package in a list.
    pub(super) fn listed(caller: &Caller, record: &PackageRecord) -> Self {
        let signature = record.signature.as_ref().map(|signature| signature.to_bytes());
        Self {
            name: record.name.clone(),
            version: record.version.clone(),
            digest: record.digest.into(),
            publisher: record.publisher.to_string(),
            visibility: record.visibility.into(),
            deprecated: record.deprecated.clone(),
            published: Moment(record.published_unix_ms),
            load_fuel: record.load_fuel,
            signature: signature.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            load_credits: is_own(caller, record).then_some(record.load_credits.into()),
            readers: None,
            file_bytes: None,
            manifest: None,
        }
    }

    /// A package by itself. Blocks.
    pub(super) fn whole(
        app: &App,
        caller: &Caller,
        record: &PackageRecord,
    ) -> Result<Self, Refusal> {
        let mut package = Self::listed(caller, record);
        if is_own(caller, record) {
            let readers = app.host.read(|records| records.readers(&record.digest))??;
            package.readers = Some(readers.iter().map(ToString::to_string).collect());
        }
        let file = fs::metadata(app.folder.package(&record.digest));
        package.file_bytes = file.ok().map(|file| file.len());
        let manifest = app.host.manifest(&record.digest)?;
        package.manifest = manifest.and_then(|manifest| serde_json::to_value(manifest).ok());
        Ok(package)
    }
}

/// Whether a caller looks after a package.
pub(super) fn is_own(caller: &Caller, record: &PackageRecord) -> bool {
    caller.is_operator() || record.publisher == *caller.account()
}
