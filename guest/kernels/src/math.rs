//! Functions of one number, as exact recipes: the operations and their order are the definition.
//!
//! In the formulas `fma(a, b, c)` is `a * b + c` rounded once; every other operation is rounded by
//! itself. A NaN gives a NaN.

#![allow(
    clippy::excessive_precision,
    reason = "numbers stand as published, or as the exact value of the single"
)]

use crate::simd::Simd;

/// Adding and taking it away rounds to a whole number (to even), as a single has 23 bits behind the
/// point: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, so that `n * LN2_HIGH` is exact for the `n` of [`exp`]; as in Cephes' `expf`.
const LN2_HIGH: f32 = 0.693_359_375;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Arithmetic on subnormal numbers is slow. So where a magnitude is nothing beside 1 it is taken for
/// this one, which is nothing either: the result is the same. 2^-30: half a unit in the last place of
/// 1 is 2^-25, below.
const NOTHING: f32 = 1.0 / (1u32 << 30) as f32;
/// The same for [`tanh`], where the square is nothing beside 1.
const SQUARE_NOTHING: f32 = 1.0 / (1u32 << 14) as f32;
/// Below, the result is less than half of the least number; above, it is infinite.
const EXP_LOW: f32 = -104.0;
const EXP_HIGH: f32 = 89.0;
/// `1/7!` down to `1/2!`, highest power first: the series of `exp`, whose next term is below half a
/// unit in the last place for `|r| <= ln 2 / 2`.
const EXP_SERIES: [f32; 6] =
    [1.984_127e-4, 1.388_888_9e-3, 8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5];
/// Cephes' `tanhf` for `|x| < 0.625`: `x + x * z * P(z)`, `z = x * x`, highest power first.
const TANH_SERIES: [f32; 5] =
    [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1];
const TANH_SMALL: f32 = 0.625;
/// Abramowitz and Stegun, 7.1.28: `erf x = 1 - 1 / (1 + a1 x + .. + a6 x^6)^16`, off by up to 3e-7;
/// highest power first.
const ERF_SERIES: [f32; 6] =
    [0.000_043_063_8, 0.000_276_567_2, 0.000_152_014_3, 0.009_270_527, 0.042_282_01, 0.070_523_08];

/// `2^n` for whole `n` from -126 to 127.
#[inline(always)]
unsafe fn power_of_two<S: Simd>(n: S::V) -> S::V {
    // SAFETY: as the caller promised. The sum's lowest bits are `n + 127`.
    unsafe { S::shift_to_exponent(S::add(n, S::splat(ROUND + 127.0))) }
}

#[inline(always)]
unsafe fn round<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe { S::sub(S::add(x, S::splat(ROUND)), S::splat(ROUND)) }
}

/// Horner's scheme with fused steps: `p = fma(p, x, next)`.
#[inline(always)]
unsafe fn horner<S: Simd, const N: usize>(x: S::V, coefficients: [f32; N]) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let mut p = S::splat(coefficients[0]);
        for coefficient in &coefficients[1..] {
            p = S::fma(p, x, S::splat(*coefficient));
        }
        p
    }
}

/// ```text
/// c = max(EXP_LOW, min(EXP_HIGH, x))            min(s, v) = s < v ? s : v, max alike
/// n = round(c * LOG2_E)                         round(y) = (y + ROUND) - ROUND
/// r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, c))
/// p = horner(r, EXP_SERIES)
/// p = fma(p, r * r, r) + 1
/// h = round(n * 0.5)
/// exp(x) = (p * 2^h) * 2^(n - h)
/// ```
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe { exp_between::<S>(S::zero_if_tiny(x), x, EXP_LOW, EXP_HIGH) }
}

/// [`exp`] where `x` is not above zero.
#[inline(always)]
pub(crate) unsafe fn exp_down<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe { exp_between::<S>(x, x, EXP_LOW, -NOTHING) }
}

/// [`exp`] of `c` between two bounds, or of `x` if that is a NaN.
#[inline(always)]
unsafe fn exp_between<S: Simd>(c: S::V, x: S::V, low: f32, high: f32) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let c = S::max(S::splat(low), S::min(S::splat(high), c));
        let n = round::<S>(S::mul(c, S::splat(LOG2_E)));
        let r = S::fma(n, S::splat(-LN2_HIGH), c);
        let r = S::fma(n, S::splat(-LN2_LOW), r);
        let p = horner::<S, 6>(r, EXP_SERIES);
        let p = S::add(S::fma(p, S::mul(r, r), r), S::splat(1.0));
        let h = round::<S>(S::mul(n, S::splat(0.5)));
        let scaled = S::mul(p, power_of_two::<S>(h));
        S::select(S::is_nan(x), x, S::mul(scaled, power_of_two::<S>(S::sub(n, h))))
    }
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe { S::div(S::splat(1.0), S::add(S::splat(1.0), exp::<S>(S::neg(x)))) }
}

