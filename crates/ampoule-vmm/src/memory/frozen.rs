//! Pages that never change again, and that any number of regions can show copy-on-write.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
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

/// Copies of pages, one behind the other in a file without a name. Those that hold zeros are holes of the file.
#[derive(Debug)]
pub(super) struct Frozen {
    file: OwnedFd,
    /// None where the pages can be lost.
    view: Option<NonNull<u8>>,
    len: usize,
    zeros: PageSet,
    kind: Kind,
}

/// Whose pages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those of regions: the file is sealed.
    Memory,
    /// Those of a stored snapshot: the file is sealed, and others keep it, too.
    Stored,
    /// Those of a file of the host's, each from the moment on at which it has been [filled](Frozen::fill).
    HostFile,
    /// Those of a stored snapshot's own file, which others can change and cut short.
    StoredFile,
}

/// The bytes of a page.
#[derive(Debug)]
pub enum PageBytes<'a> {
    /// As they lie in memory.
    Shared(&'a [u8]),
    /// A copy of what a file had.
    Copied(Box<[u8; PAGE_SIZE]>),
}

impl Deref for PageBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => &bytes[..],
        }
    }
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
        Self::seal(file, pages * PAGE_SIZE, zeros, Kind::Memory)
    }

    /// Room for the pages of a file of the host's, which is `len` bytes long. They are to be filled before anybody sees them.
    pub(super) fn for_file(len: usize) -> io::Result<Frozen> {
        // An empty file could not be mapped.
        let len = len.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
        let file = create_file(len, Ok)?;
        Self::seal(file, len, PageSet::new(len / PAGE_SIZE), Kind::HostFile)
    }

    /// Gives pages from `first` on the bytes that they hold from now on. Nobody has been shown these pages yet, and nobody else
    /// fills them meanwhile.
    pub(super) fn fill(&self, first: usize, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(self.kind == Kind::HostFile && first * PAGE_SIZE + bytes.len() <= self.len);
        write_pages(&self.file, self.len, first, bytes)
    }

    /// The pages of a file that others can change: so many bytes, whole pages. What the file does not have is zeros.
    pub(super) fn of_stored_file(file: OwnedFd, len: usize) -> Frozen {
        let zeros = holes(&file, len / PAGE_SIZE);
        Frozen { file, view: None, len, zeros, kind: Kind::StoredFile }
    }

    /// Whether somebody else can take pages away.
    pub(super) fn can_be_lost(&self) -> bool {
        self.kind == Kind::StoredFile
    }

    /// Whether these are the pages of a file of the host's.
    pub(super) fn is_of_file(&self) -> bool {
        self.kind == Kind::HostFile
    }

    /// Whether others than contents keep these pages, too.
    pub(super) fn is_kept_by_others(&self) -> bool {
        self.kind != Kind::Memory
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
        Self::seal(file, len, PageSet::new(len / PAGE_SIZE), Kind::Memory)
    }

    /// Makes a file of whole pages, `len` bytes long, unchangeable, or, where it is to be filled, its size. The pages `zeros`
    /// are known to hold zeros.
    pub(super) fn seal(file: OwnedFd, len: usize, zeros: PageSet, kind: Kind) -> io::Result<Frozen> {
        let size = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        let seals = if kind == Kind::HostFile { size } else { size | libc::F_SEAL_WRITE };
        let add_seals = || {
            uninterrupted(|| {
                // SAFETY: the descriptor is open; the call touches no memory of this process.
                let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
                if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            })
        };
        let mut sealed = add_seals();
        // The kernel itself may still have a hand on some of the new pages, and waits for that a moment in each attempt.
        for _attempt in 1..SEAL_ATTEMPTS {
            match sealed {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sealed = add_seals(),
                _ => break,
            }
        }
        named("fcntl", sealed)?;
        let view = uninterrupted(|| {
            // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
            let view =
                unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if view == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(view) }
        })?;
        let view = NonNull::new(view.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Frozen { file, view: Some(view), len, zeros, kind })
    }

    /// How many pages there are.
    pub(super) fn pages(&self) -> usize {
        self.len / PAGE_SIZE
    }

    /// The bytes of a page, unless it is known to hold zeros.
    pub(super) fn page(&self, index: usize) -> Option<PageBytes<'_>> {
        if self.zeros.contains(index) {
            return None;
        }
        assert!(index < self.pages());
        let Some(view) = self.view else { return Some(PageBytes::Copied(read_page(&self.file, index))) };
        // SAFETY: the mapping lives as long as `self` and has this page. The seals keep everybody from changing its size, and
        // its bytes, unless it is a page of a file of the host's: such a page is filled once, before it is asked for.
        let bytes = unsafe { slice::from_raw_parts(view.as_ptr().add(index * PAGE_SIZE), PAGE_SIZE) };
        Some(PageBytes::Shared(bytes))
    }

    /// Whether a page takes memory, as far as is known.
    pub(super) fn is_stored(&self, index: usize) -> bool {
        !self.zeros.contains(index)
    }

    /// All bytes.
    ///
    /// # Panics
    ///
    /// When these are the pages of a file of the host's, which may still have to be filled.
    pub(super) fn bytes(&self) -> &[u8] {
        assert!(self.kind != Kind::HostFile);
        self.filled()
    }

    /// The bytes of all pages, each of which has been filled, if it is to be.
    ///
    /// # Panics
    ///
    /// When they can be lost.
    pub(super) fn filled(&self) -> &[u8] {
        let view = self.view.expect("pages that can be lost are only copied");
        // SAFETY: as for `page`: every page is one of the mapping's, which lives as long as `self`, and was filled before this
        // was asked for.
        unsafe { slice::from_raw_parts(view.as_ptr(), self.len) }
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

/// Writes bytes to a file of this length, from its page `first` on.
pub(super) fn write_pages(file: &OwnedFd, len: usize, first: usize, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    file_size::grow(len as u64, || {
        while done < bytes.len() {
            let (rest, at) = (&bytes[done..], (first * PAGE_SIZE + done) as libc::off_t);
            let written = uninterrupted(|| {
                // SAFETY: the kernel reads the bytes that are lent. The descriptor is open.
                let written = unsafe { libc::pwrite(file.as_raw_fd(), rest.as_ptr().cast(), rest.len(), at) };
                usize::try_from(written).map_err(|_| io::Error::last_os_error())
            });
            match named("pwrite64", written)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => done += written,
            }
        }
        Ok(())
    })
}

