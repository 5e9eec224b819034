//! The host mapping under a region.
//!
//! A hypervisor's memory slots refer to host addresses, and every change of a mapping is announced to all virtual machines of
//! the process. So a mapping is made piece by piece into free addresses, which announces nothing, rather than by mapping over
//! what is there, and what is there keeps its address for life.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use crate::address::PAGE_SIZE;
use crate::linux::pages::{self, Source};
use crate::linux::process::PerProcess;

use super::contents::Extent;

/// A range of private host memory, readable and writable, that is unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Whether it belongs to somebody else, who unmaps it.
    is_lent: bool,
}

impl Mapping {
    /// Maps `len` bytes, a positive multiple of the page size: the pages of the extents copy-on-write, and zeros elsewhere.
    /// The mapping begins on a page, and from 2 MiB on at a multiple of 2 MiB.
    pub(super) fn new(len: usize, extents: &[Extent]) -> io::Result<Mapping> {
        Mapping::somewhere(len, |start| Mapping::in_pieces(start, len, extents))
    }

    /// Maps `len` bytes of a file from `offset` on, copy-on-write; placed as by [`new`](Self::new). Both are multiples of the
    /// page size.
    pub(super) fn of_file(file: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<Mapping> {
        Mapping::somewhere(len, |start| {
            pages::map_to_free(start.as_ptr(), len, Source::File(file, offset))?;
            Ok(Mapping { start, len, is_lent: false })
        })
    }

    /// What somebody else has mapped, and keeps mapped.
    pub(super) fn lent(start: NonNull<u8>, len: usize) -> Mapping {
        Mapping { start, len, is_lent: true }
    }

    fn somewhere(len: usize, map: impl Fn(NonNull<u8>) -> io::Result<Mapping>) -> io::Result<Mapping> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) || len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Two threads that look for addresses at the same time find the same ones.
        static SEARCH: PerProcess<Mutex<()>> = PerProcess::new();
        let _alone = SEARCH.get(|_| Mutex::default())?.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            let start = free_addresses(len)?;
            match map(start) {
                // Somebody else has mapped something there in the meantime.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// The first byte; `len` bytes from here are readable and writable as long as the mapping lives.
    #[inline]
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes the extents show their pages, and everything else hold zeros. On an error every page holds zeros, or what an
    /// extent says, or what it held before.
    ///
    /// # Safety
    ///
    /// Nobody else accesses the mapping, except a guest that is not running.
    pub(super) unsafe fn replace(&self, extents: &[Extent]) -> io::Result<()> {
        let start = self.start.as_ptr();
        // SAFETY: the range is this mapping, which the caller lends.
        unsafe { pages::map_over(start, self.len, Source::Zeros)? };
        for extent in extents {
            let bytes = extent.bytes();
            // SAFETY: the extents lie within this mapping, which the caller lends.
            unsafe { pages::map_over(start.add(bytes.start), bytes.len(), source(extent))? };
        }
        self.refuse_huge_pages();
        Ok(())
    }

    /// Makes these pages show the extents, which lie within them, and hold zeros where there is none. On an error every page
    /// holds zeros, or what an extent says, or what it held before.
    ///
    /// # Safety
    ///
    /// As for [`replace`](Self::replace); the pages are the mapping's.
    pub(super) unsafe fn replace_pages(&self, pages: &Range<usize>, extents: &[Extent]) -> io::Result<()> {
        let (bytes, start) = (pages.start * PAGE_SIZE..pages.end * PAGE_SIZE, self.start.as_ptr());
        let map = |bytes: Range<usize>, source: Source<'_>| {
            if bytes.is_empty() {
                return Ok(());
            }
            // SAFETY: the range lies within this mapping, which the caller lends.
            unsafe { pages::map_over(start.add(bytes.start), bytes.len(), source) }
        };
        let mut at = bytes.start;
        for extent in extents {
            let shown = extent.bytes();
            map(at..shown.start, Source::Zeros)?;
            at = shown.end;
            map(shown, source(extent))?;
        }
        map(at..bytes.end, Source::Zeros)?;
        // SAFETY: as above; the call does not change what the pages hold. A kernel without huge pages refuses it.
        unsafe { libc::madvise(start.add(bytes.start).cast(), bytes.len(), libc::MADV_NOHUGEPAGE) };
        Ok(())
    }

    /// Drops what was written to whole pages. `false`, and nothing changes, when they are locked in memory.
    ///
    /// # Safety
    ///
    /// `bytes` are whole pages within the mapping, and nobody holds a reference to them.
    pub(super) unsafe fn drop_pages(&self, bytes: &Range<usize>) -> bool {
        // SAFETY: the caller's promise; the mapping is private.
        let result =
            unsafe { libc::madvise(self.start.as_ptr().add(bytes.start).cast(), bytes.len(), libc::MADV_DONTNEED) };
        result == 0
    }

