//! What a call costs. Fuel stands for time: about six units for each nanosecond of one core with
//! AVX-512, as for compiled Wasm.
//!
//! Formulas are whole numbers; divisions drop the rest. They depend on the call alone, and steps of
//! products on subnormal numbers are counted ([`crate::SUBNORMAL_FUEL`]), so fuel is the same on every host.

use crate::call::{
    Binary, Call, Conv, Depthwise, Gemm, Map, Op, PANEL, Pool, PoolKind, Program, Right, Rows,
    RowsKind, Unary, Window,
};

/// Before anything is read: the time of leaving the sandbox and coming back.
pub const KERNEL_CALL_FUEL: u64 = 100;

/// Multiply-adds of a product for one unit: two vector units of 16 lanes at a full tile.
const PRODUCTS: u64 = 16;
/// Multiply-adds of a window for one unit: bound by loads.
const TAPS: u64 = 4;
/// Units for each run of elements that is packed.
const RUN: u64 = 40;
/// Elements moved for one unit when the innermost steps are 1, and when they are not.
const MOVED: u64 = 2;
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
        let written = count(&dims);
        let step = stepped_by(self.out().strides[5], dims[5]);
        let epilogue =
            times([written, step]) / MOVED + times([written, eighths(self.program())]) / 8;
        let last = times([written, LAST_EIGHTHS]) / 8;
        let work = match self {
            Self::Gemm(Gemm { batch, m, n, k, a, right, .. }) => {
                let columns = columns(*n);
                let (m, k) = (u64::from(*m), u64::from(*k));
                // What is packed on the way: the left-hand side for each 512 columns, and a strided
                // right-hand side for each 112 rows.
                let left = times([m, k, columns.div_ceil(512), stepped_by(a.strides[5], 2)]);
                let right = match right {
                    Right::Packed(_) => 0,
                    Right::Strided(view) => {
                        times([k, columns, m.div_ceil(112), stepped_by(view.strides[5], 2)])
                    }
                };
                // A row by itself leaves most of a tile unused.
                let products = times([m.max(4), columns, k]) / PRODUCTS;
                times([count(batch), products + left / 8 + right / 8]) + last
            }
            Self::Conv(Conv { window, channels, outputs, input, .. }) => {
                let columns = columns(*outputs);
                let rows = positions(window);
                let k = times([count(&window.kernel), u64::from(*channels)]);
                let dear = stepped_by(input.strides[5], *channels);
                let left = times([rows, k, columns.div_ceil(512), dear]);
                // Lines of a window that lie in one piece are packed as one, others tap by tap.
                let [height, width] = window.kernel.map(u64::from);
                let one_piece = input.strides[5] == 1
                    && i64::from(input.strides[4]) == i64::from(*channels)
                    && window.dilation[1] == 1;
                let runs = if one_piece { 1 } else { width };
                let runs = times([rows, height, runs, columns.div_ceil(512), RUN]);
                times([rows.max(4), columns, k]) / PRODUCTS + left / 8 + runs + last
            }
            Self::Depthwise(Depthwise { window, channels, input, .. }) => {
                windowed(window, *channels, input.strides[5]) + last
            }
            Self::Pool(Pool { kind, window, channels, input, .. }) => {
                let quotient = match kind {
                    PoolKind::Mean | PoolKind::MeanInside => 2 * last,
                    PoolKind::Max | PoolKind::Sum => 0,
                };
                windowed(window, *channels, input.strides[5]) + quotient
            }
            Self::Map(Map { dims, input, .. }) => {
                let step = stepped_by(input.strides[5], dims[5]);
                times([count(dims), step]) / MOVED + times([8, count(&dims[..5])])
            }
            Self::Rows(Rows { kind, dims, .. }) => {
                let each = match kind {
                    RowsKind::Softmax => 24,
                    RowsKind::LayerNorm { .. } | RowsKind::RmsNorm { .. } => 14,
                    RowsKind::MeanSquare => 7,
                    RowsKind::Sum | RowsKind::Mean | RowsKind::Max => 3,
                };
                times([count(dims), each]) / 4 + times([100, count(&dims[..5])])
            }
        };
        epilogue + work
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

fn positions(window: &Window) -> u64 {
    count(&[window.images, window.output[0], window.output[1]])
}

fn windowed(window: &Window, channels: u32, stride: i32) -> u64 {
    let lanes = u64::from(channels).next_multiple_of(16);
    let taps = times([positions(window), count(&window.kernel)]);
    times([taps, lanes, stepped_by(stride, channels)]) / TAPS + 2 * taps + 10 * positions(window)
}

/// How much dearer an element is whose neighbour is not beside it.
fn stepped_by(stride: i32, dim: u32) -> u64 {
    if matches!(stride, 0 | 1) || dim <= 1 { 1 } else { 6 }
}

fn eighths(program: &Program) -> u64 {
    let each = program.ops().iter().map(|op| match op {
        Op::Unary(Unary::Neg | Unary::Abs) => OP_EIGHTHS,
        Op::Unary(Unary::Gelu) => SLOWEST_EIGHTHS,
        Op::Unary(Unary::Recip | Unary::Exp | Unary::Sigmoid | Unary::Tanh | Unary::Silu) => {
            SLOWER_EIGHTHS
        }
        Op::Unary(Unary::Sqrt | Unary::Erf) => SLOW_EIGHTHS,
        Op::Scalar(binary, _) => binary_eighths(*binary),
        Op::Tensor(binary, view) => {
            let read = OP_EIGHTHS * (stepped_by(view.strides[5], 2) - 1);
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
