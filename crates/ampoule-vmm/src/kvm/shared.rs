//! The memory that a vCPU shares with the kernel, as one mapping: the run page with what belongs to it, and the dirty ring.
//!
//! Two owners access it, each its own part: a [`RunPage`] and a [`DirtyRing`]. The byte `immediate_exit` in the run page
//! belongs to neither: it is only ever accessed as an atomic, by any thread, even when the vCPU is gone.
//!
//! A forked child shares the memory too, but writes nothing to it: it belongs to the process that mapped it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use kvm_bindings::{KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn, kvm_run};

use crate::address::PAGE_SIZE;
use crate::linux::pages::{self, Source};
use crate::linux::process::Process;
use crate::linux::uninterrupted::uninterrupted;

use super::dirty_ring::DirtyRing;
use super::run_page::RunPage;

/// Maps the memory that the kernel shares for a vCPU, whose run page with what belongs to it is `run_len` bytes long. To be
/// called once per vCPU of a virtual machine of `process` that has rings of [`DirtyRing::LEN`] entries.
pub(super) fn map(vcpu: BorrowedFd<'_>, run_len: usize, process: Process) -> io::Result<(RunPage, DirtyRing)> {
    if !(size_of::<kvm_run>()..=RING_OFFSET).contains(&run_len) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len = RING_OFFSET + DirtyRing::BYTES;
    let base = uninterrupted(|| {
        // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, vcpu.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base) }
    })?;
    let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
    let shared = Arc::new(SharedMemory { mapping: Arc::new(Mapping { base, len, process }), run_len });
    Ok((RunPage::new(Arc::clone(&shared)), DirtyRing::new(shared)))
}

/// The memory, as long as it is shared with the kernel. One mapping instead of one for each part, because the kernel goes
/// through all mappings of a process whenever a virtual machine is created. Between the parts nothing is accessible.
#[derive(Debug)]
pub(super) struct SharedMemory {
    mapping: Arc<Mapping>,
    run_len: usize,
}

impl SharedMemory {
    /// At least `size_of::<kvm_run>()` bytes, aligned to a page, readable as long as `self` lives, and writable where it [is
    /// ours](Self::is_ours). Only the one `RunPage` may go through this pointer, and not to `immediate_exit`.
    pub(super) fn run(&self) -> *mut kvm_run {
        self.mapping.base.as_ptr()
    }

    /// `len` bytes at `offset`, where the kernel puts the data of an I/O exit, if they lie behind `kvm_run`.
    pub(super) fn after_run(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        if offset < size_of::<kvm_run>() || end > self.run_len {
            return None;
        }
        // SAFETY: the range lies within the mapping and does not cover `immediate_exit`. The kernel writes it during a run
        // only; `RunPage::exit` lends it until the next one.
        Some(unsafe { slice::from_raw_parts(self.run().cast::<u8>().add(offset), len) })
    }

    /// The first of [`DirtyRing::LEN`] entries, readable as long as `self` lives, and writable where it [is
    /// ours](Self::is_ours). Only the one `DirtyRing` may go through this pointer.
    pub(super) fn ring(&self) -> *mut kvm_dirty_gfn {
        // SAFETY: the mapping is longer than this.
        unsafe { self.run().cast::<u8>().add(RING_OFFSET).cast() }
    }

    /// Whether the memory belongs to this process, not to one from which this one was forked.
    pub(super) fn is_ours(&self) -> bool {
        self.mapping.is_ours()
    }

    /// The mapping, for whoever is to reach `immediate_exit`.
    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // A further owner could only have got the mapping from one of those counted here, so there is none beyond them.
        if Arc::strong_count(&self.mapping) > 1 {
            self.mapping.leave_the_kernel();
        }
    }
}

/// The mapping, which may outlive what it showed.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<kvm_run>,
    len: usize,
    process: Process,
}

impl Mapping {
    /// The request to end runs at once; `None` where it belongs to a process from which this one was forked.
    pub(super) fn immediate_exit(&self) -> Option<&AtomicU8> {
        // SAFETY: the byte lives as long as the mapping, and is accessed only through this function and by the kernel, which
        // only reads it.
        self.is_ours().then(|| unsafe { AtomicU8::from_ptr(&raw mut (*self.base.as_ptr()).immediate_exit) })
    }

    pub(super) fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    /// Replaces what is shared with the kernel by memory of the process, because the kernel keeps the virtual machine as
    /// long as the shared memory is mapped. Where the process has no mapping left for that, it does.
    fn leave_the_kernel(&self) {
        // SAFETY: the range is ours. `SharedMemory`, the only way to all of it but `immediate_exit`, is being dropped; and that
        // byte can be accessed before, meanwhile and after, whether the call succeeds or not.
        let replaced = unsafe { pages::map_over(self.base.as_ptr().cast(), self.len, Source::Zeros) };
        if let Err(error) = replaced {
            tracing::debug!(%error, "a virtual machine stays until its last interrupter is dropped");
        }
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
// SAFETY: through a shared reference, any thread reaches only the atomic `immediate_exit`; all else is reached through the
// only `RunPage` and the only `DirtyRing`, which are borrowed as Rust's rules demand.
unsafe impl Sync for Mapping {}

/// Where the ring begins in what a vCPU's descriptor maps (`linux/kvm.h`).
const RING_OFFSET: usize = KVM_DIRTY_LOG_PAGE_OFFSET as usize * PAGE_SIZE;