    /// Takes the permission to read away from whole pages and gives it back, so that hypervisors drop their translations of
    /// them.
    ///
    /// The host can continue to read and write meanwhile: no processor has pages that can be written and not read. Nor does
    /// the process's account of its limits change, as it would if the permission to write were taken: giving that back can
    /// fail (`RLIMIT_DATA`). Where the permission to read cannot be given back, the hypervisor refuses to show the pages to
    /// a guest that reads them, until it is.
    ///
    /// # Safety
    ///
    /// `bytes` are whole pages within the mapping.
    pub(super) unsafe fn unread_briefly(&self, bytes: &Range<usize>) -> io::Result<()> {
        let protect = |protection| {
            // SAFETY: the range is the caller's, and stays as accessible as it was.
            let result =
                unsafe { libc::mprotect(self.start.as_ptr().add(bytes.start).cast(), bytes.len(), protection) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // One that fails may have changed a part of the range.
        let taken = protect(libc::PROT_WRITE);
        let given_back = protect(libc::PROT_READ | libc::PROT_WRITE);
        taken.and(given_back)
    }

    /// Gives whole pages memory before they are written: huge pages, where the host has some and the bytes cover them.
    ///
    /// # Safety
    ///
    /// `bytes` are whole pages within the mapping.
    pub(super) unsafe fn populate(&self, bytes: &Range<usize>) -> io::Result<()> {
        let advise = |advice| {
            // SAFETY: the range is the caller's. None of these calls changes what a page holds.
            let result = unsafe { libc::madvise(self.start.as_ptr().add(bytes.start).cast(), bytes.len(), advice) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // A kernel without huge pages refuses this and the last.
        let _ = advise(libc::MADV_HUGEPAGE);
        let populated = advise(libc::MADV_POPULATE_WRITE);
        let _ = advise(libc::MADV_NOHUGEPAGE);
        populated
    }

    /// Maps everything to addresses that were free a moment ago; nothing stays mapped on an error.
    fn in_pieces(start: NonNull<u8>, len: usize, extents: &[Extent]) -> io::Result<Mapping> {
        let mut mapping = Mapping { start, len: 0, is_lent: false };
        let mut add = |bytes: Range<usize>, source: Source<'_>| -> io::Result<()> {
            if bytes.is_empty() {
                return Ok(());
            }
            pages::map_to_free(start.as_ptr().wrapping_add(bytes.start), bytes.len(), source)?;
            mapping.len = bytes.end;
            Ok(())
        };
        let mut at = 0;
        for extent in extents {
            let bytes = extent.bytes();
            add(at..bytes.start, Source::Zeros)?;
            at = bytes.end;
            add(bytes, source(extent))?;
        }
        add(at..len, Source::Zeros)?;
        mapping.refuse_huge_pages();
        Ok(mapping)
    }

    /// Lets a page that is touched take the memory of one page, and not of a huge one, whatever the host's setting is.
    fn refuse_huge_pages(&self) {
        // SAFETY: the mapping is ours; the call does not change what it holds. A kernel without huge pages refuses it.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 && !self.is_lent {
            // SAFETY: the mapping is ours, exactly this long, and nobody who could use it is left.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

// SAFETY: the mapping belongs to no thread. Whoever accesses it through `start` answers for the accesses.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The pages of an extent.
fn source(extent: &Extent) -> Source<'_> {
    Source::File(extent.frozen.file().as_fd(), extent.first * PAGE_SIZE)
}

/// Addresses that are free at this moment, aligned as [`Mapping::new`] says.
fn free_addresses(len: usize) -> io::Result<NonNull<u8>> {
    let slack = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
    let reserved = unsafe { libc::mmap(ptr::null_mut(), len + slack, libc::PROT_NONE, flags, -1, 0) };
    if reserved == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is new, and nobody knows of it.
    unsafe { libc::munmap(reserved, len + slack) };
    let reserved: *mut u8 = reserved.cast();
    let before = if slack == 0 { 0 } else { reserved.align_offset(HUGE_PAGE) };
    NonNull::new(reserved.wrapping_add(before)).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The size of the host's huge pages.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Half of the user address space of x86-64; more cannot succeed, and sums below this cannot overflow.
const MAX_LEN: usize = 1 << 46;

/// How often the addresses may be taken by others, usually a memory allocator, before the attempt fails.
const ATTEMPTS: usize = 64;

#[cfg(test)]
mod tests;
