//! Inputs: from files and arguments to the tensors that a model takes.
//!
//! Two steps, so that a bad file is refused before anything is compiled: [`InputArgs::read`] needs no
//! model, [`ReadInputs::bind`] finds the model's inputs for what was read.

mod npy;
mod npz;
mod random;
mod parameter;

use crate::file;
use anyhow::{Context, Result, anyhow, bail, ensure};
use fuelbox_engine::{
    DataType, JobLimits, OwnedDim, OwnedParameter, Shape, Signature, Tensor, TensorSignature,
};
use fuelbox_oip::{Limits, Request};
use std::path::{Path, PathBuf};

pub(crate) use random::Dim;

/// Where a job's inputs come from.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct InputArgs {
    /// Input file: .npy, .npz, .json (Open Inference Protocol), or any file for a BYTES input.
    ///
    /// Repeatable. `NAME=FILE` says which input a .npy or other file is for; the name is not needed
    /// when the model has one input. A path with `=` in it always needs a name in front.
    #[arg(long, short, value_name = "[NAME=]FILE", value_parser = parse_given)]
    pub(crate) input: Vec<InputFile>,

    /// Fill the inputs that have no file with numbers from this seed.
    ///
    /// Floats are in [0, 1), integers 0 or 1. The same seed gives the same numbers everywhere.
    #[arg(long, value_name = "SEED")]
    pub(crate) random: Option<u64>,

    /// Size of a named dimension for --random; 1 when not given.
    #[arg(long, value_name = "NAME=SIZE", requires = "random", value_parser = random::parse_dim)]
    pub(crate) dim: Vec<Dim>,

    /// Setting for the model.
    ///
    /// `true`, `false`, numbers and "quoted text" are what JSON takes them for, anything else is text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter::parse)]
    pub(crate) param: Vec<OwnedParameter>,
}

/// A file for an input, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// The input, when it was named.
    pub(crate) name: Option<String>,
    pub(crate) path: PathBuf,
}

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) datatype: DataType,
    pub(crate) shape: Shape,
    /// As in a [`Tensor`].
    pub(crate) bytes: Vec<u8>,
}

/// What the files hold, not yet matched to a model.
#[derive(Debug, Default)]
pub(crate) struct ReadInputs {
    given: Vec<Given>,
    parameters: Vec<OwnedParameter>,
}

#[derive(Debug)]
struct Given {
    path: PathBuf,
    name: Option<String>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Array(Array),
    /// A file that is one element of a `BYTES` input.
    Blob(Vec<u8>),
}

/// What a job is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inputs {
    /// In the model's order.
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) parameters: Vec<OwnedParameter>,
}

/// Most bytes of one input file, and of what it unpacks to: those of a request.
fn bytes_max() -> u64 {
    JobLimits::default().input_bytes
}

/// Splits `NAME=FILE`.
pub(crate) fn parse_given(text: &str) -> Result<InputFile, String> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (Some(name.to_owned()), path),
        None => (None, text),
    };
    if path.is_empty() || name.as_deref() == Some("") {
        return Err("FILE or NAME=FILE was expected".into());
    }
    Ok(InputFile { name, path: path.into() })
}

impl InputArgs {
    /// Reads and parses every file.
    pub(crate) fn read(&self) -> Result<ReadInputs> {
        let mut read = ReadInputs::default();
        for input in &self.input {
            read.add(input)?;
        }
        for parameter in &self.param {
            read.add_parameter(parameter.clone())?;
        }
        Ok(read)
    }
}

impl ReadInputs {
    /// What one file holds.
    pub(crate) fn of(input: &InputFile) -> Result<Self> {
        let mut read = Self::default();
        read.add(input)?;
        Ok(read)
    }

