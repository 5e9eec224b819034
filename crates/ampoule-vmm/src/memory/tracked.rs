//! A region that knows what the host has written: there is no way to write to it without marking the pages dirty.

pub(super) mod note;

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::address::PAGE_SIZE;
use crate::page_set::PageSet;

use super::{Contents, OutOfRegion, PartReader, PartWriter, Region, RevokeError};
use note::Note;

/// Memory of a guest, with the set of pages that the host has written.
///
/// It begins with bytes that are the [host's alone](HostOnly), whose pages are never in that set.
pub struct TrackedRegion {
    region: Arc<Region>,
    host_only: HostOnly,
    /// How far the host has written its own bytes since they were last [wiped](Self::wipe_host_only).
    host_only_end: AtomicUsize,
    written: Note,
}

/// Bytes at the start of a region that the guest cannot write and no snapshot holds. Their number is a multiple of
/// [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostOnly {
    /// How many there are.
    pub len: usize,
    /// How many of them, at the start, stay when the others are [wiped](TrackedRegion::wipe_host_only).
    pub kept: usize,
}

impl TrackedRegion {
    /// How many pages make a huge page, as for [`Region::HUGE_PAGE`].
    pub const HUGE_PAGE: usize = Region::HUGE_PAGE;

    /// Reserves `len` bytes, like [`Region::anonymous`].
    ///
    /// # Errors
    ///
    /// As for [`Region::anonymous`].
    pub fn anonymous(len: usize, host_only: HostOnly) -> io::Result<Arc<TrackedRegion>> {
        Ok(Arc::new(Self::new(Region::anonymous(len)?, host_only)))
    }

    /// A region that shows `contents`, copy-on-write, and has not been written.
    ///
    /// # Errors
    ///
    /// As for [`Region::of_contents`].
    pub fn of_contents(contents: &Contents, host_only: HostOnly) -> io::Result<Arc<TrackedRegion>> {
        Ok(Arc::new(Self::new(Region::of_contents(contents)?, host_only)))
    }

    pub(crate) fn new(region: Arc<Region>, host_only: HostOnly) -> TrackedRegion {
        assert!(host_only.len.is_multiple_of(PAGE_SIZE) && host_only.kept <= host_only.len);
        let written = Note::new(region.len() / PAGE_SIZE);
        TrackedRegion { region, host_only, host_only_end: AtomicUsize::new(host_only.kept), written }
    }

    /// The region itself, for whoever shows it to a guest.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// The size in pages.
    pub fn pages(&self) -> usize {
        self.len() / PAGE_SIZE
    }

