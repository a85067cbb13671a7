//! The cost schedule: how much fuel each piece of work takes.
//!
//! A unit is about a fifth of a nanosecond of one core: what the host's kernels take for 16
//! multiply-adds. A guest's own operators cost what the slowest way of doing them takes, within ten times
//! that: guests leave the heavy work to kernels, whose formulas (in `fuelbox-kernels`) say exactly what they
//! do, so that what operators cost is a small part of a model's fuel and nearly all of an attacker's.
//! `docs/fuel.md` has the measurements behind each weight; `cargo xtask calibrate` makes it.
//!
//! A change here or there changes fuel counts: it is a new [`COST_SCHEDULE_VERSION`], which is part of
//! the engine profile.

use wasmtime::{OperatorCost, VariableOperatorCost};

/// Names this table. It is in the engine profile, so receipts of other schedules are told apart.
pub const COST_SCHEDULE_VERSION: u32 = 6;

/// A call out of the sandbox, whatever it does (measured: 50 ns for one that does nothing, 200 for one
/// that writes to the log).
pub(crate) const WASI_CALL: u64 = 200;
/// A call with a path, on top of that: it is looked for, and an error is made (measured: 2 microseconds).
pub(crate) const WASI_PATH: u64 = 4_000;
/// Each vector (pointer and length) of a WASI read or write.
pub(crate) const WASI_VECTOR: u64 = 10;
/// Each byte that a WASI call writes to the log: it is escaped, and kept with the job.
pub(crate) const WASI_BYTE: u64 = 8;
/// Each byte of randomness: ChaCha20 makes one in about half a nanosecond.
pub(crate) const RANDOM_BYTE: u64 = 2;

/// Each byte of a message to the guest, that of a job or of a load: it is hashed, and copied.
pub(crate) const MESSAGE_BYTE: u64 = 1;
/// Each byte of a guest's reply, whatever is in it: it is copied twice, hashed, stored and sent.
pub(crate) const REPLY_BYTE: u64 = 4;

/// What a guest may do between the return of a call and its own, with no look at its fuel on the way. Calls
/// within calls do it as often as they are deep, on top of the 11 that each cost on the way there: so it
/// is less than that, and enough for what compilers put at the end of a function.
pub(crate) const RETURN_FUEL_MAX: u64 = 8;

/// What a guest may do from one look at its fuel to the next: a tenth of what the least price of a job buys.
pub(crate) const STRAIGHT_FUEL_MAX: u64 = 10_000;

/// Pages of 64 KiB that cost nothing but the minimum price of a job: 2.5 MiB, what the stock guest has with
/// a small model in it. Also about the memory that a second-level cache holds, so that a load there takes
/// nanoseconds.
pub const PAGES_FREE: u64 = 40;

/// A page beyond those, at the start of a job or by `memory.grow`: its 16 pages of the kernel are found,
/// copied or zeroed, and made pristine again, which took up to 1.8 microseconds each.
pub const PAGE_FUEL: u64 = 15_000;

/// So many pages beyond those make a guest's own fuel dearer by once itself: with little more memory than
/// a second-level cache holds, loads may miss it, and go to main memory where others use the third level.
pub const DISTANCE_PAGES: u64 = 10;

/// How often a guest's own fuel counts at most: in 6.9 MiB all loads may miss already.
pub const DISTANCE_MAX: u64 = 8;

/// What pages cost, of so many in all.
pub(crate) fn pages_fuel(pages: u64) -> u64 {
    pages.saturating_sub(PAGES_FREE) * PAGE_FUEL
}

/// What a guest's own fuel costs more in a memory of so many pages: once itself for each
/// [`DISTANCE_PAGES`] beyond [`PAGES_FREE`], until it counts [`DISTANCE_MAX`] times. A chain of loads that
/// miss the caches takes a hundred times what one takes that hits them, and no counter says which it was;
/// only a large memory has the room for them. Kernels read in order, and cost the same everywhere.
pub(crate) fn distance_fuel(guest_fuel: u64, pages: u64) -> u64 {
    let beyond = pages.saturating_sub(PAGES_FREE).min(DISTANCE_PAGES * (DISTANCE_MAX - 1));
    let more = u128::from(guest_fuel) * u128::from(beyond) / u128::from(DISTANCE_PAGES);
    u64::try_from(more).unwrap_or(u64::MAX)
}

