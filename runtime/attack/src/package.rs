//! Packages as attackers make them: the format's own writer, with anything in it.

use crate::{guest::Guest, target::Broken};
use fuelbox_abi::Message;
use fuelbox_engine::{
    DataType, LimitsAsked, Manifest, NamedPart, OwnedDim, PartRef, Role, Signature,
    TensorSignature, write_archive,
};
use std::io::Write;

/// A package, apart from its name.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) wasm: Vec<u8>,
    pub(crate) assets: Vec<(String, Vec<u8>)>,
    pub(crate) signature: Signature,
    /// Changes the manifest before it is written.
    pub(crate) change: fn(&mut Manifest),
}

impl Package {
    /// That of a guest, with the signature that the guest gives.
    pub(crate) fn of(guest: &Guest) -> Self {
        Self { signature: said(&guest.signature), ..Self::module(guest.wasm()) }
    }

    /// That of a module of which nothing is known.
    pub(crate) fn module(wasm: Vec<u8>) -> Self {
        let signature = said(&Guest::default().signature);
        Self { wasm, assets: Vec::new(), signature, change: |_| () }
    }

    /// That of a model for the stock guest, which takes `input` and gives `output`.
    pub(crate) fn onnx(guest: &[u8], model: Vec<u8>, shape: &[u64]) -> Self {
        let tensor = |name: &str| TensorSignature {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: Some(shape.iter().map(|dim| OwnedDim::Fixed(*dim)).collect()),
        };
        let signature =
            Signature { inputs: vec![tensor("input")], outputs: vec![tensor("output")] };
        let assets = vec![("model.onnx".to_owned(), model)];
        Self { wasm: guest.to_vec(), assets, signature, change: |_| () }
    }

    /// The manifest under this name.
    pub(crate) fn manifest(&self, name: &str) -> Manifest {
        let guest = PartRef::of(&self.wasm);
        let mut manifest = Manifest::new(name.into(), "1".into(), guest, self.signature.clone());
        let assets = self
            .assets
            .iter()
            .map(|(name, bytes)| NamedPart { name: name.clone(), part: PartRef::of(bytes) });
        manifest.assets = assets.collect();
        manifest.limits = LimitsAsked { fuel: 10_000_000_000, memory_bytes: 4 << 30 };
        (self.change)(&mut manifest);
        manifest
    }

    /// The file under this name.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        let manifest = self.manifest(name);
        let parts = self.assets.iter().map(|(_, bytes)| bytes.as_slice());
        let parts: Vec<_> = std::iter::once(self.wasm.as_slice()).chain(parts).collect();
        let mut file = Vec::new();
        match write_archive(&manifest, &parts, &mut file) {
            Ok(()) => file,
            // The format's own writer writes no such thing.
            Err(_) => compressed(&[(&self.tar(&manifest), 1)]).unwrap_or_default(),
        }
    }

    /// What a file with this manifest has inside, every part under the digest that the manifest says.
    pub(crate) fn tar(&self, manifest: &Manifest) -> Vec<u8> {
        let named = manifest.assets.iter().map(|asset| asset.part.digest);
        let named = std::iter::once(manifest.guest.digest).chain(named);
        let parts = self.assets.iter().map(|(_, bytes)| bytes.as_slice());
        let parts = std::iter::once(self.wasm.as_slice()).chain(parts);
        let mut tar = first(&manifest.to_bytes());
        for (digest, bytes) in named.zip(parts) {
            append(&mut tar, &format!("parts/{}", digest.hex()), bytes);
        }
        tar.extend(END);
        tar
    }
}

/// The signature that a message says.
fn said(message: &[u8]) -> Signature {
    let mut signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
    let Ok(message) = Message::decode(message) else {
        return signature;
    };
    for spec in message.specs() {
        let list = match spec.role {
            Role::Input => &mut signature.inputs,
            Role::Output => &mut signature.outputs,
        };
        list.push(TensorSignature {
            name: spec.name.into(),
            datatype: spec.datatype,
            shape: spec.dims.map(|dims| dims.iter().map(OwnedDim::from).collect()),
        });
    }
    signature
}

/// What a package file begins with.
pub(crate) const MAGIC: &[u8] = b"fuelbox package 1\n";

/// What an archive ends with: two empty blocks.
pub(crate) const END: [u8; 1_024] = [0; 1_024];

/// An archive that begins with this manifest.
pub(crate) fn first(manifest: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    append(&mut tar, "manifest.json", manifest);
    tar
}

/// One more file in an archive, filled up to whole blocks.
pub(crate) fn append(tar: &mut Vec<u8>, path: &str, bytes: &[u8]) {
    tar.extend(entry(path, bytes.len() as u64));
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// The header of a file in an archive. By hand: the library refuses the paths that are tried here.
pub(crate) fn entry(path: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

pub(crate) fn encoder() -> Result<zstd::Encoder<'static, Vec<u8>>, Broken> {
    // What comes before the frame is copied from a package that is in order.
    let file = Package::of(&Guest::default()).file("frame");
    let frame = file.windows(4).position(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]);
    let before = file[..frame.unwrap_or(MAGIC.len())].to_vec();
    zstd::Encoder::new(before, 3).map_err(Broken::new)
}

/// A package file of these bytes, each so many times.
pub(crate) fn compressed(parts: &[(&[u8], usize)]) -> Result<Vec<u8>, Broken> {
    let mut encoder = encoder()?;
    for (bytes, times) in parts {
        for _ in 0..*times {
            encoder.write_all(bytes).map_err(Broken::new)?;
        }
    }
    encoder.finish().map_err(Broken::new)
}
