//! Memories with guards around them, and arrays laid out in them at random.

use fuelbox_kernels::{Binary, Call, Dims, Isa, Op, PANEL, Program, RANK, Unary, View, reference};
use proptest::{prelude::*, sample::select};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::{ffi::c_void, ptr, slice};

const PAGE_BYTES: usize = 4096;

/// Whole pages with an inaccessible one on either side: who reads or writes beside it, dies.
pub(crate) struct Memory {
    map: *mut c_void,
    len: usize,
}

impl Memory {
    /// A memory of at least this size, filled with these words over and over.
    pub(crate) fn new(len: usize, mut word: impl FnMut() -> u32) -> Self {
        let len = len.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: a new mapping, of which this is the only owner.
        let map = unsafe {
            let (protection, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
            let map = mmap_anonymous(ptr::null_mut(), len + 2 * PAGE_BYTES, protection, flags);
            let map = map.expect("a mapping");
            let inside = map.byte_add(PAGE_BYTES);
            mprotect(inside, len, MprotectFlags::READ | MprotectFlags::WRITE).expect("access");
            map
        };
        let mut memory = Self { map, len };
        for bytes in memory.bytes().chunks_exact_mut(4) {
            bytes.copy_from_slice(&word().to_le_bytes());
        }
        memory
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: these pages are accessible and borrowed with the owner.
        unsafe { slice::from_raw_parts_mut(self.map.byte_add(PAGE_BYTES).cast(), self.len) }
    }

    fn copy(&mut self) -> Self {
        let mut words = self
            .bytes()
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect::<Vec<_>>()
            .into_iter();
        Self::new(self.len, || words.next().unwrap_or_default())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and borrowed by nobody any more.
        unsafe { munmap(self.map, self.len + 2 * PAGE_BYTES).expect("unmapped") };
    }
}

/// A generator of choices (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// A number for memory. The wilder, the more of those that are easy to get wrong.
    pub(crate) fn number(&mut self, wild: u8) -> u32 {
        match wild {
            0 => {}
            1 if !self.chance(12) => {}
            2 if !self.chance(2) => {}
            _ => {
                let special = self.next() as usize % SPECIAL.len();
                return match self.below(3) {
                    0 => self.next() as u32,
                    // Small subnormal ones.
                    1 => self.next() as u32 & 0x8000_ffff,
                    _ => SPECIAL[special].to_bits(),
                };
            }
        }
        let magnitude = self.below(1 << 24) as f32 / (1 << 22) as f32 - 2.0;
        magnitude.to_bits()
    }
}

const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    f32::MAX,
    f32::MIN,
    88.7,
    -103.9,
    0.625,
    16_777_217.0,
    -0.624_999_94,
];

/// What an array is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Elements may be shared.
    Read,
    /// Elements are all different.
    Write,
    /// As `Read`, and the last dimension's neighbours are side by side.
    ReadRows,
}

/// Memory that is given out piece by piece.
pub(crate) struct Space {
    pub(crate) random: Random,
    elements: usize,
}

