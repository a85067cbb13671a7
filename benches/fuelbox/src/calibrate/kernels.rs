//! Kernels: calls at their best and at their worst, with ordinary and with subnormal numbers.

use super::Work;
use fuelbox_kernels::{
    Binary, Call, Conv, Depthwise, Gemm, Map, Op, Pool, PoolKind, Program, Right, Rows, RowsKind,
    Strides, Unary, View, Window,
};
use fuelbox_test_support::guest::Guest;

/// Where numbers are: behind the request.
const NUMBERS_AT: u32 = 1 << 18;
/// Where the block is.
const BLOCK_AT: u32 = 600;

pub(super) fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for (name, mib, calls, call) in calls() {
        for numbers in Numbers::ALL {
            works.push(work(name, mib, calls, &call, numbers));
        }
    }
    works
}

/// What a guest's memory is filled with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Ordinary,
    /// One in 512 is subnormal: about one for each piece of a tile that is done again.
    Few,
    /// Every second one is, so that some products are of one of each.
    Half,
    All,
    /// Their products are subnormal, they are not.
    Small,
}

impl Numbers {
    const ALL: [Self; 5] = [Self::Ordinary, Self::Few, Self::Half, Self::All, Self::Small];

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Ordinary => None,
            Self::Few => Some("few subnormal"),
            Self::Half => Some("half subnormal"),
            Self::All => Some("all subnormal"),
            Self::Small => Some("subnormal products"),
        }
    }

    /// The bits to or 16 random ones with, by the random number in local 3. From 0x3f000000 on these are
    /// numbers from 0.5 to 1; from 0x1e000000 on 2^-67 and more; below 0x00800000 they are subnormal.
    fn bits(self) -> &'static str {
        match self {
            Self::Ordinary => "(i32.const 0x3f000000)",
            Self::Few => {
                "(i32.mul (i32.const 0x3f000000)
                   (i32.ne (i32.and (local.get 3) (i32.const 0x1ff00)) (i32.const 0)))"
            }
            Self::Half => {
                "(i32.mul (i32.const 0x3f000000)
                   (i32.and (i32.shr_u (local.get 3) (i32.const 15)) (i32.const 1)))"
            }
            Self::All => "(i32.const 0)",
            Self::Small => "(i32.const 0x1e000000)",
        }
    }

    /// So many times fewer calls, as each takes longer.
    fn slower(self) -> u32 {
        if self == Self::Ordinary { 1 } else { 8 }
    }
}

fn view(address: u32, strides: Strides) -> View {
    View { address: (NUMBERS_AT + address) as usize, strides }
}

