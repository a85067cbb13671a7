//! Vectors of 16 numbers.
//!
//! Every operation is IEEE 754 single precision, rounded to nearest even, so all implementations give
//! the same bits; only the payloads of NaNs may differ, which [`Simd::canonical`] makes equal before
//! anything is stored.

use crate::{program::Finish, scratch::KEPT, subnormal::Steps, tile::Multiply};

/// Functions of a [`Simd`] that are compiled by themselves: what they inline gets these features.
macro_rules! compiled_with {
    ($(#[$feature:meta])?) => {
        #[inline(always)]
        unsafe fn multiply<const R: usize, const C: usize>(work: &$crate::tile::Multiply) {
            $(#[$feature])?
            unsafe fn compiled<const R: usize, const C: usize>(work: &$crate::tile::Multiply) {
                // SAFETY: as the caller promised.
                unsafe { $crate::tile::multiply::<Chosen, R, C>(work) }
            }
            // SAFETY: as the caller promised.
            unsafe { compiled::<R, C>(work) }
        }

        #[inline(always)]
        unsafe fn multiply_again(
            work: &$crate::tile::Multiply,
            sizes: [usize; 3],
            kept: &mut [f32; $crate::scratch::KEPT],
            steps: &mut $crate::subnormal::Steps<'_>,
        ) {
            $(#[$feature])?
            #[cold]
            unsafe fn compiled(
                work: &$crate::tile::Multiply,
                sizes: [usize; 3],
                kept: &mut [f32; $crate::scratch::KEPT],
                steps: &mut $crate::subnormal::Steps<'_>,
            ) {
                // SAFETY: as the caller promised.
                unsafe { $crate::tile::multiply_again::<Chosen>(work, sizes, kept, steps) }
            }
            // SAFETY: as the caller promised.
            unsafe { compiled(work, sizes, kept, steps) }
        }

        #[inline(always)]
        unsafe fn finish(work: &$crate::program::Finish<'_>, tile: *mut f32) {
            $(#[$feature])?
            unsafe fn compiled(work: &$crate::program::Finish<'_>, tile: *mut f32) {
                // SAFETY: as the caller promised.
                unsafe { $crate::program::finish::<Chosen>(work, tile) }
            }
            // SAFETY: as the caller promised.
            unsafe { compiled(work, tile) }
        }
    };
}

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Numbers in a vector.
pub(crate) const LANES: usize = 16;

/// The upper two bits of an exponent.
pub(crate) const EXPONENT_HIGH: u32 = 0x6000_0000;

/// What stands for every NaN in memory.
pub(crate) const NAN: u32 = 0x7fc0_0000;

/// Vectors of 16 numbers, and how tiles are made of them.
///
/// # Safety
/// Methods may be called only where the instructions are there: inside of [`crate::Isa`]'s entry
/// points. Pointers must be valid for what is read or written; they need no alignment beyond that of a
/// number.
pub(crate) trait Simd: Copy {
    /// 16 numbers.
    type V: Copy;
    /// 16 truths.
    type M: Copy;
    /// Rows of the tile that keeps all registers busy.
    const ROWS: usize;
    /// Vectors side by side in that tile.
    const VECTORS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// The first `count` numbers (up to 16), and zeros.
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `count` numbers (up to 16).
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    unsafe fn neg(a: Self::V) -> Self::V;
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M;
    unsafe fn is_nan(a: Self::V) -> Self::M;
    /// Whether the magnitude is above zero and below [`f32::MIN_POSITIVE`]. No processor takes
    /// longer for it, or raises a flag.
    unsafe fn is_subnormal(a: Self::V) -> Self::M;
    unsafe fn or(a: Self::M, b: Self::M) -> Self::M;
    /// `a` where `b` is not.
    unsafe fn without(a: Self::M, b: Self::M) -> Self::M;
    /// `mask ? a : b`
    unsafe fn select(mask: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V;
    /// Zero where the magnitude is below 2^-63, whose square may be subnormal: where both upper bits of
    /// the exponent are zero.
    unsafe fn zero_if_tiny(a: Self::V) -> Self::V;
    /// The bits, moved up by 23: from the low bits of a mantissa to sign and exponent.
    unsafe fn shift_to_exponent(a: Self::V) -> Self::V;

    /// [`crate::tile::multiply`], compiled by itself with these instructions.
    unsafe fn multiply<const R: usize, const C: usize>(work: &Multiply);
    /// [`crate::tile::multiply_again`], compiled by itself with these instructions.
    unsafe fn multiply_again(
        work: &Multiply,
        sizes: [usize; 3],
        kept: &mut [f32; KEPT],
        steps: &mut Steps<'_>,
    );
    /// [`crate::program::finish`], compiled by itself with these instructions.
    unsafe fn finish(work: &Finish<'_>, tile: *mut f32);

    /// NaNs become the one that is stored.
    #[inline(always)]
    unsafe fn canonical(a: Self::V) -> Self::V {
        // SAFETY: as the caller promised.
        unsafe { Self::select(Self::is_nan(a), Self::splat(f32::from_bits(NAN)), a) }
    }

    /// `count` numbers (up to 16) that are `stride` apart, and zeros.
    #[inline(always)]
    unsafe fn load_strided(from: *const f32, stride: isize, count: usize) -> Self::V {
        // SAFETY: as the caller promised.
        unsafe {
            match stride {
                1 if count == LANES => Self::load(from),
                1 => Self::load_part(from, count),
                0 if count == LANES => Self::splat(*from),
                _ => {
                    let mut numbers = [0.0; LANES];
                    for (lane, number) in numbers.iter_mut().enumerate().take(count) {
                        *number = *from.offset(lane as isize * stride);
                    }
                    Self::load(numbers.as_ptr())
                }
            }
        }
    }

    /// The first `count` numbers (up to 16), `stride` apart.
    #[inline(always)]
    unsafe fn store_strided(to: *mut f32, stride: isize, v: Self::V, count: usize) {
        // SAFETY: as the caller promised.
        unsafe {
            match stride {
                1 if count == LANES => Self::store(to, v),
                1 => Self::store_part(to, v, count),
                _ => {
                    let mut numbers = [0.0; LANES];
                    Self::store(numbers.as_mut_ptr(), v);
                    for (lane, number) in numbers.iter().enumerate().take(count) {
                        *to.offset(lane as isize * stride) = *number;
                    }
                }
            }
        }
    }

    /// The numbers one by one.
    #[inline(always)]
    unsafe fn to_array(v: Self::V) -> [f32; LANES] {
        let mut numbers = [0.0; LANES];
        // SAFETY: as the caller promised; the array has room for all.
        unsafe { Self::store(numbers.as_mut_ptr(), v) };
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers at which rounding is hard, and all kinds of special ones.
    fn numbers() -> Vec<f32> {
        let mut numbers = vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            -f32::from_bits(1),
            f32::from_bits(0x007f_ffff),
            f32::MAX,
            f32::MIN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1.0 + f32::EPSILON,
            1.0 - f32::EPSILON / 2.0,
            16_777_216.0,
            16_777_215.0,
            1e-20,
            -1e-20,
            3.0e19,
            -3.0e19,
            1e-38,
            0.1,
            1.0 / 3.0,
        ];
        let mut state = 1u64;
        for _ in 0..40 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            numbers.push(f32::from_bits((state >> 32) as u32));
        }
        numbers
    }

    /// The chain's rounding: against the processor's own where it has one.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn fused_products_are_rounded_once() {
        if !is_x86_feature_detected!("fma") {
            return;
        }
        #[target_feature(enable = "fma")]
        fn hardware(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }
        for &a in &numbers() {
            for &b in &numbers() {
                for &c in &numbers() {
                    // SAFETY: fma was detected; the portable vectors need nothing.
                    let (found, expected) = unsafe {
                        let vector = Portable::fma(
                            Portable::splat(a),
                            Portable::splat(b),
                            Portable::splat(c),
                        );
                        (Portable::to_array(vector)[3], hardware(a, b, c))
                    };
                    let same = found.to_bits() == expected.to_bits()
                        || found.is_nan() && expected.is_nan();
                    assert!(same, "fma({a:e}, {b:e}, {c:e}) = {found:e}, not {expected:e}");
                }
            }
        }
    }
}
