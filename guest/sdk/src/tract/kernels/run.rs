//! Running: places become addresses once, when the model is loaded; a job makes the calls.

use super::{
    array::{Array, Place},
    memory::lay_out,
    plan::{Data, Island, IslandInput, Panels, Source, Step, Steps},
};
use crate::{
    Outputs,
    tract::tensor::{from_tract, to_tract},
};
use anyhow::{Context, Result, ensure};
use fuelbox_abi::TensorView;
use fuelbox_kernels::Call;
use std::sync::{Mutex, PoisonError};
use tract_onnx::prelude::{TValue, TVec, Tensor};

/// A model that runs on kernels.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Ready>,
    /// All buffers; a run has them for itself.
    memory: Mutex<Panels>,
    /// What the steps' addresses point into.
    _data: Vec<Data>,
    tensors: usize,
    input_tensors: Vec<Option<usize>>,
    outputs: Vec<Output>,
}

/// Elements at an address.
#[derive(Clone, Copy, Debug)]
struct Elements {
    address: usize,
    len: usize,
}

#[derive(Debug)]
enum Output {
    Elements { at: Place, elements: Elements, shape: Vec<u64> },
    Tensor(usize),
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nearly all of them are calls
enum Ready {
    Call(Prepared),
    Fill { tensor: usize, to: Elements },
    Island { island: Island, arrays: Vec<(Place, Elements)> },
    Repeat { times: usize, calls: Vec<Prepared>, moves: Vec<Move> },
}

/// An address that goes on with each repetition.
#[derive(Clone, Copy, Debug)]
struct Move {
    call: usize,
    address: usize,
    bytes: isize,
}

/// A call whose addresses are known, but for those of inputs.
#[derive(Clone, Debug)]
struct Prepared {
    call: Made,
    /// Which addresses are inputs: number of the address, and of the input.
    inputs: Vec<(usize, usize)>,
}

impl Program {
    pub(super) fn new(steps: Steps) -> Result<Self> {
        let (starts, len) = lay_out(&steps);
        let memory = Panels::zeros(len);
        let base = memory.address();
        let address = |place: Place, offset: isize| {
            let start = match place {
                Place::Buffer(buffer) => base + 4 * starts[buffer],
                Place::Data(data) => steps.data[data].address(),
                // Filled in for each job.
                Place::Input(_) => 0,
            };
            start.wrapping_add_signed(4 * offset)
        };
        let elements = |array: &Array| Elements {
            address: address(array.place, array.offset),
            len: array.len(),
        };
        let prepare = |call: &Call| {
            let mut call = *call;
            let mut inputs = Vec::new();
            let mut number = 0;
            let mut references = Vec::new();
            call.each_address(&mut |slot| {
                let reference = steps.references[*slot];
                references.push(*slot);
                if let Place::Input(input) = reference.place {
                    inputs.push((number, input));
                }
                *slot = address(reference.place, reference.offset);
                number += 1;
            });
            Ok::<_, anyhow::Error>((Prepared { call: Made::new(&call)?, inputs }, references))
        };
        let mut ready = Vec::with_capacity(steps.steps.len());
        for step in &steps.steps {
            ready.push(match step {
                Step::Call(call) => Ready::Call(prepare(call)?.0),
                Step::Fill { tensor, buffer } => {
                    let to = Elements {
                        address: address(Place::Buffer(*buffer), 0),
                        len: steps.buffers[*buffer],
                    };
                    Ready::Fill { tensor: *tensor, to }
                }
                Step::Island(island) => {
                    let arrays = island.inputs.iter().filter_map(|input| match input {
                        IslandInput::Array(array) => Some((array.place, elements(array))),
                        IslandInput::Tensor(_) => None,
                    });
                    let arrays = arrays.collect();
                    Ready::Island { island: island.share(), arrays }
                }
                Step::Repeat(repeat) => {
                    let (mut calls, mut moves) = (Vec::new(), Vec::new());
                    for call in &repeat.steps {
                        let (prepared, references) = prepare(call)?;
                        for (number, reference) in references.iter().enumerate() {
                            let moving =
                                repeat.moves.iter().find(|(moving, _)| moving == reference);
                            if let Some((_, by)) = moving {
                                moves.push(Move {
                                    call: calls.len(),
                                    address: number,
                                    bytes: 4 * by,
                                });
                            }
                        }
                        calls.push(prepared);
                    }
                    Ready::Repeat { times: repeat.times, calls, moves }
                }
            });
        }
        let outputs = steps.outputs.iter().map(|source| match source {
            Source::Array(array) => Output::Elements {
                at: array.place,
                elements: elements(array),
                shape: array.shape.iter().map(|&size| size as u64).collect(),
            },
            Source::Tensor(tensor) => Output::Tensor(*tensor),
        });
        let outputs = outputs.collect();
        Ok(Self {
            steps: ready,
            memory: Mutex::new(memory),
            tensors: steps.tensors,
            input_tensors: steps.input_tensors,
            outputs,
            _data: steps.data,
        })
    }

