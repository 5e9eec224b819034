//! Host memory that backs a guest's physical memory.
//!
//! The guest may change its memory at any instant, so these rules hold:
//!
//! 1. There is never a Rust reference into guest memory, neither shared nor unique.
//! 2. Every access goes through [`Region`], is bounded by the region, and copies: the host decides on its own copy.
//! 3. The copying is done by instructions that the compiler cannot see into (`arch::copy`), so a guest or another host
//!    thread that touches the same bytes yields torn data at worst, never undefined behaviour.
//! 4. A region keeps its address and size for life; whoever has handed its address to a hypervisor keeps it alive.
//! 5. While a region is made to show something else ([`Contents::show_in`]), host writes wait.
//! 6. What may be a file that somebody can cut short is accessed by the kernel, and not through a pointer (`careful`).

mod careful;
mod contents;
mod file;
mod frozen;
mod mapped;
mod mapping;
mod owned;
mod paged;
mod part;
mod stored;
mod tracked;

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::address::PAGE_SIZE;
use crate::arch::copy;
use crate::linux::advice::WithAdvice;

use contents::Extent;
use mapping::Mapping;

pub use contents::Contents;
pub use file::{FileBytes, FrozenFile};
pub use frozen::PageBytes;
pub use mapped::{MappedMemory, MemoryLost};
pub use owned::OwnedPages;
pub use paged::PagedFile;
pub use part::{PartReader, PartWriter};
pub use stored::{StoredPages, UnsealedPages};
pub use tracked::{HostOnly, TrackedRegion, TrackedWriter};

/// A range of private host memory that backs guest-physical memory.
///
/// It reads as zero until written, and costs host memory only for the pages that were touched. A region that shows a
/// [`Contents`] reads as that until written, and costs memory only for the pages that were written.
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    /// The parts that show frozen pages, in ascending order. Held shared by writers, exclusively while the region is
    /// remapped.
    shown: RwLock<Vec<Extent>>,
    /// Up to where no page can be lost, in bytes from the start. It is lowered before the region shows pages that can, while
    /// `shown` is held.
    sure_end: AtomicUsize,
}

impl Region {
    /// How many pages make a huge page. The first of each is a multiple of this.
    pub const HUGE_PAGE: usize = mapping::HUGE_PAGE / PAGE_SIZE;

    /// Reserves `len` bytes, which must be a positive multiple of [`PAGE_SIZE`]. The region begins on a page, and from
    /// 2 MiB on at a multiple of 2 MiB, so that the host can back it with huge pages.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other `len`; otherwise what `mmap` reports.
    pub fn anonymous(len: usize) -> io::Result<Arc<Region>> {
        Ok(Arc::new(Region::new(Mapping::new(len, &[])?, Vec::new())))
    }

    /// A region that shows `contents`, copy-on-write.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the contents have no pages; otherwise what `mmap` reports.
    pub fn of_contents(contents: &Contents) -> io::Result<Arc<Region>> {
        let extents = contents.extents();
        let mapping = Mapping::new(contents.pages() * PAGE_SIZE, extents)?;
        Ok(Arc::new(Region::new(mapping, extents.to_vec())))
    }

    fn new(mapping: Mapping, shown: Vec<Extent>) -> Region {
        let sure_end = AtomicUsize::new(sure_end(&shown, mapping.len()));
        Region { mapping, shown: RwLock::new(shown), sure_end }
    }

