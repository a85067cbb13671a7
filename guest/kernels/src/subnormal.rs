//! Steps on subnormal numbers: found, counted, and told to who takes the fuel for them.
//!
//! A fused multiply-add takes some processors two hundred times longer when one of its numbers is
//! subnormal, and a product has a step for a sixteenth of a unit of fuel. So such steps of products have a
//! price of their own, [`SUBNORMAL_FUEL`].
//!
//! They are counted by a slower way of doing a tile, which needs to be taken only where there are some.
//! Processors know: x86-64 raises a flag when an operand was subnormal, and keeps it raised. A tile is done
//! the fast way; when the flag is up then, it is done once more and counted, with the same result. A flag
//! that is up without need costs time and no fuel; one that is down in spite of a step that counts would
//! make fuel differ between hosts, so [`flag_tells`] tries it out first. Where there is no such flag, every
//! tile is done the slow way.

use crate::simd::Simd;

/// What a step of a product costs in which a number is subnormal, beyond what every step does. The
/// slowest processor known takes 40 ns for a vector with one such number, and does it three times
/// (the tile, the piece, the slow way): 6.5 times what models take for this fuel.
pub const SUBNORMAL_FUEL: u64 = 100;

/// Who is told of steps that were made, before more are: whether to go on.
pub(crate) type Spend<'a> = dyn FnMut(u64) -> bool + 'a;

/// How steps on subnormal numbers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nobody wants to know.
    Never,
    /// Where the processor's flag is up.
    Flag,
    /// By looking at all of them.
    Always,
}

/// The steps of a call on subnormal numbers.
pub(crate) struct Steps<'a> {
    watch: Watch,
    spend: &'a mut Spend<'a>,
    stopped: bool,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(watch: Watch, spend: &'a mut Spend<'a>) -> Self {
        Self { watch, spend, stopped: false }
    }

    /// A piece of work begins.
    #[inline(always)]
    pub(crate) fn begin(&self) {
        if self.watch == Watch::Flag && flag::is_up() {
            flag::lower();
        }
    }

    /// Whether the piece that ends now may have had such steps, so that it has to be done the slow way.
    #[inline(always)]
    pub(crate) fn suspects(&self) -> bool {
        // Guests do not watch themselves; their instructions are counted.
        !cfg!(target_family = "wasm")
            && match self.watch {
                Watch::Never => false,
                Watch::Flag => flag::is_up(),
                Watch::Always => true,
            }
    }

    /// Whether anybody wants to know.
    #[inline(always)]
    pub(crate) fn watches(&self) -> bool {
        !cfg!(target_family = "wasm") && self.watch != Watch::Never
    }

    /// Whether the fast way is worth trying.
    #[inline(always)]
    pub(crate) fn hopes(&self) -> bool {
        cfg!(target_family = "wasm") || self.watch != Watch::Always
    }

    /// So many were made.
    pub(crate) fn made(&mut self, count: u64) {
        if count > 0 && !self.stopped {
            self.stopped = !(self.spend)(count);
        }
    }

    /// Whether nobody pays for more.
    #[inline(always)]
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }
}

/// 16 counts, exact up to 2^24.
#[derive(Clone, Copy)]
pub(crate) struct Counts<S: Simd>(S::V);

impl<S: Simd> Counts<S> {
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub(crate) unsafe fn none() -> Self {
        // SAFETY: as the caller promised.
        Self(unsafe { S::splat(0.0) })
    }

    /// `a * b + c`; counts the lanes in which one of the three is subnormal and the result is a number.
    /// (With a NaN no processor takes longer, nor raises its flag.)
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub(crate) unsafe fn fma(&mut self, a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: as the caller promised.
        unsafe {
            let found = S::or(S::or(S::is_subnormal(a), S::is_subnormal(b)), S::is_subnormal(c));
            let result = S::fma(a, b, c);
            let counts = S::without(found, S::is_nan(result));
            self.0 = S::select(counts, S::add(self.0, S::splat(1.0)), self.0);
            result
        }
    }

    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    pub(crate) unsafe fn total(self) -> u64 {
        // SAFETY: as the caller promised.
        unsafe { S::to_array(self.0).into_iter().map(|count| count as u64).sum() }
    }
}

/// Whether the processor's flag is up after every fused multiply-add that counts, by trying: kinds of
/// numbers in each place, in a lane of the lower half and in one of the upper.
///
/// # Safety
/// As for [`Simd`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn flag_tells<S: Simd>() -> bool {
    use crate::simd::LANES;
    use std::hint::black_box;
    let (least, most) = (f32::from_bits(1), f32::from_bits(0x007f_ffff));
    let normal = [0.0, 1.0, -1.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN];
    let numbers = || [least, -least, most].into_iter().chain(normal);
    for lane in [3, LANES - 3] {
        let among_ones = |number: f32| {
            let mut lanes = [1.0; LANES];
            lanes[lane] = number;
            black_box(lanes)
        };
        for (a, b, c) in numbers()
            .flat_map(|a| numbers().map(move |b| (a, b)))
            .flat_map(|(a, b)| numbers().map(move |c| (a, b, c)))
        {
            let [a, b, c] = [a, b, c].map(among_ones);
            let mut result = [0.0; LANES];
            // SAFETY: as the caller promised.
            unsafe {
                let load = || [&a, &b, &c].map(|lanes| S::load(black_box(lanes).as_ptr()));
                flag::lower();
                let [x, y, z] = load();
                S::store(black_box(&mut result).as_mut_ptr(), S::fma(x, y, z));
                let up = flag::is_up();
                let mut counts = Counts::<S>::none();
                let [x, y, z] = load();
                S::store(black_box(&mut result).as_mut_ptr(), counts.fma(x, y, z));
                if counts.total() > 0 && !up {
                    return false;
                }
            }
        }
    }
    true
}

/// The processor's flag for subnormal operands, which stays up until it is lowered.
///
/// The compiler knows nothing of it. It may do with instructions that have no effect but the flag's what
/// it likes; those of a tile it cannot move over a look at the flag, as they take numbers from memory
/// and leave their results there, and both functions may, for all it knows, read and write any memory.
#[cfg(target_arch = "x86_64")]
mod flag {
    use std::arch::asm;

    /// DE in MXCSR (Intel SDM 1, 10.2.3; AMD APM 1, 4.2.2).
    const DENORMAL: u32 = 1 << 1;

    #[inline(always)]
    fn register() -> u32 {
        let mut register = 0u32;
        // SAFETY: writes the register to the four bytes that it is given.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut register, options(nostack)) };
        register
    }

    #[inline(always)]
    pub(super) fn is_up() -> bool {
        register() & DENORMAL != 0
    }

    #[inline(always)]
    pub(super) fn lower() {
        let register = register() & !DENORMAL;
        // SAFETY: modes stay as they are. Flags may change in assembly that does not promise to keep
        // them (the Rust Reference, "Rules for inline assembly").
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const register, options(nostack)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod flag {
    pub(super) fn is_up() -> bool {
        true
    }

    pub(super) fn lower() {}
}
