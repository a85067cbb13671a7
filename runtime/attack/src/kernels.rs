//! Guests that call host kernels by hand, with any block.

use crate::guest::{Guest, OUTPUTS_AT, REQUEST_AT, signature};
use fuelbox_abi::Dim;
use fuelbox_kernels::{
    Binary, Call, Conv, Depthwise, Gemm, Kernel, Map, Op, Pool, PoolKind, Program, Right, Rows,
    RowsKind, Unary, View, WORDS_MAX, Window, reference,
};

/// Of the guests.
pub const MEMORY_BYTES: u32 = 3 * (64 << 10);
/// What the guest takes: the address that it calls the kernel with, and a block.
pub const INPUT_WORDS: usize = 1 + WORDS_MAX;
/// Where the block of the request lies: behind the message's header.
pub const BLOCK_AT: u32 = REQUEST_AT + 64 + 4;
/// Numbers to work with, up to the request.
pub const NUMBERS_AT: u32 = 32 << 10;
/// How many.
pub const NUMBERS: u32 = (REQUEST_AT - NUMBERS_AT) / 4;

/// A guest that calls a kernel with the address that is its input's first word, and gives a checksum
/// of all of its memory but the request.
pub fn guest(kernel: Kernel) -> Guest {
    let numbers = data((0..NUMBERS).map(number));
    Guest {
        imports: format!(
            r#"(import "fuelbox_kernels" "{}" (func $kernel (param i32)))"#,
            kernel.name()
        ),
        extra: format!(r#"(data (i32.const {NUMBERS_AT}) "{numbers}")"#),
        signature: signature(&[Dim::Fixed(INPUT_WORDS as u64)]),
        run: format!(
            "(call $kernel (i32.load (i32.const {input})))
             (loop
               (local.set 3 (i32.add
                 (i32.mul (local.get 3) (i32.const 31)) (i32.load (local.get 2))))
               (local.set 2 (i32.add (local.get 2) (i32.const 4)))
               (br_if 0 (i32.lt_u (local.get 2) (i32.const {REQUEST_AT}))))
             (i32.store (i32.const {output}) (local.get 3))",
            input = REQUEST_AT + 64,
            output = OUTPUTS_AT + 64,
        ),
        ..Guest::default()
    }
}

/// Words as a string of the text form.
pub fn data(words: impl IntoIterator<Item = u32>) -> String {
    words.into_iter().flat_map(u32::to_le_bytes).map(|byte| format!("\\{byte:02x}")).collect()
}

/// Ordinary numbers, and now and then one of those that are easy to get wrong.
pub fn number(index: u32) -> u32 {
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, -3e38].map(f32::to_bits);
    let mixed = index.wrapping_mul(2_654_435_761);
    match mixed >> 26 {
        0 => special[mixed as usize % special.len()],
        _ => ((mixed >> 8) as f32 / 4_194_304.0 - 2.0).to_bits(),
    }
}

/// An array whose neighbours are side by side, `at` numbers behind the first one.
pub fn view(at: u32, dims: [u32; 6]) -> View {
    let mut strides = [0; 6];
    let mut step = 1;
    for dim in (0..6).rev() {
        strides[dim] = step;
        step *= dims[dim] as i32;
    }
    View { address: (NUMBERS_AT + 4 * at) as usize, strides }
}

/// How many steps of a call on the numbers are on subnormal ones.
pub fn subnormal_steps(call: &Call) -> u64 {
    let mut memory = vec![0; MEMORY_BYTES as usize];
    let words = memory[NUMBERS_AT as usize..].chunks_exact_mut(4).zip(0..NUMBERS);
    words.for_each(|(word, index)| word.copy_from_slice(&number(index).to_le_bytes()));
    reference::run(call, &mut memory)
}

fn program() -> Program {
    let bias = View { address: NUMBERS_AT as usize, strides: [0, 0, 0, 0, 0, 1] };
    let ops = [Op::Tensor(Binary::Add, bias), Op::Scalar(Binary::Max, 0.0), Op::Unary(Unary::Tanh)];
    Program::new(&ops).expect("few operations")
}

fn window() -> Window {
    Window {
        images: 1,
        input: [5, 6],
        output: [5, 6],
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
    }
}

/// A call of each kernel that is in order: inputs in the lower half of the numbers, outputs in the
/// upper one.
pub fn good(kernel: Kernel) -> Call {
    let out_at = NUMBERS / 2;
    let (window, program) = (window(), program());
    let image = |channels| [1, 1, 1, 5, 6, channels];
    match kernel {
        Kernel::Gemm => Call::Gemm(Gemm {
            batch: [1, 2],
            m: 5,
            n: 33,
            k: 7,
            a: view(64, [1, 1, 1, 2, 5, 7]),
            right: Right::Strided(view(512, [1, 1, 1, 2, 7, 33])),
            c: view(out_at, [1, 1, 1, 2, 5, 33]),
            program,
        }),
        Kernel::Conv => Call::Conv(Conv {
            window,
            channels: 3,
            outputs: 20,
            input: view(64, image(3)),
            weights: (NUMBERS_AT + 4 * 512) as usize,
            out: view(out_at, image(20)),
            program,
        }),
        Kernel::Depthwise => Call::Depthwise(Depthwise {
            window,
            channels: 35,
            input: view(64, image(35)),
            weights: view(2048, [1, 1, 1, 3, 3, 35]),
            out: view(out_at, image(35)),
            program,
        }),
        Kernel::Pool => Call::Pool(Pool {
            kind: PoolKind::MeanInside,
            window,
            channels: 35,
            input: view(64, image(35)),
            out: view(out_at, image(35)),
            program,
        }),
        Kernel::Map => Call::Map(Map {
            dims: image(35),
            input: view(64, image(35)),
            out: view(out_at, image(35)),
            program,
        }),
        Kernel::Rows => Call::Rows(Rows {
            kind: RowsKind::Softmax,
            dims: image(35),
            input: view(64, image(35)),
            out: view(out_at, image(35)),
            program,
        }),
    }
}
