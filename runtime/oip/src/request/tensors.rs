//! The tensors of a document: each from its text, or from the bytes behind the JSON.

use super::{Limits, check_twice};
use crate::{
    binary::Binary,
    data,
    document::{DimsBody, Object, TensorBody},
    error::{Document, OipError, TensorFault},
    text::excerpt,
};
use fuelbox_abi::{DataType, NAME_BYTES_MAX, Shape, TensorError, TensorView};
use fuelbox_engine::Tensor;

/// All of them, in the document's order.
pub(crate) fn read(
    document: Document,
    bodies: Vec<TensorBody<'_>>,
    binary: &mut Binary<'_>,
    limits: &Limits,
) -> Result<Vec<Tensor>, OipError> {
    check_twice(document.tensor(), bodies.iter().map(|body| body.name.as_str()))?;
    let mut tensors = Vec::with_capacity(bodies.len());
    let mut total_bytes = 0u64;
    for body in bodies {
        if body.name.len() > NAME_BYTES_MAX {
            return Err(OipError::Name { found: body.name.len(), allowed: NAME_BYTES_MAX });
        }
        let fault = |fault| OipError::Tensor { document, name: excerpt(&body.name), fault };
        let layout = Layout::of(&body).map_err(fault)?;
        let mut more = |bytes: u64| {
            total_bytes = total_bytes.saturating_add(bytes);
            let (found, allowed) = (total_bytes, limits.tensor_bytes_max);
            if found > allowed {
                return Err(OipError::TooLarge { document, found, allowed });
            }
            Ok(())
        };
        // Before anything is made of it. How long elements of BYTES are is known after that; they are
        // no longer than their text.
        more(layout.bytes.unwrap_or(0))?;
        let bytes = read_bytes(&body, &layout, binary).map_err(fault)?;
        if layout.bytes.is_none() {
            more(bytes.len() as u64)?;
        }
        let Layout { datatype, shape, .. } = layout;
        tensors.push(Tensor { name: body.name, datatype, shape, bytes });
    }
    Ok(tensors)
}

/// What a tensor says of itself.
struct Layout {
    datatype: DataType,
    shape: Shape,
    /// Elements.
    count: u64,
    /// Bytes of all elements; none for BYTES.
    bytes: Option<u64>,
}

impl Layout {
    fn of(body: &TensorBody<'_>) -> Result<Self, TensorFault> {
        let unknown = || TensorFault::DataType { found: excerpt(&body.datatype) };
        let datatype = DataType::from_name(&body.datatype).ok_or_else(unknown)?;
        let DimsBody { dims, rank, negative } = body.shape;
        if let Some((index, found)) = negative {
            return Err(TensorFault::Dimension { index, found });
        }
        let shape = dims.get(..rank).and_then(Shape::new);
        let shape = shape.ok_or(TensorFault::Rank { found: rank })?;
        let overflow = TensorError::ShapeOverflow { shape, datatype };
        let count = shape.element_count().ok_or(overflow.clone())?;
        let bytes = datatype.size_bytes().map(|size| count.checked_mul(size).ok_or(overflow));
        Ok(Self { datatype, shape, count, bytes: bytes.transpose()? })
    }
}

fn read_bytes(
    body: &TensorBody<'_>,
    layout: &Layout,
    binary: &mut Binary<'_>,
) -> Result<Vec<u8>, TensorFault> {
    let none = Default::default();
    let parameters = body.parameters.as_ref().map_or(&none, |Object(parameters)| parameters);
    if parameters.shared_memory_region.is_some() {
        return Err(TensorFault::SharedMemory);
    }
    let Layout { datatype, shape, count, .. } = *layout;
    match (body.data, parameters.binary_data_size) {
        (Some(data), None) => data::parse(data.get(), datatype, shape, count),
        (None, Some(size)) => {
            let bytes = binary.take(size)?;
            TensorView { name: &body.name, datatype, shape, bytes }.check()?;
            Ok(bytes.to_vec())
        }
        (Some(_), Some(_)) => Err(TensorFault::BothForms),
        (None, None) => Err(TensorFault::NoData),
    }
}
