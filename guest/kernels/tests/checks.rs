//! What a call may touch and cost: at each edge, and one past it. A call that is refused has written
//! nothing, as only [`fuelbox_kernels::Checked`] can run.

use fuelbox_kernels::{
    Binary, CALL_FUEL_MAX, Call, Conv, Depthwise, Dims, Gemm, Kernel, KernelError, Map, Op, Pool,
    PoolKind, Program, RANK, Right, Rows, RowsKind, View, Window,
};

/// Bytes of memory in these tests.
const LEN: usize = 1 << 16;

fn check(call: Call) -> Result<u64, String> {
    call.check(LEN).map(|checked| checked.fuel()).map_err(|error| error.to_string())
}

/// An array whose neighbours are side by side.
fn view(address: usize, dims: &Dims) -> View {
    let mut strides = [0; RANK];
    let mut step = 1;
    for dim in (0..RANK).rev() {
        strides[dim] = step;
        step *= dims[dim] as i32;
    }
    View { address, strides }
}

/// One line of ten elements to another place.
fn line(input: View, out: View) -> Call {
    let dims = [1, 1, 1, 1, 1, 10];
    Call::Map(Map { dims, input, out, program: Program::default() })
}

const LINE: Dims = [1, 1, 1, 1, 1, 10];

fn at(address: usize) -> View {
    view(address, &LINE)
}

fn stepping(address: usize, stride: i32) -> View {
    View { address, strides: [0, 0, 0, 0, 0, stride] }
}

#[test]
fn arrays_reach_to_the_last_byte_and_not_past_it() {
    let outside = |what: &str| Err(format!("{what} lie outside of memory"));
    for (call, expected) in [
        (line(at(0), at(LEN - 40)), None),
        (line(at(LEN - 40), at(0)), None),
        (line(at(0), at(LEN - 36)), Some("outputs")),
        (line(at(LEN - 36), at(0)), Some("input")),
        (line(at(LEN), at(0)), Some("input")),
        (line(at(0), at(u32::MAX as usize - 3)), Some("outputs")),
        // Backwards from the last element to the first byte.
        (line(stepping(36, -1), at(40)), None),
        (line(stepping(32, -1), at(40)), Some("input")),
        (line(at(40), stepping(36, -1)), None),
        (line(at(40), stepping(32, -1)), Some("outputs")),
        (line(stepping(0, i32::MAX), at(40)), Some("input")),
        (line(stepping(0, i32::MIN), at(40)), Some("input")),
        (line(stepping(LEN - 4, -1810), at(0)), None),
        (line(stepping(LEN - 4, -1821), at(0)), Some("input")),
        (line(stepping(0, 1810), at(LEN - 80)), None),
    ] {
        let found = check(call);
        match expected {
            Some(what) => assert_eq!(found, outside(what), "{call:?}"),
            None => assert!(found.is_ok(), "{found:?} {call:?}"),
        }
    }
}

#[test]
fn addresses_are_multiples_of_four() {
    for low in 1..4 {
        let text = |what: &str, address: usize| {
            Err(format!("{what} are at {address:#x}, multiples of 4 are allowed"))
        };
        assert_eq!(check(line(at(low), at(400))), text("input", low));
        assert_eq!(check(line(at(0), at(400 + low))), text("outputs", 400 + low));
        let operand = Op::Tensor(Binary::Add, at(800 + low));
        let mut call = line(at(0), at(400));
        call.program_mut().push(operand).unwrap();
        assert_eq!(check(call), text("operand", 800 + low));
        let mut call = product(2, 2, 2);
        call.right = Right::Packed(low);
        assert_eq!(check(Call::Gemm(call)), text("packed weights", low));
    }
}

