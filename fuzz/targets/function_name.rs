//! Any symbol has a name of bounded length that a terminal can show.

#![no_main]

use ampoule_abi::text::is_printable;
use ampoule_symbols::fuzzing::function_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|symbol: &[u8]| {
    let name = function_name(symbol);
    assert!(name.len() <= MAX_LEN, "{name}");
    assert!(name.chars().all(is_printable), "{name}");
    assert!(symbol.starts_with(b"_") || name.len() <= 3 * symbol.len() + '…'.len_utf8(), "{name}");
});

/// 512 bytes, the rest of a character, and the mark of a text that is cut.
const MAX_LEN: usize = 512 + 3 + '…'.len_utf8();
