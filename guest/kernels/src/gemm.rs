//! Products: matrices, and convolutions as products of windows.
//!
//! Blocks of rows are packed a chunk of depth at a time, multiplied by one panel after the other, and
//! finished tile by tile. How large the pieces are decides the time alone: each sum is one chain over
//! the depth, in order, kept in memory between chunks.

use crate::{
    call::{Conv, Gemm, PANEL, Right, View, Window},
    program::{Finish, element},
    scratch::{DEPTH_MAX, PANELS_MAX, ROW_STEP, ROWS_MAX, Scratch, WIDE_MAX, scratch},
    simd::{LANES, Simd},
    subnormal::Steps,
    tile::{Multiply, multiply_watched, panels_for},
};

/// The rows of the left-hand side.
enum Left<'a> {
    /// Rows of a matrix: its start, the step to the next row, and to the next element.
    Matrix { start: *const f32, row: isize, step: isize },
    /// Windows of one image.
    Windows { window: &'a Window, image: *const f32, view: &'a View, channels: usize },
}

/// The columns of the right-hand side.
enum Columns {
    /// Panels `[panel][depth][32]`.
    Packed(*const f32),
    /// A matrix: its start, the step to the next row, and to the next column.
    Matrix { start: *const f32, row: isize, step: isize },
}

struct Product<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    left: Left<'a>,
    right: Columns,
    /// Sizes of the dimension that the places' second index counts in.
    width: usize,
    /// The first of the places' two indices, when rows are those of a matrix.
    outer: u32,
}

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn gemm<S: Simd>(call: &Gemm, base: *mut u8, steps: &mut Steps<'_>) {
    if call.m == 0 || call.n == 0 {
        return;
    }
    // SAFETY: this thread's, and nobody borrows it while a kernel runs but this kernel.
    let scratch = unsafe { &mut *scratch() };
    for b0 in 0..call.batch[0] {
        for b1 in 0..call.batch[1] {
            let index = [0, 0, b0, b1, 0, 0];
            let start = |view| element(base, view, index).cast_const();
            let strides = |view: &View| (view.strides[4] as isize, view.strides[5] as isize);
            let (row, step) = strides(&call.a);
            let left = Left::Matrix { start: start(&call.a), row, step };
            let right = match &call.right {
                Right::Packed(address) => {
                    Columns::Packed(base.wrapping_add(*address).cast_const().cast())
                }
                Right::Strided(view) => {
                    let (row, step) = strides(view);
                    Columns::Matrix { start: start(view), row, step }
                }
            };
            let product = Product {
                rows: call.m as usize,
                columns: call.n as usize,
                depth: call.k as usize,
                left,
                right,
                width: call.m as usize,
                outer: b1,
            };
            let finish = Finish::new(base, &call.program, &call.c, [0, 0, b0]);
            // SAFETY: as the caller promised.
            unsafe { product.run::<S>(scratch, &finish, steps) };
        }
    }
}

/// # Safety
/// The call was checked against the memory at `base`, and the instructions are there.
#[inline(always)]
pub(crate) unsafe fn conv<S: Simd>(call: &Conv, base: *mut u8, steps: &mut Steps<'_>) {
    let window = &call.window;
    let [height, width] = window.output.map(|size| size as usize);
    if height * width == 0 || call.outputs == 0 {
        return;
    }
    // SAFETY: this thread's, and nobody borrows it while a kernel runs but this kernel.
    let scratch = unsafe { &mut *scratch() };
    for image in 0..window.images {
        let index = [0, 0, image, 0, 0, 0];
        let channels = call.channels as usize;
        let taps = window.kernel[0] as usize * window.kernel[1] as usize;
        let product = Product {
            rows: height * width,
            columns: call.outputs as usize,
            depth: taps * channels,
            left: Left::Windows {
                window,
                image: element(base, &call.input, index),
                view: &call.input,
                channels,
            },
            right: Columns::Packed(base.wrapping_add(call.weights).cast_const().cast()),
            width,
            outer: 0,
        };
        let finish = Finish::new(base, &call.program, &call.out, [0, 0, image]);
        // SAFETY: as the caller promised.
        unsafe { product.run::<S>(scratch, &finish, steps) };
    }
}

/// The size of `parts` equal parts, the last may be smaller.
fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most).max(1)).max(1)
}