/// ```text
/// a = |x|
/// a > TANH_SMALL:  1 - 2 / (exp(a + a) + 1)
/// otherwise:       fma(x, z * horner(z, TANH_SERIES), x), z = x * x
/// either with the sign of x
/// ```
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let a = S::abs(x);
        let twice = S::add(a, a);
        let e = exp_between::<S>(twice, twice, NOTHING, EXP_HIGH);
        let one = S::splat(1.0);
        let large = S::sub(one, S::div(S::splat(2.0), S::add(e, one)));
        let y = S::max(S::splat(SQUARE_NOTHING), a);
        let z = S::mul(y, y);
        let small = S::fma(a, S::mul(z, horner::<S, 5>(z, TANH_SERIES)), a);
        S::copysign(S::select(S::greater(a, S::splat(TANH_SMALL)), large, small), x)
    }
}

/// ```text
/// a = |x|
/// y = fma(horner(a, ERF_SERIES), a, 1)
/// y = y^16 by four squarings
/// erf(x) = 1 - 1 / y, with the sign of x
/// ```
#[inline(always)]
pub(crate) unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let a = S::max(S::splat(NOTHING), S::abs(x));
        S::copysign(erf_of_magnitude::<S>(a), x)
    }
}

#[inline(always)]
unsafe fn erf_of_magnitude<S: Simd>(a: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let one = S::splat(1.0);
        let mut y = S::fma(horner::<S, 6>(a, ERF_SERIES), a, one);
        for _ in 0..4 {
            y = S::mul(y, y);
        }
        S::sub(one, S::div(one, y))
    }
}

/// `(0.5 * x) * (1 + erf(x * SQRT_1_2))`
#[inline(always)]
pub(crate) unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe {
        let a = S::max(S::splat(NOTHING), S::abs(x));
        let a = S::mul(a, S::splat(std::f32::consts::FRAC_1_SQRT_2));
        let e = S::copysign(erf_of_magnitude::<S>(a), x);
        S::mul(S::mul(S::splat(0.5), x), S::add(S::splat(1.0), e))
    }
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(crate) unsafe fn silu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the caller promised.
    unsafe { S::mul(x, sigmoid::<S>(x)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable as P;

    fn at(f: impl Fn([f32; 16]) -> [f32; 16], x: f32) -> f32 {
        f([x; 16])[0]
    }

    #[test]
    fn recipes_come_near_the_functions() {
        // SAFETY: the portable vectors need nothing.
        unsafe {
            let mut x = -100.0f32;
            while x < 95.0 {
                let exact = f64::from(x).exp() as f32;
                let found = at(|v| exp::<P>(v), x);
                let near = (found - exact).abs() <= 4e-7 * exact + 2e-45;
                assert!(near || found == exact, "exp({x}) = {found}, not {exact}");
                let exact = f64::from(x).tanh() as f32;
                assert!((at(|v| tanh::<P>(v), x) - exact).abs() <= 4e-7, "tanh({x})");
                let exact = (1.0 / (1.0 + (-f64::from(x)).exp())) as f32;
                assert!((at(|v| sigmoid::<P>(v), x) - exact).abs() <= 3e-7, "sigmoid({x})");
                x += 0.01;
            }
            // From tables (NIST DLMF 7.23).
            for (x, exact) in [(0.5f32, 0.520_499_9f32), (1.0, 0.842_700_8), (2.0, 0.995_322_3)] {
                assert!((at(|v| erf::<P>(v), x) - exact).abs() < 1e-6, "erf({x})");
                assert_eq!(at(|v| erf::<P>(v), -x), -at(|v| erf::<P>(v), x));
            }
            assert!((at(|v| gelu::<P>(v), 1.0) - 0.841_344_7).abs() < 1e-6);
            assert!((at(|v| silu::<P>(v), 1.0) - 0.731_058_6).abs() < 1e-6);
        }
    }

    #[test]
    fn ends_and_specials_are_kept() {
        // SAFETY: the portable vectors need nothing.
        unsafe {
            assert_eq!(at(|v| exp::<P>(v), f32::INFINITY), f32::INFINITY);
            assert_eq!(at(|v| exp::<P>(v), f32::NEG_INFINITY), 0.0);
            assert_eq!(at(|v| exp::<P>(v), 0.0), 1.0);
            assert!(at(|v| exp::<P>(v), -100.0) > 0.0, "subnormals are kept");
            assert_eq!(at(|v| tanh::<P>(v), -0.0).to_bits(), (-0.0f32).to_bits());
            assert_eq!(at(|v| tanh::<P>(v), f32::NEG_INFINITY), -1.0);
            assert_eq!(at(|v| erf::<P>(v), f32::INFINITY), 1.0);
            assert_eq!(at(|v| sigmoid::<P>(v), f32::NEG_INFINITY), 0.0);
            for function in [exp::<P>, tanh::<P>, erf::<P>, sigmoid::<P>, gelu::<P>, silu::<P>] {
                assert!(function([f32::NAN; 16])[0].is_nan());
            }
        }
    }
}
