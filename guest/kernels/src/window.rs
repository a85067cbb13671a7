//! Windows that each channel has for itself: depthwise convolution and pooling.

#![allow(
    clippy::needless_range_loop,
    reason = "indices over small constant arrays are what the compiler unrolls into registers"
)]

use crate::{
    call::{Depthwise, PANEL, Pool, PoolKind, View, Window},
    map::Tile,
    program::{Finish, TILE_ROWS, element},
    simd::{LANES, Simd},
    subnormal::{Counts, Steps},
};
use std::ops::Range;

const SUM_OF_PRODUCTS: u8 = 0;
const LARGEST: u8 = 1;
const SUM: u8 = 2;

/// The taps of one image.
struct Taps<'a> {
    window: &'a Window,
    image: *const f32,
    input: &'a View,
    /// Start and steps (ky, kx, channel) of the weights.
    weights: (*const f32, [isize; 3]),
}

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn depthwise<S: Simd>(call: &Depthwise, base: *mut u8, steps: &mut Steps<'_>) {
    let start = element(base, &call.weights, [0; 6]).cast_const();
    let strides = call.weights.strides;
    let weights = (start, [3, 4, 5].map(|dim| strides[dim] as isize));
    let finish = Finish::new(base, &call.program, &call.out, [0; 3]);
    // SAFETY: as the caller promised.
    unsafe {
        slide::<S, SUM_OF_PRODUCTS>(
            &call.window,
            call.channels,
            &call.input,
            weights,
            None,
            &finish,
            steps,
        )
    }
}

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn pool<S: Simd>(call: &Pool, base: *mut u8, steps: &mut Steps<'_>) {
    let weights = (std::ptr::null(), [0; 3]);
    let finish = Finish::new(base, &call.program, &call.out, [0; 3]);
    let (window, channels, input) = (&call.window, call.channels, &call.input);
    // SAFETY: as the caller promised.
    unsafe {
        match call.kind {
            PoolKind::Max => {
                slide::<S, LARGEST>(window, channels, input, weights, None, &finish, steps)
            }
            PoolKind::Sum => {
                slide::<S, SUM>(window, channels, input, weights, None, &finish, steps)
            }
            kind => slide::<S, SUM>(window, channels, input, weights, Some(kind), &finish, steps),
        }
    }
}

#[inline(always)]
unsafe fn slide<S: Simd, const KIND: u8>(
    window: &Window,
    channels: u32,
    input: &View,
    weights: (*const f32, [isize; 3]),
    mean: Option<PoolKind>,
    finish: &Finish<'_>,
    steps: &mut Steps<'_>,
) {
    let dense = input.strides[5] == 1 && (KIND != SUM_OF_PRODUCTS || weights.1[2] == 1);
    let mut tile = Tile([0.0; TILE_ROWS * PANEL]);
    let tile = tile.0.as_mut_ptr();
    for image in 0..window.images {
        let start = element(finish.base, input, [0, 0, image, 0, 0, 0]).cast_const();
        let taps = Taps { window, image: start, input, weights };
        for y in 0..window.output[0] {
            let down = valid(window, 0, y);
            for x0 in (0..window.output[1]).step_by(TILE_ROWS) {
                let count = (window.output[1] - x0).min(TILE_ROWS as u32) as usize;
                let places: [[u32; 2]; TILE_ROWS] = std::array::from_fn(|row| [y, x0 + row as u32]);
                for column in (0..channels).step_by(PANEL) {
                    let columns = (channels - column).min(PANEL as u32) as usize;
                    let finish = Finish {
                        outer: [0, 0, image],
                        places: &places[..count],
                        column,
                        columns,
                        ..*finish
                    };
                    let full = dense && columns == PANEL;
                    // Adding subnormal numbers takes no longer than adding others.
                    let watched = KIND == SUM_OF_PRODUCTS;
                    let mut row = if watched && !steps.hopes() { count } else { 0 };
                    if watched {
                        steps.begin();
                    }
                    // SAFETY: taps are inside of the image; the tile has room for all rows.
                    unsafe {
                        while row < count {
                            let x = x0 + row as u32;
                            let across = valid(window, 1, x);
                            let whole = across.len() == window.kernel[1] as usize;
                            let to = tile.add(row * PANEL);
                            let many = if S::ROWS > 6 { 7 } else { 3 };
                            let last = x + many - 1;
                            let alike = full && whole && row + many as usize <= count && {
                                valid(window, 1, last).len() == window.kernel[1] as usize
                            };
                            row += if alike && S::ROWS > 6 {
                                taps.add_up::<S, KIND, 7>(to, [y, x], column, &down, &across);
                                7
                            } else if alike {
                                taps.add_up::<S, KIND, 3>(to, [y, x], column, &down, &across);
                                3
                            } else if full {
                                taps.add_up::<S, KIND, 1>(to, [y, x], column, &down, &across);
                                1
                            } else {
                                let place = [y, x];
                                taps.add_up_part::<S, KIND, false>(
                                    to, place, column, columns, &down, &across,
                                );
                                1
                            };
                        }
                        if watched && steps.suspects() {
                            let mut made = 0;
                            for row in 0..count {
                                let x = x0 + row as u32;
                                let across = valid(window, 1, x);
                                let to = tile.add(row * PANEL);
                                made += taps.add_up_part::<S, KIND, true>(
                                    to,
                                    [y, x],
                                    column,
                                    columns,
                                    &down,
                                    &across,
                                );
                            }
                            steps.made(made);
                            if steps.stopped() {
                                return;
                            }
                        }
                        if let Some(kind) = mean {
                            for (row, [_, x]) in finish.places.iter().enumerate() {
                                let taps = match kind {
                                    PoolKind::MeanInside => {
                                        down.len() as u64 * valid(window, 1, *x).len() as u64
                                    }
                                    _ => {
                                        let [kh, kw] = window.kernel;
                                        u64::from(kh) * u64::from(kw)
                                    }
                                };
                                for at in [0, LANES] {
                                    let place = tile.add(row * PANEL + at);
                                    let v = S::div(S::load(place), S::splat(taps as f32));
                                    S::store(place, v);
                                }
                            }
                        }
                        S::finish(&finish, tile);
                    }
                }
            }
        }
    }
}