/// What a file has of a page, and zeros for what it does not.
fn read_page(file: &OwnedFd, index: usize) -> Box<[u8; PAGE_SIZE]> {
    let mut bytes = Box::new([0; PAGE_SIZE]);
    let mut done = 0;
    while done < PAGE_SIZE {
        let (rest, at) = (&mut bytes[done..], (index * PAGE_SIZE + done) as libc::off_t);
        let read = uninterrupted(|| {
            // SAFETY: the kernel writes to the bytes that are lent. The descriptor is open.
            let read = unsafe { libc::pread(file.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), at) };
            usize::try_from(read).map_err(|_| io::Error::last_os_error())
        });
        match read {
            Ok(read @ 1..) => done += read,
            Ok(0) | Err(_) => break,
        }
    }
    bytes
}

/// Which of so many pages are holes of a file, as far as it says.
fn holes(file: &OwnedFd, pages: usize) -> PageSet {
    let seek = |from: usize, whence| {
        let at = (from * PAGE_SIZE) as libc::off_t;
        // SAFETY: the descriptor is open; the call touches no memory of this process.
        let found = unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
        usize::try_from(found).map_err(|_| io::Error::last_os_error())
    };
    let mut holes = PageSet::new(pages);
    let mut at = 0;
    while at < pages {
        let data = match seek(at, libc::SEEK_DATA) {
            Ok(data) => (data / PAGE_SIZE).min(pages),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => pages,
            Err(_) => break,
        };
        (at..data).for_each(|page| holes.insert(page));
        match seek(data, libc::SEEK_HOLE) {
            Ok(hole) if data < pages => at = hole.div_ceil(PAGE_SIZE).max(data + 1),
            _ => break,
        }
    }
    holes
}

/// How often a file is sealed before it is given up, where the kernel finds it busy. An attempt takes it up to 0.15 s
/// (`memfd_wait_for_pins` in Linux's `mm/memfd.c`).
const SEAL_ATTEMPTS: usize = 20;

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(view) = self.view {
            // SAFETY: the mapping is ours, exactly this long, and no borrow of it is left.
            unsafe { libc::munmap(view.as_ptr().cast(), self.len) };
        }
    }
}

// SAFETY: the mapping belongs to no thread, and its bytes never change.
unsafe impl Send for Frozen {}
// SAFETY: as above.
unsafe impl Sync for Frozen {}

/// A file without a name that can be sealed, and never be executed where the kernel supports that (Linux 6.3). It is `len`
/// bytes long, all zeros.
pub(super) fn create_file(len: usize, fill: impl FnOnce(OwnedFd) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
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
