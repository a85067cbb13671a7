//! What calls cost, pinned: a number that changes here is a new cost schedule, and so a new engine
//! profile.

use fuelbox_kernels::{Call, KERNEL_CALL_FUEL, Kernel, SUBNORMAL_FUEL};
use proptest::{collection::vec, prelude::*, sample::select};

/// A call of sizes alone: arrays are dense (last stride 1) but for those that are stepped through.
fn fuel(kernel: Kernel, sizes: &[(usize, u32)], steps: &[(usize, i32)], ops: &[u32]) -> u64 {
    let len = match kernel {
        Kernel::Gemm => 28,
        Kernel::Conv => 31,
        Kernel::Depthwise => 36,
        Kernel::Pool => 30,
        Kernel::Map => 21,
        Kernel::Rows => 23,
    };
    let mut block = vec![1; len];
    sizes.iter().for_each(|&(word, size)| block[word] = size);
    steps.iter().for_each(|&(word, step)| block[word] = step as u32);
    block[len - 1] = ops.len() as u32;
    for op in ops {
        block.extend([*op, 0, 0, 0, 0, 0, 0, 1]);
    }
    Call::read(kernel, &block).expect("a call").cost()
}

#[test]
fn fuel_is_pinned() {
    let product = [(0, 2), (1, 3), (2, 100), (3, 70), (4, 50), (5, 0)];
    let packed = [(0, 2), (1, 3), (2, 100), (3, 70), (4, 50), (5, 1)];
    let row = [(0, 1), (1, 1), (2, 1), (3, 1000), (4, 768), (5, 1)];
    // One image of 10 by 10 to 8 by 8, a kernel of 3 by 3.
    let window = |first: usize| {
        let sizes = [1, 10, 10, 8, 8, 3, 3];
        sizes.into_iter().enumerate().map(move |(word, size)| (first + word, size))
    };
    let conv: Vec<_> = window(0).chain([(13, 16), (14, 40)]).collect();
    let depthwise: Vec<_> = window(0).chain([(13, 40)]).collect();
    let pool: Vec<_> = window(1).chain([(0, 2), (14, 40)]).collect();
    let map = [(3, 10), (4, 20), (5, 30)];
    let rows = |code| [(0, code), (5, 10), (6, 20), (7, 30)];
    let all = [1, 2, 3, 5, 10, 0x101, 0x109, 0x201];
    for (found, expected) in [
        (fuel(Kernel::Gemm, &product, &[], &[]), 265_590),
        (fuel(Kernel::Gemm, &product, &[(12, 9), (19, 9)], &[]), 352_212),
        (fuel(Kernel::Gemm, &packed, &[(26, 9)], &[]), 408_990),
        (fuel(Kernel::Gemm, &row, &[], &[0x201, 0x108]), 199_010),
        (fuel(Kernel::Conv, &conv, &[], &[0x201]), 66_876),
        (fuel(Kernel::Depthwise, &depthwise, &[], &[0x201]), 14_868),
        (fuel(Kernel::Pool, &pool, &[(21, 64)], &[]), 68_224),
        (fuel(Kernel::Map, &map, &[], &[]), 8_400),
        (fuel(Kernel::Map, &map, &[(12, 4), (19, 4)], &all), 111_276),
        (fuel(Kernel::Rows, &rows(1), &[], &[]), 61_600),
        (fuel(Kernel::Rows, &rows(2), &[], &[]), 47_200),
        (fuel(Kernel::Rows, &rows(3), &[], &[]), 47_200),
        (fuel(Kernel::Rows, &rows(4), &[], &[]), 26_400),
    ] {
        assert_eq!(found, expected);
    }
    assert_eq!((KERNEL_CALL_FUEL, SUBNORMAL_FUEL), (100, 100));
}

