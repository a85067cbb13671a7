//! The manifest: what a package says of itself. Its canonical bytes are the package's identity.
//!
//! Canonical is JSON without white space, with the keys of every object sorted, and nothing but
//! strings, whole numbers, lists and `null` in it (`docs/formats/package.md`). A manifest in any other
//! form is refused, so one package has one digest.

use crate::{
    limits::constants::{NAME_BYTES_MAX, PART_BYTES_MAX, PARTS_MAX, VIOLATIONS_TOLD},
    log::excerpt,
    signature::Signature,
};
use fuelbox_digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The only value of [`Manifest::format`].
const FORMAT: &str = "fuelbox-package/1";

/// What a package says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `fuelbox-package/1`.
    pub format: String,
    /// Short name, such as `digits`.
    pub name: String,
    /// The publisher's version.
    pub version: String,
    /// SPDX expression; empty when the publisher said nothing.
    pub licence: String,
    /// Who made it.
    pub authors: Vec<String>,
    /// Guest ABI that the guest speaks.
    pub abi: u32,
    /// The guest module.
    pub guest: PartRef,
    /// What it is loaded with, in order.
    pub assets: Vec<NamedPart>,
    /// The asset that names the classes of a classifier, one a line.
    pub labels: Option<String>,
    /// What the model takes and gives, as it said when it was packed.
    pub signature: Signature,
    /// What a job of it needs.
    pub limits: LimitsAsked,
    /// Jobs with known results, made when it was packed.
    pub golden: Vec<GoldenCase>,
}

/// A part by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRef {
    /// Of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size_bytes: u64,
}

impl PartRef {
    /// The part of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 }
    }
}

/// An asset by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPart {
    /// Under which the guest knows it.
    pub name: String,
    /// Its content.
    pub part: PartRef,
}

/// What a publisher says a job needs. The host's own limits hold all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsAsked {
    /// Units of fuel of one job.
    pub fuel: u64,
    /// Bytes of linear memory, the image included.
    pub memory_bytes: u64,
}