/// The taps along an axis that are inside of the input, for an output at `at`.
#[inline(always)]
fn valid(window: &Window, axis: usize, at: u32) -> Range<u32> {
    let start = i64::from(at) * i64::from(window.stride[axis]) - i64::from(window.pad[axis]);
    let (size, step) = (i64::from(window.input[axis]), i64::from(window.dilation[axis]));
    let kernel = i64::from(window.kernel[axis]);
    // The first tap at or after 0, and the first at or after the end.
    let first = if start >= 0 { 0 } else { (-start + step - 1) / step };
    let end = if size <= start { 0 } else { (size - start + step - 1) / step };
    let first = first.min(kernel);
    first as u32..end.clamp(first, kernel) as u32
}

impl Taps<'_> {
    #[inline(always)]
    fn at(&self, [y, x]: [u32; 2], [ky, kx]: [u32; 2], column: u32) -> *const f32 {
        let Window { stride, dilation, pad, .. } = self.window;
        let [_, _, _, down, right, step] = self.input.strides.map(|stride| stride as isize);
        let coordinate = |at: u32, tap: u32, axis: usize| {
            let at = i64::from(at) * i64::from(stride[axis]);
            (at + i64::from(tap) * i64::from(dilation[axis]) - i64::from(pad[axis])) as isize
        };
        let offset = coordinate(y, ky, 0) * down + coordinate(x, kx, 1) * right;
        self.image.wrapping_offset(offset + column as isize * step)
    }

    #[inline(always)]
    fn weight(&self, [ky, kx]: [u32; 2], column: u32) -> *const f32 {
        let (start, [down, right, step]) = self.weights;
        let offset = ky as isize * down + kx as isize * right + column as isize * step;
        start.wrapping_offset(offset)
    }

    /// `P` neighbours by 32 channels, for all of which the same taps are inside.
    #[inline(always)]
    unsafe fn add_up<S: Simd, const KIND: u8, const P: usize>(
        &self,
        to: *mut f32,
        place: [u32; 2],
        column: u32,
        down: &Range<u32>,
        across: &Range<u32>,
    ) {
        let next = self.window.stride[1] as isize * self.input.strides[4] as isize;
        let start = if KIND == LARGEST { f32::NEG_INFINITY } else { 0.0 };
        // SAFETY: as the caller promised.
        unsafe {
            let mut v = [[S::splat(start); 2]; P];
            for ky in down.clone() {
                for kx in across.clone() {
                    let from = self.at(place, [ky, kx], column);
                    let w = if KIND == SUM_OF_PRODUCTS {
                        let weight = self.weight([ky, kx], column);
                        [S::load(weight), S::load(weight.add(LANES))]
                    } else {
                        [S::splat(0.0); 2]
                    };
                    for p in 0..P {
                        let from = from.offset(p as isize * next);
                        for half in 0..2 {
                            let x = S::load(from.add(half * LANES));
                            v[p][half] = step::<S, KIND>(x, w[half], v[p][half]);
                        }
                    }
                }
            }
            for p in 0..P {
                for half in 0..2 {
                    S::store(to.add(p * PANEL + half * LANES), v[p][half]);
                }
            }
        }
    }

    /// One position by up to 32 channels, wherever they are. Returns how many steps of products had a
    /// subnormal number, if they are to be counted.
    #[inline(always)]
    unsafe fn add_up_part<S: Simd, const KIND: u8, const COUNT: bool>(
        &self,
        to: *mut f32,
        place: [u32; 2],
        column: u32,
        columns: usize,
        down: &Range<u32>,
        across: &Range<u32>,
    ) -> u64 {
        let mut total = 0;
        let stride = self.input.strides[5] as isize;
        let weight_stride = self.weights.1[2];
        let start = if KIND == LARGEST { f32::NEG_INFINITY } else { 0.0 };
        for lane in (0..columns).step_by(LANES) {
            let count = LANES.min(columns - lane);
            let column = column + lane as u32;
            // SAFETY: as the caller promised.
            unsafe {
                let mut v = S::splat(start);
                let mut counts = Counts::<S>::none();
                for ky in down.clone() {
                    for kx in across.clone() {
                        let x = S::load_strided(self.at(place, [ky, kx], column), stride, count);
                        let w = if KIND == SUM_OF_PRODUCTS {
                            S::load_strided(self.weight([ky, kx], column), weight_stride, count)
                        } else {
                            x
                        };
                        v = if COUNT { counts.fma(x, w, v) } else { step::<S, KIND>(x, w, v) };
                    }
                }
                S::store(to.add(lane), v);
                if COUNT {
                    total += counts.total();
                }
            }
        }
        total
    }
}

#[inline(always)]
unsafe fn step<S: Simd, const KIND: u8>(x: S::V, w: S::V, v: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        match KIND {
            SUM_OF_PRODUCTS => S::fma(x, w, v),
            LARGEST => S::max(x, v),
            _ => S::add(v, x),
        }
    }
}
