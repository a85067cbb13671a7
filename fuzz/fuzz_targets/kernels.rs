//! Any bytes as a block and as memory: a call that passes its checks gives what the reference gives.

#![no_main]

use fuelbox_kernels::{Call, Isa, Kernel, WORDS_MAX, reference};
use libfuzzer_sys::fuzz_target;
use std::slice::Iter;

/// Words of memory: 64 KiB.
const MEMORY_WORDS: usize = 1 << 14;
/// Most fuel of a call that is run: the reference takes a while for more.
const FUEL_MAX: u64 = 1 << 15;

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let mut bytes = data.iter();
    let Some(&choice) = bytes.next() else { return };
    let kernel = Kernel::ALL[usize::from(choice % 8) % Kernel::ALL.len()];
    // Half of the inputs change a block that is in order, the others are one.
    let mut block = if choice & 8 == 0 { template(kernel) } else { Vec::new() };
    let changes = bytes.next().copied().unwrap_or_default();
    for _ in 0..changes {
        let Some(&place) = bytes.next() else { break };
        let Some(word) = word(&mut bytes) else { break };
        let place = usize::from(place);
        if choice & 8 == 0 && place < block.len() {
            block[place] = word;
        } else if block.len() < WORDS_MAX {
            block.push(word);
        }
    }
    let len = 4 * MEMORY_WORDS;
    let Ok(call) = Call::read(kernel, &block) else { return };
    let written = call.write().expect("what was read has 32-bit addresses");
    assert!(written.len() <= block.len());
    let Ok(checked) = call.check(len) else { return };
    if checked.fuel() > FUEL_MAX {
        return;
    }
    let memory = memory(choice >> 4, bytes.as_slice());
    let mut expected = memory.clone();
    let steps = reference::run(&call, as_bytes(&mut expected));
    for isa in Isa::available() {
        let mut found = memory.clone();
        // SAFETY: the call was checked against this size; the processor has these.
        unsafe { checked.run(found.as_mut_ptr().cast(), isa) };
        let (mut again, mut found_steps) = (memory.clone(), 0);
        let spend = &mut |steps: u64| {
            found_steps += steps;
            true
        };
        // SAFETY: as above.
        unsafe { checked.run_watched(again.as_mut_ptr().cast(), isa, spend) };
        assert_eq!(found_steps, steps, "{isa:?}: steps on subnormal numbers: {call:?}");
        assert!(again == found, "{isa:?}: differs when watched: {call:?}");
        if let Some(at) = (0..MEMORY_WORDS).find(|&at| found[at] != expected[at]) {
            let (found, expected) = (found[at], expected[at]);
            panic!("{isa:?}: word {at} is {found:#010x}, expected {expected:#010x}: {call:?}");
        }
    }
}

/// Few bytes for the words that calls are made of, more for others.
fn word(bytes: &mut Iter<'_, u8>) -> Option<u32> {
    let first = *bytes.next()?;
    let value = u32::from(first & 0x1f);
    let mut next = || bytes.next().copied().map(u32::from);
    Some(match first >> 5 {
        0 | 1 => u32::from(first),
        2 => value.wrapping_neg(),
        3 => value << 10,
        4 => value << 8 | next()?,
        5 => (value << 8 | next()?) << 2,
        6 => 1 << value,
        _ => next()? | next()? << 8 | next()? << 16 | next()? << 24,
    })
}

/// Numbers from the rest of the input, over and over, or ordinary ones.
fn memory(wild: u8, rest: &[u8]) -> Vec<u32> {
    let mut state = u32::from(wild) + 1;
    let words = (0..MEMORY_WORDS).map(|index| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if wild & 1 == 1 && rest.len() >= 4 && state >> 28 < u32::from(wild) {
            let at = 4 * (index % (rest.len() / 4));
            return u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        }
        ((state >> 8) as f32 / 4_194_304.0 - 2.0).to_bits()
    });
    words.collect()
}

fn as_bytes(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: words are bytes, and any bytes are words.
    unsafe { words.align_to_mut().1 }
}

/// A block of a small call that is in order.
fn template(kernel: Kernel) -> Vec<u32> {
    const INPUT: u32 = 1024;
    const WEIGHTS: u32 = 16 << 10;
    const OUT: u32 = 40 << 10;
    const OPERAND: u32 = 8;
    // Two images of 5 by 4 with 35 channels, padded by one, under a kernel of 3 by 2.
    let window = [2, 5, 4, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1];
    let image = [700, 700, 700, 140, 35, 1];
    let program =
        [3, 0x201, OPERAND, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0x108, 0, 0, 0, 0, 0, 0, 0];
    let view = |at, strides: [u32; 6]| {
        [at, strides[0], strides[1], strides[2], strides[3], strides[4], strides[5]]
    };
    let parts: Vec<Vec<u32>> = match kernel {
        Kernel::Gemm => vec![
            vec![1, 2, 6, 40, 9, 0],
            view(INPUT, [0, 0, 0, 54, 9, 1]).into(),
            view(WEIGHTS, [0, 0, 0, 0, 40, 1]).into(),
            view(OUT, [0, 0, 480, 240, 40, 1]).into(),
        ],
        Kernel::Conv => vec![
            window.into(),
            vec![3, 20],
            view(INPUT, [0, 0, 60, 12, 3, 1]).into(),
            vec![WEIGHTS],
            view(OUT, [0, 0, 400, 80, 20, 1]).into(),
        ],
        Kernel::Depthwise => vec![
            window.into(),
            vec![35],
            view(INPUT, image).into(),
            view(WEIGHTS, [0, 0, 0, 70, 35, 1]).into(),
            view(OUT, image).into(),
        ],
        Kernel::Pool => vec![
            vec![1],
            window.into(),
            vec![35],
            view(INPUT, image).into(),
            view(OUT, image).into(),
        ],
        Kernel::Map => {
            vec![vec![1, 1, 2, 5, 4, 35], view(INPUT, image).into(), view(OUT, image).into()]
        }
        Kernel::Rows => vec![
            vec![1, 0x3727_c5ac, 1, 1, 2, 5, 4, 35],
            view(INPUT, image).into(),
            view(OUT, image).into(),
        ],
    };
    parts.into_iter().flatten().chain(program).collect()
}
