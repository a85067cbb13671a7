//! What a model takes and gives, and whether a caller's tensors fit it.

use crate::tensor::Tensor;
use fuelbox_abi::{DataType, Dim, Dims, Role, Shape, TensorError, TensorSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The inputs and outputs of a model, in the model's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSignature>,
    /// What it gives.
    pub outputs: Vec<TensorSignature>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSignature {
    /// Unique among the inputs, or among the outputs.
    pub name: String,
    /// Type of the elements.
    #[serde(with = "datatype_name")]
    pub datatype: DataType,
    /// Dimensions, outermost first; none when the model does not say how many there are.
    pub shape: Option<Vec<OwnedDim>>,
}

/// One dimension of a signature: a number, a name, or `null` for any number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OwnedDim {
    /// Always this many.
    Fixed(u64),
    /// As many as the caller brings, under a name; the model is prepared for each set of sizes.
    Symbol(String),
    /// As many as the caller brings.
    Any(()),
}

/// Why tensors do not fit a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum InputError {
    /// The model takes no input of this name.
    #[error("input '{name}': no such input, the model takes {allowed}")]
    Unknown { name: String, allowed: String },
    /// The same name twice.
    #[error("input '{name}': given twice")]
    Twice { name: String },
    /// An input of the model that is not there.
    #[error("input '{name}': missing, the model takes {allowed}")]
    Missing { name: String, allowed: String },
    /// Another element type.
    #[error("input '{name}': datatype {found}, the model takes {allowed}")]
    DataType { name: String, found: DataType, allowed: DataType },
    /// Dimensions that do not fit.
    #[error("input '{name}': shape {found}, the model takes {allowed}")]
    Shape { name: String, found: Shape, allowed: String },
    /// Two sizes for one name.
    #[error(
        "input '{name}': dimension '{symbol}' is {found}, elsewhere in this request it is {other}"
    )]
    Symbol { name: String, symbol: String, found: u64, other: u64 },
    /// Bytes that are not the tensor they are said to be.
    #[error("input '{name}': {source}")]
    Bytes { name: String, source: TensorError },
}

impl Signature {
    /// The signature in a guest's reply. `None` when a name appears twice in one role.
    pub(crate) fn from_specs<'a>(specs: impl Iterator<Item = TensorSpec<'a>>) -> Option<Self> {
        let mut signature = Self { inputs: Vec::new(), outputs: Vec::new() };
        for spec in specs {
            let list = match spec.role {
                Role::Input => &mut signature.inputs,
                Role::Output => &mut signature.outputs,
            };
            if list.iter().any(|other| other.name == spec.name) {
                return None;
            }
            list.push(TensorSignature {
                name: spec.name.into(),
                datatype: spec.datatype,
                shape: spec.dims.map(|dims| dims.iter().map(OwnedDim::from).collect()),
            });
        }
        Some(signature)
    }

    /// Whether the model has to be loaded for the caller's shapes, because an input's dimensions
    /// have names or are not known at all.
    pub fn needs_shapes(&self) -> bool {
        self.inputs.iter().any(|input| match &input.shape {
            Some(dims) => dims.iter().any(|dim| matches!(dim, OwnedDim::Symbol(_))),
            None => true,
        })
    }

    /// Whether another one has the same tensors, whatever it says of their shapes. What models declare
    /// of the shapes of their outputs is often wrong; planning finds out.
    pub(crate) fn names_the_same(&self, other: &Self) -> bool {
        let same = |own: &[TensorSignature], other: &[TensorSignature]| {
            let key = |tensor: &TensorSignature| (tensor.name.clone(), tensor.datatype);
            own.iter().map(key).eq(other.iter().map(key))
        };
        same(&self.inputs, &other.inputs) && same(&self.outputs, &other.outputs)
    }

    /// Whether these tensors are what the model takes.
    ///
    /// # Errors
    /// The first thing that does not fit: name, datatype, shape or bytes, found and allowed.
    pub fn check_inputs(&self, tensors: &[Tensor]) -> Result<(), InputError> {
        let allowed = || list(self.inputs.iter().map(|input| input.name.as_str()));
        let mut sizes = BTreeMap::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let name = || tensor.name.clone();
            let input = self.inputs.iter().find(|input| input.name == tensor.name);
            let unknown = || InputError::Unknown {
                name: crate::log::excerpt(tensor.name.as_bytes(), 80),
                allowed: allowed(),
            };
            let input = input.ok_or_else(unknown)?;
            if tensors[..index].iter().any(|other| other.name == tensor.name) {
                return Err(InputError::Twice { name: name() });
            }
            if tensor.datatype != input.datatype {
                let (found, allowed) = (tensor.datatype, input.datatype);
                return Err(InputError::DataType { name: name(), found, allowed });
            }
            input.check_shape(tensor.shape, &mut sizes)?;
            tensor.view().check().map_err(|source| InputError::Bytes { name: name(), source })?;
        }
        let given = |input: &TensorSignature| tensors.iter().any(|t| t.name == input.name);
        match self.inputs.iter().find(|input| !given(input)) {
            Some(input) => {
                Err(InputError::Missing { name: input.name.clone(), allowed: allowed() })
            }
            None => Ok(()),
        }
    }

    /// Whether a guest's outputs are what the model said it gives: what is wrong, if they are not.
    pub(crate) fn check_outputs(&self, tensors: &[Tensor]) -> Result<(), String> {
        if tensors.len() != self.outputs.len() {
            let (found, expected) = (tensors.len(), self.outputs.len());
            return Err(format!("{found} outputs, the signature has {expected}"));
        }
        for (tensor, output) in tensors.iter().zip(&self.outputs) {
            let name = crate::log::excerpt(tensor.name.as_bytes(), 80);
            if tensor.name != output.name {
                return Err(format!("output '{name}', the signature has '{}' here", output.name));
            }
            if tensor.datatype != output.datatype {
                let (found, expected) = (tensor.datatype, output.datatype);
                return Err(format!(
                    "output '{name}': datatype {found}, the signature has {expected}"
                ));
            }
            output.check_shape(tensor.shape, &mut BTreeMap::new()).map_err(|_| {
                format!(
                    "output '{name}': shape {}, the signature has {}",
                    tensor.shape,
                    output.shape_text()
                )
            })?;
        }
        Ok(())
    }
}