#[test]
fn an_output_overlaps_nothing_but_itself_in_place() {
    let overlap = |what: &str| Err(format!("output and {what} overlap"));
    let fine = |call| assert!(check(call).is_ok(), "{:?} {call:?}", check(call));
    fine(line(at(0), at(40)));
    fine(line(at(40), at(0)));
    fine(line(at(0), at(0)));
    for shift in (4..40).step_by(4) {
        assert_eq!(check(line(at(0), at(shift))), overlap("input"));
        assert_eq!(check(line(at(shift), at(0))), overlap("input"));
    }
    // The same place, other strides: elements change places.
    assert_eq!(check(line(stepping(36, -1), at(0))), overlap("input"));
    assert_eq!(check(line(stepping(0, 2), at(0))), overlap("input"));
    // Operands, too.
    let with = |operand| {
        let mut call = line(at(0), at(400));
        call.program_mut().push(Op::Tensor(Binary::Add, operand)).unwrap();
        call
    };
    fine(with(at(400)));
    fine(with(at(440)));
    fine(with(at(360)));
    assert_eq!(check(with(at(404))), overlap("operand"));
    assert_eq!(check(with(stepping(400, 0))), overlap("operand"));
    // An output whose elements are not all different.
    let dims = [1, 1, 1, 1, 3, 10];
    let lines = |strides: [i32; RANK]| {
        let program = Program::default();
        let out = View { address: 8000, strides };
        Call::Map(Map { dims, input: view(0, &dims), out, program })
    };
    fine(lines([0, 0, 0, 0, 10, 1]));
    fine(lines([0, 0, 0, 0, -10, 1]));
    fine(lines([0, 0, 0, 0, 1, 3]));
    for strides in [[0, 0, 0, 0, 9, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 2]]
    {
        assert_eq!(check(lines(strides)), overlap("output"), "{strides:?}");
    }
}

#[test]
fn inputs_of_products_and_windows_are_never_the_output() {
    let c_at = 4096;
    for (address, expected) in
        [(c_at, true), (c_at - 16, false), (c_at + 16, false), (c_at - 12, true)]
    {
        // Two by two numbers each: 16 bytes.
        let mut call = product(2, 2, 2);
        call.a.address = address;
        assert_eq!(check(Call::Gemm(call)).is_err(), expected, "left at {address}");
        let mut call = product(2, 2, 2);
        call.right = Right::Strided(view(address, &[1, 1, 1, 1, 2, 2]));
        assert_eq!(check(Call::Gemm(call)).is_err(), expected, "right at {address}");
    }
    let mut call = product(2, 2, 2);
    call.right = Right::Packed(c_at - 2 * 32 * 4);
    assert!(check(Call::Gemm(call)).is_ok());
    call.right = Right::Packed(c_at - 2 * 32 * 4 + 4);
    assert_eq!(check(Call::Gemm(call)), Err("output and packed weights overlap".into()));
    let image = [1, 1, 1, 4, 4, 2];
    let mut pooled = pool(window());
    pooled.input = view(8192, &image);
    pooled.out = view(8192, &image);
    assert_eq!(check(Call::Pool(pooled)), Err("output and input overlap".into()));
}

#[test]
fn a_softmax_reads_no_operand_from_its_output() {
    // Its exponentials are kept there before the program runs.
    let dims = LINE;
    let rows = |kind, operand| {
        let program = Program::new(&[Op::Tensor(Binary::Add, operand)]).unwrap();
        check(Call::Rows(Rows { kind, dims, input: at(0), out: at(0), program }))
    };
    assert!(rows(RowsKind::Softmax, at(40)).is_ok());
    let refused = rows(RowsKind::Softmax, at(0));
    assert_eq!(refused, Err("output and operand overlap".into()));
}

#[test]
fn rows_stand_side_by_side() {
    let rows = |stride, length| {
        let dims = [1, 1, 1, 1, 1, length];
        let (input, out) = (stepping(0, stride), at(400));
        let program = Program::default();
        check(Call::Rows(Rows { kind: RowsKind::Softmax, dims, input, out, program }))
    };
    assert!(rows(1, 10).is_ok());
    assert!(rows(7, 1).is_ok());
    for stride in [0, 2, -1, i32::MIN] {
        let text = format!("step inside of a row {stride} found, 1 allowed");
        assert_eq!(rows(stride, 10), Err(text));
    }
}