impl Product<'_> {
    /// # Safety
    /// All elements that are named are inside of memory; the scratch memory is another.
    #[inline(always)]
    unsafe fn run<S: Simd>(
        &self,
        scratch: &mut Scratch,
        finish: &Finish<'_>,
        steps: &mut Steps<'_>,
    ) {
        let block_rows = even(self.rows, ROWS_MAX);
        let chunk = even(self.depth, DEPTH_MAX);
        // One chunk: sums go from the tile to the program, and need no place of their own.
        let whole = self.depth <= chunk;
        for row0 in (0..self.rows).step_by(block_rows) {
            let rows = block_rows.min(self.rows - row0);
            for (row, place) in scratch.places[..rows].iter_mut().enumerate() {
                let at = row0 + row;
                *place = [self.outer + (at / self.width) as u32, (at % self.width) as u32];
            }
            let tile_rows = even(rows, S::ROWS);
            let wide = panels_for(rows);
            for column0 in (0..self.columns).step_by(PANELS_MAX * PANEL) {
                let panels = (self.columns - column0).div_ceil(PANEL).min(PANELS_MAX);
                let mut depth0 = 0;
                loop {
                    let depth = chunk.min(self.depth - depth0);
                    let last = depth0 + depth == self.depth;
                    // The left-hand side stays as it is if it was one chunk.
                    if !(whole && column0 > 0) {
                        // SAFETY: rows and depth are inside of the product.
                        unsafe { self.pack_left::<S>(scratch, rows, row0, depth0, depth) };
                    }
                    let mut panel = 0;
                    while panel < panels {
                        let count = wide.min(panels - panel);
                        let column = column0 + panel * PANEL;
                        // SAFETY: the panels are inside of the product.
                        let (right, right_step) = unsafe {
                            self.right_panels::<S>(scratch, column, count, depth0, depth)
                        };
                        let sums_step = ROWS_MAX * PANEL;
                        let mut row = 0;
                        while row < rows {
                            let tile = tile_rows.min(rows - row);
                            let at = if whole { 0 } else { panel * sums_step + row * PANEL };
                            let sums = scratch.sums[at..].as_mut_ptr();
                            let work = Multiply {
                                sums,
                                sums_step,
                                left: scratch.left[row * ROW_STEP..].as_ptr(),
                                right,
                                right_step,
                                depth,
                                first: depth0 == 0,
                            };
                            let sizes = [tile, count, self.columns - column];
                            // SAFETY: the scratch arrays hold blocks of these sizes.
                            unsafe {
                                multiply_watched::<S>(&work, sizes, &mut scratch.kept, steps)
                            };
                            if steps.stopped() {
                                return;
                            }
                            if last {
                                let finish = Finish {
                                    places: &scratch.places[row..row + tile],
                                    column: column as u32,
                                    columns: (count * PANEL).min(self.columns - column),
                                    panels: count,
                                    panel_step: sums_step,
                                    ..*finish
                                };
                                // SAFETY: as the caller promised; few rows go with many panels.
                                unsafe { S::finish(&finish, sums) };
                            }
                            row += tile;
                        }
                        panel += count;
                    }
                    depth0 += depth;
                    if last {
                        break;
                    }
                }
            }
        }
    }

    /// Where the panels are, and the step from one to the next.
    #[inline(always)]
    unsafe fn right_panels<S: Simd>(
        &self,
        scratch: &mut Scratch,
        column: usize,
        panels: usize,
        depth0: usize,
        depth: usize,
    ) -> (*const f32, usize) {
        match self.right {
            Columns::Packed(start) => {
                let step = self.depth * PANEL;
                (start.wrapping_add(column / PANEL * step + depth0 * PANEL), step)
            }
            Columns::Matrix { start, row, step } => {
                debug_assert!(panels <= WIDE_MAX);
                for panel in 0..panels {
                    let column = column + panel * PANEL;
                    let columns = PANEL.min(self.columns - column);
                    let to = scratch.right[panel * depth * PANEL..].as_mut_ptr();
                    for p in 0..depth {
                        // SAFETY: these elements are inside of the matrix, and the chunk fits.
                        unsafe {
                            let from = start.offset((depth0 + p) as isize * row);
                            let from = from.offset(column as isize * step);
                            for vector in 0..2 {
                                let at = vector * LANES;
                                let count = LANES.min(columns.saturating_sub(at));
                                let from = from.wrapping_offset(at as isize * step);
                                let v = S::load_strided(from, step, count);
                                S::store(to.add(p * PANEL + at), v);
                            }
                        }
                    }
                }
                (scratch.right.as_ptr(), depth * PANEL)
            }
        }
    }

    /// Packs `rows` rows from `row0` on, `depth` deep from `depth0` on.
    #[inline(always)]
    unsafe fn pack_left<S: Simd>(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        row0: usize,
        depth0: usize,
        depth: usize,
    ) {
        // Where the chunk starts in a window: the line, and the place in the line.
        let first = match &self.left {
            Left::Matrix { .. } => (0, 0),
            Left::Windows { window, channels, .. } => {
                let line = (window.kernel[1] as usize * channels).max(1);
                (depth0 / line, depth0 % line)
            }
        };
        for row in 0..rows {
            let to = scratch.left[row * ROW_STEP..].as_mut_ptr();
            // SAFETY: as the caller promised; a chunk fits a packed row.
            unsafe {
                match &self.left {
                    Left::Matrix { start, row: row_step, step } => {
                        let from = start.offset((row0 + row) as isize * row_step);
                        copy::<S>(to, from.offset(depth0 as isize * step), *step, depth);
                    }
                    Left::Windows { window, image, view, channels } => {
                        let [y, x] = scratch.places[row];
                        let windows = Windows { window, image: *image, view, channels: *channels };
                        windows.pack::<S>(to, [y, x], first, depth);
                    }
                }
            }
        }
    }
}

