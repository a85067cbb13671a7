//! The request to make a model: its assets, the shapes to plan for, parameters.

use crate::{Error, Parameters, Shapes, buffer::Buffer};
use anyhow::Context;
use fuelbox_abi::{DataType, Envelope, Kind, Message, Shape, TensorView};
use std::{collections::BTreeMap, ops::Range};

/// A request to make a model. It owns the memory that its assets are in.
#[derive(Debug)]
pub struct Load {
    request: Buffer,
    /// Where each asset lies in the request.
    assets: BTreeMap<String, Range<usize>>,
    shapes: Shapes,
    parameters: Parameters,
}

/// One asset, with the memory of its [`Load`]: dropping it gives that memory back.
#[derive(Debug)]
pub struct Asset {
    request: Buffer,
    range: Range<usize>,
}

impl AsRef<[u8]> for Asset {
    fn as_ref(&self) -> &[u8] {
        &self.request.as_slice()[self.range.clone()]
    }
}

impl Load {
    /// The bytes of an asset.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn asset(&self, name: &str) -> Result<&[u8], Error> {
        Ok(&self.request.as_slice()[self.range(name)?])
    }

    /// The one asset that is needed; all others go.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn into_asset(self, name: &str) -> Result<Asset, Error> {
        let range = self.range(name)?;
        let request = self.request;
        Ok(Asset { request, range })
    }

    /// The names of all assets, in alphabetical order.
    pub fn asset_names(&self) -> impl Iterator<Item = &str> {
        self.assets.keys().map(String::as_str)
    }

    /// The input shapes to plan for. Empty unless the signature has symbolic dimensions, and at
    /// first even then.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// Settings.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// A request as a host would make it: for tests of a guest, which then need no Wasm.
    ///
    /// # Errors
    /// When the assets are more than a message may have.
    pub fn for_test(assets: &[(&str, &[u8])]) -> anyhow::Result<Self> {
        let tensors = assets.iter().map(|&(name, bytes)| TensorView {
            name,
            datatype: DataType::Uint8,
            shape: Shape::new(&[bytes.len() as u64]).unwrap_or_default(),
            bytes,
        });
        let tensors: Vec<_> = tensors.collect();
        let envelope = Envelope { tensors: &tensors, ..Envelope::new(Kind::Load) };
        let encoded = envelope.encode()?;
        let mut request = Buffer::new(encoded.len()).context("no memory for the assets")?;
        encoded.write_to(request.as_mut_slice());
        Self::decode(request)
    }

    pub(crate) fn decode(request: Buffer) -> anyhow::Result<Self> {
        let message = Message::decode(request.as_slice())?;
        if message.kind() != Kind::Load {
            let text = format!("{:?} message found, Load allowed", message.kind());
            return Err(Error::invalid_input(text).into());
        }
        let mut assets = BTreeMap::new();
        let start = request.as_slice().as_ptr().addr();
        for asset in message.tensors() {
            let name = asset.name;
            if asset.datatype != DataType::Uint8 {
                return Err(Error::invalid_input(format!(
                    "asset '{name}': datatype {} found, {} allowed",
                    asset.datatype,
                    DataType::Uint8
                ))
                .into());
            }
            let offset = asset.bytes.as_ptr().addr() - start;
            let range = offset..offset + asset.bytes.len();
            if assets.insert(name.into(), range).is_some() {
                return Err(Error::invalid_input(format!("asset '{name}' is there twice")).into());
            }
        }
        let shapes = Shapes::of(&message)?;
        let parameters = Parameters::of(&message);
        Ok(Self { request, assets, shapes, parameters })
    }

    fn range(&self, name: &str) -> Result<Range<usize>, Error> {
        self.assets.get(name).cloned().ok_or_else(|| {
            let found: Vec<_> = self.asset_names().collect();
            Error::invalid_model(format!("asset '{name}' is missing, found are {found:?}"))
        })
    }
}
