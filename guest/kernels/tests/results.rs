//! Every kernel with all instructions that there are, against the reference: to the bit, all of memory.

mod support;

use fuelbox_kernels::{
    Binary, Call, Conv, Depthwise, Dims, Gemm, Isa, Map, OPS_MAX, Pool, PoolKind, Program, RANK,
    Right, Rows, RowsKind, Unary, View, Window, reference,
};
use proptest::{prelude::*, sample::select};
use support::{Random, Space, Step, Use, steps};

/// A product of subnormal numbers, by chunks of depth and tiles: who pays for one tile only gets no other.
#[test]
fn who_does_not_pay_gets_no_more() {
    let (m, n, k) = (40, 64, 600);
    let view = |address: usize, row: i32| View { address, strides: [0, 0, 0, 0, row, 1] };
    let (a, b) = (4 * m as usize * k as usize, 4 * k as usize * n as usize);
    let call = Call::Gemm(Gemm {
        batch: [1, 1],
        m,
        n,
        k,
        a: view(0, k as i32),
        right: Right::Strided(view(a, n as i32)),
        c: view(a + b, n as i32),
        program: Program::default(),
    });
    let numbers = vec![1e-40f32; (a + b) / 4 + (m * n) as usize];
    let checked = call.check(4 * numbers.len()).expect("a call");
    let all = u64::from(m) * u64::from(n) * u64::from(k);
    for isa in Isa::available() {
        for allowed in [u64::MAX, all, all - 1, all / 2, 1, 0] {
            let mut memory = numbers.clone();
            let (mut made, mut stopped) = (0, false);
            let spend = &mut |steps: u64| {
                assert!(!stopped, "{isa:?}: goes on");
                made += steps;
                stopped = made > allowed;
                !stopped
            };
            // SAFETY: checked against this size; the processor has these.
            unsafe { checked.run_watched(memory.as_mut_ptr().cast(), isa, spend) };
            assert_eq!(stopped, all > allowed, "{isa:?}");
            // 14 rows by 32 columns by 8 steps at most.
            assert!(made <= allowed.saturating_add(14 * 32 * 8), "{isa:?}: {made} of {allowed}");
            assert!(stopped || made == all, "{isa:?}: {made} of {all}");
        }
    }
}

/// Every function and the softmax at all exponents: where a number is nothing beside another, too.
#[test]
fn functions_are_the_references_at_every_magnitude() {
    let mut random = Random(1);
    let exponents = (0..=0x1ffu32).flat_map(|high| {
        let mut bits = vec![high << 23, high << 23 | 1, high << 23 | 0x007f_ffff];
        bits.resize_with(61, || high << 23 | random.next() as u32 & 0x007f_ffff);
        bits
    });
    let bits: Vec<u32> = exponents.collect();
    let count = bits.len() as u32;
    let view = |element: u32, row: i32| View {
        address: 4 * element as usize,
        strides: [0, 0, 0, 0, row, 1],
    };
    let unary = |unary: &Unary| {
        let program = Program::new(&[fuelbox_kernels::Op::Unary(*unary)]).expect("an operation");
        let dims = [1, 1, 1, 1, 1, count];
        Call::Map(Map { dims, input: view(0, 0), out: view(count, 0), program })
    };
    // Rows of numbers with neighbours of other magnitudes.
    let softmax = Call::Rows(Rows {
        kind: RowsKind::Softmax,
        dims: [1, 1, 1, 1, count / 61, 61],
        input: view(0, 61),
        out: view(count, 61),
        program: Program::default(),
    });
    let mut calls: Vec<Call> = Unary::ALL.iter().map(unary).collect();
    calls.push(softmax);
    let numbers = [bits.as_slice(), &vec![0; bits.len()]].concat();
    for call in calls {
        let checked = call.check(4 * numbers.len()).expect("a call");
        let mut expected: Vec<u8> = numbers.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        reference::run(&call, &mut expected);
        for isa in Isa::available() {
            let mut found = numbers.clone();
            // SAFETY: checked against this size; the processor has these.
            unsafe { checked.run(found.as_mut_ptr().cast(), isa) };
            for (at, expected) in expected.chunks_exact(4).enumerate() {
                let expected = u32::from_le_bytes(expected.try_into().expect("four bytes"));
                let of = f32::from_bits(numbers[at % bits.len()]);
                assert_eq!(found[at], expected, "{isa:?}: of {of:e}: {call:?}");
            }
        }
    }
}

/// How special the numbers in memory are.
fn wild() -> impl Strategy<Value = u8> {
    select(vec![0, 0, 1, 2, 3])
}

/// A product: sizes `[b0, b1, m, n, k]`.
fn gemm([b0, b1, m, n, k]: [u32; 5], packed: bool, steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let a = space.view(&[1, 1, b0, b1, m, k], Use::Read);
    let right = if packed {
        Right::Packed(space.panels(k as usize, n))
    } else {
        Right::Strided(space.view(&[1, 1, b0, b1, k, n], Use::Read))
    };
    let dims = [1, 1, b0, b1, m, n];
    let c = space.view(&dims, Use::Write);
    let program = space.program(steps, &dims, Some(&c));
    space.compare(Call::Gemm(Gemm { batch: [b0, b1], m, n, k, a, right, c, program }), wild);
}

