//! Programs: what happens to values between their sum and memory.

use crate::{
    call::{Binary, Op, PANEL, Program, Unary, View},
    math,
    simd::{LANES, Simd},
};

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
    /// The last index of the first column, and how many columns there are (up to [`PANEL`]).
    pub(crate) column: u32,
    pub(crate) columns: usize,
}

impl Finish<'_> {
    /// The first element of a row of an array over the call's index space.
    #[inline(always)]
    pub(crate) fn row(&self, view: &View, row: usize) -> *mut f32 {
        let [d0, d1, d2] = self.outer;
        let [d3, d4] = self.places[row];
        element(self.base, view, [d0, d1, d2, d3, d4, self.column])
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

/// Runs the program on a tile (`[row][32]`) and stores it.
///
/// # Safety
/// All elements of the tile's rows and columns are inside of memory, for the output and for every
/// operand; the tile overlaps neither.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(work: &Finish<'_>, tile: *mut f32) {
    let rows = work.places.len();
    let vectors = work.columns.div_ceil(LANES);
    let part = |vector: usize| LANES.min(work.columns - vector * LANES);
    let mut operand = Operand([0.0; TILE_ROWS * PANEL]);
    let operand = operand.0.as_mut_ptr();
    // SAFETY: as the caller promised; the operand has the size of the largest tile.
    unsafe {
        for op in work.program.ops() {
            match op {
                Op::Unary(unary) => apply::<S>(*unary, tile, rows, vectors),
                Op::Scalar(binary, number) => {
                    for vector in 0..vectors {
                        S::store(operand.add(vector * LANES), S::splat(*number));
                    }
                    combine::<S>(*binary, tile, operand, 0, rows, vectors);
                }
                Op::Tensor(binary, view) => {
                    let alike = view.strides[3] == 0 && view.strides[4] == 0;
                    let stride = view.strides[5] as isize;
                    for row in 0..if alike { 1 } else { rows } {
                        let from = work.row(view, row);
                        for vector in 0..vectors {
                            let at = vector * LANES;
                            let from = from.offset(at as isize * stride);
                            let v = S::load_strided(from, stride, part(vector));
                            S::store(operand.add(row * PANEL + at), v);
                        }
                    }
                    let step = if alike { 0 } else { PANEL };
                    combine::<S>(*binary, tile, operand, step, rows, vectors);
                }
            }
        }
        let stride = work.out.strides[5] as isize;
        for row in 0..rows {
            let to = work.row(work.out, row);
            for vector in 0..vectors {
                let at = vector * LANES;
                let v = S::canonical(S::load(tile.add(row * PANEL + at)));
                S::store_strided(to.offset(at as isize * stride), stride, v, part(vector));
            }
        }
    }
}

#[repr(align(64))]
struct Operand([f32; TILE_ROWS * PANEL]);

/// One loop over the tile for each function.
macro_rules! each {
    ($tile:ident, $rows:ident, $vectors:ident, |$v:ident, $at:ident| $value:expr) => {
        for row in 0..$rows {
            for vector in 0..$vectors {
                let $at = (row, vector * LANES);
                let place = $tile.add(row * PANEL + $at.1);
                let $v = S::load(place);
                S::store(place, $value);
            }
        }
    };
}

#[inline(always)]
unsafe fn apply<S: Simd>(unary: Unary, tile: *mut f32, rows: usize, vectors: usize) {
    // SAFETY: as the caller promised.
    unsafe {
        match unary {
            Unary::Neg => each!(tile, rows, vectors, |v, _at| S::neg(v)),
            Unary::Abs => each!(tile, rows, vectors, |v, _at| S::abs(v)),
            Unary::Sqrt => each!(tile, rows, vectors, |v, _at| S::sqrt(v)),
            Unary::Recip => each!(tile, rows, vectors, |v, _at| S::div(S::splat(1.0), v)),
            Unary::Exp => each!(tile, rows, vectors, |v, _at| math::exp::<S>(v)),
            Unary::Sigmoid => each!(tile, rows, vectors, |v, _at| math::sigmoid::<S>(v)),
            Unary::Tanh => each!(tile, rows, vectors, |v, _at| math::tanh::<S>(v)),
            Unary::Erf => each!(tile, rows, vectors, |v, _at| math::erf::<S>(v)),
            Unary::Gelu => each!(tile, rows, vectors, |v, _at| math::gelu::<S>(v)),
            Unary::Silu => each!(tile, rows, vectors, |v, _at| math::silu::<S>(v)),
        }
    }
}

#[inline(always)]
unsafe fn combine<S: Simd>(
    binary: Binary,
    tile: *mut f32,
    operand: *const f32,
    step: usize,
    rows: usize,
    vectors: usize,
) {
    macro_rules! with {
        (|$v:ident, $s:ident| $value:expr) => {
            each!(tile, rows, vectors, |$v, at| {
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
