//! Buffers of whole pages: at addresses that the caller names, or wherever there is room.

use std::io;
use std::ptr;

use ampoule_guest::export;

use crate::PAGE;

/// Maps fresh memory in place of whatever is there, and writes a byte to each of its pages. Returns how many of them
/// did not hold zero before.
#[export]
fn fill(at: u64, pages: u64, value: u8) -> u64 {
    map(at, pages, libc::PROT_READ | libc::PROT_WRITE);
    (at..).step_by(PAGE as usize).take(pages as usize).filter(|page| exchange(*page, value) != 0).count() as u64
}

/// Maps fresh memory in place of whatever is there, and writes a byte to each of its pages, without reading it before.
#[export]
fn touch(at: u64, pages: u64, value: u8) {
    map(at, pages, libc::PROT_READ | libc::PROT_WRITE);
    touch_again(at, pages, value);
}

/// Writes a byte to each of these pages.
#[export]
fn touch_again(at: u64, pages: u64, value: u8) {
    for page in (at..).step_by(PAGE as usize).take(pages as usize) {
        // SAFETY: the caller's pages can be written, and nothing else uses them.
        unsafe { ptr::write_volatile(page as *mut u8, value) };
    }
}

/// How many of these pages, which can be read, do not begin with this byte.
#[export]
fn count_others(at: u64, pages: u64, value: u8) -> u64 {
    (at..).step_by(PAGE as usize).take(pages as usize).filter(|page| byte(*page) != value).count() as u64
}

/// Fills buffers of these sizes in MiB, one after the other, each where there is room. Returns how many pages were not
/// zero when they were new, and how many did not hold what was written once all were.
#[export]
fn fill_anywhere(sizes: Vec<u64>) -> (u64, u64) {
    let sizes = sizes.into_iter().map(|mebibytes| (mebibytes << 20) / PAGE);
    let filled = sizes.enumerate().map(|(index, pages)| {
        let value = b'a' + index as u8;
        let at = map_anywhere(pages, libc::PROT_READ | libc::PROT_WRITE);
        let stale =
            (at..).step_by(PAGE as usize).take(pages as usize).filter(|page| exchange(*page, value) != 0).count();
        (at, pages, value, stale as u64)
    });
    let filled: Vec<_> = filled.collect();
    let stale = filled.iter().map(|(.., stale)| stale).sum();
    let changed = filled.iter().map(|(at, pages, value, _)| count_others(*at, *pages, *value)).sum();
    (stale, changed)
}

/// Takes the permission to write from a page and gives it back, with this many changes in all.
#[export]
pub(crate) fn toggle(at: u64, times: u64) {
    for time in 0..times {
        protect(at, 1, libc::PROT_READ | if time % 2 == 0 { 0 } else { libc::PROT_WRITE });
    }
}

#[export]
pub(crate) fn unmap(at: u64, pages: u64) {
    // SAFETY: the caller names memory that nothing else uses.
    succeeded(unsafe { libc::munmap(at as *mut _, (pages * PAGE) as usize) });
}

/// Makes the pages hold zeros again.
#[export]
fn discard(at: u64, pages: u64) {
    // SAFETY: the caller names memory that nothing else uses.
    succeeded(unsafe { libc::madvise(at as *mut _, (pages * PAGE) as usize, libc::MADV_DONTNEED) });
}

/// Maps fresh memory in place of whatever is there.
#[export]
pub(crate) fn map(at: u64, pages: u64, protection: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the caller names addresses that nothing else uses.
    let mapped = unsafe { libc::mmap(at as *mut _, (pages * PAGE) as usize, protection, flags, -1, 0) };
    assert_eq!(mapped as u64, at, "{}", io::Error::last_os_error());
}

/// Maps fresh memory where there is room.
pub(crate) fn map_anywhere(pages: u64, protection: i32) -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping touches no other memory.
    let at = unsafe { libc::mmap(ptr::null_mut(), (pages * PAGE) as usize, protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
    at as u64
}

#[export]
pub(crate) fn protect(at: u64, pages: u64, protection: i32) {
    // SAFETY: the caller names memory that nothing else uses.
    succeeded(unsafe { libc::mprotect(at as *mut _, (pages * PAGE) as usize, protection) });
}

fn succeeded(result: i32) {
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn byte(at: u64) -> u8 {
    // SAFETY: the callers' pages can be read.
    unsafe { ptr::read_volatile(at as *const u8) }
}

/// Writes a byte and returns what was there.
fn exchange(at: u64, value: u8) -> u8 {
    let before = byte(at);
    // SAFETY: the callers' pages can be written, and nothing else uses them.
    unsafe { ptr::write_volatile(at as *mut u8, value) };
    before
}
