//! What a mapping shows.

use std::fs::{self, File};
use std::io;
use std::ops::{Range, RangeBounds};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use ampoule_vmm::{MappedMemory, PAGE_SIZE};

use super::{HostMemory, MapAccess, MapMemoryError, bytes_of};

/// What a mapping shows, and what it is called.
pub(crate) struct Source {
    name: String,
    kind: Kind,
    /// The memory of all guests that only read it. A guest that writes it has its own.
    shared: Arc<MappedMemory>,
}

enum Kind {
    /// A file, from an offset on.
    File(File, u64),
    Owned(HostMemory),
    /// Memory at an address, for which its owner answers.
    Lent,
}

impl Source {
    /// A range of a file, and how many bytes it has.
    pub(crate) fn of_file(file: BorrowedFd<'_>, range: impl RangeBounds<u64>) -> Result<(Self, u64), MapMemoryError> {
        let file = File::from(file.try_clone_to_owned()?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(MapMemoryError::NotAFile);
        }
        let range = bytes_of(range, found.len());
        let pages = pages_of(&range)?;
        if range.end > found.len() {
            return Err(MapMemoryError::BehindFile { end: range.end, size: found.len() });
        }
        let shared = MappedMemory::of_file(file.as_fd(), range.start, pages * PAGE_SIZE)?;
        let name = path_of(&file).unwrap_or_else(|| "a file".to_owned());
        Ok((Self { name, kind: Kind::File(file, range.start), shared }, range.end - range.start))
    }

    /// All of this memory, and how many bytes it has.
    pub(crate) fn of_memory(memory: &HostMemory) -> Result<(Self, u64), MapMemoryError> {
        let shared = MappedMemory::of_file(memory.file(), 0, memory.len().next_multiple_of(PAGE_SIZE))?;
        let name = "memory of the application".to_owned();
        Ok((Self { name, kind: Kind::Owned(memory.clone()), shared }, memory.len() as u64))
    }

    /// Memory at an address, and how many bytes it has.
    ///
    /// # Safety
    ///
    /// As for [`MappedMemory::of_addresses`].
    pub(crate) unsafe fn of_addresses(start: *const u8, len: usize) -> Result<(Self, u64), MapMemoryError> {
        for (what, value) in [("address of the memory", start.addr()), ("length of the memory", len)] {
            if !value.is_multiple_of(PAGE_SIZE) {
                return Err(MapMemoryError::Unaligned { what, value: value as u64 });
            }
        }
        if len == 0 {
            return Err(MapMemoryError::Empty);
        }
        // SAFETY: the caller's promise.
        let shared = unsafe { MappedMemory::of_addresses(start, len) }?;
        let name = "memory at an address of the application's".to_owned();
        Ok((Self { name, kind: Kind::Lent, shared }, len as u64))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The path of the file, if it has one still, and the first page of it that is shown.
    pub(super) fn named_file(&self) -> Option<(String, u64)> {
        let Kind::File(file, offset) = &self.kind else { return None };
        let has_name = file.metadata().is_ok_and(|found| found.nlink() > 0);
        // It may have been moved since.
        let path = has_name.then(|| path_of(file)).flatten()?;
        Some((path, offset / PAGE_SIZE as u64))
    }

    /// Whether a guest can have a copy of its own to write.
    pub(crate) fn can_be_copied(&self) -> bool {
        !matches!(self.kind, Kind::Lent)
    }

    pub(super) fn shared(&self) -> Arc<MappedMemory> {
        Arc::clone(&self.shared)
    }

    pub(super) fn memory(&self, access: MapAccess, pages: usize) -> io::Result<Arc<MappedMemory>> {
        match (&self.kind, access) {
            (_, MapAccess::Read | MapAccess::ReadExecute) | (Kind::Lent, _) => Ok(self.shared()),
            (Kind::File(file, offset), MapAccess::CopyOnWrite) => {
                MappedMemory::copy_of_file(file.as_fd(), *offset, pages * PAGE_SIZE)
            }
            (Kind::Owned(memory), MapAccess::CopyOnWrite) => {
                MappedMemory::copy_of_file(memory.file(), 0, pages * PAGE_SIZE)
            }
        }
    }

    pub(super) fn is_cut_short(&self, len: u64) -> bool {
        match &self.kind {
            Kind::File(file, offset) => file.metadata().is_ok_and(|found| found.len() < offset + len),
            Kind::Owned(_) | Kind::Lent => false,
        }
    }
}

/// The path of a file, for messages and for debuggers; none in a process without `/proc`.
fn path_of(file: &File) -> Option<String> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(path.display().to_string())
}

/// How many pages have the bytes of a range, which begins on a page.
fn pages_of(range: &Range<u64>) -> Result<usize, MapMemoryError> {
    if !range.start.is_multiple_of(PAGE_SIZE as u64) {
        return Err(MapMemoryError::Unaligned { what: "start of the range", value: range.start });
    }
    if range.end <= range.start {
        return Err(MapMemoryError::Empty);
    }
    let pages = (range.end - range.start).div_ceil(PAGE_SIZE as u64);
    Ok(pages as usize)
}
