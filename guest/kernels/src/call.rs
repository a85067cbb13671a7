//! Calls: what a guest asks for, as structures. Sizes and strides are in elements (FP32), addresses in
//! bytes from the start of memory.

/// Most operations in a program. The longest that fusing makes of common models has 8.
pub const OPS_MAX: usize = 16;
/// Dimensions of every index space: two of batches, image, row, position, channel; or any six.
pub const RANK: usize = 6;
/// Columns of one panel of a packed right-hand side.
pub const PANEL: usize = 32;
/// Most fuel that one call may cost: some milliseconds of work with SIMD, so that a deadline acts
/// between calls.
pub const CALL_FUEL_MAX: u64 = 1 << 24;

/// Sizes of an index space, outermost first. Unused dimensions are 1, in front.
pub type Dims = [u32; RANK];
/// Steps between neighbours of each dimension, in elements.
pub type Strides = [i32; RANK];

/// An array in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Of the element with all indices zero.
    pub address: usize,
    /// One for each dimension of the call's index space.
    pub strides: Strides,
}

/// Functions of one value.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Unary {
    Neg = 1,
    Abs = 2,
    Sqrt = 3,
    Recip = 4,
    Exp = 5,
    Sigmoid = 6,
    Tanh = 7,
    Erf = 8,
    Gelu = 9,
    Silu = 10,
}

impl Unary {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Neg,
        Self::Abs,
        Self::Sqrt,
        Self::Recip,
        Self::Exp,
        Self::Sigmoid,
        Self::Tanh,
        Self::Erf,
        Self::Gelu,
        Self::Silu,
    ];
}

/// Functions of the value `v` and an operand `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Binary {
    /// `v + s`
    Add = 1,
    /// `v - s`
    Sub = 2,
    /// `s - v`
    RSub = 3,
    /// `v * s`
    Mul = 4,
    /// `v / s`
    Div = 5,
    /// `s / v`
    RDiv = 6,
    /// `s < v ? s : v`
    Min = 7,
    /// `s > v ? s : v`
    Max = 8,
    /// `v > 0 ? v : v * s`
    LeakyRelu = 9,
}

impl Binary {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Add,
        Self::Sub,
        Self::RSub,
        Self::Mul,
        Self::Div,
        Self::RDiv,
        Self::Min,
        Self::Max,
        Self::LeakyRelu,
    ];
}

/// One operation of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// A function of the value.
    Unary(Unary),
    /// A function of the value and a number.
    Scalar(Binary, f32),
    /// A function of the value and an element of an array, at the value's own index.
    Tensor(Binary, View),
}

/// What is done to each value before it is stored, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Program {
    ops: [Op; OPS_MAX],
    len: usize,
}

impl Default for Program {
    fn default() -> Self {
        Self { ops: [Op::Unary(Unary::Neg); OPS_MAX], len: 0 }
    }
}

impl Program {
    /// A program of these operations; none if they are more than [`OPS_MAX`].
    pub fn new(ops: &[Op]) -> Option<Self> {
        let mut program = Self::default();
        ops.iter().try_for_each(|op| program.push(*op))?;
        Some(program)
    }

    /// Adds an operation at the end; none if there is no room.
    pub fn push(&mut self, op: Op) -> Option<()> {
        *self.ops.get_mut(self.len)? = op;
        self.len += 1;
        Some(())
    }

    /// The operations.
    pub fn ops(&self) -> &[Op] {
        &self.ops[..self.len]
    }

    /// The operations, to move their views.
    pub fn ops_mut(&mut self) -> &mut [Op] {
        &mut self.ops[..self.len]
    }
}

/// Where the right-hand side of a product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// An array over (batch, batch, k, n): the last four strides.
    Strided(View),
    /// Panels of [`PANEL`] columns: `[n / 32 rounded up][k][32]`, dense, at this address. Columns
    /// beyond `n` hold zeros, or anything: they decide nothing. The same for all batches.
    Packed(usize),
}

/// `c[b0, b1, i, j] = program(sum over p of a[b0, b1, i, p] * right[b0, b1, p, j])`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Batches, outer and inner.
    pub batch: [u32; 2],
    /// Rows of `a` and `c`.
    pub m: u32,
    /// Columns of the right-hand side and `c`.
    pub n: u32,
    /// Columns of `a`, rows of the right-hand side.
    pub k: u32,
    /// The left-hand side; index space (.., b0, b1, m, k).
    pub a: View,
    /// The right-hand side; index space (.., b0, b1, k, n).
    pub right: Right,
    /// The result; index space (.., b0, b1, m, n), which is the program's as well.
    pub c: View,
    /// Applied to each sum.
    pub program: Program,
}