/// Name, memory in MiB, how often, what.
fn calls() -> Vec<(&'static str, u32, u32, Call)> {
    let none = || Program::new(&[]).unwrap_or_default();
    let gemm = |m: u32, n: u32, k: u32, a: Strides, right: Right, c: u32| {
        Call::Gemm(Gemm {
            batch: [1, 1],
            m,
            n,
            k,
            a: view(0, a),
            right,
            c: view(c, [0, 0, 0, 0, n as i32, 1]),
            program: none(),
        })
    };
    let dense = |columns: i32| [0, 0, 0, 0, columns, 1];
    // Small ones are within the memory that costs nothing, so that it is the call that is measured.
    let (small, large) = (1 << 20, 128 << 20);
    let packed = Right::Packed((NUMBERS_AT + (512 << 10)) as usize);
    let strided = |strides| Right::Strided(view(512 << 10, strides));
    let map = |rows: u32, columns: u32, input: Strides, out: Strides, ops: &[Op]| {
        Call::Map(Map {
            dims: [1, 1, 1, 1, rows, columns],
            input: view(0, input),
            out: view(large, out),
            program: Program::new(ops).unwrap_or_default(),
        })
    };
    let small_map = |rows, columns, input, ops: &[Op]| {
        Call::Map(Map {
            dims: [1, 1, 1, 1, rows, columns],
            input: view(0, input),
            out: view(small, input),
            program: Program::new(ops).unwrap_or_default(),
        })
    };
    let image = |channels: i32| [0, 0, 0, 56 * channels, channels, 1];
    let window = Window {
        images: 1,
        input: [56, 56],
        output: [56, 56],
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
    };
    let rows = |kind, columns: u32| {
        Call::Rows(Rows {
            kind,
            dims: [1, 1, 1, 1, 256, columns],
            input: view(0, dense(columns as i32)),
            out: view(small, dense(columns as i32)),
            program: none(),
        })
    };
    // Each function 8 times: what is around it counts for little then.
    let functions = Unary::ALL.map(|unary| {
        let call = small_map(100, 1_000, dense(1_000), &[Op::Unary(unary); 8]);
        (unary_name(unary), 2, 100, call)
    });
    // Of a number whose exponential is subnormal, 3 times: blocks have room for no more.
    let from = |unary, number| {
        let ops =
            [Op::Scalar(Binary::Min, number), Op::Scalar(Binary::Max, number), Op::Unary(unary)];
        small_map(100, 1_000, dense(1_000), &[ops; 3].concat())
    };
    // Strides of an odd number of pages and lines: neither caches nor tables of addresses hold them.
    let far = 1_040;
    let mut calls = vec![
        ("map, exp with subnormal results", 2, 100, from(Unary::Exp, -95.0)),
        ("map, sigmoid with subnormal results", 2, 100, from(Unary::Sigmoid, -88.2)),
        ("gemm 256 x 256 x 256", 2, 8, gemm(256, 256, 256, dense(256), packed, small)),
        ("gemm 1 x 512 x 256", 2, 500, gemm(1, 512, 256, dense(256), packed, small)),
        ("gemm 1 x 4096 x 4096", 80, 8, gemm(1, 4_096, 4_096, dense(4_096), packed, 70 << 20)),
        ("gemm 1 x 1 x 1", 2, 10_000, gemm(1, 1, 1, dense(1), packed, small)),
        ("gemm 4 x 32 x 64", 2, 10_000, gemm(4, 32, 64, dense(64), packed, small)),
        (
            "gemm, right-hand side by columns",
            2,
            50,
            gemm(64, 256, 256, dense(256), strided([0, 0, 0, 0, 1, 256]), small),
        ),
        (
            "gemm, right-hand side far apart",
            250,
            50,
            gemm(64, 32, 1_000, dense(1_000), strided([0, 0, 0, 0, 32 * far, far]), 200 << 20),
        ),
        (
            "gemm, left-hand side far apart",
            250,
            50,
            gemm(32, 32, 1_000, [0, 0, 0, 0, far, 32 * far], packed, 200 << 20),
        ),
        ("map, copy", 250, 20, map(1_000, 1_000, dense(1_000), dense(1_000), &[])),
        ("map, transpose", 250, 20, map(1_000, 1_000, [0, 0, 0, 0, 1, 1_000], dense(1_000), &[])),
        (
            "map, reads far apart",
            250,
            50,
            map(30, 1_000, [0, 0, 0, 0, far, 30 * far], dense(1_000), &[]),
        ),
        (
            "map, writes far apart",
            250,
            50,
            map(30, 1_000, dense(1_000), [0, 0, 0, 0, far, 30 * far], &[]),
        ),
        ("map, short rows far apart", 250, 50, map(30_000, 1, [0, 0, 0, 0, far, 1], dense(1), &[])),
        (
            "map, divide 8 times",
            2,
            100,
            small_map(100, 1_000, dense(1_000), &[Op::Scalar(Binary::Div, 1.5); 8]),
        ),
        (
            "conv 3 x 3, 64 to 64",
            3,
            10,
            Call::Conv(Conv {
                window,
                channels: 64,
                outputs: 64,
                input: view(0, image(64)),
                weights: (NUMBERS_AT + (1 << 20)) as usize,
                out: view(2 << 20, image(64)),
                program: none(),
            }),
        ),
        (
            "depthwise 3 x 3, 64",
            3,
            20,
            Call::Depthwise(Depthwise {
                window,
                channels: 64,
                input: view(0, image(64)),
                weights: view(1 << 20, [0, 0, 0, 192, 64, 1]),
                out: view(2 << 20, image(64)),
                program: none(),
            }),
        ),
        (
            "map, multiply 8 times",
            2,
            100,
            small_map(100, 1_000, dense(1_000), &[Op::Scalar(Binary::Mul, 1.5); 8]),
        ),
        (
            "map, add 8 times",
            2,
            100,
            small_map(100, 1_000, dense(1_000), &[Op::Scalar(Binary::Add, 1e-40); 8]),
        ),
        (
            "map, max 8 times",
            2,
            100,
            small_map(100, 1_000, dense(1_000), &[Op::Scalar(Binary::Max, 1e-40); 8]),
        ),
        ("gemm 512 x 256 x 1", 2, 50, gemm(512, 256, 1, dense(1), packed, small)),
        ("rows, softmax of 512", 2, 20, rows(RowsKind::Softmax, 512)),
        ("rows, softmax of 1", 2, 100, rows(RowsKind::Softmax, 1)),
        ("rows, layer norm of 512", 2, 20, rows(RowsKind::LayerNorm { epsilon: 1e-5 }, 512)),
        ("rows, RMS norm of 512", 2, 20, rows(RowsKind::RmsNorm { epsilon: 0.0 }, 512)),
        ("rows, sum of 512", 2, 20, rows(RowsKind::Sum, 512)),
        ("rows, mean square of 512", 2, 20, rows(RowsKind::MeanSquare, 512)),
    ];
    calls.extend(functions);
    calls.extend(pieces());
    calls
}

