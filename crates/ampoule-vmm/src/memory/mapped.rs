//! Memory of the host's that guests see beside their own: files, and memory of the application's.
//!
//! 1. What may be a file is not read or written through a pointer: it may be cut short at any time, which makes the pages behind
//!    its new end a signal for whoever touches them. The kernel copies instead, and reports such pages as an error.
//! 2. A file is mapped privately. Nothing that a guest writes reaches it, and as long as nobody writes, all who map a page of
//!    it share the one in the page cache.
//! 3. Memory at an address of the application's belongs to the application: it is read only, and its protection and its
//!    mapping stay as they are.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::address::PAGE_SIZE;
use crate::page_set::PageSet;

use super::mapping::Mapping;
use super::tracked::note::Note;
use super::{Region, careful};

/// Whole pages of the host's that a [`Processor`](crate::Processor) can show its guest.
#[derive(Debug)]
pub struct MappedMemory {
    region: Arc<Region>,
    kind: Kind,
    /// The pages that the host has written.
    written: Note,
}

/// Whose pages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Those of a file, which nobody here writes.
    File,
    /// Those of a file until the host or the guest has written them.
    CopyOfFile,
    /// The host's own.
    Own,
    /// Those of the application, which nobody here writes.
    Lent,
}

impl Kind {
    fn is_written(self) -> bool {
        matches!(self, Self::CopyOfFile | Self::Own)
    }
}

impl MappedMemory {
    /// `len` bytes of a file from `offset` on, both of which are multiples of [`PAGE_SIZE`], for guests that only read them.
    ///
    /// The file may be opened for reading only. Whoever changes it changes what is read here; pages behind its end cannot be
    /// accessed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where the range is not made of whole pages or is empty; otherwise what `mmap` reports.
    pub fn of_file(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Arc<MappedMemory>> {
        Self::new(map(file, offset, len)?, Kind::File)
    }

    /// The same, for one guest that also writes them: what it writes stays here, and it is noted which pages that are.
    ///
    /// # Errors
    ///
    /// As for [`of_file`](Self::of_file).
    pub fn copy_of_file(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Arc<MappedMemory>> {
        Self::new(map(file, offset, len)?, Kind::CopyOfFile)
    }

    /// `len` bytes that are zero until the host writes them.
    ///
    /// # Errors
    ///
    /// As for [`Region::anonymous`].
    pub fn anonymous(len: usize) -> io::Result<Arc<MappedMemory>> {
        Self::new(Mapping::new(len, &[])?, Kind::Own)
    }

    /// `len` bytes at an address of the application's, to be read only.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where these are not whole pages, or none.
    ///
    /// # Safety
    ///
    /// The bytes are mapped and stay so, and nobody writes them, until no processor [shows](crate::Processor::attach) them or
    /// none that does is run again.
    pub unsafe fn of_addresses(start: *const u8, len: usize) -> io::Result<Arc<MappedMemory>> {
        let start = NonNull::new(start.cast_mut()).ok_or(io::ErrorKind::InvalidInput)?;
        if !start.addr().get().is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) || len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::new(Mapping::lent(start, len), Kind::Lent)
    }

    fn new(mapping: Mapping, kind: Kind) -> io::Result<Arc<MappedMemory>> {
        let written = Note::new(if kind.is_written() { mapping.len() / PAGE_SIZE } else { 0 });
        Ok(Arc::new(MappedMemory { region: Arc::new(Region::new(mapping, Vec::new())), kind, written }))
    }

    /// Whether it is noted which pages the guest writes.
    pub fn is_tracked(&self) -> bool {
        self.kind == Kind::CopyOfFile
    }

    /// The size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
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
    /// [`MemoryLost`] where there are no such bytes, or no longer; some may have been copied.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), MemoryLost> {
        self.check(offset, into.len())?;
        // SAFETY: the bytes lie within this memory, into which no reference exists.
        let read = unsafe { careful::read(self.address(offset), into) };
        complete(offset, into.len(), read)
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`MemoryLost`] where there are no such bytes, or no longer, or nobody is to write them; some may have been written.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), MemoryLost> {
        self.check(offset, from.len())?;
        if !self.kind.is_written() {
            return Err(MemoryLost { offset });
        }
        if !from.is_empty() {
            (offset / PAGE_SIZE..(offset + from.len()).div_ceil(PAGE_SIZE)).for_each(|page| self.written.insert(page));
        }
        if self.kind == Kind::Own {
            return self.region.write(offset, from).map_err(|_| MemoryLost { offset });
        }
        // SAFETY: as above; the file is mapped privately, for writing.
        let written = unsafe { careful::write(self.address(offset), from) };
        complete(offset, from.len(), written)
    }

    /// Moves the set of pages that the host has written into `pages`.
    ///
    /// # Panics
    ///
    /// When `pages` is for memory of another size.
    pub fn take_written(&self, pages: &mut PageSet) {
        assert_eq!(pages.capacity(), self.pages(), "a set of the pages of other memory");
        self.written.take(|page| pages.insert(page));
    }

    /// Forgets what was written to these pages: they are the file's again, or zero. Hypervisors forget their translations.
    /// `false`, and nothing changes, where that cannot be done: the pages are locked in memory, or the application's.
    ///
    /// # Panics
    ///
    /// When there are no such pages.
    pub fn forget(&self, pages: Range<usize>) -> bool {
        assert!(pages.start <= pages.end && pages.end <= self.pages());
        self.kind.is_written() && self.region.drop_pages(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE))
    }

    /// The region, for whoever shows it to a guest. A host that reads or writes it directly, where it is a file that was cut
    /// short, gets the signal.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), MemoryLost> {
        let lies_within = offset.checked_add(len).is_some_and(|end| end <= self.len());
        if lies_within { Ok(()) } else { Err(MemoryLost { offset }) }
    }

    fn address(&self, offset: usize) -> *mut u8 {
        (self.region.host_address() as *mut u8).wrapping_add(offset)
    }
}

/// Whether all of an access was done.
fn complete(offset: usize, len: usize, done: usize) -> Result<(), MemoryLost> {
    if done == len { Ok(()) } else { Err(MemoryLost { offset: offset + done }) }
}

fn map(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Mapping> {
    let offset = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(PAGE_SIZE));
    Mapping::of_file(file, offset.ok_or(io::ErrorKind::InvalidInput)?, len)
}

/// Memory that cannot be accessed: it lies behind the end of a file, or of what is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mapped memory cannot be accessed at offset {offset:#x}")]
pub struct MemoryLost {
    /// Where the first such byte may be, in bytes from the start.
    pub offset: usize,
}

#[cfg(test)]
mod tests;
