//! Working memory of a thread, of a fixed size: nothing that a guest says makes the host allocate.

use crate::call::PANEL;
use std::cell::RefCell;

/// Rows of a block: eight of the largest tiles, so that a chunk of the right-hand side is used eight
/// times while it is near.
pub(crate) const ROWS_MAX: usize = 112;
/// Depth of a chunk: 32 KiB of a panel, which stay in the first-level cache.
pub(crate) const DEPTH_MAX: usize = 256;
/// Step between packed rows: a chunk and a cache line, so that rows do not fall onto each other's
/// cache sets.
pub(crate) const ROW_STEP: usize = DEPTH_MAX + 16;
/// Panels of a block.
pub(crate) const PANELS_MAX: usize = 16;
/// Panels that a product of few rows takes at once.
pub(crate) const WIDE_MAX: usize = 4;

#[repr(C, align(64))]
pub(crate) struct Scratch {
    /// Packed rows: `[row][depth]`, rows [`ROW_STEP`] apart.
    pub(crate) left: [f32; ROWS_MAX * ROW_STEP],
    /// Packed panels: `[panel][depth][32]`.
    pub(crate) right: [f32; WIDE_MAX * DEPTH_MAX * PANEL],
    /// Sums: `[panel][row][32]`.
    pub(crate) sums: [f32; PANELS_MAX * ROWS_MAX * PANEL],
    /// The two innermost indices of each row but the column.
    pub(crate) places: [[u32; 2]; ROWS_MAX],
}

thread_local! {
    static SCRATCH: RefCell<Option<Box<Scratch>>> = const { RefCell::new(None) };
}

/// Lends the thread's scratch memory. It is allocated once for each thread.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(|| {
            // SAFETY: arrays of numbers, for which all zeros are a value.
            unsafe { Box::<Scratch>::new_zeroed().assume_init() }
        });
        work(scratch)
    })
}
