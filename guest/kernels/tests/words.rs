//! Blocks: what is written is read, and what is no block is refused.

use fuelbox_kernels::{
    Binary, Call, Gemm, Isa, Kernel, KernelError, Map, OP_WORDS, OPS_MAX, Op, Program, Right,
    Unary, View, WORDS_MAX,
};
use proptest::prelude::*;

fn kernel() -> impl Strategy<Value = Kernel> {
    proptest::sample::select(Kernel::ALL.to_vec())
}

proptest! {
    /// Whatever is read is written as it was, but for the words that no code gives a meaning.
    #[test]
    fn what_is_read_is_written(kernel in kernel(), words in proptest::collection::vec(small_or_any(), 0..WORDS_MAX)) {
        if let Ok(call) = Call::read(kernel, &words) {
            prop_assert_eq!(call.kernel(), kernel);
            let written = call.write().unwrap();
            prop_assert!(written.len() <= words.len() && written.len() <= WORDS_MAX);
            // Compared as words: a number may be NaN, which equals nothing.
            let again = Call::read(kernel, &written).unwrap();
            prop_assert_eq!(again.write().unwrap(), written);
        }
    }
}

/// Small words are often codes and counts.
fn small_or_any() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..4u32, 1 => any::<u32>(), 1 => 0x100..0x10au32, 1 => 0x200..0x20au32]
}

/// Each word of a block is one field: a block of words that are all different stays as it is.
#[test]
fn every_field_has_its_word() {
    for kernel in Kernel::ALL {
        let (len, codes): (usize, &[(usize, u32)]) = match kernel {
            Kernel::Gemm => (28, &[(5, 0)]),
            Kernel::Conv => (31, &[]),
            Kernel::Depthwise => (36, &[]),
            Kernel::Pool => (30, &[(0, 4)]),
            Kernel::Map => (21, &[]),
            Kernel::Rows => (23, &[(0, 3)]),
        };
        let ops = [
            (Op::Unary(Unary::Erf), 8),
            (Op::Scalar(Binary::Div, 1.5), 0x105),
            (Op::Tensor(Binary::Max, View { address: 12, strides: [1, -2, 3, -4, 5, -6] }), 0x208),
        ];
        let mut block: Vec<u32> = (0..len as u32).map(|index| 1000 + index).collect();
        codes.iter().for_each(|&(index, code)| block[index] = code);
        block[len - 1] = ops.len() as u32;
        for (op, code) in ops {
            let operand = match op {
                Op::Unary(_) => [0; 7],
                Op::Scalar(_, number) => [number.to_bits(), 0, 0, 0, 0, 0, 0],
                Op::Tensor(..) => [12, 1, -2, 3, -4, 5, -6].map(|word: i32| word as u32),
            };
            block.extend([code].into_iter().chain(operand));
        }
        assert_eq!(block.len(), len + 3 * OP_WORDS);
        let call = Call::read(kernel, &block).unwrap();
        assert_eq!(call.program().ops(), ops.map(|(op, _)| op), "{kernel:?}");
        assert_eq!(call.write().unwrap(), block, "{kernel:?}");
        // One word less is not all of it; words behind it belong to others.
        for cut in [len + 3 * OP_WORDS - 1, len, len - 1, 1, 0] {
            let error = Call::read(kernel, &block[..cut]).unwrap_err();
            assert_eq!(error, KernelError::Memory { what: "parameters" }, "{kernel:?} {cut}");
        }
        block.push(77);
        assert!(Call::read(kernel, &block).is_ok());
    }
}

