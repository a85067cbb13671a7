//! What a call costs. Fuel stands for time: about six units for each nanosecond of one core with
//! AVX-512, as for compiled Wasm.
//!
//! Formulas are whole numbers, divisions round up at the end. They depend on the call alone, so fuel
//! is the same on every host.

use crate::call::{
    Call, Conv, Depthwise, Gemm, Map, Op, PANEL, Pool, Program, Right, Rows, RowsKind, Unary,
    Window,
};

/// Before anything is read: the time of leaving the sandbox and coming back.
pub const KERNEL_CALL_FUEL: u64 = 100;

/// Multiply-adds of a product for one unit: two vector units of 16 lanes at a full tile.
const PRODUCTS: u128 = 16;
/// Multiply-adds of a window for one unit: bound by loads.
const TAPS: u128 = 4;
/// Units for each run of elements that is packed.
const RUN: u128 = 40;
/// Elements moved for one unit when the innermost steps are 1, and when they are not.
const MOVED: u128 = 2;
/// Units for an operation of a program on one element, in eighths.
const OP_EIGHTHS: u128 = 2;
/// The same for functions that are made of polynomials or divisions.
const FUNCTION_EIGHTHS: u128 = 12;

impl Call {
    /// What the work of this call costs, beyond [`KERNEL_CALL_FUEL`].
    pub fn cost(&self) -> u128 {
        let written = count(&self.out_dims());
        let step = stepped_by(self.out().strides[5], self.out_dims()[5]);
        let epilogue = written * step / MOVED + written * eighths(self.program()) / 8;
        epilogue
            + match self {
                Self::Gemm(Gemm { batch, m, n, k, a, right, .. }) => {
                    let batches = count(batch);
                    let columns = columns(*n);
                    let (m, k) = (u128::from(*m), u128::from(*k));
                    // What is packed on the way: the left-hand side for each 512 columns, and a
                    // strided right-hand side for each 112 rows.
                    let left = m * k * columns.div_ceil(512) * stepped_by(a.strides[5], 2);
                    let right = match right {
                        Right::Packed(_) => 0,
                        Right::Strided(view) => {
                            k * columns * m.div_ceil(112) * stepped_by(view.strides[5], 2)
                        }
                    };
                    // A row by itself leaves most of a tile unused.
                    let rows = m.max(4);
                    times([batches, rows * columns * k / PRODUCTS + left / 8 + right / 8])
                }
                Self::Conv(Conv { window, channels, outputs, input, .. }) => {
                    let columns = columns(*outputs);
                    let rows = positions(window);
                    let taps = count(&window.kernel);
                    let k = times([taps, u128::from(*channels)]);
                    let dear = stepped_by(input.strides[5], *channels);
                    let left = times([rows, k, columns.div_ceil(512), dear]);
                    times([rows.max(4), columns, k]) / PRODUCTS + left / 8 + times([rows, taps])
                }
                Self::Depthwise(Depthwise { window, channels, input, .. }) => {
                    windowed(window, *channels, input.strides[5])
                }
                Self::Pool(Pool { window, channels, input, .. }) => {
                    windowed(window, *channels, input.strides[5])
                }
                Self::Map(Map { dims, input, .. }) => {
                    let rows = count(&dims[..5]);
                    count(dims) * stepped_by(input.strides[5], dims[5]) / MOVED + 8 * rows
                }
                Self::Rows(Rows { kind, dims, .. }) => {
                    let rows = count(&dims[..5]);
                    let each = match kind {
                        RowsKind::Softmax => 24,
                        RowsKind::LayerNorm { .. } => 8,
                        RowsKind::RmsNorm { .. } => 6,
                        RowsKind::Sum | RowsKind::Mean | RowsKind::MeanSquare | RowsKind::Max => 3,
                    };
                    count(dims) * each / 4 + 100 * rows
                }
            }
    }
}

fn count(dims: &[u32]) -> u128 {
    dims.iter().fold(1, |count, &dim| times([count, u128::from(dim)]))
}

/// A product that ends at 2^90, far beyond what any call may cost: sizes are not checked yet, and six
/// of them have more bits than there are.
fn times<const N: usize>(factors: [u128; N]) -> u128 {
    factors.into_iter().fold(1u128, |all, factor| all.saturating_mul(factor).min(1 << 90))
}

/// Columns with those that fill the last panel.
fn columns(n: u32) -> u128 {
    u128::from(n).next_multiple_of(PANEL as u128).max(PANEL as u128)
}

fn positions(window: &Window) -> u128 {
    count(&[window.images, window.output[0], window.output[1]])
}

fn windowed(window: &Window, channels: u32, stride: i32) -> u128 {
    let lanes = u128::from(channels).next_multiple_of(16);
    let taps = times([positions(window), count(&window.kernel)]);
    times([taps, lanes, stepped_by(stride, channels)]) / TAPS + 2 * taps + 10 * positions(window)
}

/// How much dearer an element is whose neighbour is not beside it.
fn stepped_by(stride: i32, dim: u32) -> u128 {
    if matches!(stride, 0 | 1) || dim <= 1 { 1 } else { 6 }
}

fn eighths(program: &Program) -> u128 {
    let each = program.ops().iter().map(|op| match op {
        Op::Unary(Unary::Neg | Unary::Abs) => OP_EIGHTHS,
        Op::Unary(_) => FUNCTION_EIGHTHS,
        Op::Scalar(..) => OP_EIGHTHS,
        Op::Tensor(_, view) => OP_EIGHTHS * stepped_by(view.strides[5], 2),
    });
    each.sum()
}