/// Makes the table: a class's name, its weight, its operators as wasmparser spells them.
macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident = $weight:literal: $($operator:ident)*;)*) => {
        /// The classes of operators: name, fuel for each, and who is in it.
        pub const OPERATOR_CLASSES: &[(&str, u8, &[&str])] =
            &[$((stringify!($class), $weight, &[$(stringify!($operator)),*])),*];

        fn weigh(cost: &mut OperatorCost) {
            $($(cost.$operator = $weight;)*)*
        }
    };
}

classes! {
    /// No code comes of these.
    structure = 0:
        Unreachable Nop Block Else End Return Drop;
    /// Moves and whole numbers: a cycle or three.
    simple = 1:
        Br Select TypedSelect TypedSelectMulti LocalGet LocalSet LocalTee GlobalGet GlobalSet MemorySize TableSize
        RefNull RefIsNull I32Const I64Const F32Const F64Const V128Const
        I32Eqz I32Eq I32Ne I32LtS I32LtU I32GtS I32GtU I32LeS I32LeU I32GeS I32GeU
        I64Eqz I64Eq I64Ne I64LtS I64LtU I64GtS I64GtU I64LeS I64LeU I64GeS I64GeU
        I32Clz I32Ctz I32Add I32Sub I32And I32Or I32Xor I32Shl I32ShrS I32ShrU I32Rotl I32Rotr
        I64Clz I64Ctz I64Add I64Sub I64And I64Or I64Xor I64Shl I64ShrS I64ShrU I64Rotl I64Rotr
        I32WrapI64 I64ExtendI32S I64ExtendI32U I32Extend8S I32Extend16S I64Extend8S I64Extend16S I64Extend32S
        V128Not V128And V128AndNot V128Or V128Xor
        I8x16Add I8x16Sub I16x8Add I16x8Sub I32x4Add I32x4Sub I64x2Add I64x2Sub;
    /// Where values that a loop changes are put into place, as many as a function has locals.
    entry = 66:
        Loop;
    /// Where a processor may have guessed wrongly.
    branch = 4:
        If BrIf BrTable;
    /// A few cycles, or a way between the units for whole numbers, floats and vectors.
    short = 2:
        I32Mul I64Mul I32Popcnt I64Popcnt
        I32ReinterpretF32 I64ReinterpretF64 F32ReinterpretI32 F64ReinterpretI64
        F32Abs F32Neg F32Copysign F64Abs F64Neg F64Copysign F32x4Abs F32x4Neg F64x2Abs F64x2Neg
        F32Eq F32Ne F32Lt F32Gt F32Le F32Ge F64Eq F64Ne F64Lt F64Gt F64Le F64Ge
        F32x4Eq F32x4Ne F32x4Lt F32x4Gt F32x4Le F32x4Ge F64x2Eq F64x2Ne F64x2Lt F64x2Gt F64x2Le F64x2Ge
        I8x16Shuffle I8x16Swizzle I8x16Splat I16x8Splat I32x4Splat I64x2Splat F32x4Splat F64x2Splat
        I8x16ExtractLaneS I8x16ExtractLaneU I16x8ExtractLaneS I16x8ExtractLaneU I32x4ExtractLane
        I64x2ExtractLane F32x4ExtractLane F64x2ExtractLane
        I8x16ReplaceLane I16x8ReplaceLane I32x4ReplaceLane I64x2ReplaceLane F32x4ReplaceLane F64x2ReplaceLane
        I8x16Eq I8x16Ne I8x16LtS I8x16LtU I8x16GtS I8x16GtU I8x16LeS I8x16LeU I8x16GeS I8x16GeU
        I16x8Eq I16x8Ne I16x8LtS I16x8LtU I16x8GtS I16x8GtU I16x8LeS I16x8LeU I16x8GeS I16x8GeU
        I32x4Eq I32x4Ne I32x4LtS I32x4LtU I32x4GtS I32x4GtU I32x4LeS I32x4LeU I32x4GeS I32x4GeU
        I64x2Eq I64x2Ne I64x2LtS I64x2GtS I64x2LeS I64x2GeS
        V128Bitselect V128AnyTrue I8x16AllTrue I16x8AllTrue I32x4AllTrue I64x2AllTrue
        I8x16Bitmask I16x8Bitmask I32x4Bitmask I64x2Bitmask
        I8x16Abs I8x16Neg I16x8Abs I16x8Neg I32x4Abs I32x4Neg I64x2Abs I64x2Neg I8x16Popcnt
        I8x16NarrowI16x8S I8x16NarrowI16x8U I16x8NarrowI32x4S I16x8NarrowI32x4U
        I16x8ExtendLowI8x16S I16x8ExtendHighI8x16S I16x8ExtendLowI8x16U I16x8ExtendHighI8x16U
        I32x4ExtendLowI16x8S I32x4ExtendHighI16x8S I32x4ExtendLowI16x8U I32x4ExtendHighI16x8U
        I64x2ExtendLowI32x4S I64x2ExtendHighI32x4S I64x2ExtendLowI32x4U I64x2ExtendHighI32x4U
        I16x8Shl I16x8ShrS I16x8ShrU I32x4Shl I32x4ShrS I32x4ShrU I64x2Shl I64x2ShrU
        I8x16AddSatS I8x16AddSatU I8x16SubSatS I8x16SubSatU I16x8AddSatS I16x8AddSatU I16x8SubSatS I16x8SubSatU
        I8x16MinS I8x16MinU I8x16MaxS I8x16MaxU I8x16AvgrU I16x8MinS I16x8MinU I16x8MaxS I16x8MaxU I16x8AvgrU
        I32x4MinS I32x4MinU I32x4MaxS I32x4MaxU;
    /// Several instructions for one operator, or one of many cycles.
    long = 4:
        I32DivS I32DivU I32RemS I32RemU I64DivS I64DivU I64RemS I64RemU
        F32Add F32Sub F64Add F64Sub F32x4Add F32x4Sub F64x2Add F64x2Sub
        F32Min F32Max F64Min F64Max F32x4Min F32x4Max F64x2Min F64x2Max
        F32x4PMin F32x4PMax F64x2PMin F64x2PMax
        F32Ceil F32Floor F32Trunc F32Nearest F64Ceil F64Floor F64Trunc F64Nearest
        F32x4Ceil F32x4Floor F32x4Trunc F32x4Nearest F64x2Ceil F64x2Floor F64x2Trunc F64x2Nearest
        I32TruncF32S I32TruncF32U I32TruncF64S I32TruncF64U I64TruncF32S I64TruncF32U I64TruncF64S I64TruncF64U
        I32TruncSatF32S I32TruncSatF32U I32TruncSatF64S I32TruncSatF64U
        I64TruncSatF32S I64TruncSatF32U I64TruncSatF64S I64TruncSatF64U
        F32ConvertI32S F32ConvertI32U F32ConvertI64S F32ConvertI64U
        F64ConvertI32S F64ConvertI32U F64ConvertI64S F64ConvertI64U F64PromoteF32
        I32x4TruncSatF32x4S I32x4TruncSatF32x4U I32x4TruncSatF64x2SZero I32x4TruncSatF64x2UZero
        F32x4ConvertI32x4S F32x4ConvertI32x4U F64x2ConvertLowI32x4S F64x2ConvertLowI32x4U F64x2PromoteLowF32x4
        I8x16Shl I8x16ShrS I8x16ShrU I64x2ShrS I16x8Mul I32x4Mul I64x2Mul I16x8Q15MulrSatS I32x4DotI16x8S
        I16x8ExtAddPairwiseI8x16S I16x8ExtAddPairwiseI8x16U I32x4ExtAddPairwiseI16x8S I32x4ExtAddPairwiseI16x8U
        I16x8ExtMulLowI8x16S I16x8ExtMulHighI8x16S I16x8ExtMulLowI8x16U I16x8ExtMulHighI8x16U
        I32x4ExtMulLowI16x8S I32x4ExtMulHighI16x8S I32x4ExtMulLowI16x8U I32x4ExtMulHighI16x8U
        I64x2ExtMulLowI32x4S I64x2ExtMulHighI32x4S I64x2ExtMulLowI32x4U I64x2ExtMulHighI32x4U;
    /// What a processor does in microcode when a number is subnormal: 40 ns.
    rounding = 29:
        F32Mul F64Mul F32x4Mul F64x2Mul F32Div F64Div F32x4Div F64x2Div
        F32Sqrt F64Sqrt F32x4Sqrt F64x2Sqrt F32DemoteF64 F32x4DemoteF64x2Zero;
    /// What may wait for memory.
    load = 19:
        I32Load I64Load F32Load F64Load I32Load8S I32Load8U I32Load16S I32Load16U
        I64Load8S I64Load8U I64Load16S I64Load16U I64Load32S I64Load32U
        V128Load V128Load8x8S V128Load8x8U V128Load16x4S V128Load16x4U V128Load32x2S V128Load32x2U
        V128Load8Splat V128Load16Splat V128Load32Splat V128Load64Splat V128Load32Zero V128Load64Zero
        V128Load8Lane V128Load16Lane V128Load32Lane V128Load64Lane TableGet;
    /// What nobody waits for.
    store = 5:
        I32Store I64Store F32Store F64Store I32Store8 I32Store16 I64Store8 I64Store16 I64Store32
        V128Store V128Store8Lane V128Store16Lane V128Store32Lane V128Store64Lane;
    /// A way into a function and out of it.
    call = 10:
        Call CallIndirect;
    /// A way into the host and out of it, whatever the size.
    bulk = 65:
        MemoryCopy MemoryInit MemoryGrow DataDrop ElemDrop RefFunc
        TableInit TableCopy TableFill TableSet TableGrow;
    /// The same, and where nothing is filled of a page that was not written yet, some processors try it first:
    /// 150 ns.
    fill = 100:
        MemoryFill;
}

