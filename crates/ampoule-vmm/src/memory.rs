//! Host memory that backs a guest's physical memory.
//!
//! The guest may change its memory at any instant, so these rules hold:
//!
//! 1. There is never a Rust reference into guest memory, neither shared nor unique.
//! 2. Every access goes through [`Region`], is bounded by the region, and copies: the host decides on its own copy.
//! 3. The copying is done by instructions that the compiler cannot see into (`arch::copy`), so a guest or another host
//!    thread that touches the same bytes yields torn data at worst, never undefined behaviour.
//! 4. A region keeps its address and size for life; whoever has handed its address to a hypervisor keeps it alive.
//! 5. While a region is write-protected for an instant ([`Region::revoke`]), host writes wait.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::address::PAGE_SIZE;
use crate::x86_64::copy;

/// A range of anonymous, private host memory that backs guest-physical memory.
///
/// It reads as zero until written, and costs host memory only for the pages that were touched.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Held shared by writers, exclusively while a range is write-protected.
    writers: RwLock<()>,
}

impl Region {
    /// Reserves `len` bytes, which must be a positive multiple of [`PAGE_SIZE`]. The region begins on a page, and from
    /// 2 MiB on at a multiple of 2 MiB, so that the host can back it with huge pages.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other `len`; otherwise what `mmap` reports.
    pub fn anonymous(len: usize) -> io::Result<Arc<Region>> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) || len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Arc::new(Region { base: map_aligned(len)?, len, writers: RwLock::new(()) }))
    }

    /// The size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes from `offset` on into `into`.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRegion> {
        let from = self.bounded(offset, into.len())?;
        // SAFETY: `bounded` returned the start of `into.len()` mapped bytes; `into` is ours alone and cannot overlap
        // them, because no reference into a region exists (rule 1).
        unsafe { copy::bytes(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies `from` to the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is copied then.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRegion> {
        let to = self.bounded(offset, from.len())?;
        let _writer = self.writer();
        // SAFETY: `bounded` returned the start of `from.len()` mapped bytes, writable while `_writer` is held; `from`
        // cannot overlap them (rule 1).
        unsafe { copy::bytes(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Writes zeros over `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is written then.
    pub fn fill_zero(&self, offset: usize, len: usize) -> Result<(), OutOfRegion> {
        let to = self.bounded(offset, len)?;
        let _writer = self.writer();
        // SAFETY: `bounded` returned the start of `len` mapped bytes, writable while `_writer` is held.
        unsafe { copy::zero(to, len) };
        Ok(())
    }

    /// Reads eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region.
    pub fn read_u64(&self, offset: usize) -> Result<u64, OutOfRegion> {
        let from = self.bounded(offset, size_of::<u64>())?;
        // SAFETY: `bounded` returned the start of eight mapped bytes.
        Ok(unsafe { copy::load_u64(from) })
    }

    /// Writes eight bytes from `offset` on in one access, as a little-endian number.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing is written then.
    pub fn write_u64(&self, offset: usize, value: u64) -> Result<(), OutOfRegion> {
        let to = self.bounded(offset, size_of::<u64>())?;
        let _writer = self.writer();
        // SAFETY: `bounded` returned the start of eight mapped bytes, writable while `_writer` is held.
        unsafe { copy::store_u64(to, value) };
        Ok(())
    }

    /// Makes `len` bytes from `offset` on read as zero. The memory of whole pages goes back to the host, and the
    /// hypervisor's cached translations of these pages are gone; the parts of pages at either end are overwritten.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the range does not lie within the region; nothing changes then.
    pub fn discard(&self, offset: usize, len: usize) -> Result<(), OutOfRegion> {
        self.bounded(offset, len)?;
        let end = offset + len;
        let pages = offset.next_multiple_of(PAGE_SIZE)..end - end % PAGE_SIZE;
        if pages.is_empty() {
            return self.fill_zero(offset, len);
        }
        self.fill_zero(offset, pages.start - offset)?;
        self.fill_zero(pages.end, end - pages.end)?;
        let start = self.bounded(pages.start, pages.len())?;
        // SAFETY: `start` begins `pages.len()` bytes of whole pages of our own private anonymous mapping, into which no
        // reference exists (rule 1), so that replacing them by zero pages is a write like any other.
        let result = unsafe { libc::madvise(start.cast(), pages.len(), libc::MADV_DONTNEED) };
        if result != 0 {
            // Pages locked in memory (mlockall) cannot be given back: keep them and do the rest.
            self.fill_zero(pages.start, pages.len())?;
            self.write_protect_briefly(&pages).ok();
        }
        Ok(())
    }

    /// Makes the hypervisor forget its cached translations of the pages that hold the `len` bytes from `offset` on. Call
    /// it after narrowing a permission in the guest's page tables, while no vCPU of the guest runs: a vCPU that runs may
    /// fail with an error in this instant.
    ///
    /// It write-protects the range and lifts that again, which zaps the translations of the whole range at once.
    ///
    /// # Errors
    ///
    /// [`RevokeError`]; translations may be left then.
    ///
    /// # Panics
    ///
    /// When the kernel cannot lift the protection again, which needs no resource that it does not already hold.
    pub fn revoke(&self, offset: usize, len: usize) -> Result<(), RevokeError> {
        self.bounded(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let start = offset - offset % PAGE_SIZE;
        let end = (offset + len).next_multiple_of(PAGE_SIZE);
        self.write_protect_briefly(&(start..end)).map_err(RevokeError::Protect)
    }

    /// The host address of the first byte, for a hypervisor to map. It stays valid as long as the region lives.
    pub(crate) fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    fn write_protect_briefly(&self, pages: &Range<usize>) -> io::Result<()> {
        let _alone = self.writers.write().unwrap_or_else(PoisonError::into_inner);
        self.protect(pages, libc::PROT_READ)?;
        self.protect(pages, libc::PROT_READ | libc::PROT_WRITE)
            .expect("write permission that was just taken can be given back");
        Ok(())
    }

    /// `pages` are whole pages within the region.
    fn protect(&self, pages: &Range<usize>, protection: libc::c_int) -> io::Result<()> {
        // SAFETY: the range lies within our own mapping. Nobody writes to it: host writers hold `writers` shared and our
        // caller holds it exclusively; reading stays allowed.
        let result = unsafe {
            let start = self.base.as_ptr().add(pages.start);
            libc::mprotect(start.cast(), pages.len(), protection)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn writer(&self) -> RwLockReadGuard<'_, ()> {
        self.writers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host address of `offset`, if `len` bytes from there lie within the region.
    fn bounded(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfRegion> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is at most the length of the mapping.
            Some(end) if end <= self.len => Ok(unsafe { self.base.as_ptr().add(offset) }),
            _ => Err(OutOfRegion { offset, len, region: self.len }),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, exactly this long, and nobody who could use it is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the mapping belongs to the region and not to a thread.
unsafe impl Send for Region {}
// SAFETY: all access goes through `arch::copy`, for which concurrent access yields torn data at worst (rule 3), and
// protection changes exclude writers (rule 5).
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
    #[error("the host cannot write-protect guest memory (is vm.max_map_count reached?)")]
    Protect(#[source] io::Error),
}

/// Maps `len` bytes, a multiple of [`PAGE_SIZE`] and at most [`MAX_LEN`].
fn map_aligned(len: usize) -> io::Result<NonNull<u8>> {
    let slack = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
    // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
    let reserved = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len + slack,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if reserved == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let reserved: *mut u8 = reserved.cast();
    let before = if slack == 0 { 0 } else { reserved.align_offset(HUGE_PAGE) };
    let after = slack - before;
    // SAFETY: `before + len + after` is the size of the mapping just made, which nobody else knows; both trimmed parts
    // are whole pages, and `before` is less than a huge page. Trimming that fails leaves unused address space behind.
    unsafe {
        let base = reserved.add(before);
        if before > 0 {
            libc::munmap(reserved.cast(), before);
        }
        if after > 0 {
            libc::munmap(base.add(len).cast(), after);
        }
        Ok(NonNull::new_unchecked(base))
    }
}

const HUGE_PAGE: usize = 2 << 20;

/// Half of the user address space of x86-64; more cannot succeed, and sums below this cannot overflow.
const MAX_LEN: usize = 1 << 46;
