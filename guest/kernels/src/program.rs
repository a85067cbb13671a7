//! Programs: what happens to values between their sum and memory.

#![allow(
    clippy::needless_range_loop,
    reason = "indices over small constant arrays are what the compiler unrolls into registers"
)]

use crate::{
    call::{Binary, Op, PANEL, Program, Unary, View},
    map::Tile,
    math,
    simd::{LANES, Simd},
};
use std::mem::MaybeUninit;

/// Most rows of a tile.
pub(crate) const TILE_ROWS: usize = 14;

/// A tile that is ready for its program and for memory.
pub(crate) struct Finish<'a> {
    pub(crate) base: *mut u8,
    pub(crate) program: &'a Program,
    pub(crate) out: &'a View,
    /// The three outermost indices.
    pub(crate) outer: [u32; 3],
    /// The next two, for each row; up to [`TILE_ROWS`].
    pub(crate) places: &'a [[u32; 2]],
    /// The last index of the first column, and how many columns there are (up to [`PANEL`] for each
    /// panel).
    pub(crate) column: u32,
    pub(crate) columns: usize,
    /// Panels side by side, and the step from one to the next; rows by panels are up to
    /// [`TILE_ROWS`].
    pub(crate) panels: usize,
    pub(crate) panel_step: usize,
}

impl<'a> Finish<'a> {
    /// Of one panel, without rows or columns yet.
    #[inline(always)]
    pub(crate) fn new(base: *mut u8, program: &'a Program, out: &'a View, outer: [u32; 3]) -> Self {
        Self {
            base,
            program,
            out,
            outer,
            places: &[],
            column: 0,
            columns: 0,
            panels: 1,
            panel_step: 0,
        }
    }
    /// The first element of a row of an array over the call's index space.
    #[inline(always)]
    pub(crate) fn row(&self, view: &View, row: usize) -> *mut f32 {
        self.start(view).row(self.places[row])
    }

    #[inline(always)]
    fn start(&self, view: &View) -> Start {
        let [d0, d1, d2] = self.outer;
        Start {
            first: element(self.base, view, [d0, d1, d2, 0, 0, self.column]),
            steps: [view.strides[3] as isize, view.strides[4] as isize],
        }
    }
}

/// The address of an element.
#[inline(always)]
pub(crate) fn element(base: *mut u8, view: &View, index: [u32; 6]) -> *mut f32 {
    let mut offset = view.address as i64;
    for (index, stride) in index.into_iter().zip(view.strides) {
        offset += 4 * i64::from(index) * i64::from(stride);
    }
    base.wrapping_offset(offset as isize).cast()
}

/// Runs the program on a tile (`[panel][row][32]`) and stores it.
///
/// # Safety
/// All elements of the tile's rows and columns are inside of memory, for the output and for every
/// operand; the tile overlaps neither.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(work: &Finish<'_>, tile: *mut f32) {
    if let Some(usual) = Usual::of(work) {
        // SAFETY: as the caller promised.
        return unsafe { usual.finish::<S>(work, tile) };
    }
    // Lines of up to 32 columns: one for each row of each panel. Each operation goes over all of them
    // before the next one, so that the processor has several to work on at once.
    let rows = work.places.len();
    let mut lines = [Line::default(); TILE_ROWS];
    let count = rows * work.panels;
    for (number, line) in lines[..count].iter_mut().enumerate() {
        let (panel, row) = (number / rows, number % rows);
        let columns = PANEL.min(work.columns - panel * PANEL);
        let tile = panel * work.panel_step + row * PANEL;
        *line = Line { tile, place: work.places[row], column: panel * PANEL, columns };
    }
    let lines = &lines[..count];
    // Written before it is read, vector by vector.
    let mut operand = MaybeUninit::<Tile>::uninit();
    let operand = operand.as_mut_ptr().cast::<f32>();
    // SAFETY: as the caller promised; the operand has the size of the largest tile.
    unsafe {
        for op in work.program.ops() {
            match op {
                Op::Unary(unary) => apply::<S>(*unary, tile, lines),
                Op::Scalar(binary, number) => {
                    for vector in 0..2 {
                        S::store(operand.add(vector * LANES), S::splat(*number));
                    }
                    combine::<S>(*binary, tile, operand, 0, lines);
                }
                Op::Tensor(binary, view) => {
                    let stride = view.strides[5] as isize;
                    let start = work.start(view);
                    for (number, line) in lines.iter().enumerate() {
                        let from = start.row(line.place).offset(line.column as isize * stride);
                        for at in (0..line.columns).step_by(LANES) {
                            let from = from.offset(at as isize * stride);
                            let v = S::load_strided(from, stride, LANES.min(line.columns - at));
                            S::store(operand.add(number * PANEL + at), v);
                        }
                    }
                    combine::<S>(*binary, tile, operand, PANEL, lines);
                }
            }
        }
        let stride = work.out.strides[5] as isize;
        let out = work.start(work.out);
        for line in lines {
            let to = out.row(line.place).offset(line.column as isize * stride);
            for at in (0..line.columns).step_by(LANES) {
                let v = S::canonical(S::load(tile.add(line.tile + at)));
                let count = LANES.min(line.columns - at);
                S::store_strided(to.offset(at as isize * stride), stride, v, count);
            }
        }
    }
}

