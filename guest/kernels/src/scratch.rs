//! Working memory of a thread, of a fixed size: nothing that a guest says makes the host allocate.

use crate::call::PANEL;
use std::cell::{OnceCell, UnsafeCell};

/// Rows of a block: ten of the largest tiles, so that a chunk of the right-hand side is used ten times
/// while it is near, and a sequence of 128 is one block.
pub(crate) const ROWS_MAX: usize = 140;
/// Depth of a chunk: 32 KiB of a panel, which stay in the first-level cache.
pub(crate) const DEPTH_MAX: usize = 256;
/// Step between packed rows: a chunk and a cache line, so that rows do not fall onto each other's
/// cache sets.
pub(crate) const ROW_STEP: usize = DEPTH_MAX + 16;
/// Panels of a block.
pub(crate) const PANELS_MAX: usize = 16;
/// Panels that a product of few rows takes at once.
pub(crate) const WIDE_MAX: usize = 4;

/// Numbers of a tile: 14 rows of a panel, or two rows of [`WIDE_MAX`] panels.
pub(crate) const KEPT: usize = 14 * PANEL;

#[repr(C, align(64))]
pub(crate) struct Scratch {
    /// Packed rows: `[row][depth]`, rows [`ROW_STEP`] apart.
    pub(crate) left: [f32; ROWS_MAX * ROW_STEP],
    /// Packed panels: `[panel][depth][32]`.
    pub(crate) right: [f32; WIDE_MAX * DEPTH_MAX * PANEL],
    /// Sums: `[panel][row][32]`.
    pub(crate) sums: [f32; PANELS_MAX * ROWS_MAX * PANEL],
    /// Sums of a tile as they were.
    pub(crate) kept: [f32; KEPT],
    /// The two innermost indices of each row but the column.
    pub(crate) places: [[u32; 2]; ROWS_MAX],
}

thread_local! {
    static SCRATCH: OnceCell<Box<UnsafeCell<Scratch>>> = const { OnceCell::new() };
}

/// The thread's scratch memory, allocated once for each thread. A pointer and no closure: what stands
/// in a closure would be compiled without the instructions of the function around it.
///
/// Valid as long as the thread. A kernel may borrow it until it returns; kernels do not call kernels.
pub(crate) fn scratch() -> *mut Scratch {
    SCRATCH.with(|scratch| {
        let scratch = scratch.get_or_init(|| {
            // SAFETY: arrays of numbers, for which all zeros are a value.
            unsafe { Box::<UnsafeCell<Scratch>>::new_zeroed().assume_init() }
        });
        scratch.get()
    })
}