/// Little work in many pieces, and vectors of which little is needed.
fn pieces() -> Vec<(&'static str, u32, u32, Call)> {
    const COUNT: u32 = 10_000;
    const SIDE: i32 = 256;
    let program = |ops: &[Op]| Program::new(ops).unwrap_or_default();
    let (near, out) = (512 << 10, 1 << 20);
    let column = [0, 0, 0, 0, 1, 1];
    let gemm = |batch: u32, m: u32| {
        Call::Gemm(Gemm {
            batch: [1, batch],
            m,
            n: 1,
            k: 0,
            a: view(0, [0; 6]),
            right: Right::Packed(view(near, [0; 6]).address),
            c: view(out, [0, 0, 0, m as i32, 1, 1]),
            program: program(&[]),
        })
    };
    // 2 MB of numbers, each in a line of its own and 32 of them in rows.
    let far = 17;
    let gathered = Call::Gemm(Gemm {
        batch: [1, 1],
        m: 1,
        n: 32,
        k: 900,
        a: view(0, [0; 6]),
        right: Right::Strided(view(16 << 10, [0, 0, 0, 0, 32 * far, far])),
        c: view(2 << 20, [0, 0, 0, 0, 32, 1]),
        program: program(&[]),
    });
    let map = |[d3, d4, d5]: [u32; 3], input: Strides, ops: &[Op]| {
        let strides = [0, 0, 0, (d4 * d5) as i32, d5 as i32, 1];
        let dims = [1, 1, 1, d3, d4, d5];
        Call::Map(Map {
            dims,
            input: view(0, input),
            out: view(out, strides),
            program: program(ops),
        })
    };
    let array = Op::Tensor(Binary::Sub, view(near, [0, 0, 0, 1, 1, 0]));
    let window = |images, output, kernel, left| Window {
        images,
        input: [SIDE as u32; 2],
        output,
        kernel,
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, left],
    };
    let conv = |window: Window| {
        let [height, width] = window.output.map(|size| size as i32);
        Call::Conv(Conv {
            window,
            channels: 1,
            outputs: 1,
            input: view(0, [0, 0, 0, SIDE, 1, 1]),
            weights: view(near, [0; 6]).address,
            out: view(out, [0, 0, height * width, width, 1, 1]),
            program: program(&[]),
        })
    };
    // One position for each of the output's rows.
    let lines = window(1, [SIDE as u32, 1], [1, 1], 0);
    let rows = |kind, columns: u32, ops: &[Op]| {
        let strides = [0, 0, 0, 0, columns as i32, 1];
        Call::Rows(Rows {
            kind,
            dims: [1, 1, 1, 1, 256, columns],
            input: view(0, strides),
            out: view(out, strides),
            program: program(ops),
        })
    };
    vec![
        ("gemm 1 x 1 x 0, 10,000 of them", 2, 20, gemm(COUNT, 1)),
        ("gemm 10,000 x 1 x 0", 2, 50, gemm(1, COUNT)),
        ("gemm 1 x 32 x 900, right-hand side apart", 3, 50, gathered),
        ("map, a tile for each", 2, 20, map([COUNT, 1, 1], [0, 0, 0, 1, 1, 1], &[])),
        ("map, a column", 2, 50, map([1, COUNT, 1], column, &[])),
        (
            "map, gelu 8 times, a column",
            2,
            20,
            map([1, COUNT, 1], column, &[Op::Unary(Unary::Gelu); 8]),
        ),
        (
            "map, tanh 8 times, a column",
            2,
            20,
            map([1, COUNT, 1], column, &[Op::Unary(Unary::Tanh); 8]),
        ),
        ("map, 8 arrays, a column", 2, 20, map([1, COUNT, 1], column, &[array; 8])),
        (
            "map, 8 arrays, a tile for each",
            2,
            20,
            map([COUNT, 1, 1], [0, 0, 0, 1, 1, 1], &[array; 8]),
        ),
        ("map, 15 columns of one number", 2, 20, map([1, COUNT, 15], [0, 0, 0, 0, 1, 0], &[])),
        ("conv, no kernel, 10,000 images", 2, 20, conv(window(COUNT, [1, 1], [0, 1], 0))),
        (
            "conv 1 x 256, over the border",
            2,
            50,
            conv(window(1, [SIDE as u32, 1], [1, SIDE as u32], 1)),
        ),
        (
            "depthwise 1 x 1, a channel, one in a row",
            2,
            500,
            Call::Depthwise(Depthwise {
                window: lines,
                channels: 1,
                input: view(0, [0, 0, 0, SIDE, 1, 7]),
                weights: view(near, [7; 6]),
                out: view(out, [0, 0, 0, 1, 1, 1]),
                program: program(&[]),
            }),
        ),
        (
            "pool, mean 1 x 1, a channel, one in a row",
            2,
            500,
            Call::Pool(Pool {
                kind: PoolKind::MeanInside,
                window: lines,
                channels: 1,
                input: view(0, [0, 0, 0, SIDE, 1, 1]),
                out: view(out, [0, 0, 0, 1, 1, 1]),
                program: program(&[]),
            }),
        ),
        ("rows, layer norm of 9", 2, 100, rows(RowsKind::LayerNorm { epsilon: 0.0 }, 9, &[])),
        (
            "rows, layer norm of 512, by one",
            2,
            20,
            rows(RowsKind::LayerNorm { epsilon: 1.0 }, 512, &[]),
        ),
        (
            "rows, sum of 1, gelu 8 times",
            2,
            100,
            rows(RowsKind::Sum, 1, &[Op::Unary(Unary::Gelu); 8]),
        ),
    ]
}

