//! Parameter blocks: calls as 32-bit words in a guest's memory. `docs/formats/kernels.md` has the
//! tables.

use crate::{
    call::{
        Binary, Call, Conv, Depthwise, Gemm, Kernel, Map, OPS_MAX, Op, Pool, PoolKind, Program,
        RANK, Right, Rows, RowsKind, Strides, Unary, View, Window,
    },
    error::KernelError,
};

/// Words of the longest block, with the longest program.
pub const WORDS_MAX: usize = 48 + OPS_MAX * OP_WORDS;
/// Words of one operation of a program: code, operand, six strides.
pub const OP_WORDS: usize = 2 + RANK;

const SCALAR: u32 = 0x100;
const TENSOR: u32 = 0x200;
const STRIDED: u32 = 0;
const PACKED: u32 = 1;

/// Reads words in order.
struct Reader<'a>(&'a [u32]);

impl Reader<'_> {
    fn next(&mut self) -> u32 {
        // Blocks are read whole, WORDS_MAX or up to the end of memory; what is missing then reads as
        // zeros only after `need` has made sure that nothing is missing.
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn need(&self, words: usize) -> Result<(), KernelError> {
        if self.0.len() < words { Err(KernelError::Memory { what: "parameters" }) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self) -> [u32; N] {
        std::array::from_fn(|_| self.next())
    }

    fn strides(&mut self) -> Strides {
        self.array::<RANK>().map(|word| word as i32)
    }

    fn view(&mut self) -> View {
        View { address: self.next() as usize, strides: self.strides() }
    }

    fn window(&mut self) -> Window {
        Window {
            images: self.next(),
            input: self.array(),
            output: self.array(),
            kernel: self.array(),
            stride: self.array(),
            dilation: self.array(),
            pad: self.array().map(|word: u32| word as i32),
        }
    }

    /// Reads a program into its place: it is most of a call, and is not moved about.
    fn program(&mut self, program: &mut Program) -> Result<(), KernelError> {
        let found = self.next();
        if found as usize > OPS_MAX {
            return Err(KernelError::parameter("operations", found, "at most 16"));
        }
        self.need(found as usize * OP_WORDS)?;
        for _ in 0..found {
            let code = self.next();
            let view = self.view();
            let op = match code & !0xff {
                0 => Unary::ALL.into_iter().find(|&unary| unary as u32 == code).map(Op::Unary),
                SCALAR => {
                    binary(code).map(|op| Op::Scalar(op, f32::from_bits(view.address as u32)))
                }
                TENSOR => binary(code).map(|op| Op::Tensor(op, view)),
                _ => None,
            };
            let op = op.ok_or(KernelError::parameter("operation", code, "a documented code"))?;
            // Cannot fail: `found` was checked.
            let _ = program.push(op);
        }
        Ok(())
    }
}

fn binary(code: u32) -> Option<Binary> {
    Binary::ALL.into_iter().find(|&binary| binary as u32 == code & 0xff)
}

const WINDOW_WORDS: usize = 13;
const VIEW_WORDS: usize = 1 + RANK;

impl Call {
    /// Reads the block of a call.
    ///
    /// # Errors
    /// When `words` end before the block does, or a code is not one of the documented ones.
    pub fn read(kernel: Kernel, words: &[u32]) -> Result<Self, KernelError> {
        let mut words = Reader(words);
        words.need(match kernel {
            Kernel::Gemm => 6 + 3 * VIEW_WORDS + 1,
            Kernel::Conv => WINDOW_WORDS + 2 + 2 * VIEW_WORDS + 2,
            Kernel::Depthwise => WINDOW_WORDS + 1 + 3 * VIEW_WORDS + 1,
            Kernel::Pool => 1 + WINDOW_WORDS + 1 + 2 * VIEW_WORDS + 1,
            Kernel::Map => RANK + 2 * VIEW_WORDS + 1,
            Kernel::Rows => 2 + RANK + 2 * VIEW_WORDS + 1,
        })?;
        let program = Program::default();
        let mut call = match kernel {
            Kernel::Gemm => {
                let [b0, b1, m, n, k] = words.array();
                let form = words.next();
                let (a, b, c) = (words.view(), words.view(), words.view());
                let right = match form {
                    STRIDED => Right::Strided(b),
                    PACKED => Right::Packed(b.address),
                    _ => return Err(KernelError::parameter("right-hand side", form, "0 or 1")),
                };
                Self::Gemm(Gemm { batch: [b0, b1], m, n, k, a, right, c, program })
            }
            Kernel::Conv => Self::Conv(Conv {
                window: words.window(),
                channels: words.next(),
                outputs: words.next(),
                input: words.view(),
                weights: words.next() as usize,
                out: words.view(),
                program,
            }),
            Kernel::Depthwise => Self::Depthwise(Depthwise {
                window: words.window(),
                channels: words.next(),
                input: words.view(),
                weights: words.view(),
                out: words.view(),
                program,
            }),
            Kernel::Pool => {
                let code = words.next();
                let kind = PoolKind::ALL.into_iter().find(|&kind| kind as u32 == code);
                Self::Pool(Pool {
                    kind: kind.ok_or(KernelError::parameter("pool", code, "1 to 4"))?,
                    window: words.window(),
                    channels: words.next(),
                    input: words.view(),
                    out: words.view(),
                    program,
                })
            }
            Kernel::Map => Self::Map(Map {
                dims: words.array(),
                input: words.view(),
                out: words.view(),
                program,
            }),
            Kernel::Rows => {
                let code = words.next();
                let epsilon = f32::from_bits(words.next());
                let kind = match code {
                    1 => RowsKind::Softmax,
                    2 => RowsKind::RmsNorm { epsilon },
                    3 => RowsKind::LayerNorm { epsilon },
                    4 => RowsKind::Sum,
                    5 => RowsKind::Mean,
                    6 => RowsKind::MeanSquare,
                    7 => RowsKind::Max,
                    _ => return Err(KernelError::parameter("rows", code, "1 to 7")),
                };
                Self::Rows(Rows {
                    kind,
                    dims: words.array(),
                    input: words.view(),
                    out: words.view(),
                    program,
                })
            }
        };
        words.program(call.program_mut())?;
        Ok(call)
    }

    /// The block of a call, as [`Call::read`] takes it.
    ///
    /// # Errors
    /// When an address has more than 32 bits.
    pub fn write(&self) -> Result<Vec<u32>, KernelError> {
        let mut words = Writer(Vec::with_capacity(64));
        match self {
            Self::Gemm(Gemm { batch, m, n, k, a, right, c, program }) => {
                let (form, b) = match *right {
                    Right::Strided(view) => (STRIDED, view),
                    Right::Packed(address) => (PACKED, View { address, ..View::default() }),
                };
                words.all(&[batch[0], batch[1], *m, *n, *k, form]);
                words.views(&[a, &b, c])?;
                words.program(program)?;
            }
            Self::Conv(Conv { window, channels, outputs, input, weights, out, program }) => {
                words.window(window);
                words.all(&[*channels, *outputs]);
                words.views(&[input])?;
                words.address(*weights)?;
                words.views(&[out])?;
                words.program(program)?;
            }
            Self::Depthwise(Depthwise { window, channels, input, weights, out, program }) => {
                words.window(window);
                words.all(&[*channels]);
                words.views(&[input, weights, out])?;
                words.program(program)?;
            }
            Self::Pool(Pool { kind, window, channels, input, out, program }) => {
                words.all(&[*kind as u32]);
                words.window(window);
                words.all(&[*channels]);
                words.views(&[input, out])?;
                words.program(program)?;
            }
            Self::Map(Map { dims, input, out, program }) => {
                words.all(dims);
                words.views(&[input, out])?;
                words.program(program)?;
            }
            Self::Rows(Rows { kind, dims, input, out, program }) => {
                let (code, epsilon) = match *kind {
                    RowsKind::Softmax => (1, 0.0),
                    RowsKind::RmsNorm { epsilon } => (2, epsilon),
                    RowsKind::LayerNorm { epsilon } => (3, epsilon),
                    RowsKind::Sum => (4, 0.0),
                    RowsKind::Mean => (5, 0.0),
                    RowsKind::MeanSquare => (6, 0.0),
                    RowsKind::Max => (7, 0.0),
                };
                words.all(&[code, epsilon.to_bits()]);
                words.all(dims);
                words.views(&[input, out])?;
                words.program(program)?;
            }
        }
        Ok(words.0)
    }
}

impl Call {
    /// Where in [`Call::write`]'s words the addresses are, in the order of [`Call::each_address`].
    ///
    /// # Errors
    /// As [`Call::write`].
    pub fn address_words(&self) -> Result<Vec<u16>, KernelError> {
        let mut marked = *self;
        let mut count = 0;
        marked.each_address(&mut |address| {
            *address = 0;
            count += 1;
        });
        let none = marked.write()?;
        (0..count)
            .map(|number| {
                let mut marked = marked;
                let mut at = 0;
                marked.each_address(&mut |address| {
                    *address = usize::from(at == number);
                    at += 1;
                });
                let words = marked.write()?;
                let place = words.iter().zip(&none).position(|(word, none)| word != none);
                Ok(place.unwrap_or_default() as u16)
            })
            .collect()
    }
}

/// Writes words in order.
struct Writer(Vec<u32>);

impl Writer {
    fn all(&mut self, words: &[u32]) {
        self.0.extend_from_slice(words);
    }

    fn address(&mut self, address: usize) -> Result<(), KernelError> {
        let word = u32::try_from(address).map_err(|_| KernelError::Memory { what: "address" })?;
        self.0.push(word);
        Ok(())
    }

    fn views(&mut self, views: &[&View]) -> Result<(), KernelError> {
        for view in views {
            self.address(view.address)?;
            self.all(&view.strides.map(|stride| stride as u32));
        }
        Ok(())
    }

    fn window(&mut self, window: &Window) {
        let Window { images, input, output, kernel, stride, dilation, pad } = window;
        self.all(&[*images]);
        for pair in [input, output, kernel, stride, dilation] {
            self.all(pair);
        }
        self.all(&pad.map(|pad| pad as u32));
    }

    fn program(&mut self, program: &Program) -> Result<(), KernelError> {
        self.all(&[program.ops().len() as u32]);
        for op in program.ops() {
            match op {
                Op::Unary(unary) => {
                    self.all(&[*unary as u32]);
                    self.views(&[&View::default()])?;
                }
                Op::Scalar(binary, number) => {
                    self.all(&[SCALAR | *binary as u32, number.to_bits()]);
                    self.all(&[0; RANK]);
                }
                Op::Tensor(binary, view) => {
                    self.all(&[TENSOR | *binary as u32]);
                    self.views(&[view])?;
                }
            }
        }
        Ok(())
    }
}