    /// Copies the bytes from `offset` on into `into`.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRegion> {
        self.region.read(offset, into)
    }

    /// Reads eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region.
    #[inline]
    pub fn read_u64(&self, offset: usize) -> Result<u64, OutOfRegion> {
        self.region.read_u64(offset)
    }

    /// A part that is read in small pieces.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when it does not lie within the region.
    #[inline]
    pub fn part_reader(&self, offset: usize, len: usize) -> Result<PartReader<'_>, OutOfRegion> {
        self.region.part_reader(offset, len)
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRegion> {
        self.region.write(offset, from)?;
        self.note(offset, from.len());
        Ok(())
    }

    /// Has the kernel read a file into the region; like [`Region::read_file`]. All `len` bytes are marked dirty, however many
    /// there are in the file.
    ///
    /// # Errors
    ///
    /// As for [`Region::read_file`].
    pub fn read_file(&self, offset: usize, len: usize, file: BorrowedFd<'_>, at: u64) -> io::Result<usize> {
        let read = self.region.read_file(offset, len, file, at);
        if offset.checked_add(len).is_some_and(|end| end <= self.len()) {
            self.note(offset, len);
        }
        read
    }

    /// Writes eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is written then.
    pub fn write_u64(&self, offset: usize, value: u64) -> Result<(), OutOfRegion> {
        self.region.write_u64(offset, value)?;
        self.note(offset, size_of::<u64>());
        Ok(())
    }

    /// A part that is written in small pieces. What was written is marked dirty when the writer is dropped.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when it does not lie within the region.
    #[inline]
    pub fn part_writer(&self, offset: usize, len: usize) -> Result<TrackedWriter<'_>, OutOfRegion> {
        Ok(TrackedWriter { part: self.region.part_writer(offset, len)?, end: 0, offset, region: self })
    }

    /// Zeroes bytes, and makes the hypervisor forget its translations of the pages that lie within; like
    /// [`Region::discard`]. `current` is what the region holds where nothing has been written: pages that hold zeros there
    /// need not be marked dirty.
    ///
    /// # Errors
    ///
    /// As for [`Region::discard`].
    pub fn discard(&self, offset: usize, len: usize, current: &Contents) -> Result<(), RevokeError> {
        current
            .stored_in(offset / PAGE_SIZE..(offset + len).div_ceil(PAGE_SIZE))
            .for_each(|page| self.written.insert(page));
        self.region.discard(offset, len)
    }

    /// Zeroes pages; like [`Region::zero_pages`]. `current` is as for [`discard`](Self::discard).
    ///
    /// # Panics
    ///
    /// When the region has no such page.
    pub fn zero_pages(&self, pages: Range<usize>, current: &Contents) {
        current.stored_in(pages.clone()).for_each(|page| self.written.insert(page));
        self.region.zero_pages(pages);
    }

    /// Zeroes what the host has written of its own bytes, except those that are to be kept.
    pub fn wipe_host_only(&self) {
        let HostOnly { kept, .. } = self.host_only;
        // A call without arguments has written none.
        if self.host_only_end.load(Ordering::Relaxed) > kept {
            let end = self.host_only_end.swap(kept, Ordering::Relaxed);
            self.region.fill_zero(kept, end - kept).expect("the host's bytes lie in the region");
        }
    }

    /// Moves the set of pages that the host has written into `pages`.
    ///
    /// # Panics
    ///
    /// When `pages` is for a region of another size.
    pub fn take_written(&self, pages: &mut PageSet) {
        assert_eq!(pages.capacity(), self.pages(), "a set of the pages of another region");
        self.written.take(|page| pages.insert(page));
    }

    /// Makes the region show `contents`; like [`Contents::show_in`]. Nothing has been written then.
    ///
    /// # Errors
    ///
    /// As for [`Contents::show_in`].
    pub fn show(&self, contents: &Contents) -> io::Result<()> {
        contents.show_in(&self.region)
    }

    /// Makes the pages from `at` on show `part`; like [`Contents::show_at`]. The set of pages that the host has written stays as
    /// it is.
    ///
    /// # Errors
    ///
    /// As for [`Contents::show_at`].
    ///
    /// # Panics
    ///
    /// When the region has no such pages.
    pub fn show_at(&self, at: usize, part: &Contents) -> io::Result<()> {
        part.show_at(&self.region, at)
    }

    /// What the region holds, given that it held `before` and only the pages `changed` can differ; like [`Contents::updated`].
    ///
    /// # Errors
    ///
    /// As for [`Contents::updated`].
    pub fn freeze(
        &self,
        before: &Arc<Contents>,
        changed: impl IntoIterator<Item = usize>,
    ) -> io::Result<Arc<Contents>> {
        before.updated(&self.region, changed)
    }

    /// Overwrites these pages with what they should hold, and returns how many there were; like [`Contents::write_back`].
    pub fn write_back(&self, contents: &Contents, pages: impl IntoIterator<Item = usize>) -> usize {
        contents.write_back(&self.region, pages)
    }

    /// Whether a page holds what it should; like [`Contents::is_in`].
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the region has no such page.
    pub fn holds(&self, contents: &Contents, page: usize) -> Result<bool, OutOfRegion> {
        contents.is_in(&self.region, page)
    }

    /// Like [`Region::populate`].
    ///
    /// # Errors
    ///
    /// As for [`Region::populate`].
    pub fn populate(&self, pages: Range<usize>) -> io::Result<Vec<Range<usize>>> {
        self.region.populate(pages)
    }

    /// Like [`Region::release`].
    ///
    /// # Errors
    ///
    /// As for [`Region::release`].
    pub fn release(&self, pages: Range<usize>) -> Result<(), OutOfRegion> {
        self.region.release(pages)
    }

    /// Like [`Region::revoke`].
    ///
    /// # Errors
    ///
    /// As for [`Region::revoke`].
    pub fn revoke(&self, offset: usize, len: usize) -> Result<(), RevokeError> {
        self.region.revoke(offset, len)
    }

    /// Notes that bytes were written, which lie within the region.
    #[inline]
    fn note(&self, offset: usize, len: usize) {
        let end = offset + len;
        if end <= self.host_only.len {
            if self.host_only_end.load(Ordering::Relaxed) < end {
                self.host_only_end.fetch_max(end, Ordering::Relaxed);
            }
        } else if len > 0 {
            (offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE)).for_each(|page| self.written.insert(page));
        }
    }
}

impl fmt::Debug for TrackedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedRegion")
            .field("region", &self.region)
            .field("host_only", &self.host_only)
            .finish_non_exhaustive()
    }
}

/// A part of a [`TrackedRegion`] that is written a few bytes at a time.
#[derive(Debug)]
pub struct TrackedWriter<'region> {
    part: PartWriter<'region>,
    /// How far it has been written.
    end: usize,
    offset: usize,
    region: &'region TrackedRegion,
}

impl TrackedWriter<'_> {
    /// Copies `from` to the bytes from the offset `at` of the part on, all before which has been written.
    ///
    /// # Panics
    ///
    /// When these do not all lie within the part.
    #[inline]
    pub fn write(&mut self, at: usize, from: &[u8]) {
        self.part.write(at, from);
        // A maximum would make each write wait for the one before it.
        self.end = at + from.len();
    }

    /// Copies `from` over bytes of the part that have been written.
    ///
    /// # Panics
    ///
    /// When these do not all lie within the part.
    #[inline]
    pub fn write_again(&mut self, at: usize, from: &[u8]) {
        debug_assert!(at + from.len() <= self.end);
        self.part.write(at, from);
    }
}

impl Drop for TrackedWriter<'_> {
    #[inline]
    fn drop(&mut self) {
        self.region.note(self.offset, self.end);
    }
}

#[cfg(test)]
mod tests;