impl Space {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random(seed), elements: 0 }
    }

    /// An array over these sizes: dimensions in any order, with gaps, backwards, repeated.
    pub(crate) fn view(&mut self, dims: &Dims, purpose: Use) -> View {
        let random = &mut self.random;
        let plain = random.chance(3);
        let mut order: Vec<usize> = (0..RANK).rev().collect();
        if !plain {
            for at in 0..RANK {
                order.swap(at, random.below(RANK as u64) as usize);
            }
        }
        if purpose == Use::ReadRows {
            order.retain(|&dim| dim != RANK - 1);
            order.insert(0, RANK - 1);
        }
        let mut strides = [0i32; RANK];
        let (mut step, mut start) = (1u32, 0u32);
        for (place, dim) in order.into_iter().enumerate() {
            let row = purpose == Use::ReadRows && place == 0;
            if dims[dim] <= 1 && !row {
                // Never stepped: anything goes.
                strides[dim] = random.next() as i32;
                continue;
            }
            if !plain && !row && purpose != Use::Write && random.chance(4) {
                continue; // repeated
            }
            let stride = if plain || row { step } else { step + random.below(3) as u32 };
            let reach = stride * dims[dim].saturating_sub(1);
            strides[dim] = stride as i32;
            if !plain && !row && random.chance(3) {
                strides[dim] = -strides[dim];
                start += reach;
            }
            step += reach;
            if !plain && !row {
                step = step.max(stride);
            }
        }
        let at = self.elements + start as usize;
        self.elements += step as usize;
        View { address: 4 * at, strides }
    }

    /// As many elements side by side.
    pub(crate) fn dense(&mut self, count: usize) -> usize {
        let at = self.elements;
        self.elements += count;
        4 * at
    }

    /// Panels for a right-hand side of `k` by `n`.
    pub(crate) fn panels(&mut self, k: usize, n: u32) -> usize {
        self.dense(n.div_ceil(PANEL as u32) as usize * PANEL * k)
    }

    /// The operations of a recipe.
    pub(crate) fn program(
        &mut self,
        steps: &[Step],
        dims: &Dims,
        in_place: Option<&View>,
    ) -> Program {
        let ops: Vec<Op> = steps
            .iter()
            .map(|step| match *step {
                Step::Unary(unary) => Op::Unary(unary),
                Step::Scalar(binary, bits) => Op::Scalar(binary, f32::from_bits(bits)),
                Step::Tensor(binary) => {
                    let view = match in_place {
                        Some(view) if self.random.chance(4) => *view,
                        _ if self.random.chance(3) => {
                            // A row that is the same everywhere, as biases are.
                            let address = self.dense(dims[RANK - 1] as usize);
                            View { address, strides: [0, 0, 0, 0, 0, 1] }
                        }
                        _ => self.view(dims, Use::Read),
                    };
                    Op::Tensor(binary, view)
                }
            })
            .collect();
        Program::new(&ops).expect("few operations")
    }

    /// Compares all kinds of instructions with the reference, on memory of this content. Arrays lie
    /// at the start of memory or at its end.
    ///
    /// # Panics
    /// When they differ.
    pub(crate) fn compare(mut self, mut call: Call, wild: u8) {
        let mut memory = Memory::new(4 * self.elements, || self.random.number(wild));
        let len = memory.bytes().len();
        if self.random.chance(2) {
            let shift = len - 4 * self.elements;
            call.each_address(&mut |address| *address += shift);
        }
        let words = call.write().expect("addresses have 32 bits");
        let read = Call::read(call.kernel(), &words).expect("what was written is read");
        assert_eq!(read.write().expect("as before"), words);
        let checked = read.check(len).unwrap_or_else(|error| panic!("{error}: {call:?}"));
        let mut expected = memory.copy();
        let steps = reference::run(&call, expected.bytes());
        for isa in Isa::available() {
            let mut found = memory.copy();
            // SAFETY: checked against this size; the processor has these.
            unsafe { checked.run(found.bytes().as_mut_ptr(), isa) };
            let mut again = memory.copy();
            let mut found_steps = 0;
            let base = again.bytes().as_mut_ptr();
            let spend = &mut |steps: u64| {
                found_steps += steps;
                true
            };
            // SAFETY: as above.
            unsafe { checked.run_watched(base, isa, spend) };
            assert_eq!(found_steps, steps, "{isa:?}: steps on subnormal numbers: {call:?}");
            assert!(again.bytes() == found.bytes(), "{isa:?}: differs when watched: {call:?}");
            let pairs = found.bytes().chunks_exact(4).zip(expected.bytes().chunks_exact(4));
            if let Some((at, (found, expected))) = pairs.enumerate().find(|(_, (a, b))| a != b) {
                let [found, expected] = [found, expected]
                    .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
                panic!(
                    "{isa:?}: at {:#x} found {found:#010x} ({:e}), expected {expected:#010x} ({:e}): {call:?}",
                    4 * at,
                    f32::from_bits(found),
                    f32::from_bits(expected),
                );
            }
        }
    }
}

/// An operation without its place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Unary(Unary),
    Scalar(Binary, u32),
    Tensor(Binary),
}

/// Recipes of a few operations.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let binary = || select(Binary::ALL.to_vec());
    let number = any::<u64>().prop_map(|seed| Random(seed).number((seed % 4) as u8));
    let step = prop_oneof![
        select(Unary::ALL.to_vec()).prop_map(Step::Unary),
        (binary(), number).prop_map(|(binary, bits)| Step::Scalar(binary, bits)),
        binary().prop_map(Step::Tensor),
    ];
    // What most layers have: sums with other arrays, then bounds.
    let low = Step::Scalar(Binary::Max, 0);
    let high = Step::Scalar(Binary::Min, 6f32.to_bits());
    let bounds = select(vec![vec![], vec![low], vec![high], vec![low, high]]);
    let usual = (0..4usize, bounds).prop_map(|(sums, bounds)| {
        std::iter::repeat_n(Step::Tensor(Binary::Add), sums).chain(bounds).collect::<Vec<_>>()
    });
    // The same in another order is not usual.
    let usual = prop_oneof![usual.clone(), usual.prop_shuffle()];
    prop_oneof![2 => proptest::collection::vec(step, 0..4), 1 => usual]
}