/// The schedule as wasmtime takes it.
pub(crate) fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    weigh(&mut cost);
    cost.variable = VariableOperatorCost {
        // A byte moved costs as much as a simple operator. That is dear (one operator moves up to 16),
        // but whole numbers are all there is, and 0 would make `memory.fill` of 4 GiB free.
        memory_copy_per_byte: 1,
        memory_fill_per_byte: 1,
        memory_init_per_byte: 1,
        // Pages are charged by `pages_fuel`; asking is not free either.
        memory_grow_per_page: u8::MAX,
        // An element is a pointer that is made when it is asked for first.
        table_copy_per_element: 20,
        table_init_per_element: 20,
        table_fill_per_element: 20,
        table_grow_per_element: u8::MAX,
        ..VariableOperatorCost::new()
    };
    cost
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Operators of the proposals that guests may use, as the validator knows them.
    fn operators() -> Vec<&'static str> {
        macro_rules! names {
            ($(@$proposal:ident $operator:ident $({ $($argument:ident: $type:ty),* })? => $visit:ident ($($rest:tt)*))*) => {
                [$((stringify!($proposal), stringify!($operator))),*]
            };
        }
        let all = wasmparser::for_each_operator!(names);
        let used = [
            "mvp",
            "sign_extension",
            "saturating_float_to_int",
            "bulk_memory",
            "reference_types",
            "simd",
        ];
        all.iter().filter(|(proposal, _)| used.contains(proposal)).map(|(_, name)| *name).collect()
    }

    /// When an upgrade brings an operator that guests may use, it has to be weighed first.
    #[test]
    fn every_operator_is_in_one_class() {
        let mut classed = BTreeMap::new();
        for (class, _, names) in OPERATOR_CLASSES {
            for name in *names {
                assert_eq!(classed.insert(*name, *class), None, "{name} is in two classes");
            }
        }
        let operators = operators();
        assert_eq!(operators.len(), 438);
        for name in &operators {
            assert!(classed.remove(name).is_some(), "{name} has no class");
        }
        assert!(classed.is_empty(), "no such operator: {classed:?}");
    }

    #[test]
    fn pages_cost_from_the_first_that_is_not_free() {
        assert_eq!(pages_fuel(0), 0);
        assert_eq!(pages_fuel(PAGES_FREE), 0);
        assert_eq!(pages_fuel(PAGES_FREE + 1), PAGE_FUEL);
        assert_eq!(pages_fuel(65_536), 65_496 * PAGE_FUEL);
    }

    #[test]
    fn distance_grows_with_memory_and_ends() {
        for (fuel, pages, more) in [
            (1_000, 0, 0),
            (1_000, 40, 0),
            (1_000, 41, 100),
            (9, 41, 0),
            (10, 41, 1),
            (1_000, 50, 1_000),
            (1_000, 109, 6_900),
            (1_000, 110, 7_000),
            (1_000, 111, 7_000),
            (1_000, 65_536, 7_000),
            (u64::MAX, 65_536, u64::MAX),
        ] {
            assert_eq!(distance_fuel(fuel, pages), more, "{fuel} {pages}");
        }
    }
}
