//! One 512-bit register.

use super::{EXPONENT_HIGH, Simd};
use std::arch::x86_64::*;

/// AVX-512 F and DQ.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

type Chosen = Avx512;

#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { 0xffff } else { (1 << count) - 1 }
}

// SAFETY: all of these are called only where AVX-512 F and DQ are (`Isa`), with pointers that are
// valid for the lanes of the mask: masked-off lanes are neither read nor written.
impl Simd for Avx512 {
    type V = __m512;
    type M = __mmask16;
    // 14 x 2 sums, two vectors of the right-hand side; the left-hand side comes from memory.
    const ROWS: usize = 14;
    const VECTORS: usize = 2;

    compiled_with!(#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_mask_storeu_ps(to, first(count), v) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn abs(a: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    unsafe fn neg(a: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_xor_ps(a, _mm512_set1_ps(-0.0)) }
    }

    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }

    #[inline(always)]
    unsafe fn is_nan(a: Self::V) -> Self::M {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }

    #[inline(always)]
    unsafe fn is_subnormal(a: Self::V) -> Self::M {
        const SUBNORMAL: i32 = 1 << 5;
        // SAFETY: as for the `impl`.
        unsafe { _mm512_fpclass_ps_mask::<SUBNORMAL>(a) }
    }

    #[inline(always)]
    unsafe fn or(a: Self::M, b: Self::M) -> Self::M {
        a | b
    }

    #[inline(always)]
    unsafe fn without(a: Self::M, b: Self::M) -> Self::M {
        a & !b
    }

    #[inline(always)]
    unsafe fn select(mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }

    #[inline(always)]
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        }
    }

    #[inline(always)]
    unsafe fn zero_if_tiny(a: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe {
            let high = _mm512_set1_epi32(EXPONENT_HIGH as i32);
            _mm512_maskz_mov_ps(_mm512_test_epi32_mask(_mm512_castps_si512(a), high), a)
        }
    }

    #[inline(always)]
    unsafe fn shift_to_exponent(a: Self::V) -> Self::V {
        // SAFETY: as for the `impl`.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(a))) }
    }
}
