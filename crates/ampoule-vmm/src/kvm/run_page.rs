//! What a vCPU and the kernel exchange about a run: why it stopped, the registers, and the request to stop at once.
//!
//! The kernel writes the page during `KVM_RUN` only, except that any thread may store to `immediate_exit` at any time. So
//! every access but that one goes through the vCPU's own [`RunPage`], of which there is only one; the byte `immediate_exit`
//! is only ever accessed as an atomic, and no reference covers it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bindings::{
    KVM_EXIT_DIRTY_RING_FULL, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_regs, kvm_run,
    kvm_sregs,
};

use crate::address::GuestPhys;
use crate::hypervisor::{Exit, Interrupt};

use super::shared::{Mapping, SharedMemory};

/// The vCPU's own access to the page.
#[derive(Debug)]
pub(super) struct RunPage(Arc<SharedMemory>);

impl RunPage {
    /// The run page in this memory, which must have no other.
    pub(super) fn new(memory: Arc<SharedMemory>) -> RunPage {
        RunPage(memory)
    }

    pub(super) fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Interrupter(Arc::clone(self.0.mapping())))
    }

    /// Asks for the general registers, and for the special ones if `special`, to be in the page after the next run.
    pub(super) fn request_registers(&mut self, special: bool) {
        let Some(run) = self.writable() else { return };
        let mut valid = KVM_SYNC_X86_REGS;
        if special {
            valid |= KVM_SYNC_X86_SREGS;
        }
        // SAFETY: see `SharedMemory::run`; the field is plain data.
        unsafe { (&raw mut (*run).kvm_valid_regs).write(valid.into()) };
    }

    pub(super) fn regs(&self) -> kvm_regs {
        // SAFETY: see `SharedMemory::run`; the field is plain data, for which every bit pattern is valid.
        unsafe { (&raw const (*self.0.run()).s.regs.regs).read() }
    }

    pub(super) fn set_regs(&mut self, regs: kvm_regs) {
        let Some(run) = self.writable() else { return };
        // SAFETY: as above.
        unsafe {
            (&raw mut (*run).s.regs.regs).write(regs);
            mark_dirty(run, KVM_SYNC_X86_REGS);
        }
    }

    pub(super) fn special_regs(&self) -> kvm_sregs {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0.run()).s.regs.sregs).read() }
    }

    pub(super) fn set_special_regs(&mut self, regs: kvm_sregs) {
        let Some(run) = self.writable() else { return };
        // SAFETY: as above.
        unsafe {
            (&raw mut (*run).s.regs.sregs).write(regs);
            mark_dirty(run, KVM_SYNC_X86_SREGS);
        }
    }

    /// Remembers special registers that the vCPU already has.
    pub(super) fn store_special_regs(&mut self, regs: kvm_sregs) {
        let Some(run) = self.writable() else { return };
        // SAFETY: as above.
        unsafe { (&raw mut (*run).s.regs.sregs).write(regs) };
    }

    /// What made the last run return.
    pub(super) fn exit(&self) -> Exit<'_> {
        let run = self.0.run();
        // SAFETY: see `SharedMemory::run`. The union's fields are plain data, for which every bit pattern is valid.
        let (reason, details) = unsafe { ((&raw const (*run).exit_reason).read(), &raw const (*run).__bindgen_anon_1) };
        match reason {
            KVM_EXIT_IO => self.io_exit(),
            KVM_EXIT_MMIO => self.mmio_exit(),
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_DIRTY_RING_FULL => Exit::ManyWritten,
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
        // SAFETY: see `SharedMemory::run`. The union's fields are plain data, for which every bit pattern is valid.
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
        // SAFETY: see `SharedMemory::run`. The union's fields are plain data, for which every bit pattern is valid; the borrow
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

    /// The page, unless a forked child has inherited it: what the child wrote would end up in the parent's registers.
    fn writable(&mut self) -> Option<*mut kvm_run> {
        self.0.is_ours().then(|| self.0.run())
    }
}

/// Marks these registers as set, for the kernel to load.
///
/// # Safety
///
/// As for [`SharedMemory::run`].
unsafe fn mark_dirty(run: *mut kvm_run, registers: u32) {
    // SAFETY: the caller's promise; the field is plain data.
    unsafe {
        let dirty = &raw mut (*run).kvm_dirty_regs;
        dirty.write(dirty.read() | u64::from(registers));
    }
}

/// Another thread's access to the page.
struct Interrupter(Arc<Mapping>);

impl Interrupter {
    fn store(&self, request: u8) {
        if let Some(immediate_exit) = self.0.immediate_exit() {
            immediate_exit.store(request, Ordering::SeqCst);
        }
    }
}

impl Interrupt for Interrupter {
    fn request(&self) {
        self.store(1);
    }

    fn clear(&self) {
        self.store(0);
    }

    fn is_inherited(&self) -> bool {
        !self.0.is_ours()
    }
}
