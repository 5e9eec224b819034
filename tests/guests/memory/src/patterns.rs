//! What a guest can do to make the host work for long: many small pieces, or a large one that is never touched.

use ampoule_guest::export;

use crate::PAGE;
use crate::buffers::{map, map_anywhere, protect, unmap};

/// Maps this many bytes and unmaps them untouched.
#[export]
fn map_and_unmap(bytes: u64) {
    let pages = bytes / PAGE;
    unmap(map_anywhere(pages, libc::PROT_READ | libc::PROT_WRITE), pages);
}

/// Gives two regions of `pages` pages their memory page by page in turn, so that neither has two contiguous pages. Touches
/// the pages if `touch` is set.
#[export]
fn interleave(one: u64, other: u64, pages: u64, touch: bool) {
    map(one, pages, libc::PROT_NONE);
    map(other, pages, libc::PROT_NONE);
    for page in (0..pages).map(|page| page * PAGE) {
        for at in [one + page, other + page] {
            protect(at, 1, libc::PROT_READ | libc::PROT_WRITE);
            if touch {
                crate::probe_write(at, 1);
            }
        }
    }
}

/// Maps a page, writes to it, reads it and unmaps it, at this many places one after another, each of which takes page tables
/// of its own.
#[export]
fn wander(at: u64, places: u64) {
    const APART: u64 = 2 << 20;
    for at in (0..places).map(|place| at + place * APART) {
        map(at, 1, libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(crate::probe_read(at), 0, "{at:#x} is not fresh");
        crate::probe_write(at, 1);
        unmap(at, 1);
    }
}

/// Maps and unmaps two pages this many times.
#[export]
fn map_two_pages_often(times: u64) {
    for _ in 0..times {
        map_and_unmap(2 * PAGE);
    }
}