    /// Runs the model on inputs in the order of its signature.
    pub(crate) fn run(&self, inputs: &[&TensorView<'_>], names: &[&str]) -> Result<Outputs> {
        let _whole = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // Elements are read where they are; a message keeps them at multiples of 64.
        let mut places = Vec::with_capacity(inputs.len());
        let mut copies: Vec<Vec<u32>> = Vec::new();
        let mut tensors: Vec<Option<TValue>> = vec![None; self.tensors];
        for (input, tensor) in inputs.iter().zip(&self.input_tensors) {
            let mut place = input.bytes.as_ptr() as usize;
            match tensor {
                Some(tensor) => tensors[*tensor] = Some(to_tract(input)?.into()),
                None if !place.is_multiple_of(4) => {
                    let words = input.bytes.chunks_exact(4);
                    copies.push(
                        words.map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect(),
                    );
                    place = copies.last().map_or(0, |copy| copy.as_ptr() as usize);
                }
                None => {}
            }
            places.push(place);
        }
        let tensor = |tensors: &[Option<TValue>], number: usize| {
            tensors[number].clone().context("a tensor that is used before it is made")
        };
        for step in &self.steps {
            match step {
                Ready::Call(prepared) if prepared.inputs.is_empty() => prepared.call.make()?,
                Ready::Call(prepared) => prepared.at(&places).call.make()?,
                Ready::Fill { tensor: number, to } => {
                    let from = tensor(&tensors, *number)?;
                    let from = from.try_as_plain_ram()?.as_slice::<f32>()?;
                    ensure!(from.len() == to.len, "a tensor of another size than planned");
                    // SAFETY: the buffer has that many elements, and is ours while the lock is held.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            from.as_ptr(),
                            to.address as *mut f32,
                            to.len,
                        );
                    }
                }
                Ready::Island { island, arrays } => {
                    let mut arrays = arrays.iter();
                    let mut values: TVec<TValue> = TVec::new();
                    for input in &island.inputs {
                        values.push(match input {
                            IslandInput::Tensor(number) => tensor(&tensors, *number)?,
                            IslandInput::Array(array) => {
                                let (place, elements) = arrays.next().context("as planned")?;
                                let from = elements.read(*place, &places);
                                Tensor::from_shape(&array.shape, from)?.into()
                            }
                        });
                    }
                    let results = island.model.run(values)?;
                    for (number, value) in island.outputs.iter().zip(results) {
                        tensors[*number] = Some(value);
                    }
                }
                Ready::Repeat { times, calls, moves } => {
                    let mut calls: Vec<Prepared> =
                        calls.iter().map(|prepared| prepared.at(&places)).collect();
                    for _ in 0..*times {
                        for prepared in &calls {
                            prepared.call.make()?;
                        }
                        for step in moves {
                            calls[step.call].call.move_by(step.address, step.bytes);
                        }
                    }
                }
            }
        }
        let mut outputs = Outputs::new();
        for (result, name) in self.outputs.iter().zip(names) {
            outputs = match result {
                Output::Elements { at, elements, shape } => {
                    outputs.with(name, shape, elements.read(*at, &places).to_vec())?
                }
                Output::Tensor(number) => from_tract(outputs, name, tensor(&tensors, *number)?)?,
            };
        }
        Ok(outputs)
    }
}

