//! Functions of single numbers, as `docs/formats/kernels.md` defines them.
//!
//! Rust's own operators on `f32` are IEEE 754's: each is rounded once, to nearest, ties to even. The
//! fused one is made of whole numbers here.

/// What stands for every NaN in memory.
pub(super) const NAN: u32 = 0x7fc0_0000;

/// A finite number: `mantissa * 2^exponent`, negative or not.
#[derive(Clone, Copy)]
struct Exact {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Exact {
    fn of(x: f32) -> Self {
        let bits = x.to_bits();
        let (fraction, exponent) = (u64::from(bits & 0x7f_ffff), (bits >> 23 & 0xff) as i32);
        let (mantissa, exponent) = match exponent {
            0 => (fraction, -149),
            _ => (fraction | 1 << 23, exponent - 150),
        };
        Self { negative: bits >> 31 != 0, mantissa, exponent }
    }

    /// The mantissa when the exponent is `exponent`. Bits that fall off leave a one in the last place.
    fn at(self, exponent: i32) -> u128 {
        if self.mantissa == 0 {
            return 0;
        }
        let mantissa = u128::from(self.mantissa);
        match self.exponent - exponent {
            up @ 0.. => mantissa << up,
            down => {
                let down = down.unsigned_abs().min(127);
                let kept = mantissa >> down;
                kept | u128::from(kept << down != mantissa)
            }
        }
    }
}

/// `a * b + c`, rounded once.
pub(super) fn fma(a: f32, b: f32, c: f32) -> f32 {
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        // Nothing to round: the result is infinite or a NaN, the same in any precision.
        return (f64::from(a) * f64::from(b) + f64::from(c)) as f32;
    }
    let (a, b, c) = (Exact::of(a), Exact::of(b), Exact::of(c));
    let product = Exact {
        negative: a.negative != b.negative,
        mantissa: a.mantissa * b.mantissa,
        exponent: a.exponent + b.exponent,
    };
    if product.mantissa == 0 && c.mantissa == 0 {
        // Zeros of one sign keep it.
        return if product.negative && c.negative { -0.0 } else { 0.0 };
    }
    // 100 bits below the larger of both: what falls off is below every bit that rounding looks at.
    let top = |x: Exact| {
        if x.mantissa == 0 { i32::MIN } else { x.exponent + 64 - x.mantissa.leading_zeros() as i32 }
    };
    let exponent = top(product).max(top(c)) - 100;
    let (x, y) = (product.at(exponent), c.at(exponent));
    let (negative, sum) = match (product.negative == c.negative, x >= y) {
        (true, _) => (c.negative, x + y),
        (false, true) => (product.negative, x - y),
        (false, false) => (c.negative, y - x),
    };
    if sum == 0 {
        return 0.0;
    }
    let size = round(sum, exponent);
    if negative { -size } else { size }
}

/// `sum * 2^exponent` as the nearest number, ties to even.
fn round(sum: u128, exponent: i32) -> f32 {
    let bits = 128 - sum.leading_zeros() as i32;
    // 24 bits, fewer for subnormal numbers, whose last place is always 2^-149.
    let last = (exponent + bits - 24).max(-149);
    let mantissa = match last - exponent {
        down @ 1..=127 => {
            let kept = sum >> down;
            let rest = sum - (kept << down);
            let half = 1 << (down - 1);
            kept + u128::from(rest > half || rest == half && kept & 1 == 1)
        }
        down if down > 127 => 0,
        up => sum << up.unsigned_abs(),
    };
    // Both are exact in double precision, and so is their product; what is too large becomes infinite.
    let power = f64::from_bits(((last + 1023) as u64) << 52);
    (mantissa as f64 * power) as f32
}

/// `1.5 * 2^23`: a sum with it has no bits behind the point.
const ROUND: f32 = f32::from_bits(0x4b40_0000);
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
const LN2_HIGH: f32 = f32::from_bits(0x3f31_8000);
const LN2_LOW: f32 = f32::from_bits(0xb95e_8083);
const EXP_SERIES: [u32; 6] =
    [0x3950_0d01, 0x3ab6_0b61, 0x3c08_8889, 0x3d2a_aaab, 0x3e2a_aaab, 0x3f00_0000];
const TANH_SERIES: [u32; 5] = [0xbbba_f0ea, 0x3ca9_134f, 0xbd5c_1e2d, 0x3e08_8393, 0xbeaa_aa99];
const ERF_SERIES: [u32; 6] =
    [0x3834_9f67, 0x3991_0039, 0x391f_6607, 0x3c17_e369, 0x3d2d_2fe7, 0x3d90_6e68];
const SQRT_1_2: f32 = f32::from_bits(0x3f35_04f3);

fn horner(x: f32, coefficients: &[u32]) -> f32 {
    let mut numbers = coefficients.iter().map(|&bits| f32::from_bits(bits));
    let first = numbers.next().unwrap_or_default();
    numbers.fold(first, |p, next| fma(p, x, next))
}

fn whole(y: f32) -> f32 {
    (y + ROUND) - ROUND
}

/// `2^n` for a whole `n` from -126 to 127.
fn power_of_two(n: f32) -> f32 {
    f32::from_bits(((n as i32 + 127) as u32) << 23)
}

pub(super) fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let c = if 89.0 < x { 89.0 } else { x };
    let c = if -104.0 > c { -104.0 } else { c };
    let n = whole(c * LOG2_E);
    let r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, c));
    let p = fma(horner(r, &EXP_SERIES), r * r, r) + 1.0;
    let half = whole(n * 0.5);
    (p * power_of_two(half)) * power_of_two(n - half)
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let size = if a > 0.625 {
        1.0 - 2.0 / (exp(a + a) + 1.0)
    } else {
        let z = x * x;
        fma(x, z * horner(z, &TANH_SERIES), x)
    };
    size.copysign(x)
}

pub(super) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let y = fma(horner(a, &ERF_SERIES), a, 1.0);
    let y = (0..4).fold(y, |y, _| y * y);
    (1.0 - 1.0 / y).copysign(x)
}

pub(super) fn gelu(x: f32) -> f32 {
    (0.5 * x) * (1.0 + erf(x * SQRT_1_2))
}

pub(super) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}
