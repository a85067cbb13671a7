//! What a call costs. Fuel stands for time: about six units for each nanosecond of one core with
//! AVX-512, as for compiled Wasm.
//!
//! Formulas are whole numbers; divisions drop the rest. They depend on the call alone, and steps of
//! products on subnormal numbers are counted ([`crate::SUBNORMAL_FUEL`]), so fuel is the same on every host.

use crate::{
    call::{
        Binary, Call, Conv, Depthwise, Gemm, Map, Op, PANEL, Pool, PoolKind, Program, Right, Rows,
        RowsKind, Unary, View, Window,
    },
    program::TILE_ROWS,
    scratch::ROWS_MAX,
    simd::LANES,
};

/// Before anything is read: the time of leaving the sandbox and coming back.
pub const KERNEL_CALL_FUEL: u64 = 100;

/// Multiply-adds of a product for one unit: two vector units of 16 lanes at a full tile.
const PRODUCTS: u64 = 16;
/// Multiply-adds of a window for one unit: bound by loads.
const TAPS: u64 = 4;
/// Units for each run of elements that is packed.
const RUN: u64 = 40;
/// Units for each product of a batch and each image of a convolution, however small: what is around its tiles.
const PRODUCT: u64 = 40;
/// Units for each tile of windows: places, and which taps are inside.
const WINDOWS: u64 = 24;
/// Units for each position of a window, and for each of its taps: where it is.
const POSITION: u64 = 10;
const TAP: u64 = 2;
/// Elements moved for one unit when the innermost steps are 1.
const MOVED: u64 = 2;
/// How much dearer an element is whose neighbour is not beside it: 5 ns from memory that is far apart.
const STEPPED: u64 = 8;
/// The same of rows of one element.
const STEPPED_ALONE: u64 = 2;
/// The same of a right-hand side, beyond what elements side by side cost: nothing but its products, which may be of
/// a single row, pays for the rest.
const GATHERED: u64 = 23;
/// Units for each tile of `map`: up to 14 rows of 32 columns, or 448 elements of a long line.
const TILE: u64 = 20;
/// Units for each row of `map`.
const LINE: u64 = 8;
/// Units for each line of up to 32 columns and each array of a program beyond two: programs of most layers have no
/// more, and others pay for these few by what each line costs.
const OPERAND_LINE: u64 = 6;
const OPERANDS_FREE: u64 = 2;
/// Units for each operation of a program and for each array of it, however little they are for: a call reads and
/// checks them.
const OP: u64 = 8;
const OPERAND: u64 = 12;
/// Units for an operation of a program on one element, in eighths: sums, bounds and signs.
const OP_EIGHTHS: u64 = 2;
/// The same for an operation that some processors take 42 ns for when a number of a vector is subnormal, at
/// ten times what a unit takes in models: products, roots; and `erf`, which takes about as long with any numbers.
const SLOW_EIGHTHS: u64 = 13;
/// The same where it is 75 ns: quotients, whose operand and result are two such numbers, and functions that
/// have one such operation and more to do besides.
const SLOWER_EIGHTHS: u64 = 21;
/// The same for `gelu`, which has two such operations: 110 ns.
const SLOWEST_EIGHTHS: u64 = 31;
/// A product's last step may have a subnormal result; those before count ([`crate::SUBNORMAL_FUEL`]).
/// With what every output costs, this is as much as such an operation.
const LAST_EIGHTHS: u64 = 9;

