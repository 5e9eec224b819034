//! Any file is refused with a reason, or is an image that keeps what `Image` promises.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| ampoule::fuzzing::image(file));
