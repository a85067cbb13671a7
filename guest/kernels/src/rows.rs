//! Functions of rows.
//!
//! A row's sum is made of 16 sums (the elements whose index leaves the same rest), each in order; then
//! the upper half is added to the lower, down to one.

use crate::{
    call::{PANEL, Rows, RowsKind},
    map::Tile,
    math,
    program::{Finish, TILE_ROWS},
    simd::{LANES, Simd},
    subnormal::Steps,
};
use std::mem::MaybeUninit;

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd>(call: &Rows, base: *mut u8, _: &mut Steps<'_>) {
    let [n0, n1, n2, n3, n4, n5] = call.dims;
    let length = n5 as usize;
    // Written before it is read, vector by vector.
    let mut tile = MaybeUninit::<Tile>::uninit();
    let tile = tile.as_mut_ptr().cast::<f32>();
    let outer =
        (0..n0).flat_map(|d0| (0..n1).flat_map(move |d1| (0..n2).map(move |d2| [d0, d1, d2])));
    for outer in outer {
        for d3 in 0..n3 {
            for row0 in (0..n4).step_by(TILE_ROWS) {
                let count = (n4 - row0).min(TILE_ROWS as u32) as usize;
                let places: [[u32; 2]; TILE_ROWS] =
                    std::array::from_fn(|row| [d3, row0 + row as u32]);
                let at = |column, columns| Finish {
                    base,
                    program: &call.program,
                    out: &call.out,
                    outer,
                    places: &places[..count],
                    column,
                    columns,
                    panels: 1,
                    panel_step: 0,
                };
                let start = at(0, 0);
                let mut found = [Found::default(); TILE_ROWS];
                for (row, found) in found.iter_mut().enumerate().take(count) {
                    let from = start.row(&call.input, row);
                    let to = start.row(&call.out, row);
                    // SAFETY: the row is inside of memory, as is its place in the output.
                    *found = unsafe {
                        measure::<S>(call.kind, from, to, call.out.strides[5] as isize, length)
                    };
                }
                if call.kind.reduces() {
                    if length > 0 {
                        // SAFETY: the tile has room; the elements are inside of memory.
                        unsafe {
                            for (row, found) in found.iter().enumerate().take(count) {
                                S::store(tile.add(row * PANEL), S::splat(found.value));
                            }
                            S::finish(&at(0, 1), tile);
                        }
                    }
                    continue;
                }
                // The exponentials are already where the results go.
                let source = match call.kind {
                    RowsKind::Softmax => &call.out,
                    _ => &call.input,
                };
                let stride = source.strides[5] as isize;
                for column in (0..n5).step_by(PANEL) {
                    let finish = at(column, (n5 - column).min(PANEL as u32) as usize);
                    // SAFETY: the tile has room; the elements are inside of memory.
                    unsafe {
                        for (row, found) in found.iter().enumerate().take(count) {
                            let from = finish.row(source, row);
                            for at in (0..finish.columns).step_by(LANES) {
                                let count = LANES.min(finish.columns - at);
                                let from = from.offset(at as isize * stride);
                                let v = S::load_strided(from, stride, count);
                                let v = S::sub(v, S::splat(found.shift));
                                let v = S::div(v, S::splat(found.value));
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

/// What a row's results are made of: `(x - shift) / value`, or `value` alone.
#[derive(Clone, Copy, Default)]
struct Found {
    shift: f32,
    value: f32,
}

#[inline(always)]
unsafe fn measure<S: Simd>(
    kind: RowsKind,
    from: *const f32,
    to: *mut f32,
    stride: isize,
    length: usize,
) -> Found {
    let count = length as f32;
    // SAFETY: as the caller promised.
    unsafe {
        match kind {
            RowsKind::Softmax => {
                let most = largest::<S>(from, length);
                let mut sums = S::splat(0.0);
                for at in (0..length).step_by(LANES) {
                    let here = LANES.min(length - at);
                    let x = S::load_part(from.add(at), here);
                    let e = only::<S>(math::exp_down::<S>(S::sub(x, S::splat(most))), here);
                    sums = S::add(sums, e);
                    S::store_strided(to.offset(at as isize * stride), stride, e, here);
                }
                Found { shift: 0.0, value: fold::<S>(sums) }
            }
            RowsKind::RmsNorm { epsilon } => {
                let mean = squares::<S>(from, 0.0, length) / count;
                Found { shift: 0.0, value: (mean + epsilon).sqrt() }
            }
            RowsKind::LayerNorm { epsilon } => {
                let shift = sum::<S>(from, length) / count;
                let variance = squares::<S>(from, shift, length) / count;
                Found { shift, value: (variance + epsilon).sqrt() }
            }
            RowsKind::Sum => Found { shift: 0.0, value: sum::<S>(from, length) },
            RowsKind::Mean => Found { shift: 0.0, value: sum::<S>(from, length) / count },
            RowsKind::MeanSquare => {
                Found { shift: 0.0, value: squares::<S>(from, 0.0, length) / count }
            }
            RowsKind::Max => Found { shift: 0.0, value: largest::<S>(from, length) },
        }
    }
}

/// The first `count` numbers, and zeros.
#[inline(always)]
unsafe fn only<S: Simd>(v: S::V, count: usize) -> S::V {
    // SAFETY: as the caller promised; the array has all lanes.
    unsafe { if count == LANES { v } else { S::load_part(S::to_array(v).as_ptr(), count) } }
}

#[inline(always)]
unsafe fn sum<S: Simd>(from: *const f32, length: usize) -> f32 {
    // SAFETY: as the caller promised.
    unsafe {
        let mut sums = S::splat(0.0);
        for at in (0..length).step_by(LANES) {
            sums = S::add(sums, S::load_part(from.add(at), LANES.min(length - at)));
        }
        fold::<S>(sums)
    }
}

/// The sum of `(x - shift)^2`, each square fused into its sum.
#[inline(always)]
unsafe fn squares<S: Simd>(from: *const f32, shift: f32, length: usize) -> f32 {
    // SAFETY: as the caller promised.
    unsafe {
        let mut sums = S::splat(0.0);
        for at in (0..length).step_by(LANES) {
            let here = LANES.min(length - at);
            let x = S::load_part(from.add(at), here);
            let d = only::<S>(S::sub(x, S::splat(shift)), here);
            sums = S::fma(d, d, sums);
        }
        fold::<S>(sums)
    }
}

/// `x > v ? x : v` over 16 lanes from minus infinity on, then the upper half against the lower.
#[inline(always)]
unsafe fn largest<S: Simd>(from: *const f32, length: usize) -> f32 {
    // SAFETY: as the caller promised.
    unsafe {
        let mut most = S::splat(f32::NEG_INFINITY);
        for at in (0..length).step_by(LANES) {
            let here = LANES.min(length - at);
            let mut x = S::load_part(from.add(at), here);
            if here < LANES {
                let mut numbers = S::to_array(x);
                numbers[here..].fill(f32::NEG_INFINITY);
                x = S::load(numbers.as_ptr());
            }
            most = S::max(x, most);
        }
        let mut lanes = S::to_array(most);
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                let other = lanes[lane + half];
                lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
            }
        }
        lanes[0]
    }
}

/// The upper half is added to the lower, down to one.
#[inline(always)]
unsafe fn fold<S: Simd>(sums: S::V) -> f32 {
    // SAFETY: as the caller promised.
    let mut lanes = unsafe { S::to_array(sums) };
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}
