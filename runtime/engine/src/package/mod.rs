//! Packages: a guest module and its assets under one manifest.

mod manifest;
mod archive;

pub use archive::{Archive, ArchiveError, write_archive};
pub use manifest::{GoldenCase, LimitsAsked, Manifest, ManifestError, NamedPart, PartRef};

use fuelbox_digest::Digest;
use std::{fmt, sync::Arc};

/// What a model is made of, unpacked: enough to load it. A bare model file becomes one with the stock
/// guest; a package file through [`Archive::read`].
#[derive(Clone, Debug)]
pub struct Package {
    /// The guest.
    pub module: GuestModule,
    /// What the guest is loaded with, in order.
    pub assets: Vec<Asset>,
}

/// A named file of a package.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Under which the guest knows it.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

impl Asset {
    /// An asset of these bytes.
    pub fn new(name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { name: name.into(), digest: Digest::of(&bytes), bytes }
    }
}

type Source = dyn Fn() -> Result<Vec<u8>, String> + Send + Sync;

/// A guest module: its digest, and its bytes for whoever has to compile it.
#[derive(Clone)]
pub struct GuestModule {
    digest: Digest,
    source: Arc<Source>,
}

impl GuestModule {
    /// A module that is in memory.
    pub fn new(bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self { digest, source: Arc::new(move || Ok(bytes.clone())) }
    }

    /// A module whose bytes are fetched when they are needed: not when its code is in the cache.
    pub fn lazy(
        digest: Digest,
        source: impl Fn() -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { digest, source: Arc::new(source) }
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes, which are those of the digest.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        let bytes = (self.source)()?;
        let found = Digest::of(&bytes);
        if found == self.digest {
            Ok(bytes)
        } else {
            Err(format!("its bytes have digest {found}, expected {}", self.digest))
        }
    }
}

impl fmt::Debug for GuestModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestModule").field("digest", &self.digest).finish_non_exhaustive()
    }
}
