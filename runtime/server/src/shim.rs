//! Stands in for parts of `fuelbox-jobs` that are on their way.

use fuelbox_digest::Digest;
use fuelbox_jobs::{HostFault, PackageRecord, Records};
use fuelbox_ledger::AccountId;

#[allow(dead_code)]
#[derive(Clone)]
pub(crate) enum Viewer {
    Operator,
    Account(AccountId),
}

pub(crate) trait RecordsFor {
    fn package_for(
        &self,
        v: &Viewer,
        name: &str,
        version: &str,
    ) -> Result<Option<PackageRecord>, HostFault>;
    fn latest_for(&self, v: &Viewer, name: &str) -> Result<Option<PackageRecord>, HostFault>;
    fn packages_for(
        &self,
        v: &Viewer,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<PackageRecord>, HostFault>;
    fn versions(&self, v: &Viewer, name: &str) -> Result<Vec<PackageRecord>, HostFault>;
}

impl RecordsFor for Records<'_> {
    fn package_for(
        &self,
        _: &Viewer,
        name: &str,
        version: &str,
    ) -> Result<Option<PackageRecord>, HostFault> {
        self.package(name, version)
    }
    fn latest_for(&self, _: &Viewer, name: &str) -> Result<Option<PackageRecord>, HostFault> {
        self.latest(name)
    }
    fn packages_for(
        &self,
        _: &Viewer,
        after: Option<&Digest>,
        _: usize,
    ) -> Result<Vec<PackageRecord>, HostFault> {
        if after.is_some() { Ok(Vec::new()) } else { self.packages() }
    }
    fn versions(&self, _: &Viewer, name: &str) -> Result<Vec<PackageRecord>, HostFault> {
        Ok(self.packages()?.into_iter().filter(|p| p.name == name).collect())
    }
}

pub(crate) struct PublishRequest {
    pub(crate) account: AccountId,
    pub(crate) file: Vec<u8>,
    pub(crate) load_fuel: Option<u64>,
}
