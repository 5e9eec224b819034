//! `/proc/self/maps`: the process's mappings, a line for each, made when it is read.
//!
//! All lines have one length, so the line at a position is found by counting. For that, numbers are padded with zeros and
//! the rest with spaces, which readers of the file skip anyway.

use crate::address_space::{AddressSpace, MappingKind, Protection};

/// Fills `into` with the text at a position, and returns how much that is.
pub(super) fn read(space: &AddressSpace, position: u64, into: &mut [u8]) -> usize {
    let line_len = LINE_LEN as u64;
    let mut skipped = (position % line_len) as usize;
    let mut filled = 0;
    for (pages, kind, protection) in space.mappings().skip((position / line_len) as usize) {
        if filled == into.len() {
            break;
        }
        let line = line(pages.start.0, pages.end.0, kind, protection);
        let part = &line.as_bytes()[skipped..];
        let part = &part[..part.len().min(into.len() - filled)];
        into[filled..filled + part.len()].copy_from_slice(part);
        filled += part.len();
        skipped = 0;
    }
    filled
}

fn line(start: u64, end: u64, kind: MappingKind, protection: Protection) -> String {
    let may = |permitted, letter| if permitted { letter } else { '-' };
    let (read, write, execute) =
        (may(protection.is_readable(), 'r'), may(protection.is_writable(), 'w'), may(protection.is_executable(), 'x'));
    let name = match kind {
        MappingKind::Heap => "[heap]",
        MappingKind::Stack => "[stack]",
        MappingKind::Image | MappingKind::Anonymous => "",
    };
    let line = format!("{start:012x}-{end:012x} {read}{write}{execute}p 00000000 00:00 0 {:25}{name:7}\n", "");
    debug_assert_eq!(line.len(), LINE_LEN);
    line
}

/// The name begins where it does on Linux, in column 73.
const LINE_LEN: usize = 81;
