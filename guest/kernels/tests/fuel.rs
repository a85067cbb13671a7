//! What calls cost, pinned: a number that changes here is a new cost schedule, and so a new engine
//! profile.

use fuelbox_kernels::{Call, KERNEL_CALL_FUEL, Kernel, SUBNORMAL_FUEL};

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
        (fuel(Kernel::Gemm, &product, &[], &[]), 255_600),
        (fuel(Kernel::Gemm, &product, &[(12, 9), (19, 9)], &[]), 292_350),
        (fuel(Kernel::Gemm, &packed, &[(26, 9)], &[]), 357_000),
        (fuel(Kernel::Gemm, &row, &[], &[0x201, 0x108]), 198_925),
        (fuel(Kernel::Conv, &conv, &[], &[0x201]), 65_856),
        (fuel(Kernel::Depthwise, &depthwise, &[], &[0x201]), 13_504),
        (fuel(Kernel::Pool, &pool, &[(21, 64)], &[]), 50_304),
        (fuel(Kernel::Map, &map, &[], &[]), 7_600),
        (fuel(Kernel::Map, &map, &[(12, 4), (19, 4)], &all), 94_600),
        (fuel(Kernel::Rows, &rows(1), &[], &[]), 59_000),
        (fuel(Kernel::Rows, &rows(2), &[], &[]), 44_000),
        (fuel(Kernel::Rows, &rows(3), &[], &[]), 44_000),
        (fuel(Kernel::Rows, &rows(4), &[], &[]), 24_600),
    ] {
        assert_eq!(found, expected);
    }
    assert_eq!((KERNEL_CALL_FUEL, SUBNORMAL_FUEL), (100, 100));
}
