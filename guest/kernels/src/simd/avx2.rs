//! Two 256-bit registers.

use super::{EXPONENT_HIGH, LANES, Simd};
use std::arch::x86_64::*;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

type Chosen = Avx2;

/// One expression for each half.
macro_rules! both {
    ($half:ident => $value:expr) => {{
        let $half = 0;
        // SAFETY: as for the `impl`.
        let low = unsafe { $value };
        let $half = 1;
        // SAFETY: as for the `impl`.
        let high = unsafe { $value };
        [low, high]
    }};
}

// SAFETY: all of these are called only where AVX2 and FMA are (`Isa`), with pointers that are valid
// for the lanes that they read or write.
impl Simd for Avx2 {
    type V = [__m256; 2];
    type M = [__m256; 2];
    // 6 x 2 registers of sums, two of the right-hand side, one of the left-hand side.
    const ROWS: usize = 6;
    const VECTORS: usize = 1;

    compiled_with!(#[target_feature(enable = "avx2,fma")]);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        both!(_half => _mm256_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        both!(half => _mm256_loadu_ps(from.add(8 * half)))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        let mut numbers = [0.0f32; LANES];
        // SAFETY: as for the `impl`; no more than `LANES` are copied to as many.
        unsafe {
            std::ptr::copy_nonoverlapping(from, numbers.as_mut_ptr(), count.min(LANES));
            Self::load(numbers.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: as for the `impl`.
        unsafe {
            _mm256_storeu_ps(to, v[0]);
            _mm256_storeu_ps(to.add(8), v[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut f32, v: Self::V, count: usize) {
        let mut numbers = [0.0f32; LANES];
        // SAFETY: as for the `impl`; no more than `LANES` are copied from as many.
        unsafe {
            Self::store(numbers.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, count.min(LANES));
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_add_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_sub_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_mul_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_div_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        both!(half => _mm256_sqrt_ps(a[half]))
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        both!(half => _mm256_fmadd_ps(a[half], b[half], c[half]))
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_max_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_min_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn abs(a: Self::V) -> Self::V {
        both!(half => _mm256_andnot_ps(_mm256_set1_ps(-0.0), a[half]))
    }

    #[inline(always)]
    unsafe fn neg(a: Self::V) -> Self::V {
        both!(half => _mm256_xor_ps(a[half], _mm256_set1_ps(-0.0)))
    }

    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M {
        both!(half => _mm256_cmp_ps::<_CMP_GT_OQ>(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn is_nan(a: Self::V) -> Self::M {
        both!(half => _mm256_cmp_ps::<_CMP_UNORD_Q>(a[half], a[half]))
    }

    #[inline(always)]
    unsafe fn is_subnormal(a: Self::V) -> Self::M {
        both!(half => {
            let magnitude = _mm256_and_si256(
                _mm256_castps_si256(a[half]),
                _mm256_set1_epi32(i32::MAX),
            );
            let normal = _mm256_set1_epi32(f32::MIN_POSITIVE.to_bits() as i32);
            let below = _mm256_cmpgt_epi32(normal, magnitude);
            let above = _mm256_cmpgt_epi32(magnitude, _mm256_setzero_si256());
            _mm256_castsi256_ps(_mm256_and_si256(below, above))
        })
    }

    #[inline(always)]
    unsafe fn or(a: Self::M, b: Self::M) -> Self::M {
        both!(half => _mm256_or_ps(a[half], b[half]))
    }

    #[inline(always)]
    unsafe fn without(a: Self::M, b: Self::M) -> Self::M {
        both!(half => _mm256_andnot_ps(b[half], a[half]))
    }

    #[inline(always)]
    unsafe fn select(mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        both!(half => _mm256_blendv_ps(b[half], a[half], mask[half]))
    }

    #[inline(always)]
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V {
        both!(half => {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a[half]), _mm256_and_ps(sign, b[half]))
        })
    }

    #[inline(always)]
    unsafe fn zero_if_tiny(a: Self::V) -> Self::V {
        both!(half => {
            let high = _mm256_set1_epi32(EXPONENT_HIGH as i32);
            let exponent = _mm256_and_si256(_mm256_castps_si256(a[half]), high);
            let tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
            _mm256_andnot_ps(_mm256_castsi256_ps(tiny), a[half])
        })
    }

    #[inline(always)]
    unsafe fn shift_to_exponent(a: Self::V) -> Self::V {
        both!(half => {
            let bits = _mm256_castps_si256(a[half]);
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
        })
    }
}
