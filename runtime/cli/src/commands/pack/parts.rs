//! Parts: the files that go into a package, and as much of its manifest as they say.

use super::PackArgs;
use crate::{
    exit::{Exit, Failure, OrExit, Result},
    file,
    input::InputFile,
    source,
};
use anyhow::Context;
use fuelbox_engine::{
    Asset, GuestModule, Manifest, NamedPart, Package, PartRef, Signature,
    constants::{MODULE_BYTES_MAX, PART_BYTES_MAX},
};
use fuelbox_oip::{LABELS_BYTES_MAX, Labels};
use std::{path::Path, sync::Arc};

/// Under which name labels are packed.
const LABELS_ASSET: &str = "labels.txt";

/// Everything but the golden cases.
pub(super) struct Parts {
    /// Signature, limits and golden cases are still to come.
    pub(super) manifest: Manifest,
    pub(super) guest: Arc<[u8]>,
    pub(super) assets: Vec<Asset>,
}

impl Parts {
    pub(super) fn gather(args: &PackArgs) -> Result<Self> {
        let (stem, guest, mut assets) = match (&args.model, &args.guest) {
            (_, Some(guest)) => of_guest(guest, &args.asset).or_exit(Exit::BadInput)?,
            (Some(model), None) => of_model(model)?,
            // clap asks for one of them.
            (None, None) => return Err(Failure::message(Exit::Usage, "no model and no guest")),
        };
        if let Some(path) = &args.labels {
            let bytes = file::read(path, LABELS_BYTES_MAX).or_exit(Exit::BadInput)?;
            let labels = Labels::parse(&bytes).with_context(|| format!("{}", path.display()));
            labels.or_exit(Exit::BadInput)?;
            assets.push(Asset::new(LABELS_ASSET, bytes));
        }
        let name = args.name.clone().unwrap_or_else(|| sanitised(&stem));
        let signature = Signature { inputs: vec![], outputs: vec![] };
        let mut manifest =
            Manifest::new(name, args.version.clone(), PartRef::of(&guest), signature);
        manifest.licence.clone_from(&args.licence);
        manifest.authors.clone_from(&args.authors);
        manifest.labels = args.labels.as_ref().map(|_| LABELS_ASSET.into());
        let named =
            |asset: &Asset| NamedPart { name: asset.name.clone(), part: PartRef::of(&asset.bytes) };
        manifest.assets = assets.iter().map(named).collect();
        Ok(Self { manifest, guest: guest.into(), assets })
    }

    /// What the engine loads.
    pub(super) fn package(&self) -> Package {
        let guest = self.guest.clone();
        let module = GuestModule::lazy(self.manifest.guest.digest, move || Ok(guest.to_vec()));
        Package { module, assets: self.assets.clone() }
    }
}

type Found = (String, Vec<u8>, Vec<Asset>);

fn of_model(path: &Path) -> Result<Found> {
    let (Some(bare), Some((stem, _))) = (source::Bare::open(path)?, source::split(path)) else {
        let text = format!(
            "{}: not a model's name, allowed are .onnx, .nnef and .nnef.tgz; for a guest, use --guest",
            path.display()
        );
        return Err(Failure::message(Exit::BadInput, text));
    };
    let guest = fuelbox_prebuilt::onnx().bytes().or_exit(Exit::Host)?;
    Ok((stem, guest, vec![bare.model]))
}

fn of_guest(path: &Path, assets: &[InputFile]) -> anyhow::Result<Found> {
    let guest = match path.to_str().and_then(fuelbox_prebuilt::by_name) {
        Some(prebuilt) => prebuilt.bytes()?,
        None => file::read(path, MODULE_BYTES_MAX)?,
    };
    let mut found = Vec::with_capacity(assets.len());
    for InputFile { name, path } in assets {
        let name = match name {
            Some(name) => name.clone(),
            None => file_name(path),
        };
        found.push(Asset::new(name, file::read(path, PART_BYTES_MAX)?));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((stem, guest, found))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A name that a manifest can have, as much like this one as possible.
pub(super) fn sanitised(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    let clean: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let clean: String = clean.trim_start_matches('.').chars().take(100).collect();
    if clean.is_empty() { "unnamed".into() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ones_that_a_manifest_can_have() {
        for (name, expected) in [
            ("digits", "digits"),
            ("my model (v2)", "my-model--v2-"),
            (".hidden", "hidden"),
            ("ä/b", "--b"),
            ("", "unnamed"),
            ("..", "unnamed"),
        ] {
            assert_eq!(sanitised(name), expected);
        }
        assert_eq!(sanitised(&"x".repeat(200)).len(), 100);
    }
}
