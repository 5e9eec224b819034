//! The memory that a vCPU shares with the kernel: why it stopped, its registers, and the request to stop at once.
//!
//! The kernel writes it during `KVM_RUN` only, except that any thread may store to `immediate_exit` at any time. So every
//! access but that one happens through the vCPU's own [`RunPage`], which exists once; the byte `immediate_exit` is only ever
//! accessed as an atomic, and no reference covers it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_regs, kvm_run, kvm_sregs,
};

use crate::address::GuestPhys;
use crate::hypervisor::{Exit, Interrupt};

/// The vCPU's own access to the shared memory.
#[derive(Debug)]
pub(super) struct RunPage(Arc<Mapping>);

impl RunPage {
    /// Maps the shared memory, `len` bytes long, of the vCPU behind `vcpu`. To be called once per vCPU.
    pub(super) fn map(vcpu: BorrowedFd<'_>, len: usize) -> io::Result<RunPage> {
        if len < size_of::<kvm_run>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, vcpu.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(RunPage(Arc::new(Mapping { base, len })))
    }

    pub(super) fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Interrupter(self.0.clone()))
    }

    /// Asks for the general registers, and for the special ones if `special`, to be there after the next run.
    pub(super) fn request_registers(&mut self, special: bool) {
        let mut valid = KVM_SYNC_X86_REGS;
        if special {
            valid |= KVM_SYNC_X86_SREGS;
        }
        // SAFETY: see `Mapping::run`; the field is plain data.
        unsafe { (&raw mut (*self.0.run()).kvm_valid_regs).write(valid.into()) };
    }

    pub(super) fn regs(&self) -> kvm_regs {
        // SAFETY: see `Mapping::run`; the field is plain data, for which every bit pattern is valid.
        unsafe { (&raw const (*self.0.run()).s.regs.regs).read() }
    }

    pub(super) fn set_regs(&mut self, regs: kvm_regs) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0.run()).s.regs.regs).write(regs) };
        self.mark_dirty(KVM_SYNC_X86_REGS);
    }

    pub(super) fn special_regs(&self) -> kvm_sregs {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0.run()).s.regs.sregs).read() }
    }

    pub(super) fn set_special_regs(&mut self, regs: kvm_sregs) {
        self.store_special_regs(regs);
        self.mark_dirty(KVM_SYNC_X86_SREGS);
    }

    /// Remembers special registers that the vCPU has already.
    pub(super) fn store_special_regs(&mut self, regs: kvm_sregs) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0.run()).s.regs.sregs).write(regs) };
    }

    /// What made the last run return.
    pub(super) fn exit(&self) -> Exit<'_> {
        let run = self.0.run();
        // SAFETY: see `Mapping::run`. The union's fields are plain data, for which every bit pattern is valid.
        let (reason, details) = unsafe { ((&raw const (*run).exit_reason).read(), &raw const (*run).__bindgen_anon_1) };
        match reason {
            KVM_EXIT_IO => self.io_exit(),
            KVM_EXIT_MMIO => self.mmio_exit(),
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_FAIL_ENTRY => Exit::FailEntry {
                // SAFETY: as above.
                reason: unsafe { (*details).fail_entry.hardware_entry_failure_reason },
            },
            KVM_EXIT_INTERNAL_ERROR => Exit::InternalError {
                // SAFETY: as above.
                suberror: unsafe { (*details).internal.suberror },
            },
            other => Exit::Other(other),
        }
    }

    fn io_exit(&self) -> Exit<'_> {
        // SAFETY: see `Mapping::run`. The union's fields are plain data, for which every bit pattern is valid.
        let io = unsafe { (&raw const (*self.0.run()).__bindgen_anon_1.io).read() };
        let len = usize::from(io.size).saturating_mul(io.count as usize);
        if u32::from(io.direction) != KVM_EXIT_IO_OUT {
            return Exit::IoIn { port: io.port, len };
        }
        match self.0.after_run(io.data_offset as usize, len) {
            Some(data) => Exit::IoOut { port: io.port, data },
            None => Exit::Other(KVM_EXIT_IO),
        }
    }

    fn mmio_exit(&self) -> Exit<'_> {
        let run = self.0.run();
        // SAFETY: see `Mapping::run`. The union's fields are plain data, for which every bit pattern is valid; the borrow
        // of `data` ends before the next run, which takes `self` mutably.
        let (at, data, len, is_write) = unsafe {
            let mmio = &(*run).__bindgen_anon_1.mmio;
            (mmio.phys_addr, &mmio.data, mmio.len, mmio.is_write)
        };
        let (at, len) = (GuestPhys(at), data.len().min(len as usize));
        if is_write != 0 {
            let data = &data[..len];
            Exit::MmioWrite { at, data }
        } else {
            Exit::MmioRead { at, len }
        }
    }

    fn mark_dirty(&mut self, registers: u32) {
        // SAFETY: see `Mapping::run`; the field is plain data.
        unsafe {
            let dirty = &raw mut (*self.0.run()).kvm_dirty_regs;
            dirty.write(dirty.read() | u64::from(registers));
        }
    }
}

/// Another thread's access to the shared memory.
struct Interrupter(Arc<Mapping>);

impl Interrupt for Interrupter {
    fn request(&self) {
        self.0.immediate_exit().store(1, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.0.immediate_exit().store(0, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<kvm_run>,
    len: usize,
}

impl Mapping {
    /// At least `size_of::<kvm_run>()` bytes, aligned to a page, readable and writable as long as the mapping lives. Only the
    /// one `RunPage` may go through this pointer, and not to `immediate_exit`.
    fn run(&self) -> *mut kvm_run {
        self.base.as_ptr()
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the byte lives as long as the mapping, and is accessed by nobody but through this function and by the
        // kernel, which only reads it.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.base.as_ptr()).immediate_exit) }
    }

    /// `len` bytes at `offset`, where the kernel puts the data of an I/O exit, if they lie behind `kvm_run`.
    fn after_run(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        if offset < size_of::<kvm_run>() || end > self.len {
            return None;
        }
        // SAFETY: the range lies within the mapping and does not cover `immediate_exit`. The kernel writes it during a run
        // only; `RunPage::exit` lends it until the next one.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().cast::<u8>().add(offset), len) })
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
// SAFETY: through a shared reference, other threads reach only the atomic `immediate_exit`; all else is reached through the
// one `RunPage`, which is borrowed as Rust's rules demand.
unsafe impl Sync for Mapping {}