/// Rows or columns of a window: input, kernel, stride, dilation, padding before and behind.
type Axis = [u32; 6];

fn axis() -> impl Strategy<Value = Axis> {
    (0..7u32, 0..4u32, 1..4u32, 1..3u32, 0..5u32, 0..5u32).prop_map(
        |(input, kernel, stride, dilation, before, behind)| {
            [input, kernel, stride, dilation, before, behind]
        },
    )
}

/// Padding is negative when there is less than two: then the input's edge is cut off.
fn window(images: u32, axes: [Axis; 2]) -> Window {
    let pick = |of: usize| axes.map(|axis| axis[of]);
    let pad = pick(4).map(|before| before as i32 - 1);
    let output = axes.map(|[input, kernel, stride, dilation, before, behind]| {
        let reach = kernel.saturating_sub(1) * dilation;
        let room = (input + before + behind).saturating_sub(reach + 1);
        // Now and then more than there is input for.
        room / stride + behind / 4
    });
    let (input, kernel, stride, dilation) = (pick(0), pick(1), pick(2), pick(3));
    Window { images, input, output, kernel, stride, dilation, pad }
}

fn conv(window: Window, [channels, outputs]: [u32; 2], steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let Window { images, input: [height, width], output: [y, x], kernel, .. } = window;
    let input = space.view(&[1, 1, images, height, width, channels], Use::Read);
    let weights = space.panels((kernel[0] * kernel[1] * channels) as usize, outputs);
    let dims = [1, 1, images, y, x, outputs];
    let out = space.view(&dims, Use::Write);
    let program = space.program(steps, &dims, Some(&out));
    space.compare(
        Call::Conv(Conv { window, channels, outputs, input, weights, out, program }),
        wild,
    );
}

fn depthwise(window: Window, channels: u32, steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let Window { images, input: [height, width], output: [y, x], kernel: [kh, kw], .. } = window;
    let input = space.view(&[1, 1, images, height, width, channels], Use::Read);
    let weights = space.view(&[1, 1, 1, kh, kw, channels], Use::Read);
    let dims = [1, 1, images, y, x, channels];
    let out = space.view(&dims, Use::Write);
    let program = space.program(steps, &dims, Some(&out));
    space.compare(
        Call::Depthwise(Depthwise { window, channels, input, weights, out, program }),
        wild,
    );
}

fn pool(kind: PoolKind, window: Window, channels: u32, steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let Window { images, input: [height, width], output: [y, x], .. } = window;
    let input = space.view(&[1, 1, images, height, width, channels], Use::Read);
    let dims = [1, 1, images, y, x, channels];
    let out = space.view(&dims, Use::Write);
    let program = space.program(steps, &dims, Some(&out));
    space.compare(Call::Pool(Pool { kind, window, channels, input, out, program }), wild);
}

fn map(dims: Dims, in_place: bool, steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let out = space.view(&dims, Use::Write);
    let input = if in_place { out } else { space.view(&dims, Use::Read) };
    let program = space.program(steps, &dims, Some(&out));
    space.compare(Call::Map(Map { dims, input, out, program }), wild);
}

fn rows(kind: RowsKind, dims: Dims, in_place: bool, steps: &[Step], seed: u64, wild: u8) {
    let mut space = Space::new(seed);
    let input = space.view(&dims, Use::ReadRows);
    let mut out_dims = dims;
    if kind.reduces() {
        out_dims[RANK - 1] = out_dims[RANK - 1].min(1);
    }
    // In place, elements must be different as well: a view of rows that repeats none.
    let out = if in_place && out_dims == dims {
        space = Space::new(seed);
        let mut view = space.view(&dims, Use::Write);
        // Dense, so that rows are side by side.
        let mut step = 1;
        for dim in (0..RANK).rev() {
            view.strides[dim] = step;
            step *= dims[dim].max(1) as i32;
        }
        space = Space::new(seed);
        view.address = space.dense(step as usize);
        view
    } else {
        space.view(&out_dims, Use::Write)
    };
    let input = if in_place && out_dims == dims { out } else { input };
    let program = space.program(steps, &out_dims, None);
    space.compare(Call::Rows(Rows { kind, dims, input, out, program }), wild);
}

fn rows_kind() -> impl Strategy<Value = RowsKind> {
    let epsilon = select(vec![0.0, 1e-5, 1e-12, 1.0, f32::NAN, -1.0]);
    epsilon.prop_flat_map(|epsilon| {
        select(vec![
            RowsKind::Softmax,
            RowsKind::RmsNorm { epsilon },
            RowsKind::LayerNorm { epsilon },
            RowsKind::Sum,
            RowsKind::Mean,
            RowsKind::MeanSquare,
            RowsKind::Max,
        ])
    })
}