/// Little work in many pieces, and vectors of which little is needed: what is around the work costs more than it.
#[test]
fn small_pieces_are_paid_for() {
    let gemm = |batch, m, n, k, right| [(0, 1), (1, batch), (2, m), (3, n), (4, k), (5, right)];
    // Images, output, kernel, padding to the left.
    let window = |first: usize, images, [height, width]: [u32; 2], [ky, kx]: [u32; 2], left| {
        let sizes = [images, 600, 600, height, width, ky, kx, 1, 1, 1, 1, 0, left];
        sizes.into_iter().enumerate().map(move |(word, size)| (first + word, size))
    };
    let conv = |images, output, kernel, left| {
        let sizes = window(0, images, output, kernel, left).chain([(13, 1), (14, 1)]);
        fuel(Kernel::Conv, &sizes.collect::<Vec<_>>(), &[], &[])
    };
    let pool = |kind, images, output, kernel, channels| {
        let sizes = window(1, images, output, kernel, 0).chain([(0, kind), (14, channels)]);
        fuel(Kernel::Pool, &sizes.collect::<Vec<_>>(), &[], &[])
    };
    let depthwise = |output, kernel, channels, steps: &[(usize, i32)]| {
        let sizes = window(0, 1, output, kernel, 0).chain([(13, channels)]);
        fuel(Kernel::Depthwise, &sizes.collect::<Vec<_>>(), steps, &[])
    };
    let map = |dims: [u32; 3], steps: &[(usize, i32)], ops: &[u32]| {
        let sizes: Vec<_> = dims.into_iter().enumerate().map(|(at, dim)| (3 + at, dim)).collect();
        fuel(Kernel::Map, &sizes, steps, ops)
    };
    let rows = |kind, rows, columns, ops: &[u32]| {
        fuel(Kernel::Rows, &[(0, kind), (6, rows), (7, columns)], &[], ops)
    };
    let (gelu, subtract) = ([9; 16], [0x202; 16]);
    for (name, found, expected) in [
        ("gemm, no depth", fuel(Kernel::Gemm, &gemm(1000, 1, 1, 0, 1), &[], &[]), 66_000),
        ("gemm, a depth of one", fuel(Kernel::Gemm, &gemm(1000, 1, 1, 1, 1), &[], &[]), 74_000),
        ("gemm, many rows", fuel(Kernel::Gemm, &gemm(1, 1000, 1, 0, 1), &[], &[]), 26_040),
        (
            "gemm, a row by columns far apart",
            fuel(Kernel::Gemm, &gemm(1, 1, 64, 100, 0), &[(19, 9)], &[]),
            20_956,
        ),
        ("conv, no kernel", conv(1000, [1, 1], [0, 1], 0), 66_000),
        ("conv, inside", conv(1, [100, 1], [1, 256], 0), 61_040),
        ("conv, over the left border", conv(1, [100, 1], [1, 256], 1), 1_081_040),
        ("conv, over the right border", conv(1, [100, 601], [1, 256], 0), 297_781_040),
        ("largest, no taps", pool(1, 1, [100, 1], [0, 1], 1), 4_200),
        ("mean, no taps", pool(2, 1, [100, 1], [0, 1], 1), 11_400),
        ("depthwise, side by side", depthwise([100, 1], [1, 1], 1, &[]), 6_600),
        ("depthwise, alone", depthwise([100, 1], [1, 1], 1, &[(20, 9), (27, 9)]), 7_400),
        ("depthwise, weights apart", depthwise([1, 1], [1, 1], 32, &[(27, 9)]), 152),
        ("map, a tile for each", map([1000, 1, 1], &[], &[]), 44_000),
        ("map, a column", map([1, 1400, 1], &[], &[]), 35_600),
        ("map, a column, 16 gelu", map([1, 1400, 1], &[], &gelu), 1_424_528),
        ("map, a column, 16 arrays", map([1, 1400, 1], &[], &subtract), 243_120),
        ("map, 15 columns of one", map([1, 1, 15], &[(12, 0)], &[]), 96),
        ("map, 16 columns of one", map([1, 1, 16], &[(12, 0)], &[]), 44),
        ("map, a long line", map([1, 1, 4480], &[], &[]), 4_708),
        ("map, nothing", map([1, 1, 0], &[], &subtract), 328),
        ("rows, the sum of one", rows(4, 1000, 1, &[]), 120_000),
        ("rows, the sum of one, 16 gelu", rows(4, 1000, 1, &gelu), 1_112_128),
        ("rows, layer norm of nine", rows(3, 1000, 9, &[]), 168_000),
    ] {
        assert_eq!(found, expected, "{name}");
    }
}

/// Words of a block that are sizes, which may be anything; the last step of a right-hand side, of arrays.
fn sizes_of(kernel: Kernel) -> Vec<usize> {
    match kernel {
        Kernel::Gemm => vec![0, 1, 2, 3, 4],
        // Neither the input, beyond which taps cost more, nor what windows step by.
        Kernel::Conv => vec![0, 3, 4, 5, 6, 14],
        Kernel::Depthwise => vec![0, 3, 4, 5, 6, 13],
        Kernel::Pool => vec![1, 4, 5, 6, 7, 14],
        Kernel::Map => vec![0, 1, 2, 3, 4, 5],
        Kernel::Rows => vec![2, 3, 4, 5, 6, 7],
    }
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![0..40u32, (0..=32u32).prop_map(|bits| ((1u64 << bits) - 1) as u32), any::<u32>()]
}

proptest! {
    /// Whatever a block has in it, a cost is a number, and more of anything costs no less. (One number for all of a
    /// row, by a step of 0, is cheaper in whole vectors: steps are others here.)
    #[test]
    fn more_costs_no_less(
        kernel in select(Kernel::ALL.to_vec()),
        code in 1..=4u32,
        words in vec(size(), 36),
        step in select(vec![1u32, 2, 9, u32::MAX]),
        ops in vec(select(vec![1u32, 5, 9, 0x101, 0x104, 0x201, 0x205]), 0..=16),
        which in any::<prop::sample::Index>(),
        more in size(),
    ) {
        let (len, code_at, steps) = match kernel {
            Kernel::Gemm => (28, Some(5), vec![12, 19, 26]),
            Kernel::Conv => (31, None, vec![21, 29]),
            Kernel::Depthwise => (36, None, vec![20, 27, 34]),
            Kernel::Pool => (30, Some(0), vec![21, 28]),
            Kernel::Map => (21, None, vec![12, 19]),
            Kernel::Rows => (23, Some(0), vec![14, 21]),
        };
        let mut block = words[..len - 1].to_vec();
        if let Some(at) = code_at {
            block[at] = if kernel == Kernel::Gemm { code % 2 } else { code };
        }
        for at in steps {
            block[at] = step;
        }
        block.push(ops.len() as u32);
        for op in ops {
            block.extend([op, 0, 0, 0, 0, 0, 0, step]);
        }
        let cost = |block: &[u32]| Call::read(kernel, block).expect("a call").cost();
        let before = cost(&block);
        prop_assert!(before < 1 << 62);
        let sizes = sizes_of(kernel);
        let at = sizes[which.index(sizes.len())];
        block[at] = block[at].saturating_add(more);
        prop_assert!(cost(&block) >= before, "word {at}: {} after {before}", cost(&block));
    }
}
