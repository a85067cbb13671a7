//! What goes into a model and what comes out, and whether given inputs fit.

use crate::Error;
use fuelbox_abi::{DataType, Dims, RANK_MAX, Role, Shape, TensorView};
use std::fmt;

/// The inputs and outputs of a model, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Unique among the inputs, or among the outputs.
    pub name: String,
    /// Type of the elements.
    pub datatype: DataType,
    /// Outermost first; none when not even their number is known.
    pub dims: Option<Vec<Dim>>,
}

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this many.
    Fixed(u64),
    /// As many as the caller brings, known when the model is loaded: the host loads it once for each
    /// set of input shapes. Equal names stand for equal numbers.
    Symbol(String),
    /// As many as the caller brings, different in each run.
    Any,
}

impl From<u64> for Dim {
    fn from(size: u64) -> Self {
        Self::Fixed(size)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Symbol(name.into())
    }
}

impl Dim {
    fn to_abi(&self) -> fuelbox_abi::Dim<'_> {
        match self {
            Self::Fixed(size) => fuelbox_abi::Dim::Fixed(*size),
            Self::Symbol(name) => fuelbox_abi::Dim::Symbol(name),
            Self::Any => fuelbox_abi::Dim::Any,
        }
    }
}

impl Signature {
    /// Nothing in, nothing out.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more input. Dimensions are numbers, names or [`Dim`]s.
    #[must_use]
    pub fn input<D: Into<Dim>>(
        mut self,
        name: &str,
        datatype: DataType,
        dims: impl IntoIterator<Item = D>,
    ) -> Self {
        self.inputs.push(TensorSpec::new(name, datatype, dims));
        self
    }

    /// With one more output. Dimensions are numbers, names or [`Dim`]s.
    #[must_use]
    pub fn output<D: Into<Dim>>(
        mut self,
        name: &str,
        datatype: DataType,
        dims: impl IntoIterator<Item = D>,
    ) -> Self {
        self.outputs.push(TensorSpec::new(name, datatype, dims));
        self
    }

    /// Whether these are the inputs: each one there once, with its datatype and shape, and no other.
    ///
    /// # Errors
    /// The first that does not fit, with what was found and what is allowed.
    pub fn check(&self, found: &[TensorView<'_>]) -> Result<(), Error> {
        for (index, tensor) in found.iter().enumerate() {
            let name = tensor.name;
            if !self.inputs.iter().any(|spec| spec.name == name) {
                let allowed: Vec<_> = self.inputs.iter().map(|spec| &spec.name).collect();
                let text = format!("input '{name}' is unknown, allowed are {allowed:?}");
                return Err(Error::invalid_input(text));
            }
            if found[..index].iter().any(|before| before.name == name) {
                return Err(Error::invalid_input(format!("input '{name}' is there twice")));
            }
        }
        let mut symbols = Vec::new();
        for spec in &self.inputs {
            let tensor = found.iter().find(|tensor| tensor.name == spec.name);
            let tensor = tensor.ok_or_else(|| {
                Error::invalid_input(format!(
                    "input '{}' is missing: {} {} is needed",
                    spec.name,
                    spec.datatype,
                    spec.shape()
                ))
            })?;
            spec.check(tensor, &mut symbols)?;
        }
        Ok(())
    }

    pub(crate) fn to_abi(&self) -> Result<Vec<fuelbox_abi::TensorSpec<'_>>, Error> {
        let inputs = self.inputs.iter().map(|spec| spec.to_abi(Role::Input));
        let outputs = self.outputs.iter().map(|spec| spec.to_abi(Role::Output));
        inputs.chain(outputs).collect()
    }
}

impl TensorSpec {
    fn new<D: Into<Dim>>(
        name: &str,
        datatype: DataType,
        dims: impl IntoIterator<Item = D>,
    ) -> Self {
        Self { name: name.into(), datatype, dims: Some(dims.into_iter().map(Into::into).collect()) }
    }

