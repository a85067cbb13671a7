//! Models of the shapes that people run, with inputs that fit them: one file per family.
//!
//! Each family comes at full size, for benches, and small, for tests: the same operators in some
//! hundred kilobytes at most. Weights are scaled so that activations keep their size and outputs are
//! not saturated: where all probability is on one class, errors do not show.

mod convolutions;
mod dense;
mod mobilenet;
mod squeezenet;
mod resnet;
mod unet;
mod encoder;
mod recurrent;

pub use self::dense::{big_mlp, mlp};
pub use self::mobilenet::mobilenet_v2;

use crate::onnx::{Element, SplitMix64};

/// A model with inputs for one run.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The bytes of the `.onnx` file.
    pub onnx: Vec<u8>,
    /// In the order of the model.
    pub inputs: Vec<Input>,
    /// Whether the last axis of the output is logits of classes.
    pub logits: bool,
}

/// An input tensor.
#[derive(Clone, Debug)]
pub struct Input {
    /// As the model calls it.
    pub name: &'static str,
    /// [`Element::F32`] or [`Element::I64`].
    pub element: Element,
    /// All numbers.
    pub shape: Vec<u64>,
    /// Little-endian elements in row-major order.
    pub bytes: Vec<u8>,
}

/// A family of models.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As reports and file names have it.
    pub name: &'static str,
    /// The size that people run.
    pub full: fn() -> Sample,
    /// The same operators, small.
    pub small: fn() -> Sample,
}

/// All families, cheap ones first.
pub const FAMILIES: [Family; 8] = [
    Family { name: "mlp", full: dense::full, small: dense::small },
    Family { name: "tabular", full: dense::full_tabular, small: dense::small_tabular },
    Family { name: "lstm", full: recurrent::full, small: recurrent::small },
    Family { name: "squeezenet", full: squeezenet::full, small: squeezenet::small },
    Family { name: "mobilenet_v2", full: mobilenet::full, small: mobilenet::small },
    Family { name: "unet", full: unet::full, small: unet::small },
    Family { name: "encoder", full: encoder::full, small: encoder::small },
    Family { name: "resnet50", full: resnet::full, small: resnet::small },
];

/// The small model of every family, with its name.
pub fn small() -> impl Iterator<Item = (&'static str, Sample)> {
    FAMILIES.iter().map(|family| (family.name, (family.small)()))
}

/// The seed of all inputs.
const INPUT_SEED: u64 = 0x696e_7075_7473;

impl Input {
    /// Random numbers of mean 0 and variance 1, as inputs are after normalisation.
    fn floats(name: &'static str, shape: &[u64]) -> Self {
        let mut random = SplitMix64(INPUT_SEED);
        let mut next = || random.next_f32(3f64.sqrt()).to_le_bytes();
        let bytes = (0..shape.iter().product()).flat_map(|_| next()).collect();
        Self { name, element: Element::F32, shape: shape.to_vec(), bytes }
    }

    /// Random numbers in `0..end`.
    fn ids(name: &'static str, shape: &[u64], end: i64) -> Self {
        let mut random = SplitMix64(INPUT_SEED);
        let mut next = || random.next_below(end).to_le_bytes();
        let bytes = (0..shape.iter().product()).flat_map(|_| next()).collect();
        Self { name, element: Element::I64, shape: shape.to_vec(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_are_small_and_large_ones_have_their_known_sizes() {
        for (name, sample) in small() {
            assert!(
                (1 << 10..1 << 20).contains(&sample.onnx.len()),
                "{name}: {}",
                sample.onnx.len()
            );
        }
        // Parameters as the papers and the usual implementations count them, normalisation folded.
        for (name, parameters) in [
            ("mlp", 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
            ("squeezenet", 1_235_496),
            ("mobilenet_v2", 3_487_816),
            ("resnet50", 25_530_472),
        ] {
            let family = FAMILIES.iter().find(|family| family.name == name).expect("a family");
            let bytes = (family.full)().onnx.len();
            let excess = bytes.checked_sub(parameters * 4).expect("all weights are there");
            assert!(excess < 50_000, "{name}: {excess} bytes that are no weights");
        }
    }

    #[test]
    fn inputs_have_the_size_that_they_claim() {
        for (name, sample) in small() {
            for input in &sample.inputs {
                let size = if input.element == Element::I64 { 8 } else { 4 };
                let elements: u64 = input.shape.iter().product();
                assert_eq!(input.bytes.len() as u64, elements * size, "{name}");
                assert!(input.bytes.iter().any(|&byte| byte != 0), "{name}");
            }
        }
    }

    #[test]
    fn ids_stay_in_their_range_and_reach_its_ends() {
        let input = Input::ids("ids", &[1000], 5);
        let ids = input.bytes.chunks_exact(8);
        let ids: Vec<_> = ids.map(|id| i64::from_le_bytes(id.try_into().expect("8"))).collect();
        assert_eq!((ids.iter().min(), ids.iter().max()), (Some(&0), Some(&4)));
    }
}
