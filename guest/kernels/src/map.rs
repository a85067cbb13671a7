//! Element-wise work.

use crate::{
    call::{Map, Op, PANEL, View},
    program::{Finish, TILE_ROWS},
    simd::{LANES, Simd},
    subnormal::Steps,
};
use std::mem::MaybeUninit;

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn map<S: Simd>(call: &Map, base: *mut u8, _: &mut Steps<'_>) {
    let length = call.dims[5];
    if call.dims.contains(&0) {
        return;
    }
    if call.dims[4] > 1 || length < 2 * PANEL as u32 {
        // SAFETY: as the caller promised.
        return unsafe { tiles::<S>(call, base) };
    }
    // One long line is folded into rows of 32 and what remains.
    let panel = PANEL as u32;
    let folded = change(call, |view| {
        // Fits: the line's last element is inside of memory.
        view.strides[4] = view.strides[5] * PANEL as i32;
    });
    let mut rows = folded;
    (rows.dims[4], rows.dims[5]) = (length / panel, panel);
    let done = i64::from(length / panel * panel);
    let mut rest = change(call, |view| {
        let offset = 4 * done * i64::from(view.strides[5]);
        view.address = view.address.wrapping_add_signed(offset as isize);
    });
    rest.dims[5] = length % panel;
    // SAFETY: the same elements, as the caller promised.
    unsafe {
        tiles::<S>(&rows, base);
        if rest.dims[5] > 0 {
            tiles::<S>(&rest, base);
        }
    }
}

/// The call with each of its views changed.
fn change(call: &Map, change: impl Fn(&mut View)) -> Map {
    let mut changed = *call;
    change(&mut changed.input);
    change(&mut changed.out);
    for op in changed.program.ops_mut() {
        if let Op::Tensor(_, view) = op {
            change(view);
        }
    }
    changed
}

#[repr(align(64))]
pub(crate) struct Tile(pub(crate) [f32; TILE_ROWS * PANEL]);

#[inline(always)]
unsafe fn tiles<S: Simd>(call: &Map, base: *mut u8) {
    let [n0, n1, n2, n3, n4, n5] = call.dims;
    let stride = call.input.strides[5] as isize;
    // Written before it is read, vector by vector.
    let mut tile = MaybeUninit::<Tile>::uninit();
    let tile = tile.as_mut_ptr().cast::<f32>();
    let outer =
        (0..n0).flat_map(|d0| (0..n1).flat_map(move |d1| (0..n2).map(move |d2| [d0, d1, d2])));
    for outer in outer {
        for d3 in 0..n3 {
            for row0 in (0..n4).step_by(TILE_ROWS) {
                let rows = (n4 - row0).min(TILE_ROWS as u32);
                let places: [[u32; 2]; TILE_ROWS] =
                    std::array::from_fn(|row| [d3, row0 + row as u32]);
                for column in (0..n5).step_by(PANEL) {
                    let columns = (n5 - column).min(PANEL as u32) as usize;
                    let finish = Finish {
                        base,
                        program: &call.program,
                        out: &call.out,
                        outer,
                        places: &places[..rows as usize],
                        column,
                        columns,
                        panels: 1,
                        panel_step: 0,
                    };
                    // SAFETY: these elements are inside of memory, and the tile has room.
                    unsafe {
                        for row in 0..rows as usize {
                            let from = finish.row(&call.input, row);
                            for at in (0..columns).step_by(LANES) {
                                let count = LANES.min(columns - at);
                                let from = from.offset(at as isize * stride);
                                let v = S::load_strided(from, stride, count);
                                S::store(tile.add(row * PANEL + at), v);
                            }
                        }
                        S::finish(&finish, tile);
                    }
                }
            }
        }
    }
}