fn unary_name(unary: Unary) -> &'static str {
    match unary {
        Unary::Neg => "map, neg 8 times",
        Unary::Abs => "map, abs 8 times",
        Unary::Sqrt => "map, sqrt 8 times",
        Unary::Recip => "map, recip 8 times",
        Unary::Exp => "map, exp 8 times",
        Unary::Sigmoid => "map, sigmoid 8 times",
        Unary::Tanh => "map, tanh 8 times",
        Unary::Erf => "map, erf 8 times",
        Unary::Gelu => "map, gelu 8 times",
        Unary::Silu => "map, silu 8 times",
    }
}

/// A guest that makes the call so often. A load fills its memory with numbers.
fn work(name: &str, mib: u32, calls: u32, call: &Call, numbers: Numbers) -> Work {
    let calls = calls.div_ceil(numbers.slower());
    let block: String = call
        .write()
        .unwrap_or_default()
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let bits = numbers.bits();
    let end = NUMBERS_AT + (mib << 20) - 4;
    let load = format!(
        "(local.set 2 (i32.const {NUMBERS_AT}))
         (loop
           (local.set 3 (i32.mul (i32.shr_u (local.get 2) (i32.const 2)) (i32.const -1640531535)))
           (i32.store (local.get 2) (i32.or {bits} (i32.shr_u (local.get 3) (i32.const 16))))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 4)))
             (i32.const {end}))))"
    );
    let guest = Guest {
        imports: format!(
            r#"(import "fuelbox_kernels" "{}" (func $kernel (param i32)))"#,
            call.kernel().name()
        ),
        extra: format!(r#"(data (i32.const {BLOCK_AT}) "{block}")"#),
        load,
        memory: (mib * 16 + 5).to_string(),
        ..Guest::running(&format!(
            "(local.set 2 (i32.const {calls}))
             (loop (call $kernel (i32.const {BLOCK_AT}))
               (br_if 0 (local.tee 2 (i32.sub (local.get 2) (i32.const 1)))))"
        ))
    };
    let name = numbers.name().map_or(name.into(), |numbers| format!("{name}, {numbers}"));
    Work::new(name, "kernels", guest)
}
