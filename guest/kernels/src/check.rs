//! Checks: that a call touches memory only where it may, and costs no more than one call may.
//!
//! Every address that a kernel computes is `view.address + 4 * sum of index * stride` with indices
//! inside of the view's sizes; so the least and the greatest of these bound all of them.

use crate::{
    call::{CALL_FUEL_MAX, Call, Dims, Op, PANEL, RANK, Right, View, Window},
    error::KernelError,
};

/// Bytes of an element.
const ELEMENT: i64 = 4;
/// Largest size and step of a window: far beyond any image, and small enough that coordinates fit
/// 64 bits.
const WINDOW_MAX: u32 = 1 << 24;

/// A call that may be done: made by [`Call::check`] alone.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    pub(crate) call: &'a Call,
    fuel: u64,
}

/// The bytes of an array: none if it has no elements.
type Span = Option<(i64, i64)>;

impl Call {
    /// Checks the call against a memory of this size, in bytes.
    ///
    /// # Errors
    /// When an array is not inside of memory or not at a multiple of four, the output's elements are
    /// not all different, the output shares bytes with something that is read (other than the same
    /// element, where that is read before), or the call is too large.
    pub fn check(&self, memory_len: usize) -> Result<Checked<'_>, KernelError> {
        let fuel = self.cost();
        if fuel > CALL_FUEL_MAX {
            return Err(KernelError::TooMuch { found: fuel });
        }
        let within = |what, view: &View, dims: &Dims| span(what, view, dims, memory_len);
        let dims = self.out_dims();
        let out = self.out();
        let written = within("outputs", out, &dims)?;
        if written.is_some() && !distinct(out, &dims) {
            return Err(KernelError::Overlap { what: "output" });
        }
        let apart = |what, read: Span| match (written, read) {
            (Some(written), Some(read)) if written.0 < read.1 && read.0 < written.1 => {
                Err(KernelError::Overlap { what })
            }
            _ => Ok(()),
        };
        // In place: each element is read before it is written, and by none but itself.
        let same = |view: &View, of: &Dims| {
            let alike = (0..RANK).all(|dim| of[dim] <= 1 || view.strides[dim] == out.strides[dim]);
            view.address == out.address && alike && *of == dims
        };
        let reads = |what, view: &View, of: &Dims| apart(what, within(what, view, of)?);
        match self {
            Self::Gemm(call) => {
                let [b0, b1] = call.batch;
                reads("left-hand side", &call.a, &[1, 1, b0, b1, call.m, call.k])?;
                match &call.right {
                    Right::Strided(view) => {
                        reads("right-hand side", view, &[1, 1, b0, b1, call.k, call.n])?;
                    }
                    Right::Packed(address) => {
                        reads_panels(*address, call.k.into(), call.n, memory_len)
                            .and_then(apart_panels(&apart))?;
                    }
                }
            }
            Self::Conv(call) => {
                window(&call.window)?;
                reads("input", &call.input, &input_dims(&call.window, call.channels))?;
                let [kh, kw] = call.window.kernel.map(u64::from);
                let k = (kh * kw).saturating_mul(u64::from(call.channels));
                reads_panels(call.weights, k, call.outputs, memory_len)
                    .and_then(apart_panels(&apart))?;
            }
            Self::Depthwise(call) => {
                window(&call.window)?;
                reads("input", &call.input, &input_dims(&call.window, call.channels))?;
                let [kh, kw] = call.window.kernel;
                reads("weights", &call.weights, &[1, 1, 1, kh, kw, call.channels])?;
            }
            Self::Pool(call) => {
                window(&call.window)?;
                reads("input", &call.input, &input_dims(&call.window, call.channels))?;
            }
            Self::Map(call) => {
                if !same(&call.input, &call.dims) {
                    reads("input", &call.input, &call.dims)?;
                }
            }
            Self::Rows(call) => {
                if call.input.strides[RANK - 1] != 1 && call.dims[RANK - 1] > 1 {
                    let found = call.input.strides[RANK - 1];
                    return Err(KernelError::parameter("step inside of a row", found, "1"));
                }
                if !same(&call.input, &call.dims) {
                    reads("input", &call.input, &call.dims)?;
                }
            }
        }
        for op in self.program().ops() {
            if let Op::Tensor(_, view) = op
                // A softmax keeps its exponentials in the output.
                && (matches!(self, Self::Rows(_)) || !same(view, &dims))
            {
                reads("operand", view, &dims)?;
            }
        }
        Ok(Checked { call: self, fuel })
    }
}