    fn add(&mut self, InputFile { name, path }: &InputFile) -> Result<()> {
        let bytes = file::read(path, bytes_max())?;
        let at = || format!("{}", path.display());
        let names_itself = |extension: &str| match name {
            Some(name) => Err(anyhow!(
                "input '{name}' from {}: a {extension} file names its inputs itself, give it without a name",
                path.display()
            )),
            None => Ok(()),
        };
        let mut push = |name: Option<String>, content: Content| {
            self.given.push(Given { path: path.clone(), name, content });
        };
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "npy" => {
                push(name.clone(), Content::Array(npy::parse(&bytes).with_context(at)?));
            }
            "npz" => {
                names_itself(".npz")?;
                for (name, array) in npz::parse(&bytes, bytes_max()).with_context(at)? {
                    push(Some(name), Content::Array(array));
                }
            }
            "json" => {
                names_itself(".json")?;
                let limits = Limits { tensor_bytes_max: bytes_max() };
                let request = Request::parse(&bytes, None, &limits).with_context(at)?;
                for Tensor { name, datatype, shape, bytes } in request.inputs {
                    push(Some(name), Content::Array(Array { datatype, shape, bytes }));
                }
                for parameter in request.parameters {
                    self.add_parameter(parameter).with_context(at)?;
                }
            }
            _ => push(name.clone(), Content::Blob(bytes)),
        }
        Ok(())
    }

    fn add_parameter(&mut self, parameter: OwnedParameter) -> Result<()> {
        let twice = self.parameters.iter().any(|other| other.name == parameter.name);
        ensure!(!twice, "parameter '{}': given twice", parameter.name);
        self.parameters.push(parameter);
        Ok(())
    }

    /// Finds the model's input for each thing that was read, and fills the others from the seed.
    /// Whether the tensors fit is the engine's question; this one only needs to know which is which.
    pub(crate) fn bind(
        self,
        signature: &Signature,
        random: Option<u64>,
        dims: &[Dim],
    ) -> Result<Inputs> {
        let mut tensors = Vec::new();
        for given in self.given {
            tensors.push(given.bind(signature)?);
        }
        if let Some(seed) = random {
            random::fill(&mut tensors, signature, seed, dims, bytes_max())?;
        }
        // The model's order, so that one request has one encoding however it was given.
        let place = |tensor: &Tensor| {
            let place = signature.inputs.iter().position(|input| input.name == tensor.name);
            place.unwrap_or(usize::MAX)
        };
        tensors.sort_by_key(place);
        Ok(Inputs { tensors, parameters: self.parameters })
    }
}

impl Given {
    fn bind(self, signature: &Signature) -> Result<Tensor> {
        let path = &self.path;
        let name = match (self.name, signature.inputs.as_slice()) {
            (Some(name), _) => name,
            (None, [sole]) => sole.name.clone(),
            (None, inputs) => {
                let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
                bail!(
                    "{}: for which input is it? the model takes {} inputs ({}); write NAME={0}",
                    path.display(),
                    inputs.len(),
                    names.join(", ")
                );
            }
        };
        let array = match self.content {
            Content::Array(array) => array,
            Content::Blob(bytes) => {
                let input = signature.inputs.iter().find(|input| input.name == name);
                blob(&name, path, &bytes, input)?
            }
        };
        let Array { datatype, shape, bytes } = array;
        Ok(Tensor { name, datatype, shape, bytes })
    }
}

