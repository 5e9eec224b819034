//! Private pages at given addresses.
//!
//! The kernel first unmaps what is there and then maps what was asked for, and kernels differ in whether a call that fails
//! half-way puts back what was there. A hole that it has left could be taken by any other thread, whose memory would then be
//! written, or shown to a guest, by whoever believes it to be theirs. So it is filled at once, before anybody hears of the
//! failure; nothing can be done about who is quicker.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::uninterrupted::uninterrupted;

/// What pages hold until they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Zeros,
    /// The file's bytes from here on, which must be a multiple of the page size.
    File(BorrowedFd<'a>, usize),
}

/// Maps `len` bytes, readable and writable, to addresses that nothing is mapped to; `EEXIST` where something is.
pub(crate) fn map_to_free(at: *mut u8, len: usize, source: Source<'_>) -> io::Result<()> {
    // SAFETY: the flag keeps the call from touching what exists.
    let mapped = unsafe { map(at, len, source, libc::MAP_FIXED_NOREPLACE)? };
    if mapped != at {
        // A kernel before Linux 4.17 takes the flag for a hint.
        // SAFETY: the mapping is new, and nobody knows of it.
        unsafe { libc::munmap(mapped.cast(), len) };
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(())
}

/// Maps `len` bytes, readable and writable, in place of what is mapped there. On an error each page is mapped all the same: it
/// holds what it held, or zeros.
///
/// Where the kernel has unmapped a page and has nothing to put in its place, the process ends.
///
/// # Safety
///
/// The range is the caller's own, whole pages, and nobody relies on what it holds.
pub(crate) unsafe fn map_over(at: *mut u8, len: usize, source: Source<'_>) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let Err(error) = (unsafe { map(at, len, source, libc::MAP_FIXED) }) else { return Ok(()) };
    // SAFETY: as above.
    let filled = unsafe { map(at, len, Source::Zeros, libc::MAP_FIXED) };
    if filled.is_err() && !is_mapped(at, len) {
        // Not `eprintln!`, which panics where nobody listens.
        let _ = writeln!(io::stderr(), "memory that was unmapped cannot be mapped again ({error}): giving up");
        std::process::abort();
    }
    Err(error)
}

/// # Safety
///
/// With `MAP_FIXED` as for [`map_over`]; otherwise none.
unsafe fn map(at: *mut u8, len: usize, source: Source<'_>, place: libc::c_int) -> io::Result<*mut u8> {
    let private = libc::MAP_PRIVATE | libc::MAP_NORESERVE | place;
    let (flags, file, offset) = match source {
        Source::Zeros => (private | libc::MAP_ANONYMOUS, -1, 0),
        Source::File(file, offset) => (private, file.as_raw_fd(), offset),
    };
    uninterrupted(|| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the caller's promise; without `MAP_FIXED` nothing that exists is touched.
        let mapped = unsafe { libc::mmap(at.cast(), len, protection, flags, file, offset as libc::off_t) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
    })
}

/// Whether something is mapped to all of these pages.
fn is_mapped(at: *mut u8, len: usize) -> bool {
    // SAFETY: has no preconditions. Since Linux 2.6.19 the call does nothing but look for pages that are not mapped.
    let result = unsafe { libc::msync(at.cast(), len, libc::MS_ASYNC) };
    result == 0
}

#[cfg(test)]
mod tests;
