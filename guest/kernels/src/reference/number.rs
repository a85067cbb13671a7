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
    (mantissa as f64 * f64::from(last).exp2()) as f32
}