impl Elements {
    /// The elements; an input's address is an offset until now.
    fn read(self, place: Place, inputs: &[usize]) -> &[f32] {
        let start = match place {
            Place::Input(input) => inputs[input].wrapping_add(self.address),
            _ => self.address,
        };
        // SAFETY: the plan keeps these elements in its memory, its data or the input, all of which
        // live longer than the slice, and writes them in no step while it is used.
        unsafe { std::slice::from_raw_parts(start as *const f32, self.len) }
    }
}

impl Prepared {
    /// With the addresses of inputs.
    fn at(&self, places: &[usize]) -> Self {
        let mut prepared = self.clone();
        for (number, input) in &self.inputs {
            // The offset into the input stands there already.
            prepared.call.move_by(*number, places[*input] as isize);
        }
        prepared
    }
}

/// A call as it is made here: by the host, which reads it from memory.
#[cfg(all(target_arch = "wasm32", feature = "host-kernels"))]
mod made {
    use anyhow::Result;
    use fuelbox_kernels::{Call, Kernel};

    #[link(wasm_import_module = "fuelbox_kernels")]
    unsafe extern "C" {
        fn gemm(words: *const u32);
        fn conv(words: *const u32);
        fn depthwise(words: *const u32);
        fn pool(words: *const u32);
        fn map(words: *const u32);
        fn rows(words: *const u32);
    }

    #[derive(Clone, Debug)]
    pub(super) struct Made {
        kernel: Kernel,
        words: Box<[u32]>,
        /// Where in the words the addresses are.
        addresses: Box<[u16]>,
    }

    impl Made {
        pub(super) fn new(call: &Call) -> Result<Self> {
            let words = call.write()?.into();
            let addresses = call.address_words()?.into();
            Ok(Self { kernel: call.kernel(), words, addresses })
        }

        pub(super) fn make(&self) -> Result<()> {
            let words = self.words.as_ptr();
            // SAFETY: the host checks all of it, and ends the job if it is wrong.
            unsafe {
                match self.kernel {
                    Kernel::Gemm => gemm(words),
                    Kernel::Conv => conv(words),
                    Kernel::Depthwise => depthwise(words),
                    Kernel::Pool => pool(words),
                    Kernel::Map => map(words),
                    Kernel::Rows => rows(words),
                }
            }
            Ok(())
        }

        pub(super) fn move_by(&mut self, number: usize, bytes: isize) {
            let word = &mut self.words[usize::from(self.addresses[number])];
            *word = word.wrapping_add(bytes as u32);
        }
    }
}

/// A call as it is made here: by the kernels themselves.
#[cfg(not(all(target_arch = "wasm32", feature = "host-kernels")))]
mod made {
    use anyhow::Result;
    use fuelbox_kernels::{Call, Isa};

    #[derive(Clone, Debug)]
    pub(super) struct Made(Call);

    impl Made {
        pub(super) fn new(call: &Call) -> Result<Self> {
            Ok(Self(*call))
        }

        pub(super) fn make(&self) -> Result<()> {
            let checked = self.0.check(usize::MAX)?;
            // SAFETY: the plan's addresses are absolute and inside of its own memory, of constants or
            // of inputs, and only this run uses them.
            unsafe { checked.run(std::ptr::null_mut(), Isa::detect()) };
            Ok(())
        }

        pub(super) fn move_by(&mut self, number: usize, bytes: isize) {
            let mut at = 0;
            self.0.each_address(&mut |address| {
                if at == number {
                    *address = address.wrapping_add_signed(bytes);
                }
                at += 1;
            });
        }
    }
}

use made::Made;