fn product(m: u32, n: u32, k: u32) -> Gemm {
    Gemm {
        batch: [1, 1],
        m,
        n,
        k,
        a: view(0, &[1, 1, 1, 1, m, k]),
        right: Right::Strided(view(1024, &[1, 1, 1, 1, k, n])),
        c: view(4096, &[1, 1, 1, 1, m, n]),
        program: Program::default(),
    }
}

fn window() -> Window {
    Window {
        images: 1,
        input: [4, 4],
        output: [4, 4],
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
    }
}

fn pool(window: Window) -> Pool {
    let image = [1, 1, 1, 4, 4, 2];
    Pool {
        kind: PoolKind::Max,
        window,
        channels: 2,
        input: view(0, &image),
        out: view(8192, &image),
        program: Program::default(),
    }
}

#[test]
fn windows_are_sane() {
    const MOST: u32 = 1 << 24;
    let sizes = "up to 2^24, strides from 1 allowed";
    let with = |change: &dyn Fn(&mut Window)| {
        let mut window = window();
        change(&mut window);
        // Without channels there is nothing to read or write, so only the window itself counts.
        let call = Pool { channels: 0, ..pool(window) };
        check(Call::Pool(call))
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|window| window.input = [MOST, 0]).is_ok());
    assert!(with(&|window| window.stride = [MOST, 1]).is_ok());
    assert!(with(&|window| window.dilation = [1, MOST]).is_ok());
    assert!(with(&|window| window.pad = [MOST as i32, -(MOST as i32)]).is_ok());
    for (change, expected) in [
        (
            (&|window: &mut Window| window.input[1] = MOST + 1) as &dyn Fn(&mut Window),
            "input sizes 16777217",
        ),
        (&|window| window.output = [0, MOST + 1], "output sizes 16777217"),
        (
            &|window| (window.output, window.kernel) = ([0, 0], [u32::MAX, 1]),
            "kernel sizes 4294967295",
        ),
        (&|window| window.stride[0] = 0, "strides 0"),
        (&|window| window.stride[1] = MOST + 1, "strides 16777217"),
        (&|window| window.dilation[1] = 0, "dilations 0"),
    ] {
        assert_eq!(with(change), Err(format!("{expected} found, {sizes}")));
    }
    for pad in [MOST as i32 + 1, i32::MIN] {
        let text = format!("padding {pad} found, -2^24 to 2^24 allowed");
        assert_eq!(with(&|window| window.pad = [0, pad]), Err(text));
    }
}

#[test]
fn calls_cost_what_one_call_may_and_no_more() {
    // A product of one row by one column, as deep as it may be: both steps are zero.
    let deep = |k: u32| {
        let once = |address| View { address, strides: [0; RANK] };
        let right = Right::Strided(once(4));
        check(Call::Gemm(Gemm { a: once(0), right, c: once(8), ..product(1, 1, k) }))
    };
    let mut most = 0;
    for bit in (0..32).rev() {
        if deep(most | 1 << bit).is_ok() {
            most |= 1 << bit;
        }
    }
    let fuel = deep(most).unwrap();
    assert!(fuel <= CALL_FUEL_MAX && fuel > CALL_FUEL_MAX - 1000, "{fuel}");
    let refused = deep(most + 1).unwrap_err();
    assert!(refused.ends_with("fuel found, at most 16777216 allowed"), "{refused}");
    for k in [1 << 31, u32::MAX] {
        assert!(deep(k).unwrap_err().ends_with("fuel found, at most 16777216 allowed"));
    }
}

