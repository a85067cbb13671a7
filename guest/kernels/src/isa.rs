//! Instructions: which ones there are, and the way into kernels that are made of them.

use crate::{
    call::{Call, Conv, Depthwise, Gemm, Map, Pool, Rows},
    check::Checked,
    gemm, map, rows,
    simd::Portable,
    subnormal::{Steps, Watch},
    window,
};

/// What the vectors are made of. Changes the time that a call takes, never its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F and DQ.
    Avx512,
}

impl Isa {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The name that settings know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Those that this processor has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The fastest that this processor has.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }
}

/// One function for each kernel and kind of instructions: what it inlines gets these features.
macro_rules! entries {
    ($($name:ident: $simd:ty $(, #[$feature:meta])?;)*) => {
        $(
            $(#[$feature])?
            unsafe fn $name(call: &Call, base: *mut u8, steps: &mut Steps<'_>) {
                macro_rules! entry {
                    ($kernel:path, $call:expr, $of:ty) => {{
                        $(#[$feature])?
                        unsafe fn entry(call: &$of, base: *mut u8, steps: &mut Steps<'_>) {
                            // SAFETY: as the caller promised.
                            unsafe { $kernel(call, base, steps) }
                        }
                        // SAFETY: as the caller promised.
                        unsafe { entry($call, base, steps) }
                    }};
                }
                match call {
                    Call::Gemm(call) => entry!(gemm::gemm::<$simd>, call, Gemm),
                    Call::Conv(call) => entry!(gemm::conv::<$simd>, call, Conv),
                    Call::Depthwise(call) => entry!(window::depthwise::<$simd>, call, Depthwise),
                    Call::Pool(call) => entry!(window::pool::<$simd>, call, Pool),
                    Call::Map(call) => entry!(map::map::<$simd>, call, Map),
                    Call::Rows(call) => entry!(rows::rows::<$simd>, call, Rows),
                }
            }
        )*
    };
}

entries! {
    portable: Portable;
}
#[cfg(target_arch = "x86_64")]
entries! {
    avx2: crate::simd::Avx2, #[target_feature(enable = "avx2,fma")];
    avx512: crate::simd::Avx512, #[target_feature(enable = "avx512f,avx512dq,avx2,fma")];
}

/// How each kind of instructions is watched: by the processor's flag where it was found to tell.
fn watch(isa: Isa) -> Watch {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::{simd, subnormal::flag_tells};
        use std::sync::LazyLock;

        #[target_feature(enable = "avx2,fma")]
        fn avx2_tells() -> bool {
            // SAFETY: the instructions are there.
            unsafe { flag_tells::<simd::Avx2>() }
        }
        #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
        fn avx512_tells() -> bool {
            // SAFETY: the instructions are there.
            unsafe { flag_tells::<simd::Avx512>() }
        }
        // SAFETY: called only where the instructions are.
        static AVX2: LazyLock<bool> = LazyLock::new(|| unsafe { avx2_tells() });
        // SAFETY: called only where the instructions are.
        static AVX512: LazyLock<bool> = LazyLock::new(|| unsafe { avx512_tells() });
        let tells = match isa {
            Isa::Portable => false,
            Isa::Avx2 => isa.is_available() && *AVX2,
            Isa::Avx512 => isa.is_available() && *AVX512,
        };
        if tells {
            return Watch::Flag;
        }
    }
    let _ = isa;
    Watch::Always
}

impl Checked<'_> {
    /// Does the call.
    ///
    /// # Safety
    /// `base` is the start of a memory of at least the size that the call was checked against, which
    /// nothing else reads or writes meanwhile, and `isa` is available.
    pub unsafe fn run(&self, base: *mut u8, isa: Isa) {
        // SAFETY: as the caller promised.
        unsafe { self.run_with(base, isa, Watch::Never, &mut |_| true) }
    }

    /// Does the call, and tells `spend` of steps on subnormal numbers soon after they were made: each
    /// costs [`crate::SUBNORMAL_FUEL`], whatever the instructions. When `spend` says `false`, nothing
    /// more is done; what the output holds then is not defined.
    ///
    /// # Safety
    /// As [`Checked::run`]; `spend` does not touch the memory, and calls no kernel.
    pub unsafe fn run_watched(&self, base: *mut u8, isa: Isa, spend: &mut dyn FnMut(u64) -> bool) {
        // SAFETY: as the caller promised.
        unsafe { self.run_with(base, isa, watch(isa), spend) }
    }

    unsafe fn run_with(
        &self,
        base: *mut u8,
        isa: Isa,
        watch: Watch,
        spend: &mut dyn FnMut(u64) -> bool,
    ) {
        // Nothing is written. The other sizes may be anything then, and no loop goes over them.
        if self.call.out_dims().contains(&0) {
            return;
        }
        let steps = &mut Steps::new(watch, spend);
        // SAFETY: the caller promises that the instructions are there.
        unsafe {
            match isa {
                Isa::Portable => portable(self.call, base, steps),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(self.call, base, steps),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512(self.call, base, steps),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 | Isa::Avx512 => portable(self.call, base, steps),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it does not, everything is right and takes eight times as long: no other test would tell.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn this_processors_flag_tells() {
        for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
            assert_eq!(watch(isa), Watch::Flag, "{isa:?}");
        }
    }
}