    /// Dimensions for people: `[batch, 64]`.
    pub fn shape(&self) -> impl fmt::Display + use<'_> {
        ShapeOf(self)
    }

    /// `symbols` has the numbers that names stand for so far.
    fn check<'a>(
        &'a self,
        tensor: &TensorView<'_>,
        symbols: &mut Vec<(&'a str, u64)>,
    ) -> Result<(), Error> {
        let name = &self.name;
        if tensor.datatype != self.datatype {
            return Err(Error::invalid_input(format!(
                "input '{name}': datatype {} found, {} allowed",
                tensor.datatype, self.datatype
            )));
        }
        self.check_shape(&tensor.shape, symbols)
    }

    /// `symbols` has the numbers that names stand for so far.
    pub(crate) fn check_shape<'a>(
        &'a self,
        found: &Shape,
        symbols: &mut Vec<(&'a str, u64)>,
    ) -> Result<(), Error> {
        let Some(dims) = &self.dims else {
            return Ok(());
        };
        let wrong = |because: String| {
            Error::invalid_input(format!(
                "input '{}': shape {found} found, {} allowed{because}",
                self.name,
                self.shape()
            ))
        };
        if dims.len() != found.len() {
            return Err(wrong(String::new()));
        }
        for (dim, &found) in dims.iter().zip(found.iter()) {
            match dim {
                Dim::Fixed(size) if *size != found => return Err(wrong(String::new())),
                Dim::Fixed(_) | Dim::Any => {}
                Dim::Symbol(symbol) => match symbols.iter().find(|(known, _)| known == symbol) {
                    None => symbols.push((symbol, found)),
                    Some((_, size)) if *size == found => {}
                    Some((_, size)) => return Err(wrong(format!(" with {symbol} = {size}"))),
                },
            }
        }
        Ok(())
    }

    fn to_abi(&self, role: Role) -> Result<fuelbox_abi::TensorSpec<'_>, Error> {
        let dims: Option<Vec<_>> =
            self.dims.as_ref().map(|dims| dims.iter().map(Dim::to_abi).collect());
        let rank = dims.as_ref().map_or(0, Vec::len);
        if rank > RANK_MAX {
            return Err(Error::unsupported(format!(
                "{role:?} '{}': {rank} dimensions found, up to {RANK_MAX} allowed",
                self.name
            )));
        }
        Ok(fuelbox_abi::TensorSpec {
            role,
            name: &self.name,
            datatype: self.datatype,
            dims: dims.as_deref().and_then(Dims::new),
        })
    }
}

struct ShapeOf<'a>(&'a TensorSpec);

impl fmt::Display for ShapeOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(dims) = &self.0.dims else {
            return f.write_str("of any rank");
        };
        f.write_str("[")?;
        for (index, dim) in dims.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match dim {
                Dim::Fixed(size) => write!(f, "{comma}{size}")?,
                Dim::Symbol(name) => write!(f, "{comma}{name}")?,
                Dim::Any => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: [u8; 1024] = [0; 1024];

    fn check(inputs: &[(&str, DataType, &[u64])]) -> String {
        let signature = Signature::new()
            .input("ids", DataType::Int64, [Dim::from("batch"), Dim::Fixed(2)])
            .input("mask", DataType::Bool, [Dim::from("batch"), Dim::Any]);
        let views: Vec<_> = inputs
            .iter()
            .map(|&(name, datatype, shape)| TensorView {
                name,
                datatype,
                shape: Shape::new(shape).expect("rank"),
                bytes: &ZEROS,
            })
            .collect();
        match signature.check(&views) {
            Ok(()) => "ok".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn inputs_fit_or_the_first_misfit_is_named() {
        use DataType::{Bool, Fp32, Int64};
        let ids = ("ids", Int64, [3, 2].as_slice());
        let mask = ("mask", Bool, [3, 9].as_slice());
        for (inputs, says) in [
            (vec![ids, mask], "ok"),
            (vec![mask, ids], "ok"),
            (vec![ids], "input 'mask' is missing: BOOL [batch, ?] is needed"),
            (
                vec![ids, mask, ("x", Fp32, &[])],
                "input 'x' is unknown, allowed are [\"ids\", \"mask\"]",
            ),
            (vec![ids, mask, ids], "input 'ids' is there twice"),
            (vec![("ids", Fp32, &[3, 2]), mask], "input 'ids': datatype FP32 found, INT64 allowed"),
            (
                vec![("ids", Int64, &[3, 1]), mask],
                "input 'ids': shape [3, 1] found, [batch, 2] allowed",
            ),
            (vec![("ids", Int64, &[2]), mask], "input 'ids': shape [2] found, [batch, 2] allowed"),
            (
                vec![ids, ("mask", Bool, &[2, 9])],
                "input 'mask': shape [2, 9] found, [batch, ?] allowed with batch = 3",
            ),
        ] {
            assert_eq!(check(&inputs), says);
        }
    }
}