/// A job with a known result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// Of the case.
    pub name: String,
    /// The request: a `Run` message of the guest ABI.
    pub input: PartRef,
    /// Seed of the job's randomness.
    pub seed: u64,
    /// Digest of the outputs.
    pub output_digest: Digest,
    /// Fuel of the run.
    pub fuel: u64,
    /// Linear memory at its largest.
    pub memory_bytes_peak: u64,
    /// The engine profile under which the above holds.
    pub engine_profile: Digest,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManifestError {
    /// Not JSON, or not these fields.
    #[error("manifest: {0}")]
    Json(String),
    /// Of a later version, or of something else.
    #[error("manifest: format '{found}', allowed is '{FORMAT}'")]
    Format { found: String },
    /// The right content in another form.
    #[error("manifest: not in canonical form (keys sorted, no white space)")]
    NotCanonical,
    /// A name that is empty, too long, or has other characters than a file name should.
    #[error(
        "manifest: {what} '{found}': allowed are 1 to {NAME_BYTES_MAX} characters of a-z A-Z 0-9 . _ - +, not starting with a dot"
    )]
    Name { what: &'static str, found: String },
    /// The same name twice.
    #[error("manifest: {what} '{found}' appears twice")]
    Twice { what: &'static str, found: String },
    /// Too many parts.
    #[error("manifest: {found} parts, allowed are {PARTS_MAX}")]
    TooMany { found: usize },
    /// Too large a part.
    #[error("manifest: part {digest} of {found} bytes, allowed are {PART_BYTES_MAX}")]
    TooLarge { digest: Digest, found: u64 },
    /// Two sizes for one digest.
    #[error("manifest: part {digest} has two sizes, {first} and {second}")]
    TwoSizes { digest: Digest, first: u64, second: u64 },
    /// Labels that are not among the assets.
    #[error("manifest: labels '{found}': no such asset")]
    Labels { found: String },
    /// A guest of another ABI.
    #[error("manifest: guest ABI {found}, allowed is {}", fuelbox_abi::ABI_VERSION)]
    Abi { found: u32 },
    /// Several of the above that a manifest of the right form can have: the first ones, and how many there
    /// are beside those.
    #[error("manifest: {} things are not allowed: {}", told.len() + more, list(told, *more))]
    Several { told: Vec<ManifestError>, more: usize },
}

fn list(told: &[ManifestError], more: usize) -> String {
    let mut list = String::new();
    for violation in told {
        let text = violation.to_string();
        let separator = if list.is_empty() { "" } else { "; " };
        list.extend([separator, text.strip_prefix("manifest: ").unwrap_or(&text)]);
    }
    if more > 0 { format!("{list}; and {more} more") } else { list }
}

/// What is not in order about a manifest, as far as it has been looked at.
#[derive(Default)]
struct Violations {
    told: Vec<ManifestError>,
    more: usize,
}

impl Violations {
    fn note(&mut self, found: ManifestError) {
        if self.told.len() < VIOLATIONS_TOLD { self.told.push(found) } else { self.more += 1 }
    }

    fn into_result(self) -> Result<(), ManifestError> {
        let Self { mut told, more } = self;
        match told.len() {
            0 => Ok(()),
            1 => Err(told.remove(0)),
            _ => Err(ManifestError::Several { told, more }),
        }
    }
}

impl Manifest {
    /// A manifest with the fields that every package has, for the rest to be filled in.
    pub fn new(name: String, version: String, guest: PartRef, signature: Signature) -> Self {
        Self {
            format: FORMAT.into(),
            name,
            version,
            licence: String::new(),
            authors: Vec::new(),
            abi: fuelbox_abi::ABI_VERSION,
            guest,
            assets: Vec::new(),
            labels: None,
            signature,
            limits: LimitsAsked { fuel: 0, memory_bytes: 0 },
            golden: Vec::new(),
        }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Through a `Value`, whose objects are sorted maps. Neither step can fail: there are only
        // strings, numbers, lists and maps with string keys.
        serde_json::to_value(self).and_then(|value| serde_json::to_vec(&value)).unwrap_or_default()
    }

    /// The identity of the package.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When it is not JSON of this format in canonical form; then all that [`Self::check`] finds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }
        let json = |error: serde_json::Error| {
            ManifestError::Json(excerpt(error.to_string().as_bytes(), 200))
        };
        // The format first, so that a later version is called that, and not a list of odd fields.
        let Head { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format != FORMAT {
            return Err(ManifestError::Format { found: excerpt(format.as_bytes(), 80) });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(json)?;
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether what the manifest says is within the limits and fits together.
    ///
    /// # Errors
    /// All that does not, so that a publisher mends it in one go.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut found = Violations::default();
        if self.abi != fuelbox_abi::ABI_VERSION {
            found.note(ManifestError::Abi { found: self.abi });
        }
        check_name("name", &self.name, &mut found);
        check_name("version", &self.version, &mut found);
        check_names("asset", self.assets.iter().map(|asset| &*asset.name), &mut found);
        check_names("golden case", self.golden.iter().map(|golden| &*golden.name), &mut found);
        if let Some(labels) = &self.labels
            && !self.assets.iter().any(|asset| asset.name == *labels)
        {
            found.note(ManifestError::Labels { found: excerpt(labels.as_bytes(), 80) });
        }
        let parts = 1 + self.assets.len() + self.golden.len();
        if parts > PARTS_MAX {
            found.note(ManifestError::TooMany { found: parts });
        }
        self.check_parts(&mut found);
        found.into_result()
    }

    fn check_parts(&self, found: &mut Violations) {
        let mut sizes = BTreeMap::new();
        for PartRef { digest, size_bytes } in self.part_refs() {
            let first = *sizes.entry(digest).or_insert_with(|| {
                if size_bytes > PART_BYTES_MAX {
                    found.note(ManifestError::TooLarge { digest, found: size_bytes });
                }
                size_bytes
            });
            if first != size_bytes {
                found.note(ManifestError::TwoSizes { digest, first, second: size_bytes });
            }
        }
    }

    /// Every part by digest, with its size: of a manifest that was checked, one.
    pub(crate) fn parts(&self) -> BTreeMap<Digest, u64> {
        self.part_refs().map(|part| (part.digest, part.size_bytes)).collect()
    }

    fn part_refs(&self) -> impl Iterator<Item = PartRef> {
        let assets = self.assets.iter().map(|asset| asset.part);
        let inputs = self.golden.iter().map(|golden| golden.input);
        [self.guest].into_iter().chain(assets).chain(inputs)
    }
}

fn check_names<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a str>,
    found: &mut Violations,
) {
    let mut seen = BTreeSet::new();
    for name in names {
        // A name that is not allowed is told for that alone.
        if check_name(what, name, found) && !seen.insert(name) {
            found.note(ManifestError::Twice { what, found: name.into() });
        }
    }
}

/// Names become file names and log lines: no separators, no dots in front, nothing that moves a
/// cursor.
fn check_name(what: &'static str, name: &str, found: &mut Violations) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let is_allowed = fits && !name.starts_with('.') && name.bytes().all(allowed);
    if !is_allowed {
        found.note(ManifestError::Name { what, found: excerpt(name.as_bytes(), 80) });
    }
    is_allowed
}