impl Call {
    /// What the work of this call costs, beyond [`KERNEL_CALL_FUEL`].
    pub fn cost(&self) -> u64 {
        let dims = self.out_dims();
        let lines = count(&dims[..5]);
        // A vector is done as a whole, however few of its columns are there.
        let lanes = times([lines, vectors(dims[5])]);
        let last = times([lanes, LAST_EIGHTHS]) / 8;
        let work = match self {
            Self::Gemm(Gemm { batch, m, n, k, a, right, .. }) => {
                let columns = columns(*n);
                let (m, k) = (u64::from(*m), u64::from(*k));
                // What is packed on the way: the left-hand side for each 512 columns, and a strided
                // right-hand side for each block of rows.
                let step = if matches!(a.strides[5], 0 | 1) { 1 } else { STEPPED };
                let left = times([m, k, columns.div_ceil(512), step]);
                let right = match right {
                    Right::Packed(_) => 0,
                    Right::Strided(view) => {
                        let apart = if side_by_side(view.strides[5], *n) { 0 } else { GATHERED };
                        let each = columns + times([(*n).into(), apart]);
                        times([k, each, m.div_ceil(ROWS_MAX as u64)])
                    }
                };
                // A row by itself leaves most of a tile unused.
                let products = times([m.max(4), columns, k]) / PRODUCTS;
                times([count(batch), products + left / 8 + right / 8 + PRODUCT]) + last
            }
            Self::Conv(Conv { window, channels, outputs, input, .. }) => {
                let columns = columns(*outputs);
                let rows = positions(window);
                let k = times([count(&window.kernel), u64::from(*channels)]);
                let dear = stepped_by(input.strides[5], *channels);
                let left = times([rows, k, columns.div_ceil(512), dear]);
                let lines = count(&[window.images, window.output[0], window.kernel[0]]);
                let runs =
                    times([lines, runs(window, *channels, input), columns.div_ceil(512), RUN]);
                let images = times([u64::from(window.images), PRODUCT]);
                times([rows.max(4), columns, k]) / PRODUCTS + left / 8 + runs + images + last
            }
            Self::Depthwise(Depthwise { window, channels, input, weights, .. }) => {
                let step = stepped_by(input.strides[5], *channels)
                    + stepped_by(weights.strides[5], *channels)
                    - 1;
                windowed(window, *channels, step) + last
            }
            Self::Pool(Pool { kind, window, channels, input, .. }) => {
                let quotient = match kind {
                    // Both halves of a line are divided.
                    PoolKind::Mean | PoolKind::MeanInside => {
                        times([lines, columns(*channels), LAST_EIGHTHS]) / 4
                    }
                    PoolKind::Max | PoolKind::Sum => 0,
                };
                windowed(window, *channels, stepped_by(input.strides[5], *channels)) + quotient
            }
            Self::Map(Map { dims, input, .. }) => {
                let step = stepped_by(input.strides[5], dims[5]);
                let across = u64::from(dims[5].div_ceil(PANEL as u32));
                let tiles = if dims[4] == 1 && across > 1 {
                    // A long line is folded, and what remains is a tile by itself.
                    across.div_ceil(TILE_ROWS as u64) + 1
                } else {
                    times([u64::from(dims[4].div_ceil(TILE_ROWS as u32)), across])
                };
                let moved = lanes / MOVED + times([count(dims), step - 1]) / MOVED;
                moved + times([LINE, lines]) + times([count(&dims[..4]), tiles, TILE])
            }
            Self::Rows(Rows { kind, dims, .. }) => {
                let each = match kind {
                    RowsKind::Softmax => 24,
                    RowsKind::LayerNorm { .. } | RowsKind::RmsNorm { .. } => 15,
                    RowsKind::MeanSquare => 7,
                    RowsKind::Sum | RowsKind::Mean | RowsKind::Max => 3,
                };
                times([count(&dims[..5]), vectors(dims[5]), each]) / 4
                    + times([100, count(&dims[..5])])
            }
        };
        self.epilogue() + work
    }

    /// The program, and what is stored.
    fn epilogue(&self) -> u64 {
        let (dims, program) = (self.out_dims(), self.program());
        let rows = count(&dims[..5]);
        let lanes = times([rows, vectors(dims[5])]);
        let apart = stepped_by(self.out().strides[5], dims[5]) - 1;
        let operands =
            program.ops().iter().filter(|op| matches!(op, Op::Tensor(..))).count() as u64;
        let lines = times([rows, u64::from(dims[5].div_ceil(PANEL as u32))]);
        lanes / MOVED
            + times([count(&dims), apart]) / MOVED
            + times([lanes, eighths(program, dims[5])]) / 8
            + times([lines, operands.saturating_sub(OPERANDS_FREE), OPERAND_LINE])
            + program.ops().len() as u64 * OP
            + operands * OPERAND
    }
}

fn count(dims: &[u32]) -> u64 {
    dims.iter().fold(1, |count, &dim| times([count, u64::from(dim)]))
}

/// A product that ends at 2^56, far beyond what any call may cost, so that a few of them can be added:
/// sizes are not checked yet, and six of them have more bits than there are.
fn times<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1u64, |all, factor| all.saturating_mul(factor).min(1 << 56))
}

/// Columns with those that fill the last panel.
fn columns(n: u32) -> u64 {
    u64::from(n).next_multiple_of(PANEL as u64).max(PANEL as u64)
}

/// Columns with those that fill the last vector.
fn vectors(n: u32) -> u64 {
    u64::from(n).next_multiple_of(LANES as u64)
}

/// Pieces that a line of all windows side by side is packed from: one for each window whose line lies in
/// one piece of memory, else one for each tap.
fn runs(window: &Window, channels: u32, input: &View) -> u64 {
    let one_piece = input.strides[5] == 1
        && i64::from(input.strides[4]) == i64::from(channels)
        && window.dilation[1] == 1;
    let across = u64::from(window.output[1]);
    let whole = if one_piece { whole(window) } else { 0 };
    whole + times([across - whole, window.kernel[1].into()])
}

