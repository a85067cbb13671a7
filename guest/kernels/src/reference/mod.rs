//! The kernels once more, from their definitions: one number at a time, in the order that the
//! definitions name, on bytes. Slow, and made of nothing that the fast ones are made of, so that tests
//! have something to compare them with.
//!
//! A call must have been checked ([`Call::check`]) against a memory of this size.

mod number;

use crate::call::{
    Binary, Call, Conv, Depthwise, Dims, Gemm, Map, Op, Pool, PoolKind, Program, RANK, Right, Rows,
    RowsKind, Unary, View, Window,
};
use number::{NAN, fma};

/// Lanes of the partial sums of [`Rows`].
const LANES: usize = 16;
/// Columns of a packed panel.
const PANEL: usize = 32;

/// Does a call. How many of its steps were on subnormal numbers.
///
/// # Panics
/// When the call was not checked and touches what is not there.
pub fn run(call: &Call, memory: &mut [u8]) -> u64 {
    let mut found = 0;
    match call {
        Call::Gemm(call) => gemm(call, memory, &mut found),
        Call::Conv(call) => conv(call, memory, &mut found),
        Call::Depthwise(call) => depthwise(call, memory, &mut found),
        Call::Pool(call) => pool(call, memory),
        Call::Map(call) => map(call, memory),
        Call::Rows(call) => rows(call, memory),
    }
    found
}

/// A product's step; counts it when it is on a subnormal number.
fn step(a: f32, b: f32, sum: f32, found: &mut u64) -> f32 {
    let result = fma(a, b, sum);
    let subnormal = [a, b, sum].iter().any(|number| number.is_subnormal());
    *found += u64::from(subnormal && !result.is_nan());
    result
}

/// Columns of a product with those that fill the last vector: they are not stored, but are steps.
fn filled(columns: u32) -> u32 {
    columns.next_multiple_of(LANES as u32)
}

fn gemm(call: &Gemm, memory: &mut [u8], found: &mut u64) {
    let Gemm { batch: [b0, b1], m, n, k, a, right, c, program } = call;
    each([1, 1, *b0, *b1, *m, filled(*n)], |index| {
        let [_, _, b0, b1, i, j] = index;
        let mut sum = 0.0;
        for p in 0..*k {
            let left = read(memory, a, [0, 0, b0, b1, i, p]);
            let right = match right {
                Right::Strided(_) if j >= *n => 0.0,
                Right::Strided(view) => read(memory, view, [0, 0, b0, b1, p, j]),
                Right::Packed(start) => packed(memory, *start, *k as usize, p as usize, j),
            };
            sum = step(left, right, sum, found);
        }
        if j < *n {
            store(memory, c, index, program, sum);
        }
    });
}

fn conv(call: &Conv, memory: &mut [u8], found: &mut u64) {
    let Conv { window, channels, outputs, input, weights, out, program } = call;
    let [height, width] = window.kernel;
    let depth = (height * width * channels) as usize;
    each([1, 1, window.images, window.output[0], window.output[1], filled(*outputs)], |index| {
        let [_, _, image, y, x, o] = index;
        let mut sum = 0.0;
        let mut p = 0;
        for ky in 0..height {
            for kx in 0..width {
                let place = tap(window, [y, x], [ky, kx]);
                for channel in 0..*channels {
                    let value = match place {
                        Some([row, column]) => {
                            read(memory, input, [0, 0, image, row, column, channel])
                        }
                        None => 0.0,
                    };
                    let weight = packed(memory, *weights, depth, p, o);
                    sum = step(value, weight, sum, found);
                    p += 1;
                }
            }
        }
        if o < *outputs {
            store(memory, out, index, program, sum);
        }
    });
}

fn depthwise(call: &Depthwise, memory: &mut [u8], found: &mut u64) {
    let Depthwise { window, channels, input, weights, out, program } = call;
    each_window(window, *channels, |index, taps| {
        let [_, _, image, _, _, channel] = index;
        let mut sum = 0.0;
        for &([ky, kx], [row, column]) in taps {
            let value = read(memory, input, [0, 0, image, row, column, channel]);
            let weight = read(memory, weights, [0, 0, 0, ky, kx, channel]);
            sum = step(value, weight, sum, found);
        }
        store(memory, out, index, program, sum);
    });
}

