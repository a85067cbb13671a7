//! How fast the kernels are: `cargo bench -p fuelbox-kernels`.
//!
//! Shapes are those of common models. Every figure is the best of several rounds, as others use the
//! machine; multiply-adds a nanosecond, or elements a nanosecond, and fuel a nanosecond.

use fuelbox_kernels::{
    Call, Conv, Depthwise, Gemm, Isa, Map, Op, Pool, PoolKind, Program, Right, Rows, RowsKind,
    Unary, View, Window,
};
use std::time::Instant;

fn main() {
    let mut memory = vec![0.01f32; 64 << 20];
    for (name, work, call) in calls() {
        print!("{name:<44}");
        for isa in Isa::available() {
            let checked = call.check(memory.len() * 4).expect("inside of memory");
            let rounds = if isa == Isa::Portable { 2 } else { 20 };
            let mut best = f64::INFINITY;
            for _ in 0..rounds {
                let start = Instant::now();
                // SAFETY: the call was checked against this memory, and the instructions are there.
                unsafe { checked.run_watched(memory.as_mut_ptr().cast(), isa, &mut |_| true) };
                best = best.min(start.elapsed().as_nanos() as f64);
            }
            let (rate, fuel) = (work as f64 / best, checked.fuel() as f64 / best);
            print!(" {}: {:>8.1} us {rate:>6.1}/ns {fuel:>5.1} fuel/ns ", isa.name(), best / 1e3);
        }
        println!();
    }
}

fn view(offset_mb: usize, strides: [i32; 6]) -> View {
    View { address: offset_mb << 20, strides }
}

fn calls() -> Vec<(String, u64, Call)> {
    let mut calls = Vec::new();
    for (m, n, k) in [
        (1, 128, 784),
        (1, 512, 128),
        (256, 256, 256),
        (128, 384, 384),
        (128, 1536, 384),
        (3136, 64, 64),
        (3136, 64, 256),
        (12544, 96, 16),
        (12544, 16, 32),
        (49, 2048, 512),
        (49, 320, 960),
    ] {
        let call = Gemm {
            batch: [1, 1],
            m,
            n,
            k,
            a: view(0, [0, 0, 0, 0, k as i32, 1]),
            right: Right::Packed(64 << 20),
            c: view(128, [0, 0, 0, 0, n as i32, 1]),
            program: Program::new(&[
                Op::Tensor(fuelbox_kernels::Binary::Add, view(192, [0, 0, 0, 0, 0, 1])),
                Op::Scalar(fuelbox_kernels::Binary::Max, 0.0),
            ])
            .expect("short"),
        };
        let work = u64::from(m) * u64::from(n) * u64::from(k);
        calls.push((format!("gemm {m} x {n} x {k}"), work, Call::Gemm(call)));
    }
    let attention = Gemm {
        batch: [1, 12],
        m: 128,
        n: 128,
        k: 32,
        a: view(0, [0, 0, 0, 32, 384, 1]),
        right: Right::Strided(view(64, [0, 0, 0, 32, 1, 384])),
        c: view(128, [0, 0, 0, 128 * 128, 128, 1]),
        program: Program::default(),
    };
    calls.push((
        "gemm 12 x 128 x 128 x 32, strided".into(),
        12 * 128 * 128 * 32,
        Call::Gemm(attention),
    ));
    for (h, c, o, kernel, stride) in [
        (112, 3, 64, 7, 2),
        (56, 64, 64, 3, 1),
        (14, 256, 256, 3, 1),
        (7, 512, 512, 3, 1),
        (55, 16, 64, 3, 1),
    ] {
        let out = (h + 2 * (kernel / 2) - kernel) / stride + 1;
        let window = Window {
            images: 1,
            input: [h; 2],
            output: [out; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [kernel as i32 / 2; 2],
        };
        let first = c == 3;
        let call = Conv {
            window,
            channels: c,
            outputs: o,
            input: if first {
                view(0, [0, 0, 0, h as i32, 1, (h * h) as i32])
            } else {
                view(0, [0, 0, 0, (h * c) as i32, c as i32, 1])
            },
            weights: 64 << 20,
            out: view(128, [0, 0, 0, (out * o) as i32, o as i32, 1]),
            program: Program::default(),
        };
        let work = u64::from(out * out * o * c * kernel * kernel);
        calls.push((
            format!("conv {h} x {h} x {c} -> {o}, {kernel} / {stride}"),
            work,
            Call::Conv(call),
        ));
    }
    for (h, c, stride) in [(112, 32, 1), (112, 96, 2), (56, 144, 1), (14, 384, 1), (7, 960, 1)] {
        let out = (h + 2 - 3) / stride + 1;
        let window = Window {
            images: 1,
            input: [h; 2],
            output: [out; 2],
            kernel: [3; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [1; 2],
        };
        let input = view(0, [0, 0, 0, (h * c) as i32, c as i32, 1]);
        let out_view = view(128, [0, 0, 0, (out * c) as i32, c as i32, 1]);
        let call = Depthwise {
            window,
            channels: c,
            input,
            weights: view(64, [0, 0, 0, 3 * c as i32, c as i32, 1]),
            out: out_view,
            program: Program::default(),
        };
        let work = u64::from(out * out * c * 9);
        calls.push((format!("depthwise {h} x {h} x {c} / {stride}"), work, Call::Depthwise(call)));
        let call = Pool {
            kind: PoolKind::Max,
            window,
            channels: c,
            input,
            out: out_view,
            program: Program::default(),
        };
        calls.push((format!("max pool {h} x {h} x {c} / {stride}"), work, Call::Pool(call)));
    }
    let line = [0, 0, 0, 0, 0, 1];
    for (name, ops) in [
        ("copy", vec![]),
        ("gelu", vec![Op::Unary(Unary::Gelu)]),
        ("sigmoid", vec![Op::Unary(Unary::Sigmoid)]),
        ("add", vec![Op::Tensor(fuelbox_kernels::Binary::Add, view(64, line))]),
    ] {
        let dims = [1, 1, 1, 1, 1, 1 << 17];
        let program = Program::new(&ops).expect("short");
        let call = Map { dims, input: view(0, line), out: view(128, line), program };
        calls.push((format!("map {name}"), 1 << 17, Call::Map(call)));
    }
    let call = Map {
        dims: [1, 1, 1, 56, 56, 64],
        input: view(0, [0, 0, 0, 56, 1, 56 * 56]),
        out: view(128, [0, 0, 0, 56 * 64, 64, 1]),
        program: Program::default(),
    };
    calls.push(("map channels last".into(), 56 * 56 * 64, Call::Map(call)));
    for (name, kind) in [
        ("softmax", RowsKind::Softmax),
        ("layer norm", RowsKind::LayerNorm { epsilon: 1e-5 }),
        ("sum", RowsKind::Sum),
    ] {
        let call = Rows {
            kind,
            dims: [1, 1, 1, 1, 1536, 128],
            input: view(0, [0, 0, 0, 0, 128, 1]),
            out: view(128, [0, 0, 0, 0, 128, 1]),
            program: Program::default(),
        };
        calls.push((format!("rows {name}"), 1536 * 128, Call::Rows(call)));
    }
    calls
}