impl TensorSignature {
    /// The dimensions as people read them: `[batch, 64]`.
    pub fn shape_text(&self) -> String {
        match &self.shape {
            Some(dims) => {
                let dims: Vec<_> = dims.iter().map(OwnedDim::to_string).collect();
                format!("[{}]", dims.join(", "))
            }
            None => "of any rank".into(),
        }
    }

    fn check_shape<'a>(
        &'a self,
        found: Shape,
        sizes: &mut BTreeMap<&'a str, u64>,
    ) -> Result<(), InputError> {
        let Some(dims) = &self.shape else {
            return Ok(());
        };
        let fits = |(dim, size): (&OwnedDim, &u64)| match dim {
            OwnedDim::Fixed(fixed) => fixed == size,
            OwnedDim::Symbol(_) | OwnedDim::Any(()) => true,
        };
        if dims.len() != found.len() || !dims.iter().zip(found.iter()).all(fits) {
            let allowed = self.shape_text();
            return Err(InputError::Shape { name: self.name.clone(), found, allowed });
        }
        for (dim, &size) in dims.iter().zip(found.iter()) {
            let OwnedDim::Symbol(symbol) = dim else {
                continue;
            };
            let other = *sizes.entry(symbol).or_insert(size);
            if other != size {
                let (name, symbol) = (self.name.clone(), symbol.clone());
                return Err(InputError::Symbol { name, symbol, found: size, other });
            }
        }
        Ok(())
    }
}

impl From<&Dim<'_>> for OwnedDim {
    fn from(dim: &Dim<'_>) -> Self {
        match *dim {
            Dim::Fixed(size) => Self::Fixed(size),
            Dim::Symbol(name) => Self::Symbol(name.into()),
            Dim::Any => Self::Any(()),
        }
    }
}

impl std::fmt::Display for OwnedDim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Symbol(name) => write!(f, "{}", crate::log::excerpt(name.as_bytes(), 80)),
            Self::Any(()) => f.write_str("?"),
        }
    }
}