fn pool(call: &Pool, memory: &mut [u8]) {
    let Pool { kind, window, channels, input, out, program } = call;
    each_window(window, *channels, |index, taps| {
        let [_, _, image, _, _, channel] = index;
        let values = taps
            .iter()
            .map(|(_, [row, column])| read(memory, input, [0, 0, image, *row, *column, channel]));
        let value = match kind {
            PoolKind::Max => values.fold(f32::NEG_INFINITY, larger),
            PoolKind::Mean => {
                let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                values.fold(0.0, add) / taps as f32
            }
            PoolKind::MeanInside => values.fold(0.0, add) / taps.len() as f32,
            PoolKind::Sum => values.fold(0.0, add),
        };
        store(memory, out, index, program, value);
    });
}

fn map(call: &Map, memory: &mut [u8]) {
    let Map { dims, input, out, program } = call;
    each(*dims, |index| {
        let value = read(memory, input, index);
        store(memory, out, index, program, value);
    });
}

fn rows(call: &Rows, memory: &mut [u8]) {
    let Rows { kind, dims, input, out, program } = call;
    let [n0, n1, n2, n3, n4, length] = *dims;
    each([n0, n1, n2, n3, n4, length.min(1)], |index| {
        let at = |place: u32| {
            let [d0, d1, d2, d3, d4, _] = index;
            [d0, d1, d2, d3, d4, place]
        };
        // The whole row is read before any of it is written: they may be in the same place.
        let row: Vec<f32> = (0..length).map(|place| read(memory, input, at(place))).collect();
        let count = row.len() as f32;
        let mean = |row: &[f32]| in_lanes(row, 0.0, add, add) / count;
        let squares = |row: &[f32]| in_lanes(row, 0.0, |sum, d| fma(d, d, sum), add);
        let results: Vec<f32> = match *kind {
            RowsKind::Softmax => {
                let most = in_lanes(&row, f32::NEG_INFINITY, larger, larger);
                let each: Vec<f32> = row.iter().map(|x| number::exp(x - most)).collect();
                let sum = in_lanes(&each, 0.0, add, add);
                each.iter().map(|e| e / sum).collect()
            }
            RowsKind::RmsNorm { epsilon } => {
                let root = (squares(&row) / count + epsilon).sqrt();
                row.iter().map(|x| x / root).collect()
            }
            RowsKind::LayerNorm { epsilon } => {
                let mean = mean(&row);
                let apart: Vec<f32> = row.iter().map(|x| x - mean).collect();
                let root = (squares(&apart) / count + epsilon).sqrt();
                apart.iter().map(|d| d / root).collect()
            }
            RowsKind::Sum => vec![in_lanes(&row, 0.0, add, add)],
            RowsKind::Mean => vec![mean(&row)],
            RowsKind::MeanSquare => vec![squares(&row) / count],
            RowsKind::Max => vec![in_lanes(&row, f32::NEG_INFINITY, larger, larger)],
        };
        for (place, result) in (0..).zip(results) {
            store(memory, out, at(place), program, result);
        }
    });
}

/// Joins the elements of a row: those whose index leaves the same rest when divided by 16, in order;
/// then what the upper half of the 16 gave to what the lower half gave, down to one.
fn in_lanes(
    row: &[f32],
    start: f32,
    join: impl Fn(f32, f32) -> f32,
    fold: impl Fn(f32, f32) -> f32,
) -> f32 {
    let lane = |lane| row.iter().skip(lane).step_by(LANES).fold(start, |v, &x| join(v, x));
    let mut lanes: Vec<f32> = (0..LANES).map(lane).collect();
    while lanes.len() > 1 {
        let upper = lanes.split_off(lanes.len() / 2);
        lanes.iter_mut().zip(upper).for_each(|(lower, upper)| *lower = fold(*lower, upper));
    }
    lanes[0]
}

fn add(sum: f32, x: f32) -> f32 {
    sum + x
}

/// `x > v ? x : v`
fn larger(v: f32, x: f32) -> f32 {
    if x > v { x } else { v }
}

