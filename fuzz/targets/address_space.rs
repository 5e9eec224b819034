//! Whatever is mapped, changed, accessed, kept and put back, an address space is what a model of single pages says.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ampoule::fuzzing::address_space(input));