/// The concrete shapes of a request's tensors as specs to load a model for, by name.
pub(crate) fn shape_specs(tensors: &[Tensor]) -> Vec<TensorSpec<'_>> {
    let mut specs: Vec<_> = tensors
        .iter()
        .filter_map(|tensor| {
            let dims: Vec<_> = tensor.shape.iter().map(|&dim| Dim::Fixed(dim)).collect();
            Some(TensorSpec {
                role: Role::Input,
                name: &tensor.name,
                datatype: tensor.datatype,
                dims: Some(Dims::new(&dims)?),
            })
        })
        .collect();
    specs.sort_by_key(|spec| spec.name);
    specs
}

/// `'a', 'b'`, cut after eight.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<_> =
        names.map(|name| format!("'{}'", crate::log::excerpt(name.as_bytes(), 80))).collect();
    if quoted.is_empty() {
        return "none".into();
    }
    if quoted.len() > 8 {
        let more = quoted.len() - 8;
        quoted.truncate(8);
        quoted.push(format!("and {more} more"));
    }
    quoted.join(", ")
}

mod datatype_name {
    use super::DataType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(datatype: &DataType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(datatype.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DataType, D::Error> {
        let name = String::deserialize(from)?;
        DataType::from_name(&name).ok_or_else(|| D::Error::custom("unknown datatype"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> Signature {
        let input = |name: &str| TensorSignature {
            name: name.into(),
            datatype: DataType::Int64,
            shape: Some(vec![OwnedDim::Symbol("batch".into()), OwnedDim::Fixed(2)]),
        };
        Signature { inputs: vec![input("ids"), input("mask")], outputs: vec![] }
    }

    fn tensor(name: &str, datatype: DataType, dims: &[u64]) -> Tensor {
        let shape = Shape::new(dims).expect("rank");
        let count = shape.element_count().expect("small");
        let bytes = vec![0; (count * datatype.size_bytes().expect("sized")) as usize];
        Tensor { name: name.into(), datatype, shape, bytes }
    }

    fn check(tensors: &[Tensor]) -> String {
        encoder().check_inputs(tensors).map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn names_and_datatypes_in_their_order_make_signatures_the_same() {
        let (one, mut other) = (encoder(), encoder());
        other.inputs[0].shape = None;
        assert!(one.names_the_same(&other) && other.names_the_same(&one));
        let changes: [fn(&mut Signature); 5] = [
            |signature| signature.inputs[1].name.push('s'),
            |signature| signature.inputs[1].datatype = DataType::Int32,
            |signature| signature.inputs.swap(0, 1),
            |signature| drop(signature.inputs.pop()),
            |signature| signature.outputs = signature.inputs.clone(),
        ];
        for change in changes {
            let mut other = encoder();
            change(&mut other);
            assert!(!one.names_the_same(&other) && !other.names_the_same(&one), "{other:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_found_and_allowed() {
        let ids = |batch| tensor("ids", DataType::Int64, &[batch, 2]);
        let mask = |batch| tensor("mask", DataType::Int64, &[batch, 2]);
        assert_eq!(check(&[ids(3), mask(3)]), "ok");
        assert_eq!(check(&[ids(3)]), "input 'mask': missing, the model takes 'ids', 'mask'");
        assert_eq!(check(&[ids(3), ids(3)]), "input 'ids': given twice");
        assert_eq!(
            check(&[ids(3), mask(4)]),
            "input 'mask': dimension 'batch' is 4, elsewhere in this request it is 3"
        );
        assert_eq!(
            check(&[tensor("x", DataType::Int64, &[1])]),
            "input 'x': no such input, the model takes 'ids', 'mask'"
        );
        assert_eq!(
            check(&[tensor("ids", DataType::Fp32, &[1, 2])]),
            "input 'ids': datatype FP32, the model takes INT64"
        );
        assert_eq!(
            check(&[tensor("ids", DataType::Int64, &[1, 3])]),
            "input 'ids': shape [1, 3], the model takes [batch, 2]"
        );
        let mut short = ids(1);
        short.bytes.pop();
        assert_eq!(
            check(&[short, mask(1)]),
            "input 'ids': 15 bytes found, shape [1, 2] of INT64 takes 16"
        );
        let huge = Tensor { shape: Shape::new(&[1 << 62, 2]).expect("rank"), ..ids(1) };
        assert_eq!(
            check(&[huge]),
            "input 'ids': shape [4611686018427387904, 2] of INT64 overflows 64 bits"
        );
    }
}
