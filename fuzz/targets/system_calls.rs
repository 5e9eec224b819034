//! Any system calls of a guest, with any arguments and on any memory.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ampoule::fuzzing::system_calls(input));
