//! Inputs made up from a seed: the same numbers on every machine, in every version.
//!
//! SplitMix64 starts at the seed and goes through the model's inputs in their order; each element of
//! each input that has no file takes one 64-bit number `r`. Floats are the top 11, 24 or 53 bits of
//! `r` (FP16, FP32, FP64) as a fraction, in [0, 1). Integers and booleans are the top bit of `r`: 0 or
//! 1, which is an index into any vocabulary.

use super::shape_of;
use anyhow::{Context, Result, bail, ensure};
use fuelbox_engine::{DataType, OwnedDim, Signature, Tensor, TensorSignature};
use std::collections::BTreeMap;

/// Size of a named dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dim {
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// Splits `NAME=SIZE`.
pub(crate) fn parse_dim(text: &str) -> Result<Dim, String> {
    let split = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    let (name, size) = split.ok_or("NAME=SIZE was expected")?;
    let size = size.parse().map_err(|_| format!("size '{size}', expected a number below 2^64"))?;
    Ok(Dim { name: name.into(), size })
}

/// Adds a tensor for each input that has none.
pub(crate) fn fill(
    tensors: &mut Vec<Tensor>,
    signature: &Signature,
    seed: u64,
    dims: &[Dim],
    bytes_max: u64,
) -> Result<()> {
    let mut sizes = known_sizes(tensors, signature);
    let names = |input: &TensorSignature, name: &str| {
        let named = |dim: &OwnedDim| matches!(dim, OwnedDim::Symbol(symbol) if symbol == name);
        input.shape.as_ref().is_some_and(|dims| dims.iter().any(named))
    };
    for dim in dims {
        let known = signature.inputs.iter().any(|input| names(input, &dim.name));
        ensure!(known, "dimension '{}': no input of the model has it", dim.name);
        sizes.insert(&dim.name, dim.size);
    }
    let mut numbers = SplitMix64(seed);
    let mut left = bytes_max;
    for input in &signature.inputs {
        if tensors.iter().any(|tensor| tensor.name == input.name) {
            continue;
        }
        let tensor = tensor(input, &sizes, &mut numbers, left)?;
        left -= tensor.bytes.len() as u64;
        tensors.push(tensor);
    }
    Ok(())
}

/// The sizes that the given tensors have where the model has names.
fn known_sizes<'a>(tensors: &[Tensor], signature: &'a Signature) -> BTreeMap<&'a str, u64> {
    let mut sizes = BTreeMap::new();
    for input in &signature.inputs {
        let given = tensors.iter().find(|tensor| tensor.name == input.name);
        let (Some(tensor), Some(dims)) = (given, &input.shape) else {
            continue;
        };
        for (dim, size) in dims.iter().zip(tensor.shape.iter()) {
            if let OwnedDim::Symbol(symbol) = dim {
                sizes.insert(symbol.as_str(), *size);
            }
        }
    }
    sizes
}

fn tensor(
    input: &TensorSignature,
    sizes: &BTreeMap<&str, u64>,
    numbers: &mut SplitMix64,
    bytes_max: u64,
) -> Result<Tensor> {
    let TensorSignature { name, datatype, shape } = input;
    let refused =
        |why: &str| format!("input '{name}': {why}, so it cannot be made up; give it with --input");
    let dims = shape
        .as_ref()
        .with_context(|| refused("the model does not say how many dimensions it has"))?;
    let size = |dim: &OwnedDim| match dim {
        OwnedDim::Fixed(size) => *size,
        OwnedDim::Symbol(symbol) => sizes.get(symbol.as_str()).copied().unwrap_or(1),
        OwnedDim::Any(()) => 1,
    };
    let dims: Vec<u64> = dims.iter().map(size).collect();
    let shape = shape_of(&dims).with_context(|| format!("input '{name}'"))?;
    let element_bytes = datatype.size_bytes().with_context(|| refused("its datatype is BYTES"))?;
    let count = shape.element_count();
    let needed = count.and_then(|count| count.checked_mul(element_bytes));
    match (count, needed) {
        (Some(count), Some(needed)) if needed <= bytes_max => {
            let bytes = (0..count).flat_map(|_| element(*datatype, numbers.next())).collect();
            Ok(Tensor { name: name.clone(), datatype: *datatype, shape, bytes })
        }
        (_, Some(needed)) => {
            bail!(
                "input '{name}': shape {shape} of {datatype} takes {needed} bytes, allowed are {bytes_max}"
            )
        }
        (_, None) => bail!("input '{name}': shape {shape} of {datatype} overflows 64 bits"),
    }
}