/// The geometry of a sliding window over images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Images.
    pub images: u32,
    /// Height and width of the input.
    pub input: [u32; 2],
    /// Height and width of the output.
    pub output: [u32; 2],
    /// Height and width of the kernel.
    pub kernel: [u32; 2],
    /// Steps of the window.
    pub stride: [u32; 2],
    /// Steps between the kernel's taps.
    pub dilation: [u32; 2],
    /// Rows above and columns left of the input. May be negative.
    pub pad: [i32; 2],
}

/// Convolution: `out[i, y, x, o] = program(sum over ky, kx, c, in this order, of in[..] * w[..])`,
/// where taps beside the input read `+0.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// Where the windows are.
    pub window: Window,
    /// Input channels.
    pub channels: u32,
    /// Output channels.
    pub outputs: u32,
    /// Index space (.., image, height, width, channel).
    pub input: View,
    /// Panels as [`Right::Packed`], with `k` = (ky, kx, c).
    pub weights: usize,
    /// Index space (.., image, y, x, output), which is the program's as well.
    pub out: View,
    /// Applied to each sum.
    pub program: Program,
}

/// Depthwise convolution: each channel by itself. Taps beside the input are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Depthwise {
    /// Where the windows are.
    pub window: Window,
    /// Channels of input and output.
    pub channels: u32,
    /// Index space (.., image, height, width, channel).
    pub input: View,
    /// Index space (.., ky, kx, channel): the last three strides.
    pub weights: View,
    /// Index space (.., image, y, x, channel), which is the program's as well.
    pub out: View,
    /// Applied to each sum.
    pub program: Program,
}

/// What a pool does with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum PoolKind {
    /// The largest: `x > v ? x : v` from minus infinity on.
    Max = 1,
    /// The sum divided by the size of the kernel.
    Mean = 2,
    /// The sum divided by the number of taps that are inside of the input.
    MeanInside = 3,
    /// The sum, in order, from `+0.0` on.
    Sum = 4,
}

impl PoolKind {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Max, Self::Mean, Self::MeanInside, Self::Sum];
}

/// Pooling. Taps beside the input are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// What is done.
    pub kind: PoolKind,
    /// Where the windows are.
    pub window: Window,
    /// Channels of input and output.
    pub channels: u32,
    /// Index space (.., image, height, width, channel).
    pub input: View,
    /// Index space (.., image, y, x, channel), which is the program's as well.
    pub out: View,
    /// Applied to each result.
    pub program: Program,
}

/// `out[i] = program(input[i])` for each index: element-wise functions, broadcasts, copies between
/// layouts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map {
    /// The index space.
    pub dims: Dims,
    /// What is read.
    pub input: View,
    /// What is written.
    pub out: View,
    /// Applied to each element.
    pub program: Program,
}

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowsKind {
    /// `exp(x - max) / sum of exp(x - max)`: as many elements as the row has.
    Softmax,
    /// `x / sqrt(mean of squares + epsilon)`: as many elements as the row has.
    RmsNorm {
        /// Keeps the root away from zero.
        epsilon: f32,
    },
    /// `(x - mean) / sqrt(variance + epsilon)`: as many elements as the row has.
    LayerNorm {
        /// Keeps the root away from zero.
        epsilon: f32,
    },
    /// The sum: one element.
    Sum,
    /// The mean: one element.
    Mean,
    /// The mean of the squares: one element.
    MeanSquare,
    /// The largest: one element.
    Max,
}

impl RowsKind {
    /// Whether the result is one element for each row.
    pub fn reduces(self) -> bool {
        matches!(self, Self::Sum | Self::Mean | Self::MeanSquare | Self::Max)
    }
}

/// Functions of rows: the last dimension, whose elements stand side by side in the input (stride 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows {
    /// What is done.
    pub kind: RowsKind,
    /// The index space of the input.
    pub dims: Dims,
    /// What is read; its last stride is 1.
    pub input: View,
    /// What is written, over the same index space; if the kind reduces, its last dimension is 1. That
    /// index space is the program's as well.
    pub out: View,
    /// Applied to each result.
    pub program: Program,
}