struct Windows<'a> {
    window: &'a Window,
    image: *const f32,
    view: &'a View,
    channels: usize,
}

impl Windows<'_> {
    /// Packs a part of the window at (y, x), from a line and a place in it on.
    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        to: *mut f32,
        [y, x]: [u32; 2],
        (mut ky, mut within): (usize, usize),
        depth: usize,
    ) {
        let Window { input, kernel, stride, dilation, pad, .. } = self.window;
        let [_, _, _, down, right, step] = self.view.strides.map(|stride| stride as isize);
        let (channels, width) = (self.channels, kernel[1] as usize);
        let line = width * channels;
        let corner =
            |at: u32, axis: usize| i64::from(at) * i64::from(stride[axis]) - i64::from(pad[axis]);
        let (top, left) = (corner(y, 0), corner(x, 1));
        // Lines of the window that lie side by side in memory are copied as one.
        let dense = step == 1
            && right == channels as isize
            && dilation[1] == 1
            && left >= 0
            && left + i64::from(kernel[1]) <= i64::from(input[1]);
        let mut done = 0;
        while done < depth {
            let row = top + ky as i64 * i64::from(dilation[0]);
            let inside = (0..i64::from(input[0])).contains(&row);
            // SAFETY: the rows and columns that are read are inside of the image.
            unsafe {
                if dense || !inside {
                    let count = (line - within).min(depth - done);
                    if inside {
                        let from = self.image.offset(row as isize * down + left as isize * right);
                        copy::<S>(to.add(done), from.add(within), 1, count);
                    } else {
                        zero::<S>(to.add(done), count);
                    }
                    done += count;
                    within += count;
                } else {
                    let (kx, channel) = (within / channels, within % channels);
                    let count = (channels - channel).min(depth - done);
                    let column = left + kx as i64 * i64::from(dilation[1]);
                    if (0..i64::from(input[1])).contains(&column) {
                        let from = self.image.offset(row as isize * down + column as isize * right);
                        copy::<S>(to.add(done), from.offset(channel as isize * step), step, count);
                    } else {
                        zero::<S>(to.add(done), count);
                    }
                    done += count;
                    within += count;
                }
            }
            if within == line {
                (ky, within) = (ky + 1, 0);
            }
        }
    }
}

#[inline(always)]
unsafe fn copy<S: Simd>(to: *mut f32, from: *const f32, step: isize, count: usize) {
    // SAFETY: as the caller promised.
    unsafe {
        if step != 1 {
            let mut at = 0;
            while at + LANES <= count {
                let from = from.offset(at as isize * step);
                S::store(to.add(at), S::load_strided(from, step, LANES));
                at += LANES;
            }
            let mut from = from.offset(at as isize * step);
            while at < count {
                // Short runs: vectors would take longer to set up than these take.
                to.add(at).write_volatile(*from);
                from = from.wrapping_offset(step);
                at += 1;
            }
            return;
        }
        let mut at = 0;
        while at + LANES <= count {
            S::store(to.add(at), S::load(from.add(at)));
            at += LANES;
        }
        if at < count {
            S::store_part(to.add(at), S::load_part(from.add(at), count - at), count - at);
        }
    }
}

#[inline(always)]
unsafe fn zero<S: Simd>(to: *mut f32, count: usize) {
    // SAFETY: as the caller promised.
    unsafe { std::slice::from_raw_parts_mut(to, count).fill(0.0) }
}