/// A row of a panel: where it is in the tile, and what it is in the call's index space.
#[derive(Clone, Copy, Default)]
struct Line {
    tile: usize,
    place: [u32; 2],
    /// From the tile's first column on.
    column: usize,
    columns: usize,
}

/// The program of most layers: a bias, another layer's result, and bounds, in this order; each may be
/// missing. It is done in one pass.
struct Usual<'a> {
    bias: Option<&'a View>,
    other: Option<&'a View>,
    low: Option<f32>,
    high: Option<f32>,
}

impl<'a> Usual<'a> {
    #[inline(always)]
    fn of(work: &Finish<'a>) -> Option<Self> {
        let mut usual = Self { bias: None, other: None, low: None, high: None };
        if work.out.strides[5] != 1 {
            return None;
        }
        for op in work.program.ops() {
            let bounded = usual.low.is_some() || usual.high.is_some();
            match op {
                Op::Tensor(Binary::Add, view) if view.strides[5] == 1 && !bounded => {
                    let alike = view.strides[3] == 0 && view.strides[4] == 0;
                    match (&usual.bias, &usual.other) {
                        (None, None) if alike => usual.bias = Some(view),
                        (_, None) => usual.other = Some(view),
                        _ => return None,
                    }
                }
                Op::Scalar(Binary::Max, low) if !bounded => usual.low = Some(*low),
                Op::Scalar(Binary::Min, high) if usual.high.is_none() => usual.high = Some(*high),
                _ => return None,
            }
        }
        Some(usual)
    }

    /// # Safety
    /// As [`finish`].
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, work: &Finish<'_>, tile: *const f32) {
        for panel in 0..work.panels {
            let finish = Finish {
                column: work.column + (panel * PANEL) as u32,
                columns: PANEL.min(work.columns - panel * PANEL),
                ..*work
            };
            // SAFETY: as the caller promised.
            unsafe { self.panel::<S>(&finish, tile.add(panel * work.panel_step)) };
        }
    }

    /// # Safety
    /// As [`finish`], of one panel.
    #[inline(always)]
    unsafe fn panel<S: Simd>(&self, work: &Finish<'_>, tile: *const f32) {
        let part = |vector: usize| LANES.min(work.columns - vector * LANES);
        let vectors = work.columns.div_ceil(LANES);
        let out = work.start(work.out);
        let other = self.other.map(|view| work.start(view));
        // SAFETY: as the caller promised.
        unsafe {
            let mut bias = [S::splat(0.0); 2];
            if let Some(view) = self.bias {
                for vector in 0..vectors {
                    let from = work.start(view).row([0, 0]).add(vector * LANES);
                    bias[vector] = S::load_strided(from, 1, part(vector));
                }
            }
            let low = S::splat(self.low.unwrap_or_default());
            let high = S::splat(self.high.unwrap_or_default());
            for (row, &place) in work.places.iter().enumerate() {
                let to = out.row(place);
                for vector in 0..vectors {
                    let at = vector * LANES;
                    let mut v = S::load(tile.add(row * PANEL + at));
                    if self.bias.is_some() {
                        v = S::add(v, bias[vector]);
                    }
                    if let Some(other) = &other {
                        let from = other.row(place).add(at);
                        v = S::add(v, S::load_strided(from, 1, part(vector)));
                    }
                    if self.low.is_some() {
                        v = S::max(low, v);
                    }
                    if self.high.is_some() {
                        v = S::min(high, v);
                    }
                    S::store_strided(to.add(at), 1, S::canonical(v), part(vector));
                }
            }
        }
    }
}