/// Every index, the last dimension running fastest.
fn each(dims: Dims, mut visit: impl FnMut(Dims)) {
    if dims.contains(&0) {
        return;
    }
    let mut index = [0; RANK];
    loop {
        visit(index);
        let Some(dim) = (0..RANK).rev().find(|&dim| index[dim] + 1 < dims[dim]) else {
            return;
        };
        index[dim] += 1;
        index[dim + 1..].fill(0);
    }
}

/// Every index of a windowed output, with the taps that are inside of the input: in the kernel and in
/// the input, by rows.
fn each_window(
    window: &Window,
    channels: u32,
    mut visit: impl FnMut(Dims, &[([u32; 2], [u32; 2])]),
) {
    each([1, 1, window.images, window.output[0], window.output[1], channels], |index| {
        let [_, _, _, y, x, _] = index;
        let mut taps = Vec::new();
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                if let Some(place) = tap(window, [y, x], [ky, kx]) {
                    taps.push(([ky, kx], place));
                }
            }
        }
        visit(index, &taps);
    });
}

/// Where in the input a tap of the kernel is; none beside it.
fn tap(window: &Window, at: [u32; 2], tap: [u32; 2]) -> Option<[u32; 2]> {
    let place = |axis: usize| {
        let place = i64::from(at[axis]) * i64::from(window.stride[axis])
            + i64::from(tap[axis]) * i64::from(window.dilation[axis])
            - i64::from(window.pad[axis]);
        u32::try_from(place).ok().filter(|&place| place < window.input[axis])
    };
    Some([place(0)?, place(1)?])
}

/// An element of packed panels that are `depth` deep.
fn packed(memory: &[u8], start: usize, depth: usize, p: usize, column: u32) -> f32 {
    let (panel, column) = (column as usize / PANEL, column as usize % PANEL);
    number_at(memory, start + 4 * ((panel * depth + p) * PANEL + column))
}

/// Runs the program on a value and stores what comes out.
fn store(memory: &mut [u8], out: &View, index: Dims, program: &Program, value: f32) {
    let mut value = value;
    for op in program.ops() {
        value = match op {
            Op::Unary(unary) => apply(*unary, value),
            Op::Scalar(binary, number) => combine(*binary, value, *number),
            Op::Tensor(binary, view) => combine(*binary, value, read(memory, view, index)),
        };
    }
    let bits = if value.is_nan() { NAN } else { value.to_bits() };
    let at = address(out, index);
    memory[at..at + 4].copy_from_slice(&bits.to_le_bytes());
}

fn apply(unary: Unary, v: f32) -> f32 {
    match unary {
        Unary::Neg => -v,
        Unary::Abs => v.abs(),
        Unary::Sqrt => v.sqrt(),
        Unary::Recip => 1.0 / v,
        Unary::Exp => number::exp(v),
        Unary::Sigmoid => number::sigmoid(v),
        Unary::Tanh => number::tanh(v),
        Unary::Erf => number::erf(v),
        Unary::Gelu => number::gelu(v),
        Unary::Silu => number::silu(v),
    }
}

fn combine(binary: Binary, v: f32, s: f32) -> f32 {
    match binary {
        Binary::Add => v + s,
        Binary::Sub => v - s,
        Binary::RSub => s - v,
        Binary::Mul => v * s,
        Binary::Div => v / s,
        Binary::RDiv => s / v,
        Binary::Min => {
            if s < v {
                s
            } else {
                v
            }
        }
        Binary::Max => larger(v, s),
        Binary::LeakyRelu => {
            if v > 0.0 {
                v
            } else {
                v * s
            }
        }
    }
}

fn read(memory: &[u8], view: &View, index: Dims) -> f32 {
    number_at(memory, address(view, index))
}

fn number_at(memory: &[u8], at: usize) -> f32 {
    let bytes = &memory[at..at + 4];
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn address(view: &View, index: Dims) -> usize {
    let steps = index.iter().zip(view.strides);
    let offset: i128 = steps.map(|(&at, stride)| i128::from(at) * i128::from(stride)).sum();
    let address = view.address as i128 + 4 * offset;
    // A call that was checked has no address outside of memory.
    usize::try_from(address).unwrap_or(usize::MAX - 4)
}
