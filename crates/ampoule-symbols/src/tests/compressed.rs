//! Compressed debug information, and what only claims to be.

use std::sync::LazyLock;

use super::fixture::{code_of, compile};
use crate::{Backtrace, Omission, Registers, Symbols};

/// With version 4 the section is large enough for the linker to compress it.
static COMPRESSED: LazyLock<Vec<u8>> = LazyLock::new(|| compile(&["-gdwarf-4", "-gz=zlib"]));

#[test]
fn an_unknown_method_is_named_with_what_to_do() {
    let backtrace = leaf(&with_header(|header| header[0] = 2));
    assert_eq!(backtrace.omission(), Some(Omission::Compression { method: 2 }));
    assert_eq!(backtrace.frames()[0].line, None);
    assert_eq!(backtrace.frames()[0].function.as_deref(), Some("leaf"));
    assert_eq!(
        backtrace.to_string().lines().last(),
        Some(
            "       … no source lines: the debug information is compressed with Zstandard; link with \
             --compress-debug-sections=zlib, or none"
        )
    );
    assert_eq!(leaf(&with_header(|header| header[1] = 1)).omission(), Some(Omission::Compression { method: 257 }));
}

#[test]
fn what_claims_to_be_huge_is_left_compressed() {
    let backtrace = leaf(&with_header(|header| header[8..16].fill(0xff)));
    assert_eq!(backtrace.omission(), Some(Omission::TooLarge { limit: 1 << 26 }));
    assert_eq!(backtrace.frames()[0].line, None);
}

#[test]
fn what_has_another_size_than_it_claims_is_damaged() {
    for change in [-1, 1] {
        let image = with_header(|header| header[8] = header[8].wrapping_add_signed(change));
        assert_eq!(leaf(&image).omission(), Some(Omission::Damaged));
    }
}

#[test]
fn what_is_no_zlib_stream_is_damaged() {
    assert_eq!(leaf(&with_header(|header| header[24..32].fill(0))).omission(), Some(Omission::Damaged));
}

#[test]
fn nothing_is_missed_where_all_is_read() {
    let backtrace = leaf(&COMPRESSED);
    assert_eq!(backtrace.omission(), None);
    assert!(backtrace.frames()[0].line.is_some());
}

/// The image, after a change of the compressed section with the units: its header of 24 bytes, and the stream.
fn with_header(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut image = COMPRESSED.clone();
    let symbols = Symbols::new(&COMPRESSED, 0);
    let section = symbols.elf.section(".debug_info").expect("there is debug information");
    let stream = section.compressed.expect("it is compressed").data;
    let start = stream.as_ptr().addr() - COMPRESSED.as_ptr().addr();
    change(&mut image[start - 24..start + stream.len()]);
    image
}

/// The backtrace of an instruction in the function `leaf`.
fn leaf(image: &[u8]) -> Backtrace {
    let symbols = Symbols::new(image, 0);
    let registers = Registers { rip: code_of(&symbols, "leaf").start, ..Registers::default() };
    symbols.name(&symbols.walk(&registers, &mut |_, _| false, 1))
}
