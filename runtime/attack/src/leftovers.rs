//! A guest that looks for what other jobs left, and leaves something itself.

use crate::guest::{Guest, OUTPUTS_AT, data, encode, parse};
use fuelbox_abi::{Envelope, Status, pack_reply};

/// Of the guest's memory.
const PAGES: u64 = 40;

/// Ways to end, by input: number, instructions, verdict.
pub const ENDINGS: [(f32, &str, &str); 8] = [
    (1.0, "", "completed"),
    (2.0, "unreachable", "trap"),
    (3.0, "(drop (i32.load (i32.const -1)))", "trap"),
    (4.0, "(loop (br 0))", "out_of_fuel"),
    (5.0, "(return (i64.const 12345678))", "bad_output"),
    (6.0, "(call $deep)", "trap"),
    // Without an end of its own: under a deadline.
    (7.0, "(loop (br 0))", "cancelled"),
    (FAILURE, "(return (global.get $failure))", "guest_error"),
];

/// The input on which the guest says itself that it failed.
pub const FAILURE: f32 = 8.0;

/// Where that reply lies: between the replies that are usual and what is overwritten.
const FAILURE_AT: u32 = 12_288;

/// What a guest says that found what it should not: words of an overflow, which nothing else here has.
pub const TAINTED: &str = "integer overflow";

/// A guest that looks at all of its memory, globals and size, and says so when it is not the first;
/// then leaves a secret everywhere, and ends as its input says.
pub fn guest() -> Vec<u8> {
    let endings: String = ENDINGS
        .iter()
        .map(|(input, end, _)| {
            format!("(if (f32.eq (local.get 4) (f32.const {input})) (then {end}))")
        })
        .collect();
    let run = format!(
        "(local.set 4 (f32.load (i32.add (local.get 0) (i32.const 64))))
         (local.set 2 (i32.const 131072))
         (loop
           (if (i64.ne (i64.load (local.get 2)) (i64.const 0)) (then (call $tainted)))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 8))) (i32.const {old_end}))))
         (if (i32.ne (i32.load (i32.const 512)) (i32.const 0x5eed)) (then (call $tainted)))
         (if (i32.ne (memory.size) (i32.const {PAGES})) (then (call $tainted)))
         (if (i32.ne (global.get $state) (i32.const 99)) (then (call $tainted)))
         (global.set $state (i32.const 666))
         (drop (memory.grow (i32.const 8)))
         (local.set 2 (i32.const {old_end}))
         (loop
           (if (i64.ne (i64.load (local.get 2)) (i64.const 0)) (then (call $tainted)))
           (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 8))) (i32.const {new_end}))))
         (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 8192))
         (memory.fill (i32.const 16384) (i32.const 0xa5) (i32.sub (i32.const {new_end}) (i32.const 16384)))
         {endings}",
        old_end = PAGES * (64 << 10),
        new_end = (PAGES + 8) * (64 << 10),
    );
    let plain = Guest::default();
    let failure = encode(&Envelope::failure(Status::Failed, "as it was told to"));
    let guest = Guest {
        load: "(i32.store (i32.const 512) (i32.const 0x5eed)) (global.set $state (i32.const 99))"
            .into(),
        run,
        reply: format!("(i64.const {})", pack_reply(OUTPUTS_AT, plain.outputs.len() as u32)),
        extra: format!(
            r#"(func $deep (call $deep))
            (func $tainted (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))
            (global $failure i64 (i64.const {}))
            (data (i32.const {FAILURE_AT}) "{}")"#,
            pack_reply(FAILURE_AT, failure.len() as u32),
            data(&failure)
        ),
        memory: PAGES.to_string(),
        ..plain
    };
    let wat = guest.wat();
    parse(
        &wat.replace("(local i32 i32)\n    (local.set 4", "(local i32 i32 f32)\n    (local.set 4"),
    )
}