/// Every size as large as words can say, alone and with a zero beside it: refused, or nothing to do.
#[test]
fn enormous_sizes_are_refused_or_idle() {
    for kernel in Kernel::ALL {
        let (sizes, len): (Vec<usize>, usize) = match kernel {
            Kernel::Gemm => (vec![0, 1, 2, 3, 4], 28),
            Kernel::Conv => ((0..15).collect(), 31),
            Kernel::Depthwise => ((0..14).collect(), 36),
            Kernel::Pool => ((1..15).collect(), 30),
            Kernel::Map => ((0..6).collect(), 21),
            Kernel::Rows => ((2..8).collect(), 23),
        };
        for value in [u32::MAX, u32::MAX - 30, 1 << 31, 1 << 24, 0xffff] {
            for zero in sizes.iter().map(Some).chain([None]) {
                for stride in [0u32, 1, 1 << 31] {
                    let mut block = vec![stride; len];
                    sizes.iter().for_each(|&size| block[size] = value);
                    block[len - 1] = 0;
                    match kernel {
                        Kernel::Gemm => block[5] = stride & 1,
                        Kernel::Pool | Kernel::Rows => block[0] = 1,
                        Kernel::Conv | Kernel::Depthwise | Kernel::Map => {}
                    }
                    zero.iter().for_each(|&&size| block[size] = 0);
                    let call = Call::read(kernel, &block).unwrap();
                    let Ok(checked) = call.check(LEN) else { continue };
                    assert!(call.out_dims().contains(&0), "{call:?}");
                    let mut memory = vec![0u32; LEN / 4];
                    for isa in fuelbox_kernels::Isa::available() {
                        // SAFETY: checked against this size; the processor has these.
                        unsafe { checked.run(memory.as_mut_ptr().cast(), isa) };
                    }
                    assert!(memory.iter().all(|&word| word == 0));
                }
            }
        }
    }
}

#[test]
fn arrays_without_elements_may_be_anywhere() {
    let nowhere = View { address: u32::MAX as usize, strides: [i32::MIN; RANK] };
    let program = Program::new(&[Op::Tensor(Binary::Add, nowhere)]).unwrap();
    for dim in 0..RANK {
        let mut dims = [3; RANK];
        dims[dim] = 0;
        let call = Map { dims, input: nowhere, out: nowhere, program };
        assert!(check(Call::Map(call)).is_ok(), "{dims:?}");
    }
    // A product without depth reads nothing and writes zeros.
    let deepless = Gemm { a: nowhere, right: Right::Strided(nowhere), ..product(2, 2, 0) };
    assert!(check(Call::Gemm(deepless)).is_ok());
}

#[test]
fn every_array_of_every_kernel_is_checked() {
    // Each array in turn is moved past the end.
    let image = [1, 1, 1, 4, 4, 2];
    let conv = Conv {
        window: window(),
        channels: 2,
        outputs: 2,
        input: view(0, &image),
        weights: 1024,
        out: view(8192, &image),
        program: Program::new(&[Op::Tensor(Binary::Add, view(32768, &image))]).unwrap(),
    };
    let depthwise = Depthwise {
        window: window(),
        channels: 2,
        input: view(0, &image),
        weights: view(1024, &[1, 1, 1, 3, 3, 2]),
        out: view(8192, &image),
        program: conv.program,
    };
    let calls = [
        Call::Gemm(product(2, 2, 2)),
        Call::Gemm(Gemm { right: Right::Packed(1024), ..product(2, 2, 2) }),
        Call::Conv(conv),
        Call::Depthwise(depthwise),
        Call::Pool(Pool { program: conv.program, ..pool(window()) }),
        line(at(0), at(40)),
        Call::Rows(Rows {
            kind: RowsKind::Max,
            dims: LINE,
            input: at(0),
            out: at(40),
            program: Program::default(),
        }),
    ];
    for call in calls {
        assert!(check(call).is_ok(), "{call:?}");
        let mut addresses = 0;
        { call }.each_address(&mut |_| addresses += 1);
        assert!(addresses >= 2);
        for moved in 0..addresses {
            let (mut call, mut at) = (call, 0);
            call.each_address(&mut |address| {
                if at == moved {
                    *address = LEN - 4;
                }
                at += 1;
            });
            let reduced = matches!(&call, Call::Rows(_)) && moved == 1;
            let found = call.check(LEN).map(|checked| checked.fuel());
            match found {
                Err(KernelError::Memory { .. }) => assert!(!reduced),
                // One element at the very end.
                Ok(_) => assert!(reduced, "array {moved} of {call:?}"),
                Err(error) => panic!("{error}: array {moved} of {call:?}"),
            }
        }
    }
}
