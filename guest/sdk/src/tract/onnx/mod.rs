//! ONNX: a file becomes a typed model.
//!
//! tract is made for models of good faith: it leaves an unknown operator for later and trusts sizes.
//! So everything that it would stumble over is looked for first, and named.

mod declared;
mod graphs;
mod operators;
mod weights;
mod numbers;
mod initialisers;

use super::{shape::Bound, tensor::datum_type};
use crate::{Error, Signature};
use anyhow::{Context, Result};
use prost::{Message, bytes::Bytes};
use tract_onnx::prelude::{InferenceFact, InferenceModelExt, TVec, TypedModel};
use tract_onnx::{Onnx, pb};

/// A file that holds what it says, and asks for nothing that is not there.
#[derive(Debug)]
pub(super) struct Checked {
    proto: pb::ModelProto,
    signature: Signature,
}

/// Reads the file, whose bytes then go. They are shared with the reader, as it would copy each tensor
/// twice out of borrowed ones.
pub(super) fn decode(bytes: impl AsRef<[u8]> + Send + 'static) -> Result<pb::ModelProto, Error> {
    let bytes = Bytes::from_owner(bytes);
    let proto = pb::ModelProto::decode(bytes)
        .map_err(|error| Error::invalid_model(format!("the file is no ONNX model: {error}")))?;
    if proto.graph.is_none() {
        return Err(Error::invalid_model("the file is no ONNX model: it has no graph"));
    }
    Ok(proto)
}

/// Checks the file.
pub(super) fn check(proto: pb::ModelProto) -> Result<Checked, Error> {
    let graph = proto.graph.as_ref();
    let graph = graph.ok_or_else(|| Error::invalid_model("the model has no graph"))?;
    operators::check(graph, &tract_onnx::onnx())?;
    weights::check(graph)?;
    graphs::check(graph)?;
    let signature = declared::signature(graph)?;
    Ok(Checked { proto, signature })
}

impl Checked {
    /// What the file declares.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Builds tract's model for these input shapes.
    pub(super) fn build(mut self, bound: &Bound) -> Result<TypedModel> {
        let graph = self.proto.graph.get_or_insert_default();
        numbers::put(graph, &bound.symbols);
        let initialisers = initialisers::take(graph);
        let framework: Onnx = tract_onnx::onnx();
        let parsed = framework.parse(&self.proto, None);
        drop(self.proto);
        let mut model = parsed
            .and_then(|parsed| initialisers.put(&framework, parsed))
            .context(Error::invalid_model("the ONNX graph cannot be read"))?;
        let inputs = self.signature.inputs.iter().zip(&bound.inputs);
        for (index, (spec, shape)) in inputs.enumerate() {
            let shape = shape.iter().map(|&dim| usize::try_from(dim));
            let shape: TVec<usize> = shape.collect::<Result<_, _>>()?;
            let fact = InferenceFact::dt_shape(datum_type(spec.datatype), shape);
            model.set_input_fact(index, fact)?;
        }
        model.into_typed().context(Error::invalid_model("the ONNX graph does not fit together"))
    }
}
