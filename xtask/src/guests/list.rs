//! `guests.json`: what the prebuilt guests are and what they were built with. `fuelbox-prebuilt` reads
//! the guests' names, digests and sizes; the rest is for people and for `--check`.

use super::toolchain::sha256;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

#[derive(Serialize, Deserialize)]
pub(super) struct List {
    pub(super) rustc: String,
    pub(super) target: String,
    pub(super) standard_library_sha256: String,
    pub(super) profile: String,
    pub(super) rustflags: Vec<String>,
    pub(super) guests: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Of the module before it is compressed.
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
}

impl Entry {
    pub(super) fn of(name: &str, module: &[u8]) -> Self {
        Self { name: name.into(), sha256: sha256(module), size_bytes: module.len() as u64 }
    }
}

impl List {
    const FILE: &str = "guests.json";

    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Tools of `built` that are not those of this list, in a sentence each.
    pub(super) fn differences_in_tools(&self, built: &Self) -> Vec<String> {
        let (listed_flags, built_flags) = (self.rustflags.join(" "), built.rustflags.join(" "));
        [
            ("compiler", &self.rustc, &built.rustc),
            ("target", &self.target, &built.target),
            ("standard library", &self.standard_library_sha256, &built.standard_library_sha256),
            ("profile", &self.profile, &built.profile),
            ("flags", &listed_flags, &built_flags),
        ]
        .into_iter()
        .filter(|(_, listed, built)| listed != built)
        .map(|(what, listed, built)| format!("{what}: {built} used, {listed} listed"))
        .collect()
    }
}
