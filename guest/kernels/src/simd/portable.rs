//! Plain Rust, for any processor and for Wasm. Uses no fused instruction and no C library.

use super::{EXPONENT_HIGH, LANES, Simd};
use std::array::from_fn;

/// Arrays that the compiler makes vectors of, if it can.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Chosen = Portable;

/// `a * b + c`, rounded once: the product is exact in double precision; the sum is rounded to odd, so
/// that rounding it again to single precision gives what rounding the exact sum would have
/// (S. Boldo, G. Melquiond: Emulation of FMA and correctly rounded sums, 2008).
#[inline(always)]
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    // What the sum lost, exactly (Knuth).
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // An even sum that lost something takes a step towards what it lost; then it is odd. (For
    // infinite sums `lost` is NaN, and for a sum of zero nothing is lost.)
    let step = u64::from(lost != 0.0 && !lost.is_nan() && bits & 1 == 0);
    let away = (lost > 0.0) == (sum > 0.0);
    let odd = if away { bits.wrapping_add(step) } else { bits.wrapping_sub(step) };
    f64::from_bits(odd) as f32
}

impl Simd for Portable {
    type V = [f32; LANES];
    type M = [bool; LANES];
    const ROWS: usize = 4;
    const VECTORS: usize = 2;

    compiled_with!();

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: as the caller promised.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        // SAFETY: as the caller promised, for the first `count`.
        from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: as the caller promised.
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
        for (lane, number) in v.into_iter().enumerate().take(count) {
            // SAFETY: as the caller promised, for the first `count`.
            unsafe { *to.add(lane) = number };
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        from_fn(|lane| a[lane].sqrt())
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        from_fn(|lane| fma(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    unsafe fn abs(a: Self::V) -> Self::V {
        a.map(f32::abs)
    }

    #[inline(always)]
    unsafe fn neg(a: Self::V) -> Self::V {
        a.map(|number| -number)
    }

    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M {
        from_fn(|lane| a[lane] > b[lane])
    }

    #[inline(always)]
    unsafe fn is_nan(a: Self::V) -> Self::M {
        a.map(f32::is_nan)
    }

    #[inline(always)]
    unsafe fn is_subnormal(a: Self::V) -> Self::M {
        a.map(f32::is_subnormal)
    }

    #[inline(always)]
    unsafe fn or(a: Self::M, b: Self::M) -> Self::M {
        from_fn(|lane| a[lane] | b[lane])
    }

    #[inline(always)]
    unsafe fn without(a: Self::M, b: Self::M) -> Self::M {
        from_fn(|lane| a[lane] & !b[lane])
    }

    #[inline(always)]
    unsafe fn select(mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| if mask[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V {
        from_fn(|lane| a[lane].copysign(b[lane]))
    }

    #[inline(always)]
    unsafe fn zero_if_tiny(a: Self::V) -> Self::V {
        a.map(|number| if number.to_bits() & EXPONENT_HIGH == 0 { 0.0 } else { number })
    }

    #[inline(always)]
    unsafe fn shift_to_exponent(a: Self::V) -> Self::V {
        a.map(|number| f32::from_bits(number.to_bits() << 23))
    }
}
