//! What a load gives back is zero in memory, and what it keeps is not. Jobs pay nothing for that.

use fuelbox_sdk::{__private::end_load, Load, Wiping};
use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    sync::atomic::{AtomicUsize, Ordering},
};

const ARENA_BYTES: usize = 64 << 20;
const MARKER_BYTES: usize = 4096;

/// An allocator that never uses memory twice, so that all that was ever written can be looked at.
struct Arena;

struct Bytes(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: blocks do not overlap, and belong to those that they were given to.
unsafe impl Sync for Bytes {}

static BYTES: Bytes = Bytes(UnsafeCell::new([0; ARENA_BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each block lies in the arena, is aligned, and is given out once.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let room = layout.size() + layout.align();
        let at = USED.fetch_add(room, Ordering::Relaxed);
        if at + room > ARENA_BYTES {
            return std::ptr::null_mut();
        }
        let start = BYTES.0.get().cast::<u8>().wrapping_add(at);
        start.wrapping_add(start.align_offset(layout.align()))
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Wiping<Arena> = Wiping::new(Arena);

/// The marker, made byte by byte, so that no constant holds it.
fn marker() -> impl Iterator<Item = u8> {
    let mut state = std::hint::black_box(7u32);
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(MARKER_BYTES)
}

/// How often the start of the marker is in memory.
fn traces() -> usize {
    let head: [u8; 16] = {
        let mut marker = marker();
        std::array::from_fn(|_| marker.next().unwrap_or_default())
    };
    let used = USED.load(Ordering::Relaxed);
    // SAFETY: nobody else writes to the arena meanwhile: this is the only test of its program.
    let arena = unsafe { std::slice::from_raw_parts(BYTES.0.get().cast::<u8>(), used) };
    arena.windows(head.len()).filter(|window| *window == head).count()
}

#[test]
fn nothing_of_a_request_stays_but_what_the_model_keeps() {
    // Grown byte by byte, so it was moved from block to block; then cut to its length.
    let mut asset: Vec<u8> = marker().collect();
    asset.push(0);
    asset.shrink_to_fit();
    let load = Load::for_test(&[("a", &asset)]).expect("a request");
    let read = load.asset("a").expect("there").to_vec();
    let kept = read.clone().into_boxed_slice();
    assert_eq!(traces(), 4, "the asset, the request, and two copies");
    drop((asset, read, load));
    assert_eq!(traces(), 1, "what the model keeps");
    end_load();
    drop(kept);
    assert_eq!(traces(), 1, "a job wipes nothing");
}
