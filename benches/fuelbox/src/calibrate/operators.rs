//! Every operator that computes, in a chain: each one needs what the one before it gave, so that time is
//! latency, which is the most that an operator takes.

use super::Work;
use fuelbox_test_support::guest::Guest;

/// Operators of a chain, between two turns of its loop.
const CHAIN: usize = 64;
/// Turns of its loop.
const TURNS: u32 = 1_000;

/// A step from a value of a type to the next one.
pub(super) struct Step {
    /// `i32`, `i64`, `f32`, `f64` or `v128`.
    pub(super) kind: &'static str,
    /// Operators, where `$y` is another value of this type, `$z` a third, `$n` a small whole number.
    pub(super) text: String,
    /// Whether subnormal numbers are a case of its own.
    pub(super) floats: bool,
}

/// The steps.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |kind, floats, texts: Vec<String>| {
        steps.extend(texts.into_iter().map(|text| Step { kind, text, floats }));
    };
    let of = |shape: &str, names: &str, operand: &str| -> Vec<String> {
        names.split(' ').map(|name| format!("{operand}{shape}.{name}")).collect()
    };
    let y = "local.get $y ";
    for kind in ["i32", "i64"] {
        let binary = "add sub mul and or xor shl shr_s shr_u rotl rotr";
        add(kind, false, of(kind, binary, y));
        // A remainder by an odd number and a sum, so that numbers stay large.
        for name in ["div_s", "div_u", "rem_s", "rem_u"] {
            add(kind, false, vec![format!("local.get $y {kind}.{name} local.get $z {kind}.xor")]);
        }
        add(kind, false, of(kind, "clz ctz popcnt extend8_s extend16_s", ""));
        for name in ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"] {
            let back = if kind == "i64" { " i64.extend_i32_u" } else { "" };
            add(kind, false, vec![format!("local.get $y {kind}.{name}{back}")]);
        }
        let convert = if kind == "i32" {
            "i64.extend_i32_s i32.wrap_i64"
        } else {
            "i32.wrap_i64 i64.extend_i32_u"
        };
        add(kind, false, vec![convert.into()]);
        add(kind, false, vec!["local.get $y local.get $n select".into()]);
    }
    for (kind, whole) in [("f32", "i32"), ("f64", "i64")] {
        add(kind, true, of(kind, "add sub mul div min max copysign", y));
        add(kind, true, of(kind, "abs neg ceil floor trunc nearest sqrt", ""));
        for name in ["eq", "ne", "lt", "gt", "le", "ge"] {
            let text = format!("local.get $y {kind}.{name} {kind}.convert_i32_s");
            add(kind, true, vec![text]);
        }
        add(kind, true, vec![format!("{whole}.reinterpret_{kind} {kind}.reinterpret_{whole}")]);
        for whole in ["i32", "i64"] {
            for sign in ["s", "u"] {
                let back = format!("{kind}.convert_{whole}_{sign}");
                add(kind, true, vec![format!("{whole}.trunc_sat_{kind}_{sign} {back}")]);
                // Of numbers that stay small.
                let text = format!("{kind}.const 0 {kind}.min {whole}.trunc_{kind}_s {back}");
                add(kind, true, vec![text.replace("min", "copysign")]);
            }
        }
    }
    add("f32", true, vec!["f64.promote_f32 f32.demote_f64".into()]);
    add("f64", true, vec!["f32.demote_f64 f64.promote_f32".into()]);
    add("v128", false, of("v128", "and andnot or xor", y));
    add("v128", false, vec!["v128.not".into()]);
    add("v128", false, vec!["local.get $y local.get $z v128.bitselect".into()]);
    add("v128", false, vec!["v128.any_true i32x4.splat".into()]);
    for shape in ["i8x16", "i16x8", "i32x4", "i64x2"] {
        add("v128", false, of(shape, "add sub eq ne lt_s gt_s le_s ge_s", y));
        add("v128", false, of(shape, "abs neg", ""));
        add("v128", false, of(shape, "shl shr_s shr_u", "local.get $n "));
        add("v128", false, vec![format!("{shape}.all_true i32x4.splat")]);
        add("v128", false, vec![format!("{shape}.bitmask i32x4.splat")]);
        if shape != "i64x2" {
            add("v128", false, of(shape, "lt_u gt_u le_u ge_u min_s min_u max_s max_u", y));
        }
    }
    for shape in ["i8x16", "i16x8"] {
        add("v128", false, of(shape, "add_sat_s add_sat_u sub_sat_s sub_sat_u avgr_u", y));
    }
    for shape in ["i16x8", "i32x4", "i64x2"] {
        add("v128", false, of(shape, "mul", y));
    }
    add("v128", false, of("i8x16", "swizzle narrow_i16x8_s narrow_i16x8_u", y));
    add("v128", false, vec!["i8x16.popcnt".into()]);
    let mixed = "i8x16.shuffle 3 30 9 17 0 1 15 14 16 31 7 8 21 22 2 4";
    add("v128", false, vec![format!("local.get $y {mixed}")]);
    add(
        "v128",
        false,
        of(
            "i16x8",
            "q15mulr_sat_s narrow_i32x4_s narrow_i32x4_u extmul_low_i8x16_s extmul_high_i8x16_s \
             extmul_low_i8x16_u extmul_high_i8x16_u",
            y,
        ),
    );
    add(
        "v128",
        false,
        of(
            "i32x4",
            "dot_i16x8_s extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u \
             extmul_high_i16x8_u",
            y,
        ),
    );
    add(
        "v128",
        false,
        of(
            "i64x2",
            "extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u",
            y,
        ),
    );
    for (shape, from) in [("i16x8", "i8x16"), ("i32x4", "i16x8"), ("i64x2", "i32x4")] {
        for part in ["low", "high"] {
            for sign in ["s", "u"] {
                add("v128", false, vec![format!("{shape}.extend_{part}_{from}_{sign}")]);
            }
        }
        if shape != "i64x2" {
            for sign in ["s", "u"] {
                add("v128", false, vec![format!("{shape}.extadd_pairwise_{from}_{sign}")]);
            }
        }
    }
    for (shape, suffix) in
        [("i8x16", "_s"), ("i8x16", "_u"), ("i16x8", "_s"), ("i16x8", "_u"), ("i32x4", "")]
    {
        add("v128", false, vec![format!("{shape}.extract_lane{suffix} 1 {shape}.splat")]);
        add(
            "v128",
            false,
            vec![format!("local.get $y {shape}.extract_lane{suffix} 2 {shape}.replace_lane 1")],
        );
    }
    add("v128", false, vec!["i64x2.extract_lane 1 i64x2.splat".into()]);
    add("v128", false, vec!["local.get $y i64x2.extract_lane 1 i64x2.replace_lane 0".into()]);
    for shape in ["f32x4", "f64x2"] {
        add("v128", true, of(shape, "add sub mul div min max pmin pmax", y));
        add("v128", true, of(shape, "eq ne lt gt le ge", y));
        add("v128", true, of(shape, "abs neg ceil floor trunc nearest sqrt", ""));
        add("v128", true, vec![format!("{shape}.extract_lane 1 {shape}.splat")]);
        add(
            "v128",
            true,
            vec![format!("local.get $y {shape}.extract_lane 1 {shape}.replace_lane 0")],
        );
    }
    for sign in ["s", "u"] {
        let back = format!("f32x4.convert_i32x4_{sign}");
        add("v128", true, vec![format!("i32x4.trunc_sat_f32x4_{sign} {back}")]);
        let back = format!("f64x2.convert_low_i32x4_{sign}");
        add("v128", true, vec![format!("i32x4.trunc_sat_f64x2_{sign}_zero {back}")]);
    }
    add("v128", true, vec!["f32x4.demote_f64x2_zero f64x2.promote_low_f32x4".into()]);
    steps
}

