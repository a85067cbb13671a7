//! Wiping: what a load leaves behind is what its model keeps.
//!
//! A model image is the whole memory after the load. Memory that was given back is part of it, and a
//! stack that nobody uses any more is, too. Zeroed, they take no room where images are stored, and
//! nothing of the request stays that the model did not keep.

use std::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether the model still loads, constructors included. Jobs start behind that.
static LOADING: AtomicBool = AtomicBool::new(true);

/// An allocator that zeroes what is given back to it until the model is loaded, and does nothing of
/// its own in jobs. [`export!`](crate::export) makes the guest's allocator of it.
#[derive(Debug, Default)]
pub struct Wiping<A>(A);

impl<A> Wiping<A> {
    /// Over another allocator.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: all blocks are the inner allocator's. They are written to only when they are given back, by
// their whole length, which is theirs.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !LOADING.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            return unsafe { self.0.dealloc(block, layout) };
        }
        // SAFETY: the block is `layout.size()` long, and its owner has no more use for it.
        unsafe { block.write_bytes(0, layout.size()) };
        // Compilers know that nobody reads what was given back, and leave such writes out.
        let block = black_box(block);
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        if !LOADING.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            return unsafe { self.0.realloc(block, layout, new_bytes) };
        }
        // The inner allocator may give back the old block, or its end, as it is. So it is moved here.
        // SAFETY: the caller promises that the new size is not zero and fits its alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        // SAFETY: as above.
        let new_block = unsafe { self.0.alloc(new_layout) };
        if !new_block.is_null() {
            // SAFETY: two blocks, each at least as long as what is copied; the old one is given back
            // once.
            unsafe {
                new_block.copy_from_nonoverlapping(block, layout.size().min(new_bytes));
                self.dealloc(block, layout);
            }
        }
        new_block
    }
}

/// Ends the load: wipes the stack below the caller's frame, and wipes nothing any more.
#[inline(never)]
pub fn end_load() {
    LOADING.store(false, Ordering::Relaxed);
    #[cfg(target_family = "wasm")]
    wipe_stack();
}

#[cfg(target_family = "wasm")]
fn wipe_stack() {
    /// Further down than any function without calls keeps data below its frame (128 bytes).
    const RED_ZONE_BYTES: usize = 256;
    unsafe extern "C" {
        /// The linker's: where the stack ends, which grows down.
        static __stack_low: u8;
    }
    let here = 0u8;
    let top = black_box(&raw const here).addr().saturating_sub(RED_ZONE_BYTES);
    // The stack may end at address 0, which no pointer may have.
    let bottom = black_box(&raw const __stack_low).addr().max(16);
    // SAFETY: `bottom..top` is stack that no frame uses: all of them lie above `here`, less a margin.
    unsafe {
        std::ptr::with_exposed_provenance_mut::<u8>(bottom)
            .write_bytes(0, top.saturating_sub(bottom));
    }
}