/// The first element of an array for the tile's column, and the steps to its rows.
struct Start {
    first: *mut f32,
    steps: [isize; 2],
}

impl Start {
    #[inline(always)]
    fn row(&self, [d3, d4]: [u32; 2]) -> *mut f32 {
        let [s3, s4] = self.steps;
        self.first.wrapping_offset(d3 as isize * s3 + d4 as isize * s4)
    }
}

/// One loop over the tile for each function.
macro_rules! each {
    ($tile:ident, $lines:ident, |$v:ident, $at:ident| $value:expr) => {
        for (number, line) in $lines.iter().enumerate() {
            for lane in (0..line.columns).step_by(LANES) {
                let $at = (number, lane);
                let place = $tile.add(line.tile + lane);
                let $v = S::load(place);
                S::store(place, $value);
            }
        }
    };
}

#[inline(always)]
unsafe fn apply<S: Simd>(unary: Unary, tile: *mut f32, lines: &[Line]) {
    // SAFETY: as the caller promised.
    unsafe {
        match unary {
            Unary::Neg => each!(tile, lines, |v, _at| S::neg(v)),
            Unary::Abs => each!(tile, lines, |v, _at| S::abs(v)),
            Unary::Sqrt => each!(tile, lines, |v, _at| S::sqrt(v)),
            Unary::Recip => each!(tile, lines, |v, _at| S::div(S::splat(1.0), v)),
            Unary::Exp => each!(tile, lines, |v, _at| math::exp::<S>(v)),
            Unary::Sigmoid => each!(tile, lines, |v, _at| math::sigmoid::<S>(v)),
            Unary::Tanh => each!(tile, lines, |v, _at| math::tanh::<S>(v)),
            Unary::Erf => each!(tile, lines, |v, _at| math::erf::<S>(v)),
            Unary::Gelu => each!(tile, lines, |v, _at| math::gelu::<S>(v)),
            Unary::Silu => each!(tile, lines, |v, _at| math::silu::<S>(v)),
        }
    }
}

#[inline(always)]
unsafe fn combine<S: Simd>(
    binary: Binary,
    tile: *mut f32,
    operand: *const f32,
    step: usize,
    lines: &[Line],
) {
    macro_rules! with {
        (|$v:ident, $s:ident| $value:expr) => {
            each!(tile, lines, |$v, at| {
                let $s = S::load(operand.add(at.0 * step + at.1));
                $value
            })
        };
    }
    // SAFETY: as the caller promised.
    unsafe {
        match binary {
            Binary::Add => with!(|v, s| S::add(v, s)),
            Binary::Sub => with!(|v, s| S::sub(v, s)),
            Binary::RSub => with!(|v, s| S::sub(s, v)),
            Binary::Mul => with!(|v, s| S::mul(v, s)),
            Binary::Div => with!(|v, s| S::div(v, s)),
            Binary::RDiv => with!(|v, s| S::div(s, v)),
            Binary::Min => with!(|v, s| S::min(s, v)),
            Binary::Max => with!(|v, s| S::max(s, v)),
            Binary::LeakyRelu => {
                with!(|v, s| S::select(S::greater(v, S::splat(0.0)), v, S::mul(v, s)))
            }
        }
    }
}
