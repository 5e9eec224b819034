//! The format of four-level page tables: what an entry says, and which addresses it is for.

use std::ops::Range;

use crate::address::{GuestVirt, PAGE_SIZE};

use super::Access;

/// The checked byte range of a mapping.
pub(super) fn span(at: GuestVirt, pages: usize) -> Range<u64> {
    assert!(at.is_page_aligned());
    let end = (pages as u64)
        .checked_mul(PAGE_SIZE as u64)
        .and_then(|bytes| at.0.checked_add(bytes))
        .filter(|end| *end <= VIRT_END);
    at.0..end.expect("a mapping lies within the lower half of the virtual addresses")
}

/// The entries of a table that a range touches, each with its part of the range.
pub(super) fn parts(span: &Range<u64>, level: u32) -> impl Iterator<Item = (usize, Range<u64>)> + use<> {
    let Range { mut start, end } = span.clone();
    std::iter::from_fn(move || {
        if start >= end {
            return None;
        }
        let part = start..end.min((start | (covered(level) - 1)) + 1);
        start = part.end;
        Some((index(part.start, level), part))
    })
}

/// How many tables, of this level and below, it takes to map a range.
pub(super) fn tables_spanning(span: &Range<u64>, level: u32) -> usize {
    (1..=level)
        .map(|level| {
            let bits = covered(level + 1).trailing_zeros();
            ((span.end - 1) >> bits) - (span.start >> bits) + 1
        })
        .sum::<u64>() as usize
}

/// The bytes that one entry of a table covers.
pub(super) fn covered(level: u32) -> u64 {
    (PAGE_SIZE as u64) << (ENTRY_BITS * (level - 1))
}

pub(super) fn index(address: u64, level: u32) -> usize {
    (address / covered(level)) as usize % (1 << ENTRY_BITS)
}

pub(super) fn flags(access: Access) -> u64 {
    let mut flags = PRESENT | ACCESSED | DIRTY;
    if access.write {
        flags |= WRITE;
    }
    if access.user {
        flags |= USER;
    }
    if !access.execute {
        flags |= NO_EXECUTE;
    }
    flags
}

pub(super) fn access_of(entry: u64) -> Access {
    Access { write: entry & WRITE != 0, execute: entry & NO_EXECUTE == 0, user: entry & USER != 0 }
}

/// The level of the root; the tables of level 1 hold the pages.
pub(super) const TOP: u32 = 4;

/// An index into a table has nine bits.
const ENTRY_BITS: u32 = 9;

/// The first virtual address beyond the lower half.
pub(super) const VIRT_END: u64 = 1 << 47;

/// The first address beyond those that an entry can hold.
pub(super) const PHYS_END: u64 = 1 << 52;

// Bits of a page-table entry (AMD64 Architecture Programmer's Manual, volume 2, section 5.4.1).
pub(super) const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that leads to another table: the page's entry alone decides what is allowed.
pub(super) const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;
