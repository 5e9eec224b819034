//! Any manifest, configuration and other answer of a registry, and any reference: none becomes a path, a header or a long text.

#![no_main]

use ampoule_oci::fuzzing::{answer, artifact};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    answer(input);
    let Some((layers, rest)) = input.split_first() else { return };
    // Both are text.
    let (manifest, config) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
    artifact(manifest, config.get(1..).unwrap_or_default(), usize::from(layers % 66));
});
