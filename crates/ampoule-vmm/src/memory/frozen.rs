//! Pages that never change again, and that any number of regions can show copy-on-write.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::slice;

use crate::address::PAGE_SIZE;
use crate::linux::advice::named;
use crate::linux::file_size;
use crate::linux::uninterrupted::uninterrupted;
use crate::page_set::PageSet;

use super::Region;

/// Copies of pages, one behind the other in a sealed file without a name. Those that hold zeros are holes of the file.
#[derive(Debug)]
pub(super) struct Frozen {
    file: OwnedFd,
    view: NonNull<u8>,
    len: usize,
    zeros: PageSet,
}

impl Frozen {
    /// Copies these runs of a region's pages. There is at least one page.
    pub(super) fn copy(region: &Region, runs: &[Range<usize>]) -> io::Result<Frozen> {
        let pages: usize = runs.iter().map(ExactSizeIterator::len).sum();
        let mut zeros = PageSet::new(pages);
        let file = create_file(pages * PAGE_SIZE, |file| {
            Self::copy_to(&file, region, runs, &mut zeros)?;
            Ok(file)
        })?;
        Self::seal(file, pages * PAGE_SIZE, zeros)
    }

    /// Writes these runs of a region's pages to a file of zeros, except for those that hold zeros themselves, which go to
    /// `zeros`.
    fn copy_to(file: &OwnedFd, region: &Region, runs: &[Range<usize>], zeros: &mut PageSet) -> io::Result<()> {
        let mut first = 0;
        for run in runs {
            // Where the pages begin that are still to be copied.
            let mut rest = run.start;
            let copy = |from: usize, to: usize| {
                let at = (first + from - run.start) * PAGE_SIZE;
                region.write_to_file(from * PAGE_SIZE, (to - from) * PAGE_SIZE, file, at)
            };
            for page in run.clone() {
                if region.leading_zeros(page) == PAGE_SIZE {
                    copy(rest, page)?;
                    zeros.insert(first + page - run.start);
                    rest = page + 1;
                }
            }
            copy(rest, run.end)?;
            first += run.len();
        }
        Ok(())
    }

    /// Copies pieces of bytes, each to whole pages, with its first byte at the offset that it names and zeros around it.
    pub(super) fn of_bytes(pieces: &[(usize, &[u8])]) -> io::Result<Frozen> {
        let mut len = 0;
        let mut placed = Vec::new();
        for (at, bytes) in pieces.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            placed.push((len + at, *bytes));
            len += (at + bytes.len()).next_multiple_of(PAGE_SIZE);
        }
        // An empty file could not be mapped.
        len = len.max(PAGE_SIZE);
        let file = create_file(len, |file| {
            let file = File::from(file);
            placed.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at as u64))?;
            Ok(file.into())
        })?;
        Self::seal(file, len, PageSet::new(len / PAGE_SIZE))
    }

    /// Makes a file of whole pages, `len` bytes long, unchangeable. The pages `zeros` are known to hold zeros.
    fn seal(file: OwnedFd, len: usize, zeros: PageSet) -> io::Result<Frozen> {
        let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        let sealed = uninterrupted(|| {
            // SAFETY: the descriptor is open; the call touches no memory of this process.
            let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
        named("fcntl", sealed)?;
        let view = uninterrupted(|| {
            // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
            let view =
                unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if view == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(view) }
        })?;
        let view = NonNull::new(view.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Frozen { file, view, len, zeros })
    }

    /// How many pages there are.
    pub(super) fn pages(&self) -> usize {
        self.len / PAGE_SIZE
    }

    /// The bytes of a page, unless it is known to hold zeros.
    pub(super) fn page(&self, index: usize) -> Option<&[u8]> {
        if self.zeros.contains(index) {
            return None;
        }
        // SAFETY: the mapping lives as long as `self` and is `len` bytes long; the seals keep everybody, this process
        // included, from changing the bytes or the size.
        let bytes = unsafe { slice::from_raw_parts(self.view.as_ptr(), self.len) };
        Some(&bytes[index * PAGE_SIZE..][..PAGE_SIZE])
    }

    /// How many pages take memory.
    pub(super) fn stored_pages(&self) -> usize {
        self.pages() - self.zeros.len()
    }

    /// How many of these pages take memory.
    pub(super) fn stored(&self, pages: Range<usize>) -> usize {
        pages.len() - self.zeros.len_in(pages)
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, exactly this long, and no borrow of it is left.
        unsafe { libc::munmap(self.view.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the mapping belongs to no thread, and its bytes never change.
unsafe impl Send for Frozen {}
// SAFETY: as above.
unsafe impl Sync for Frozen {}

/// A file without a name that can be sealed, and never be executed where the kernel supports that (Linux 6.3). It is `len`
/// bytes long, all zeros.
fn create_file(len: usize, fill: impl FnOnce(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let file = memfd(flags | libc::MFD_NOEXEC_SEAL).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => memfd(flags),
        _ => Err(error),
    });
    let file = File::from(named("memfd_create", file)?);
    file_size::grow(len as u64, || {
        named("ftruncate", file.set_len(len as u64))?;
        named("pwrite64", fill(file.into()))
    })
}

fn memfd(flags: libc::c_uint) -> io::Result<OwnedFd> {
    let file = uninterrupted(|| {
        // SAFETY: the name is a string that ends with a zero.
        let file = unsafe { libc::memfd_create(c"ampoule-snapshot".as_ptr(), flags) };
        if file < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
    })?;
    // SAFETY: the descriptor is new, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}