impl Checked<'_> {
    /// What the work costs, beyond [`crate::KERNEL_CALL_FUEL`].
    pub fn fuel(&self) -> u64 {
        self.fuel
    }
}

fn apart_panels(
    apart: &impl Fn(&'static str, Span) -> Result<(), KernelError>,
) -> impl Fn(Span) -> Result<(), KernelError> + '_ {
    move |span| apart("packed weights", span)
}

/// The bytes of packed panels.
fn reads_panels(address: usize, k: u64, n: u32, memory_len: usize) -> Result<Span, KernelError> {
    let what = "packed weights";
    aligned(what, address)?;
    let columns = i64::from(n.div_ceil(PANEL as u32)) * PANEL as i64;
    let bytes = columns.saturating_mul(signed(k)).saturating_mul(ELEMENT);
    let start = signed(address as u64);
    let end = start.saturating_add(bytes);
    inside(what, start, end, memory_len)?;
    Ok((bytes > 0).then_some((start, end)))
}

/// The bytes of an array, which are inside of memory.
fn span(
    what: &'static str,
    view: &View,
    dims: &Dims,
    memory_len: usize,
) -> Result<Span, KernelError> {
    if dims.contains(&0) {
        return Ok(None);
    }
    aligned(what, view.address)?;
    // One product fits 64 bits, six of them may not: what saturates is outside of any memory.
    let (mut low, mut high) = (0i64, 1i64);
    for (dim, stride) in dims.iter().zip(view.strides) {
        let reach = i64::from(dim - 1) * i64::from(stride);
        low = low.saturating_add(reach.min(0));
        high = high.saturating_add(reach.max(0));
    }
    let start = signed(view.address as u64);
    let (low, high) = (
        start.saturating_add(low.saturating_mul(ELEMENT)),
        start.saturating_add(high.saturating_mul(ELEMENT)),
    );
    inside(what, low, high, memory_len)?;
    Ok(Some((low, high)))
}

fn aligned(what: &'static str, address: usize) -> Result<(), KernelError> {
    if address.is_multiple_of(ELEMENT as usize) {
        Ok(())
    } else {
        Err(KernelError::Alignment { what, address })
    }
}

/// As a signed number; what is too large for that is outside of any memory.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn inside(what: &'static str, low: i64, high: i64, len: usize) -> Result<(), KernelError> {
    let fits = low >= 0 && high <= signed(len as u64) && high < i64::MAX;
    if fits { Ok(()) } else { Err(KernelError::Memory { what }) }
}

/// Whether no two indices name the same element: each stride steps over all that is inside of it.
/// Some arrays without that order are refused, too.
fn distinct(view: &View, dims: &Dims) -> bool {
    let mut steps: [(u64, u64); RANK] =
        std::array::from_fn(|dim| (view.strides[dim].unsigned_abs().into(), dims[dim].into()));
    steps.sort_unstable();
    let mut reach = 0u64;
    for (stride, dim) in steps {
        if dim > 1 {
            if stride <= reach {
                return false;
            }
            // The span fits memory, so this fits 64 bits.
            reach += stride * (dim - 1);
        }
    }
    true
}

fn input_dims(window: &Window, channels: u32) -> Dims {
    [1, 1, window.images, window.input[0], window.input[1], channels]
}

fn window(window: &Window) -> Result<(), KernelError> {
    let Window { input, output, kernel, stride, dilation, pad, .. } = window;
    for (what, sizes, least) in [
        ("input sizes", input, 0),
        ("output sizes", output, 0),
        ("kernel sizes", kernel, 0),
        ("strides", stride, 1),
        ("dilations", dilation, 1),
    ] {
        if let Some(found) = sizes.iter().find(|&&size| size < least || size > WINDOW_MAX) {
            return Err(KernelError::parameter(what, *found, "up to 2^24, strides from 1"));
        }
    }
    if let Some(found) = pad.iter().find(|pad| pad.unsigned_abs() > WINDOW_MAX) {
        return Err(KernelError::parameter("padding", *found, "-2^24 to 2^24"));
    }
    Ok(())
}
