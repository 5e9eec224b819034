//! Whatever a guest says, prints and leaves behind, at any point of the talk.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ampoule::fuzzing::mailbox(input));