pub(super) fn works() -> Vec<Work> {
    let mut works = Vec::new();
    for step in steps() {
        let values: &[_] = if step.floats { &[false, true] } else { &[false] };
        for &subnormal in values {
            let name = step.text.replace("local.get ", "");
            let name = if subnormal { format!("{name}, subnormal") } else { name };
            let mut work = Work::new(name, "operators", chained(&step, subnormal));
            work.operators = operators(&step.text);
            work.turns = u64::from(TURNS) * CHAIN as u64;
            works.push(work);
        }
    }
    works
}

/// The operators of a text.
fn operators(text: &str) -> Vec<String> {
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic());
    text.split_whitespace().filter(is_name).map(str::to_owned).collect()
}

/// A guest that goes on from a number, step by step.
fn chained(step: &Step, subnormal: bool) -> Guest {
    let Step { kind, text, .. } = step;
    let [x, y, z] = values(kind, subnormal);
    let steps = format!("{text} ").repeat(CHAIN);
    let extra = format!(
        "(func $work (local $t i32) (local $n i32)
           (local $x {kind}) (local $y {kind}) (local $z {kind})
           {x} local.set $x {y} local.set $y {z} local.set $z
           i32.const 3 local.set $n i32.const {TURNS} local.set $t
           loop $again
             local.get $x {steps} local.set $x
             local.get $t i32.const 1 i32.sub local.tee $t br_if $again
           end
           i32.const 512 local.get $x {kind}.store)"
    );
    Guest { extra, ..Guest::running("(call $work)") }
}

/// Values of a type to begin with, as instructions.
pub(super) fn values(kind: &str, subnormal: bool) -> [String; 3] {
    let texts = match (kind, subnormal) {
        ("i32", _) => ["i32.const -7", "i32.const 1234567", "i32.const -1431655766"],
        ("i64", _) => ["i64.const -7", "i64.const 3000000019", "i64.const -6148914691236517206"],
        ("f32", false) => ["f32.const 1.5", "f32.const 1.0000001", "f32.const 3"],
        ("f64", false) => ["f64.const 1.5", "f64.const 1.0000001", "f64.const 3"],
        ("f32", true) => ["f32.const 1e-40", "f32.const 1.0000001", "f32.const 1e-41"],
        ("f64", true) => ["f64.const 1e-310", "f64.const 1.0000001", "f64.const 1e-311"],
        (_, false) => [
            "v128.const f32x4 1.5 2.5 1.25 3.5",
            "v128.const f32x4 1.0000001 1.0000002 1.0000003 1.0000004",
            "v128.const i64x2 7 9",
        ],
        // The bits of small whole numbers are subnormal numbers of both widths.
        (_, true) => [
            "v128.const i64x2 3000000 5000000",
            "v128.const f32x4 1.0000001 1.0000002 1.0000003 1.0000004",
            "v128.const i64x2 7 9",
        ],
    };
    texts.map(str::to_owned)
}