#[test]
fn codes_without_meaning_are_refused() {
    let refused = |kernel, index: usize, code: u32| {
        let mut block = vec![0; WORDS_MAX];
        block[index] = code;
        if kernel == Kernel::Map {
            block[20] = 1;
        }
        Call::read(kernel, &block).err().map(|error| error.to_string())
    };
    for (kernel, index, code, expected) in [
        (Kernel::Gemm, 5, 2, Some("right-hand side 2 found, 0 or 1 allowed")),
        (Kernel::Gemm, 5, u32::MAX, Some("right-hand side 4294967295 found, 0 or 1 allowed")),
        (Kernel::Gemm, 5, 1, None),
        (Kernel::Pool, 0, 0, Some("pool 0 found, 1 to 4 allowed")),
        (Kernel::Pool, 0, 5, Some("pool 5 found, 1 to 4 allowed")),
        (Kernel::Pool, 0, 4, None),
        (Kernel::Rows, 0, 0, Some("rows 0 found, 1 to 7 allowed")),
        (Kernel::Rows, 0, 8, Some("rows 8 found, 1 to 7 allowed")),
        (Kernel::Rows, 0, 7, None),
        (Kernel::Map, 21, 0, Some("operation 0 found, a documented code allowed")),
        (Kernel::Map, 21, 10, None),
        (Kernel::Map, 21, 11, Some("operation 11 found, a documented code allowed")),
        (Kernel::Map, 21, 0x100, Some("operation 256 found, a documented code allowed")),
        (Kernel::Map, 21, 0x109, None),
        (Kernel::Map, 21, 0x10a, Some("operation 266 found, a documented code allowed")),
        (Kernel::Map, 21, 0x209, None),
        (Kernel::Map, 21, 0x301, Some("operation 769 found, a documented code allowed")),
        (
            Kernel::Map,
            21,
            0x8000_0001,
            Some("operation 2147483649 found, a documented code allowed"),
        ),
        (Kernel::Gemm, 27, 17, Some("operations 17 found, at most 16 allowed")),
        (Kernel::Conv, 30, u32::MAX, Some("operations 4294967295 found, at most 16 allowed")),
    ] {
        assert_eq!(refused(kernel, index, code).as_deref(), expected, "{kernel:?} {code:#x}");
    }
}

/// The example of `docs/formats/kernels.md`.
#[test]
fn the_documentations_example_is_a_block() {
    let mut block = vec![0; 37];
    block[..6].copy_from_slice(&[1, 1, 1, 1, 1, 10]);
    (block[6], block[12], block[13], block[19]) = (0x1000, 1, 0x2000, 1);
    block[20] = 2;
    (block[21], block[22], block[29]) = (0x101, 0x3f00_0000, 0x108);
    let call = Call::read(Kernel::Map, &block).unwrap();
    assert_eq!(call.write().unwrap(), block);
    let checked = call.check(1 << 16).unwrap();
    assert_eq!(checked.fuel(), 68);
    let mut memory = vec![0u32; 1 << 14];
    let x = [1.0f32, -1.0, 0.25, -0.25, -0.5, 0.0, 8.0, f32::INFINITY, -0.75, f32::NAN];
    x.iter().zip(&mut memory[0x400..]).for_each(|(x, word)| *word = x.to_bits());
    // SAFETY: checked against this size; plain Rust runs everywhere.
    unsafe { checked.run(memory.as_mut_ptr().cast(), Isa::Portable) };
    let y = memory[0x800..0x80a].iter().map(|&word| f32::from_bits(word)).collect::<Vec<_>>();
    assert_eq!(y[..9], [1.5, 0.0, 0.75, 0.25, 0.0, 0.5, 8.5, f32::INFINITY, 0.0]);
    assert_eq!(y[9].to_bits(), 0x7fc0_0000);
}

#[test]
fn the_longest_blocks_fit() {
    let view = View { address: 4, strides: [1; 6] };
    let program = Program::new(&[Op::Tensor(Binary::Add, view); OPS_MAX]).unwrap();
    assert!(Program::new(&[Op::Tensor(Binary::Add, view); OPS_MAX + 1]).is_none());
    let call = Call::Gemm(Gemm {
        batch: [1, 1],
        m: 1,
        n: 1,
        k: 1,
        a: view,
        right: Right::Strided(view),
        c: view,
        program,
    });
    let words = call.write().unwrap();
    assert!(words.len() <= WORDS_MAX);
    assert_eq!(Call::read(Kernel::Gemm, &words), Ok(call));
    let far = View { address: 1 << 32, strides: [0; 6] };
    let call = Call::Map(Map { dims: [1; 6], input: far, out: view, program });
    assert_eq!(call.write(), Err(KernelError::Memory { what: "address" }));
}
