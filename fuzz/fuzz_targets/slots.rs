//! Jobs that write to an image's slots and grow them: each begins with the image.

#![no_main]

use fuelbox_engine::fuzzing::slots_are_pristine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| slots_are_pristine(data));