    /// The size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Copies the bytes from `offset` on into `into`.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRegion> {
        let Some(from) = self.sure(offset, into.len()) else { return self.read_carefully(offset, into) };
        // SAFETY: `sure` returned the start of `into.len()` mapped bytes; `into` is ours alone and cannot overlap
        // them, because no reference into a region exists (rule 1).
        unsafe { copy::bytes(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRegion> {
        let _writer = self.writer();
        let Some(to) = self.sure(offset, from.len()) else { return self.write_carefully(offset, from) };
        // SAFETY: `sure` returned the start of `from.len()` mapped bytes, writable while `_writer` is held; `from`
        // cannot overlap them (rule 1).
        unsafe { copy::bytes(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Has the kernel read a file, from its byte `at` on, to `len` bytes from `offset` on. Returns how many bytes there were,
    /// which are fewer at the end of the file. What is behind them may have changed as well, up to `len`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the range does not lie within the region, and nothing changes then; what the host says when it cannot
    /// read the file.
    pub fn read_file(&self, offset: usize, len: usize, file: BorrowedFd<'_>, at: u64) -> io::Result<usize> {
        let to = self.bounded(offset, len).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let _writer = self.writer();
        let mut done = 0;
        while done < len {
            let at = at.checked_add(done as u64).and_then(|at| libc::off_t::try_from(at).ok());
            let at = at.ok_or(io::ErrorKind::InvalidInput)?;
            // SAFETY: `bounded` returned the start of `len` mapped bytes, writable while `_writer` is held, of which `done` are
            // left out. Only the kernel writes them here: bytes that the guest uses at the same time are torn at worst (rule 3).
            let read = unsafe { libc::pread(file.as_raw_fd(), to.add(done).cast(), len - done, at) };
            match usize::try_from(read) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        _ if done > 0 => break,
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(done)
    }

    /// `len` bytes from `offset` on, to be read a few at a time.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region.
    #[inline]
    pub fn part_reader(&self, offset: usize, len: usize) -> Result<PartReader<'_>, OutOfRegion> {
        PartReader::new(self, offset, len)
    }

    /// `len` bytes from `offset` on, to be written a few at a time. Meanwhile the region does not change what it shows.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region.
    #[inline]
    pub fn part_writer(&self, offset: usize, len: usize) -> Result<PartWriter<'_>, OutOfRegion> {
        PartWriter::new(self, offset, len)
    }

    /// Writes zeros over `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is written then.
    pub fn fill_zero(&self, offset: usize, len: usize) -> Result<(), OutOfRegion> {
        let _writer = self.writer();
        let Some(to) = self.sure(offset, len) else { return self.zero_carefully(offset, len) };
        // SAFETY: `sure` returned the start of `len` mapped bytes, writable while `_writer` is held.
        unsafe { copy::zero(to, len) };
        Ok(())
    }

    /// Reads eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region.
    #[inline]
    pub fn read_u64(&self, offset: usize) -> Result<u64, OutOfRegion> {
        let Some(from) = self.sure(offset, size_of::<u64>()) else {
            let mut bytes = [0; size_of::<u64>()];
            self.read_carefully(offset, &mut bytes)?;
            return Ok(u64::from_le_bytes(bytes));
        };
        // SAFETY: `sure` returned the start of eight mapped bytes.
        Ok(unsafe { copy::load_u64(from) })
    }

    /// Writes eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is written then.
    pub fn write_u64(&self, offset: usize, value: u64) -> Result<(), OutOfRegion> {
        let _writer = self.writer();
        let Some(to) = self.sure(offset, size_of::<u64>()) else {
            return self.write_carefully(offset, &value.to_le_bytes());
        };
        // SAFETY: `sure` returned the start of eight mapped bytes, writable while `_writer` is held.
        unsafe { copy::store_u64(to, value) };
        Ok(())
    }

    /// Zeroes `len` bytes from `offset` on, and makes the hypervisor drop its cached translations of the pages that lie
    /// within. The memory of these pages goes back to the host, except where the region shows a [`Contents`]; there, and at
    /// either end, zeros are written.
    ///
    /// # Errors
    ///
    /// [`RevokeError::OutOfRegion`] when the range does not lie within the region; nothing changes then.
    /// [`RevokeError::Protect`] when the range reads as zero, but translations may be left.
    pub fn discard(&self, offset: usize, len: usize) -> Result<(), RevokeError> {
        self.bounded(offset, len)?;
        let end = offset + len;
        let pages = offset.next_multiple_of(PAGE_SIZE)..end - end % PAGE_SIZE;
        if pages.is_empty() {
            return Ok(self.fill_zero(offset, len)?);
        }
        self.fill_zero(offset, pages.start - offset)?;
        self.fill_zero(pages.end, end - pages.end)?;
        let mut revoked = Ok(());
        for (part, shows) in self.parts(&pages) {
            if shows || !self.drop_pages(&part) {
                self.zero_pages(part.start / PAGE_SIZE..part.end / PAGE_SIZE);
                revoked = self.unread_briefly(&part).and(revoked);
            }
        }
        revoked.map_err(RevokeError::Protect)
    }

    /// Zeroes pages. Those that have no memory of their own get none. The hypervisor's translations of them stay.
    ///
    /// # Panics
    ///
    /// When the region has no such page.
    pub fn zero_pages(&self, pages: impl IntoIterator<Item = usize>) {
        let writer = self.page_writer();
        pages.into_iter().for_each(|page| writer.zero(page));
    }

    /// Forgets what was written to these pages of a region that shows a [`Contents`]: they hold what it says again, and
    /// their memory goes back to the host. Pages that no longer hold it afterwards, because they cannot be given back (they
    /// are locked in memory), keep what was written.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the pages do not lie within the region; nothing changes then.
    pub fn release(&self, pages: Range<usize>) -> Result<(), OutOfRegion> {
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        self.bounded(bytes.start, bytes.len())?;
        self.drop_pages(&bytes);
        Ok(())
    }

    /// Gives pages memory before they are written, except where the region shows a [`Contents`], and returns those that have
    /// it now. What they hold does not change. Where they cover whole huge pages, of [`HUGE_PAGE`](Self::HUGE_PAGE) pages
    /// each, the host uses such if it has some, which costs a fraction of what the first writes would.
    ///
    /// # Errors
    ///
    /// What the host reports; some of the pages may have memory then. `InvalidInput` when they do not lie within the region.
    pub fn populate(&self, pages: Range<usize>) -> io::Result<Vec<Range<usize>>> {
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        self.bounded(bytes.start, bytes.len()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let own = self.parts(&bytes).into_iter().filter(|(_, shows)| !shows);
        let populate = |part: Range<usize>| {
            // SAFETY: the parts are whole pages of the region.
            unsafe { self.mapping.populate(&part)? };
            Ok(part.start / PAGE_SIZE..part.end / PAGE_SIZE)
        };
        own.map(|(part, _)| populate(part)).collect()
    }

    /// Makes the hypervisor forget its cached translations of the pages that hold the `len` bytes from `offset` on. Call it
    /// after narrowing a permission in the guest's page tables, while no vCPU of the guest runs: a vCPU that is running may
    /// fail with an error at that moment.
    ///
    /// It takes the permission to read from the range and gives it back, which zaps the translations of the whole range at once.
    /// The host can access the range meanwhile.
    ///
    /// # Errors
    ///
    /// [`RevokeError`]; translations may be left then.
    pub fn revoke(&self, offset: usize, len: usize) -> Result<(), RevokeError> {
        self.bounded(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let start = offset - offset % PAGE_SIZE;
        let end = (offset + len).next_multiple_of(PAGE_SIZE);
        self.unread_briefly(&(start..end)).map_err(RevokeError::Protect)
    }

    /// The host address of the first byte, for a hypervisor to map. It stays valid as long as the region lives.
    pub(crate) fn host_address(&self) -> u64 {
        self.mapping.start() as u64
    }

    /// How many bytes at the start of a page are zero, or a little fewer. All bytes of the page where it holds nothing else.
    fn leading_zeros(&self, page: usize) -> usize {
        let Some(from) = self.sure(page * PAGE_SIZE, PAGE_SIZE) else {
            let mut bytes = [0; PAGE_SIZE];
            self.read_carefully(page * PAGE_SIZE, &mut bytes).expect("the page is one of the region's");
            return bytes.iter().position(|byte| *byte != 0).unwrap_or(PAGE_SIZE);
        };
        // SAFETY: `sure` returned the start of a mapped page.
        unsafe { copy::leading_zeros(from, PAGE_SIZE) }
    }

    /// Writes bytes to a file, at `at`, where it has zeros. Bytes that are lost are zeros.
    fn write_to_file(&self, mut offset: usize, len: usize, file: &OwnedFd, mut at: usize) -> io::Result<()> {
        let end = offset + len;
        while offset < end {
            let from = self.bounded(offset, end - offset).map_err(io::Error::other)?;
            // SAFETY: `bounded` returned the start of this many mapped bytes, which only the kernel reads here: bytes that
            // the guest changes at the same time are copied torn at worst (rule 3).
            let written = unsafe { libc::pwrite(file.as_raw_fd(), from.cast(), end - offset, at as libc::off_t) };
            match usize::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written;
                    at += written;
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.raw_os_error() {
                        Some(libc::EINTR) => {}
                        Some(libc::EFAULT) if self.sure(offset, 1).is_none() => {
                            let page_end = (offset + 1).next_multiple_of(PAGE_SIZE).min(end);
                            at += page_end - offset;
                            offset = page_end;
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes these extents show frozen pages, and everything else hold zeros.
    fn show(&self, extents: &[Extent]) -> io::Result<()> {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let sure_end = sure_end(extents, self.len());
        self.sure_end.fetch_min(sure_end, Ordering::Relaxed);
        shown.clear();
        // SAFETY: no reference into the mapping exists (rule 1), and no host writer is in there while `shown` is held.
        unsafe { self.mapping.replace(extents)? };
        shown.extend_from_slice(extents);
        self.sure_end.store(sure_end, Ordering::Relaxed);
        Ok(())
    }

    /// Makes pages show these extents, which lie within them, and hold zeros elsewhere.
    fn show_pages(&self, pages: &Range<usize>, extents: &[Extent]) -> io::Result<()> {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let first = shown.partition_point(|extent| extent.pages.end <= pages.start);
        let end = shown.partition_point(|extent| extent.pages.start < pages.end);
        self.sure_end.fetch_min(sure_end(extents, self.len()), Ordering::Relaxed);
        // SAFETY: no reference into the mapping exists (rule 1), and no host writer is in there while `shown` is held.
        let result = unsafe { self.mapping.replace_pages(pages, extents) };
        let mut now: Vec<_> =
            shown[first..end].iter().flat_map(|extent| extent.without(slice::from_ref(pages))).collect();
        now.extend_from_slice(extents);
        if result.is_err() {
            // Each page may show what it did. One that is wrongly taken to show something has zeros written to it one day.
            let others = [0..pages.start, pages.end..usize::MAX];
            let replaced: Vec<_> = extents.iter().map(|extent| extent.pages.clone()).collect();
            let before = shown[first..end].iter().flat_map(|extent| extent.without(&others));
            now.extend(before.flat_map(|extent| extent.without(&replaced)).collect::<Vec<_>>());
        }
        now.sort_unstable_by_key(|extent| extent.pages.start);
        shown.splice(first..end, now);
        result
    }

    /// Gives whole pages within the region back to the host; they hold what the region shows there, or zeros. `false`, and
    /// nothing changes, when they are locked in memory (`mlockall`).
    fn drop_pages(&self, bytes: &Range<usize>) -> bool {
        // SAFETY: no reference into the mapping exists (rule 1), so that dropping what was written is a write like any other.
        unsafe { self.mapping.drop_pages(bytes) }
    }

    /// A range of bytes in parts that show frozen pages, and parts that do not.
    fn parts(&self, bytes: &Range<usize>) -> Vec<(Range<usize>, bool)> {
        let mut parts = Vec::new();
        let mut at = bytes.start;
        for extent in &*self.writer() {
            let shown = (extent.pages.start * PAGE_SIZE).max(at)..(extent.pages.end * PAGE_SIZE).min(bytes.end);
            if shown.is_empty() {
                continue;
            }
            if at < shown.start {
                parts.push((at..shown.start, false));
            }
            at = shown.end;
            parts.push((shown, true));
        }
        if at < bytes.end {
            parts.push((at..bytes.end, false));
        }
        parts
    }

    fn page_writer(&self) -> PageWriter<'_> {
        PageWriter { region: self, _writer: self.writer() }
    }

    fn unread_briefly(&self, pages: &Range<usize>) -> io::Result<()> {
        // SAFETY: the callers name whole pages of the region.
        unsafe { self.mapping.unread_briefly(pages) }
    }

    #[inline]
    fn writer(&self) -> RwLockReadGuard<'_, Vec<Extent>> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host address of `offset`, if `len` bytes from there lie within the region and cannot be lost.
    #[inline]
    fn sure(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: `offset` is at most `sure_end`, which is at most the length of the mapping.
        (end <= self.sure_end.load(Ordering::Relaxed)).then(|| unsafe { self.mapping.start().add(offset) })
    }

    /// The host address of `offset`, if `len` bytes from there lie within the region.
    #[inline]
    fn bounded(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfRegion> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is at most the length of the mapping.
            Some(end) if end <= self.len() => Ok(unsafe { self.mapping.start().add(offset) }),
            _ => Err(OutOfRegion { offset, len, region: self.len() }),
        }
    }
}

/// Up to where a region of `len` bytes that shows these extents has no page that can be lost.
fn sure_end(shown: &[Extent], len: usize) -> usize {
    shown.iter().find(|extent| extent.can_be_lost()).map_or(len, |extent| extent.bytes().start)
}

/// Writes whole pages, one after the other.
struct PageWriter<'a> {
    region: &'a Region,
    _writer: RwLockReadGuard<'a, Vec<Extent>>,
}

impl PageWriter<'_> {
    /// Writes over a page.
    fn write(&self, page: usize, from: &[u8]) {
        assert_eq!(from.len(), PAGE_SIZE);
        let Some(to) = self.region.sure(page * PAGE_SIZE, PAGE_SIZE) else {
            return self.region.write_carefully(page * PAGE_SIZE, from).expect("the page is one of the region's");
        };
        // SAFETY: `sure` returned the start of a mapped page, writable while `_writer` is held; `from` is as long and
        // cannot overlap it (rule 1).
        unsafe { copy::bytes(from.as_ptr(), to, PAGE_SIZE) };
    }

    /// Writes zeros over a page, from the first byte on that is not zero: one that has no memory gets none.
    fn zero(&self, page: usize) {
        let zeros = self.region.leading_zeros(page);
        let (offset, len) = (page * PAGE_SIZE + zeros, PAGE_SIZE - zeros);
        let Some(to) = self.region.sure(offset, len) else {
            return self.region.zero_carefully(offset, len).expect("the page is one of the region's");
        };
        // SAFETY: `sure` returned the start of `len` mapped bytes, writable while `_writer` is held.
        unsafe { copy::zero(to, len) };
    }
}

// SAFETY: all access goes through `arch::copy`, for which concurrent access yields torn data at worst (rule 3), and
// remapping the region excludes writers (rule 5).
unsafe impl Sync for Region {}

/// An access that does not lie within its region.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("{len} bytes at offset {offset:#x} do not lie within the region of {region} bytes")]
pub struct OutOfRegion {
    /// Where the access begins, in bytes from the start of the region.
    pub offset: usize,
    /// The size of the access in bytes.
    pub len: usize,
    /// The size of the region in bytes.
    pub region: usize,
}

/// Why cached translations could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The range does not lie within the region.
    #[error(transparent)]
    OutOfRegion(#[from] OutOfRegion),
    /// The host kernel refused to change the protection, most often because the process has too many mappings.
    #[error("the host cannot change the protection of guest memory: {}", WithAdvice(.0))]
    Protect(io::Error),
}