/// A call of any kernel.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // a value on the stack, never in an array
pub enum Call {
    Gemm(Gemm),
    Conv(Conv),
    Depthwise(Depthwise),
    Pool(Pool),
    Map(Map),
    Rows(Rows),
}

/// The kernels, by the names of their imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kernel {
    Gemm,
    Conv,
    Depthwise,
    Pool,
    Map,
    Rows,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Gemm, Self::Conv, Self::Depthwise, Self::Pool, Self::Map, Self::Rows];

    /// The name of the import.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Conv => "conv",
            Self::Depthwise => "depthwise",
            Self::Pool => "pool",
            Self::Map => "map",
            Self::Rows => "rows",
        }
    }
}

impl Call {
    /// Which kernel it is for.
    pub fn kernel(&self) -> Kernel {
        match self {
            Self::Gemm(_) => Kernel::Gemm,
            Self::Conv(_) => Kernel::Conv,
            Self::Depthwise(_) => Kernel::Depthwise,
            Self::Pool(_) => Kernel::Pool,
            Self::Map(_) => Kernel::Map,
            Self::Rows(_) => Kernel::Rows,
        }
    }

    /// What is done to each value before it is stored.
    pub fn program(&self) -> &Program {
        match self {
            Self::Gemm(call) => &call.program,
            Self::Conv(call) => &call.program,
            Self::Depthwise(call) => &call.program,
            Self::Pool(call) => &call.program,
            Self::Map(call) => &call.program,
            Self::Rows(call) => &call.program,
        }
    }

    /// The sizes of what is written, which is the program's index space.
    pub fn out_dims(&self) -> Dims {
        let windowed = |window: &Window, channels| {
            [1, 1, window.images, window.output[0], window.output[1], channels]
        };
        match self {
            Self::Gemm(Gemm { batch, m, n, .. }) => [1, 1, batch[0], batch[1], *m, *n],
            Self::Conv(Conv { window, outputs, .. }) => windowed(window, *outputs),
            Self::Depthwise(Depthwise { window, channels, .. })
            | Self::Pool(Pool { window, channels, .. }) => windowed(window, *channels),
            Self::Map(Map { dims, .. }) => *dims,
            Self::Rows(Rows { kind, dims, .. }) => {
                let mut dims = *dims;
                if kind.reduces() {
                    dims[RANK - 1] = dims[RANK - 1].min(1);
                }
                dims
            }
        }
    }

    /// Visits every address, to move what is at it.
    pub fn each_address(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        let program = match self {
            Self::Gemm(call) => {
                visit(&mut call.a.address);
                match &mut call.right {
                    Right::Strided(view) => visit(&mut view.address),
                    Right::Packed(address) => visit(address),
                }
                visit(&mut call.c.address);
                &mut call.program
            }
            Self::Conv(call) => {
                visit(&mut call.input.address);
                visit(&mut call.weights);
                visit(&mut call.out.address);
                &mut call.program
            }
            Self::Depthwise(call) => {
                visit(&mut call.input.address);
                visit(&mut call.weights.address);
                visit(&mut call.out.address);
                &mut call.program
            }
            Self::Pool(call) => {
                visit(&mut call.input.address);
                visit(&mut call.out.address);
                &mut call.program
            }
            Self::Map(call) => {
                visit(&mut call.input.address);
                visit(&mut call.out.address);
                &mut call.program
            }
            Self::Rows(call) => {
                visit(&mut call.input.address);
                visit(&mut call.out.address);
                &mut call.program
            }
        };
        for op in program.ops_mut() {
            if let Op::Tensor(_, view) = op {
                visit(&mut view.address);
            }
        }
    }

    /// The program, to add to it.
    pub fn program_mut(&mut self) -> &mut Program {
        match self {
            Self::Gemm(call) => &mut call.program,
            Self::Conv(call) => &mut call.program,
            Self::Depthwise(call) => &mut call.program,
            Self::Pool(call) => &mut call.program,
            Self::Map(call) => &mut call.program,
            Self::Rows(call) => &mut call.program,
        }
    }

    /// What is written.
    pub fn out(&self) -> &View {
        match self {
            Self::Gemm(call) => &call.c,
            Self::Conv(call) => &call.out,
            Self::Depthwise(call) => &call.out,
            Self::Pool(call) => &call.out,
            Self::Map(call) => &call.out,
            Self::Rows(call) => &call.out,
        }
    }
}