/// A whole file as the one element of a `BYTES` input.
fn blob(name: &str, path: &Path, bytes: &[u8], input: Option<&TensorSignature>) -> Result<Array> {
    let path = path.display();
    let dims = match input {
        Some(TensorSignature { datatype: DataType::Bytes, shape, .. }) => shape.as_deref(),
        Some(TensorSignature { datatype, .. }) => {
            bail!(
                "input '{name}' from {path}: for datatype {datatype}, files are .npy, .npz or .json"
            )
        }
        None => None, // an unknown name: the engine says which there are
    };
    let shape = match dims {
        None => vec![1],
        Some(dims) => dims
            .iter()
            .map(|dim| match dim {
                OwnedDim::Fixed(1) | OwnedDim::Symbol(_) | OwnedDim::Any(()) => Ok(1),
                OwnedDim::Fixed(size) => Err(anyhow!(
                    "input '{name}' from {path}: a file is one element, the model takes {size} in a row"
                )),
            })
            .collect::<Result<_>>()?,
    };
    let mut element = Vec::with_capacity(bytes.len() + 4);
    fuelbox_abi::push_string_element(&mut element, bytes).with_context(|| {
        format!("input '{name}' from {path}: file of {} bytes, allowed are 2^32 - 1", bytes.len())
    })?;
    Ok(Array { datatype: DataType::Bytes, shape: shape_of(&shape)?, bytes: element })
}

/// These dimensions, if there are not too many.
fn shape_of(dims: &[u64]) -> Result<Shape> {
    Shape::new(dims).with_context(|| {
        format!("{} dimensions, allowed are {}", dims.len(), fuelbox_abi::RANK_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inputs: &[(&str, DataType)]) -> Signature {
        let input = |(name, datatype): &(&str, DataType)| TensorSignature {
            name: (*name).into(),
            datatype: *datatype,
            shape: Some(vec![OwnedDim::Symbol("batch".into())]),
        };
        Signature { inputs: inputs.iter().map(input).collect(), outputs: vec![] }
    }

    fn check(inputs: &[(&str, DataType)], given: &[(Option<&str>, Content)]) -> String {
        let given = given.iter().map(|(name, content)| Given {
            path: "f.bin".into(),
            name: name.map(str::to_owned),
            content: match content {
                Content::Array(array) => Content::Array(array.clone()),
                Content::Blob(bytes) => Content::Blob(bytes.clone()),
            },
        });
        let read = ReadInputs { given: given.collect(), parameters: vec![] };
        match read.bind(&signature(inputs), None, &[]) {
            Ok(inputs) => {
                let show = |t: &Tensor| format!("{} {} {}", t.name, t.datatype, t.shape);
                inputs.tensors.iter().map(show).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn what_was_read_finds_its_input() {
        let blob = || Content::Blob(b"png".to_vec());
        let array = || {
            let shape = shape_of(&[1]).expect("rank");
            Content::Array(Array { datatype: DataType::Int8, shape, bytes: vec![1] })
        };
        let (one, two) =
            ([("a", DataType::Bytes)], [("a", DataType::Bytes), ("b", DataType::Int8)]);
        for (inputs, given, expected) in [
            (&one[..], vec![(None, blob())], "a BYTES [1]"),
            (&one, vec![(Some("z"), blob())], "z BYTES [1]"),
            (&two, vec![(Some("b"), array()), (Some("a"), blob())], "a BYTES [1]; b INT8 [1]"),
            (
                &two,
                vec![(None, array())],
                "f.bin: for which input is it? the model takes 2 inputs (a, b); write NAME=f.bin",
            ),
            (
                &two,
                vec![(Some("b"), blob())],
                "input 'b' from f.bin: for datatype INT8, files are .npy, .npz or .json",
            ),
        ] {
            assert_eq!(check(inputs, &given), expected);
        }
    }

    #[test]
    fn names_and_paths_are_told_apart() {
        let file = |name: Option<&str>, path: &str| {
            Ok(InputFile { name: name.map(str::to_owned), path: path.into() })
        };
        let expected = Err("FILE or NAME=FILE was expected".to_owned());
        for (text, expected) in [
            ("seven.npy", file(None, "seven.npy")),
            ("image=seven.npy", file(Some("image"), "seven.npy")),
            ("x=a=b.npy", file(Some("x"), "a=b.npy")),
            ("=a.npy", expected.clone()),
            ("x=", expected.clone()),
            ("", expected),
        ] {
            assert_eq!(parse_given(text), expected, "{text}");
        }
    }
}
