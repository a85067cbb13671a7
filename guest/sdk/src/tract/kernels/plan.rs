//! What a model becomes: steps over buffers whose places are fixed before the first run.

use super::array::{Array, Place};
use fuelbox_kernels::{Call, View};
use std::sync::Arc;
use tract_onnx::prelude::{Tensor, TypedRunnableModel};

/// Constant data.
#[derive(Debug)]
pub(super) enum Data {
    /// As the model has it.
    Tensor(Arc<Tensor>),
    /// Laid out for the kernels.
    Packed(Panels),
}

/// Numbers on a cache line's boundary.
#[derive(Debug)]
pub(super) struct Panels {
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Panels {
    /// As many zeros, rounded up to whole cache lines.
    pub(super) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)] }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.lines.len() * 16;
        // SAFETY: lines are 16 numbers each, without gaps.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    pub(super) fn address(&self) -> usize {
        self.lines.as_ptr() as usize
    }
}

impl Data {
    pub(super) fn address(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor.as_bytes().as_ptr() as usize,
            Self::Packed(panels) => panels.address(),
        }
    }
}

/// A place with an offset in elements: what stands for an address until places are fixed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub(super) place: Place,
    pub(super) offset: isize,
}

/// Operators that no kernel does, run by tract: values go in and come out as tensors.
#[derive(Debug)]
pub(super) struct Island {
    pub(super) model: Arc<TypedRunnableModel>,
    pub(super) inputs: Vec<IslandInput>,
    /// Which tensor each result becomes.
    pub(super) outputs: Vec<usize>,
}

impl Island {
    /// The same island, over the same operators.
    pub(super) fn share(&self) -> Self {
        Self {
            model: self.model.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum IslandInput {
    /// A tensor that another island made, or an input that is not FP32.
    Tensor(usize),
    /// A row-major array.
    Array(Array),
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly all of them are calls
pub(super) enum Step {
    /// A kernel; its addresses are numbers of references.
    Call(Call),
    /// A tensor's elements go into a buffer.
    Fill { tensor: usize, buffer: usize },
    /// Operators of tract.
    Island(Island),
    /// Steps for each part of a sequence.
    Repeat(Repeat),
}

/// Steps that are done `times` times. References in `moves` go on by so many elements each time.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) times: usize,
    pub(super) steps: Vec<Call>,
    /// By number of reference.
    pub(super) moves: Vec<(usize, isize)>,
}

/// A place to read a result from.
#[derive(Debug)]
pub(super) enum Source {
    /// A row-major array.
    Array(Array),
    /// A tensor.
    Tensor(usize),
}

/// A model as steps.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    pub(super) references: Vec<Reference>,
    /// Sizes in elements.
    pub(super) buffers: Vec<usize>,
    pub(super) data: Vec<Data>,
    /// How many tensors there are.
    pub(super) tensors: usize,
    /// The tensor of each input that is not FP32.
    pub(super) input_tensors: Vec<Option<usize>>,
    pub(super) outputs: Vec<Source>,
}

impl Steps {
    /// The view of an array with these strides.
    pub(super) fn view(&mut self, array: &Array, strides: fuelbox_kernels::Strides) -> View {
        View { address: self.reference(array.place, array.offset), strides }
    }

    pub(super) fn reference(&mut self, place: Place, offset: isize) -> usize {
        self.references.push(Reference { place, offset });
        self.references.len() - 1
    }

    pub(super) fn buffer(&mut self, len: usize) -> Place {
        self.buffers.push(len);
        Place::Buffer(self.buffers.len() - 1)
    }

    pub(super) fn constant(&mut self, data: Data) -> Place {
        self.data.push(data);
        Place::Data(self.data.len() - 1)
    }

    /// The buffers that a step reads, and those that it writes.
    pub(super) fn touches(&self, step: &Step) -> (Vec<usize>, Vec<usize>) {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let mut of_call = |call: &Call| {
            let mut call = *call;
            let out = call.out().address;
            call.each_address(&mut |address| {
                if let Place::Buffer(buffer) = self.references[*address].place {
                    if *address == out { writes.push(buffer) } else { reads.push(buffer) }
                }
            });
        };
        match step {
            Step::Call(call) => of_call(call),
            Step::Repeat(repeat) => repeat.steps.iter().for_each(of_call),
            Step::Fill { buffer, .. } => writes.push(*buffer),
            Step::Island(island) => {
                for input in &island.inputs {
                    if let IslandInput::Array(Array { place: Place::Buffer(buffer), .. }) = input {
                        reads.push(*buffer);
                    }
                }
            }
        }
        (reads, writes)
    }

    /// Takes out the steps whose results nobody reads.
    pub(super) fn prune(&mut self) {
        let mut read: Vec<bool> = vec![false; self.buffers.len()];
        for output in &self.outputs {
            if let Source::Array(Array { place: Place::Buffer(buffer), .. }) = output {
                read[*buffer] = true;
            }
        }
        let mut kept = Vec::new();
        let steps = std::mem::take(&mut self.steps);
        for step in steps.into_iter().rev() {
            let (reads, writes) = self.touches(&step);
            let needed = match step {
                Step::Island(_) => true,
                _ => writes.iter().any(|&buffer| read[buffer]),
            };
            if needed {
                reads.into_iter().for_each(|buffer| read[buffer] = true);
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }
}