/// How many windows side by side have all columns inside of the input.
fn whole(window: &Window) -> u64 {
    let [kernel, input] = [window.kernel[1], window.input[1]].map(i64::from);
    let (pad, step) = (i64::from(window.pad[1]), i64::from(window.stride[1]).max(1));
    // The first that does not begin left of the input, and the first that ends right of it.
    let first = pad.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    let room = input + pad - kernel;
    let end = if room < 0 { 0 } else { (room / step + 1).unsigned_abs() };
    end.min(window.output[1].into()).saturating_sub(first)
}

fn positions(window: &Window) -> u64 {
    count(&[window.images, window.output[0], window.output[1]])
}

fn windowed(window: &Window, channels: u32, step: u64) -> u64 {
    let positions = positions(window);
    let taps = times([positions, count(&window.kernel)]);
    let sums = times([taps, vectors(channels), step]) / TAPS;
    let across = window.output[1].div_ceil(TILE_ROWS as u32);
    let panels = channels.div_ceil(PANEL as u32);
    let tiles = count(&[window.images, window.output[0], across, panels]);
    sums + times([TAP, taps]) + times([POSITION, positions]) + times([WINDOWS, tiles])
}

/// How much dearer an element is whose neighbour is not beside it, in rows of `dim`. A row of one has no
/// neighbours, and still is no vector.
fn stepped_by(stride: i32, dim: u32) -> u64 {
    match dim {
        _ if side_by_side(stride, dim) => 1,
        0 | 1 => STEPPED_ALONE,
        _ => STEPPED,
    }
}

/// Whether rows are read vector by vector. One number for all of a row is as quick as that in whole vectors, not in
/// parts of one.
fn side_by_side(stride: i32, dim: u32) -> bool {
    stride == 1 || stride == 0 && dim.is_multiple_of(LANES as u32)
}

fn eighths(program: &Program, columns: u32) -> u64 {
    let each = program.ops().iter().map(|op| match op {
        Op::Unary(Unary::Neg | Unary::Abs) => OP_EIGHTHS,
        Op::Unary(Unary::Gelu) => SLOWEST_EIGHTHS,
        Op::Unary(Unary::Recip | Unary::Exp | Unary::Sigmoid | Unary::Tanh | Unary::Silu) => {
            SLOWER_EIGHTHS
        }
        Op::Unary(Unary::Sqrt | Unary::Erf) => SLOW_EIGHTHS,
        Op::Scalar(binary, _) => binary_eighths(*binary),
        Op::Tensor(binary, view) => {
            let read = OP_EIGHTHS * (stepped_by(view.strides[5], columns) - 1);
            binary_eighths(*binary) + read
        }
    });
    each.sum()
}

fn binary_eighths(binary: Binary) -> u64 {
    match binary {
        Binary::Add | Binary::Sub | Binary::RSub | Binary::Min | Binary::Max => OP_EIGHTHS,
        Binary::Mul | Binary::LeakyRelu => SLOW_EIGHTHS,
        Binary::Div | Binary::RDiv => SLOWER_EIGHTHS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted one by one, as packing decides.
    #[test]
    fn windows_that_reach_over_the_border_are_counted() {
        let mut found = [false; 2];
        for (output, kernel, step) in
            (0..6).flat_map(|o| (0..5).flat_map(move |k| (0..4).map(move |s| (o, k, s))))
        {
            for (input, pad) in (0..8).flat_map(|i| (-4..9).map(move |p| (i, p))) {
                let window = Window {
                    images: 1,
                    input: [1, input],
                    output: [1, output],
                    kernel: [1, kernel],
                    stride: [1, step],
                    dilation: [1, 1],
                    pad: [0, pad],
                };
                let inside = |x: u32| {
                    let left = i64::from(x) * i64::from(step.max(1)) - i64::from(pad);
                    let inside = left >= 0 && left + i64::from(kernel) <= i64::from(input);
                    found[usize::from(inside)] = true;
                    inside
                };
                let expected = (0..output).map(inside).filter(|&inside| inside).count() as u64;
                assert_eq!(whole(&window), expected, "{window:?}");
            }
        }
        assert_eq!(found, [true; 2]);
        let mut window = Window {
            images: 1,
            input: [1, u32::MAX],
            output: [1, u32::MAX],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, i32::MIN],
        };
        assert_eq!(whole(&window), u64::from(u32::MAX) - (1 << 31));
        window.pad[1] = i32::MAX;
        assert_eq!(whole(&window), u64::from(u32::MAX) - ((1 << 31) - 1));
    }
}