fn dims(last: u32) -> impl Strategy<Value = Dims> {
    // Mostly ones, so that the work stays small.
    let small = || select(vec![1u32, 1, 1, 2, 3, 0]);
    (small(), small(), 1..3u32, 1..3u32, 0..18u32, 0..last)
        .prop_map(|(d0, d1, d2, d3, d4, d5)| [d0, d1, d2, d3, d4, d5])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn products_are_the_references(
        sizes in (1..3u32, 0..3u32, 0..18u32, 0..70u32, 0..8u32),
        packed: bool, steps in steps(), seed: u64, wild in wild(),
    ) {
        let (b0, b1, m, n, k) = sizes;
        gemm([b0, b1, m, n, k], packed, &steps, seed, wild);
    }

    #[test]
    fn convolutions_are_the_references(
        images in 0..3u32, axes in [axis(), axis()], channels in 0..6u32, outputs in 0..40u32,
        steps in steps(), seed: u64, wild in wild(),
    ) {
        conv(window(images, axes), [channels, outputs], &steps, seed, wild);
    }

    #[test]
    fn depthwise_convolutions_are_the_references(
        images in 0..3u32, axes in [axis(), axis()], channels in 0..70u32,
        steps in steps(), seed: u64, wild in wild(),
    ) {
        depthwise(window(images, axes), channels, &steps, seed, wild);
    }

    #[test]
    fn pools_are_the_references(
        kind in select(PoolKind::ALL.to_vec()),
        images in 0..3u32, axes in [axis(), axis()], channels in 0..70u32,
        steps in steps(), seed: u64, wild in wild(),
    ) {
        pool(kind, window(images, axes), channels, &steps, seed, wild);
    }

    #[test]
    fn maps_are_the_references(
        dims in dims(70), in_place: bool, steps in steps(), seed: u64, wild in wild(),
    ) {
        map(dims, in_place, &steps, seed, wild);
    }

    #[test]
    fn long_lines_are_the_references(
        length in 60..400u32, in_place: bool, steps in steps(), seed: u64, wild in wild(),
    ) {
        map([1, 1, 1, 2, 1, length], in_place, &steps, seed, wild);
    }

    #[test]
    fn functions_of_rows_are_the_references(
        kind in rows_kind(), dims in dims(90), in_place: bool, steps in steps(), seed: u64,
        wild in wild(),
    ) {
        rows(kind, dims, in_place, &steps, seed, wild);
    }
}

/// Sizes at which work is cut, and one beside: rows of a tile and of a block, depth of a chunk, panels.
#[test]
fn products_of_every_cut_are_the_references() {
    let mut seed = 0;
    let bias = [Step::Tensor(Binary::Add), Step::Scalar(Binary::Max, 0)];
    let mut check = |m, n, k| {
        seed += 1;
        gemm([1, 1, m, n, k], seed % 2 == 0, &bias, seed, (seed % 2) as u8);
    };
    for m in (0..=16).chain([28, 29, 111, 112, 113, 225]) {
        check(m, 33, 3);
        check(m, 33, 3);
        check(m, 130, 2);
    }
    for n in [31, 32, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1025] {
        check(3, n, 3);
        check(1, n, 3);
        check(2, n, 3);
        check(15, n, 2);
    }
    for k in [1, 255, 256, 257, 513, 1030] {
        check(3, 33, k);
        check(1, 130, k);
        check(15, 17, k);
        check(15, 17, k);
    }
    check(113, 513, 2);
    check(2, 530, 300);
}

#[test]
fn convolutions_of_every_cut_are_the_references() {
    for (seed, (size, kernel, channels, outputs)) in
        [(12, 3, 5, 33), (9, 3, 40, 8), (6, 1, 300, 4), (3, 3, 2, 520), (5, 5, 12, 64)]
            .into_iter()
            .enumerate()
    {
        let axis = [size, kernel, 1, 1, 2, 2];
        let steps = [Step::Tensor(Binary::Mul), Step::Unary(Unary::Silu)];
        conv(window(1, [axis, axis]), [channels, outputs], &steps, seed as u64, 0);
    }
}

#[test]
fn longest_programs_are_the_references() {
    let steps: Vec<Step> = Unary::ALL
        .into_iter()
        .map(Step::Unary)
        .chain(Binary::ALL.into_iter().map(Step::Tensor))
        .take(OPS_MAX)
        .collect();
    assert_eq!(steps.len(), OPS_MAX);
    for seed in 0..20 {
        map([1, 1, 2, 1, 3, 35], seed % 2 == 0, &steps, seed, (seed % 4) as u8);
        gemm([1, 1, 5, 35, 3], true, &steps, seed, (seed % 4) as u8);
    }
}

/// Each function by itself, at numbers from all over.
#[test]
fn functions_are_the_references_everywhere() {
    for unary in Unary::ALL {
        for seed in 0..40 {
            map([1, 1, 1, 1, 1, 1024], false, &[Step::Unary(unary)], seed, (seed % 4) as u8);
        }
    }
    for binary in Binary::ALL {
        for seed in 0..20 {
            map([1, 1, 1, 1, 1, 1024], false, &[Step::Tensor(binary)], seed, (seed % 4) as u8);
        }
    }
}
