//! Sources: a file on the command line becomes a package that the engine can open.
//!
//! A package file says all of itself. A bare model (ONNX, NNEF) gets the stock guest, and labels from
//! the file `STEM.labels.txt` beside it, if there is one.

use crate::{
    exit::{Exit, Failure, OrExit, Result},
    file,
};
use anyhow::Context;
use fuelbox_engine::{
    Archive, ArchiveError, Asset, Digest, GuestModule, Package, constants::PART_BYTES_MAX,
};
use fuelbox_oip::{LABELS_BYTES_MAX, Labels};
use std::{
    io::BufReader,
    path::{Path, PathBuf},
};

/// What a file is.
pub(crate) enum Source {
    /// A package.
    Package(Box<Archive>),
    /// A model without a guest.
    Bare(Bare),
}

/// A model file.
pub(crate) struct Bare {
    pub(crate) model: Asset,
    labels: PathBuf,
}

/// Endings of model files, and the name under which the stock guest knows them.
const MODELS: [(&str, &str); 5] = [
    (".onnx", "model.onnx"),
    (".nnef.tgz", NNEF_GZIP),
    (".nnef.tar.gz", NNEF_GZIP),
    (".nnef.tar", NNEF),
    (".nnef", NNEF), // or compressed: its first bytes say so
];

const NNEF: &str = "model.nnef.tar";
const NNEF_GZIP: &str = "model.nnef.tgz";

/// What every gzip file starts with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl Source {
    /// Reads a package or a model.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if let Some(bare) = Bare::open(path)? {
            return Ok(Self::Bare(bare));
        }
        let archive = Archive::read(BufReader::new(file::open(path).or_exit(Exit::BadInput)?));
        let archive = archive.map_err(|error| {
            let name = path.display().to_string();
            match error {
                ArchiveError::Magic { .. } => {
                    let endings = MODELS.map(|(ending, _)| ending).join(", ");
                    Failure::from(error)
                        .of(format!("{name} (read as a package; models end in {endings})"))
                }
                other => Failure::from(other).of(name),
            }
        })?;
        Ok(Self::Package(Box::new(archive)))
    }

    /// What is loaded.
    pub(crate) fn package(&self) -> Package {
        match self {
            Self::Package(archive) => archive.package(),
            Self::Bare(bare) => bare.package(),
        }
    }

    /// The names of the classes: from the file that was chosen, or those that come with the model.
    /// `found` is told of a file that was not asked for.
    pub(crate) fn labels(
        &self,
        chosen: Option<&Path>,
        found: impl FnOnce(&Path),
    ) -> Result<Option<Labels>> {
        match (chosen, self) {
            (Some(path), _) => read_labels(path).map(Some),
            (None, Self::Bare(bare)) if bare.labels.is_file() => {
                found(&bare.labels);
                read_labels(&bare.labels).map(Some)
            }
            (None, Self::Bare(_)) => Ok(None),
            (None, Self::Package(archive)) => {
                let manifest = archive.manifest();
                let Some(name) = &manifest.labels else {
                    return Ok(None);
                };
                // The manifest was checked: the asset is there.
                let asset = manifest.assets.iter().find(|asset| asset.name == *name);
                let bytes = asset.map_or(&[][..], |asset| archive.part(&asset.part));
                Labels::parse(bytes).context("package").or_exit(Exit::BadInput).map(Some)
            }
        }
    }
}

impl Bare {
    /// Reads a model; none when the file's name is not a model's.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let Some((stem, asset)) = split(path) else {
            return Ok(None);
        };
        let bytes = file::read(path, PART_BYTES_MAX).or_exit(Exit::BadInput)?;
        let asset = if asset == NNEF && bytes.starts_with(&GZIP_MAGIC) { NNEF_GZIP } else { asset };
        let labels = path.with_file_name(format!("{stem}.labels.txt"));
        Ok(Some(Self { model: Asset::new(asset, bytes), labels }))
    }

    fn package(&self) -> Package {
        Package { module: stock_guest(), assets: vec![self.model.clone()] }
    }
}

/// The names of the classes that a file has.
pub(crate) fn read_labels(path: &Path) -> Result<Labels> {
    let bytes = file::read(path, LABELS_BYTES_MAX).or_exit(Exit::BadInput)?;
    let labels = Labels::parse(&bytes).with_context(|| format!("{}", path.display()));
    labels.or_exit(Exit::BadInput)
}

/// The stock guest; unpacked only when its code is not in the cache.
pub(crate) fn stock_guest() -> GuestModule {
    let guest = fuelbox_prebuilt::onnx();
    GuestModule::lazy(Digest::from_bytes(guest.digest()), || {
        guest.bytes().map_err(|error| error.to_string())
    })
}

/// The name of a model file without its ending, and the name of the asset that it becomes.
pub(crate) fn split(path: &Path) -> Option<(String, &'static str)> {
    let name = path.file_name()?.to_str()?;
    let (ending, asset) = MODELS.into_iter().find(|(ending, _)| {
        let start = name.len().checked_sub(ending.len());
        start
            .and_then(|start| name.get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    })?;
    Some((name[..name.len() - ending.len()].to_owned(), asset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_their_endings() {
        for (path, expected) in [
            ("a/digits.onnx", Some(("digits", "model.onnx"))),
            ("digits.ONNX", Some(("digits", "model.onnx"))),
            ("v1.2.nnef.tgz", Some(("v1.2", "model.nnef.tgz"))),
            ("m.nnef.tar.gz", Some(("m", "model.nnef.tgz"))),
            ("m.nnef.tar", Some(("m", "model.nnef.tar"))),
            ("m.nnef", Some(("m", "model.nnef.tar"))),
            ("m.tar", None),
            ("digits.fbx", None),
            ("é.onn", None),
            ("..", None),
        ] {
            let expected = expected.map(|(stem, asset)| (stem.to_owned(), asset));
            assert_eq!(split(Path::new(path)), expected, "{path}");
        }
    }
}
