//! The memory that a vCPU shares with the kernel, as one mapping: the run page with what belongs to it, and the ring of
//! written pages.
//!
//! Two owners go through it, each to its own part: a [`RunPage`](super::run_page::RunPage), and a
//! [`DirtyRing`](super::dirty_ring::DirtyRing). The byte `immediate_exit` in the run page belongs to neither: it is only ever
//! accessed as an atomic, by any thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use kvm_bindings::{KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn, kvm_run};

use crate::address::PAGE_SIZE;

use super::dirty_ring::DirtyRing;
use super::run_page::RunPage;

/// Maps the memory that the kernel shares for a vCPU, whose run page and what belongs to it is `run_len` bytes long. To be
/// called once per vCPU, of a virtual machine with rings of [`DirtyRing::LEN`] entries.
pub(super) fn map(vcpu: BorrowedFd<'_>, run_len: usize) -> io::Result<(RunPage, DirtyRing)> {
    if !(size_of::<kvm_run>()..=RING_OFFSET).contains(&run_len) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len = RING_OFFSET + DirtyRing::BYTES;
    // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
    let base = unsafe {
        libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, vcpu.as_raw_fd(), 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
    let mapping = Arc::new(Mapping { base, run_len, len });
    Ok((RunPage::new(Arc::clone(&mapping)), DirtyRing::new(mapping)))
}

/// One mapping instead of one for each part, because the kernel goes through all mappings of a process whenever a virtual
/// machine is created. Between the parts it leads to nothing.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<kvm_run>,
    run_len: usize,
    len: usize,
}

impl Mapping {
    /// At least `size_of::<kvm_run>()` bytes, aligned to a page, readable and writable as long as the mapping lives. Only the
    /// one `RunPage` may go through this pointer, and not to `immediate_exit`.
    pub(super) fn run(&self) -> *mut kvm_run {
        self.base.as_ptr()
    }

    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the byte lives as long as the mapping, and is accessed by nobody but through this function and by the
        // kernel, which only reads it.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.base.as_ptr()).immediate_exit) }
    }

    /// `len` bytes at `offset`, where the kernel puts the data of an I/O exit, if they lie behind `kvm_run`.
    pub(super) fn after_run(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        if offset < size_of::<kvm_run>() || end > self.run_len {
            return None;
        }
        // SAFETY: the range lies within the mapping and does not cover `immediate_exit`. The kernel writes it during a run
        // only; `RunPage::exit` lends it until the next one.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().cast::<u8>().add(offset), len) })
    }

    /// The first of [`DirtyRing::LEN`] entries, readable and writable as long as the mapping lives. Only the one `DirtyRing`
    /// may go through this pointer.
    pub(super) fn ring(&self) -> *mut kvm_dirty_gfn {
        // SAFETY: the mapping is longer than this.
        unsafe { self.base.as_ptr().cast::<u8>().add(RING_OFFSET).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, exactly this long, and nobody who could use it is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference, any thread reaches only the atomic `immediate_exit`; all else is reached through the one
// `RunPage` and the one `DirtyRing`, which are borrowed as Rust's rules demand.
unsafe impl Sync for Mapping {}

/// Where the ring begins in what a vCPU's descriptor maps (`linux/kvm.h`).
const RING_OFFSET: usize = KVM_DIRTY_LOG_PAGE_OFFSET as usize * PAGE_SIZE;