fn element(datatype: DataType, random: u64) -> impl Iterator<Item = u8> {
    let fraction = |bits: u32| (random >> (64 - bits)) as f64 / (1u64 << bits) as f64;
    let bit = random >> 63;
    let (bytes, count) = match datatype {
        // Exact: a fraction of so many bits is a number of its type.
        DataType::Fp16 => (u64::from(half::f16::from_f64(fraction(11)).to_bits()), 2),
        DataType::Fp32 => (u64::from((fraction(24) as f32).to_bits()), 4),
        DataType::Fp64 => (fraction(53).to_bits(), 8),
        DataType::Bool | DataType::Uint8 | DataType::Int8 => (bit, 1),
        DataType::Uint16 | DataType::Int16 => (bit, 2),
        DataType::Uint32 | DataType::Int32 => (bit, 4),
        DataType::Uint64 | DataType::Int64 => (bit, 8),
        DataType::Bytes => (0, 0), // refused before
    };
    bytes.to_le_bytes().into_iter().take(count)
}

/// Steele, Lea and Flood's generator, as in Java 8.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, datatype: DataType, shape: Option<Vec<OwnedDim>>) -> TensorSignature {
        TensorSignature { name: name.into(), datatype, shape }
    }

    fn check(inputs: Vec<TensorSignature>, dims: &[&str], bytes_max: u64) -> String {
        let signature = Signature { inputs, outputs: vec![] };
        let dims: Vec<_> = dims.iter().map(|dim| parse_dim(dim).expect("dim")).collect();
        let mut tensors = Vec::new();
        match fill(&mut tensors, &signature, 7, &dims, bytes_max) {
            Ok(()) => {
                let show = |t: &Tensor| format!("{} {} {:?}", t.name, t.shape, t.bytes);
                tensors.iter().map(show).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn generator_is_splitmix64() {
        // The first numbers from seed 1234567, as published with the reference implementation.
        let mut numbers = SplitMix64(1_234_567);
        let first = [numbers.next(), numbers.next()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn floats_are_in_the_unit_interval() {
        let bytes = |datatype, random| element(datatype, random).collect::<Vec<_>>();
        assert_eq!(bytes(DataType::Fp32, 0), 0f32.to_le_bytes());
        assert_eq!(bytes(DataType::Fp32, u64::MAX), (1.0 - f32::EPSILON / 2.0).to_le_bytes());
        assert_eq!(bytes(DataType::Fp64, u64::MAX), (1.0 - f64::EPSILON / 2.0).to_le_bytes());
        assert_eq!(bytes(DataType::Fp16, u64::MAX), 0x3bffu16.to_le_bytes());
        assert_eq!(bytes(DataType::Int16, u64::MAX), [1, 0]);
        assert_eq!(bytes(DataType::Bool, u64::MAX >> 1), [0]);
    }

    #[test]
    fn every_input_is_filled_or_named() {
        let batch = || OwnedDim::Symbol("batch".into());
        let two = || {
            vec![
                input("a", DataType::Int8, Some(vec![batch(), OwnedDim::Fixed(2)])),
                input("b", DataType::Bool, Some(vec![OwnedDim::Any(())])),
            ]
        };
        for (inputs, dims, bytes_max, expected) in [
            (two(), &[][..], 3, "a [1, 2] [0, 0]; b [1] [1]"),
            (two(), &["batch=2"], 9, "a [2, 2] [0, 0, 1, 1]; b [1] [0]"),
            (two(), &[], 2, "input 'b': shape [1] of BOOL takes 1 bytes, allowed are 0"),
            (
                two(),
                &["batch=18446744073709551615"],
                9,
                "input 'a': shape [18446744073709551615, 2] of INT8 overflows 64 bits",
            ),
            (two(), &["width=2"], 9, "dimension 'width': no input of the model has it"),
            (
                vec![input("a", DataType::Bytes, Some(vec![]))],
                &[],
                9,
                "input 'a': its datatype is BYTES, so it cannot be made up; give it with --input",
            ),
            (
                vec![input("a", DataType::Fp32, None)],
                &[],
                9,
                "input 'a': the model does not say how many dimensions it has, so it cannot be made up; give it with --input",
            ),
        ] {
            assert_eq!(check(inputs, dims, bytes_max), expected);
        }
    }
}
