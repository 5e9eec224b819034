//! Virtual machines.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{KVM_CAP_DIRTY_LOG_RING, KVM_MEM_LOG_DIRTY_PAGES, kvm_enable_cap, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use crate::address::GuestPhys;
use crate::hypervisor::{HypervisorError, Operation, Vcpu, Vm, WriteTracking};
use crate::linux::process::Process;
use crate::linux::uninterrupted::uninterrupted;
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::x86_64::capabilities::{Capabilities, Paging};
use crate::x86_64::registers::SyscallEntry;

use super::Device;
use super::dirty_ring::DirtyRing;
use super::slots::Slots;
use super::vcpu::KvmVcpu;

#[derive(Debug)]
pub(super) struct KvmVm {
    machine: Arc<Machine>,
    vcpus: u64,
}

/// What a virtual machine and its vCPUs own together. Its memory slots must stay mapped in the host as long as any of them
/// exists: a slot whose host memory is gone would show the guest whatever the host maps there next.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) fd: VmFd,
    slots: Mutex<Slots>,
    pub(super) device: Arc<Device>,
    pub(super) capabilities: Capabilities,
    pub(super) made_in: Process,
}

impl Machine {
    /// Makes sure that the machine belongs to this process, not to its parent. To be called first by everything that uses it
    /// or its vCPUs and can fail; [`slots`](Machine::slots) does.
    pub(super) fn check(&self) -> Result<(), HypervisorError> {
        if self.made_in.is_current() { Ok(()) } else { Err(HypervisorError::Forked) }
    }

    /// Reads the written pages from the vCPUs' rings, and empties them.
    pub(super) fn make_room_in_rings(&self) -> Result<(), HypervisorError> {
        self.slots()?.make_room(self.descriptor())
    }

    pub(super) fn add_ring(&self, ring: DirtyRing) -> Result<(), HypervisorError> {
        self.slots()?.add_ring(ring);
        Ok(())
    }

    /// Shows the guest a region in an empty slot.
    fn set_slot(
        &self,
        slot: u32,
        at: GuestPhys,
        region: &Region,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        let memory = kvm_userspace_memory_region {
            slot,
            flags: if tracking == WriteTracking::On { KVM_MEM_LOG_DIRTY_PAGES } else { 0 },
            guest_phys_addr: at.0,
            memory_size: region.len() as u64,
            userspace_addr: region.host_address(),
        };
        // SAFETY: the region is mapped for its whole length and stays so, because its slot keeps it for as long as the guest
        // can reach it. No reference into it exists that the guest's writes could invalidate.
        uninterrupted(|| unsafe { self.fd.set_user_memory_region(memory) })
            .map_err(|errno| refused(Operation::MapMemory, errno))
    }

    /// Empties a slot that shows the guest a region.
    fn clear_slot(&self, slot: u32) -> Result<(), HypervisorError> {
        let nothing = kvm_userspace_memory_region { slot, ..Default::default() };
        // SAFETY: a slot of size zero gives the guest access to nothing.
        uninterrupted(|| unsafe { self.fd.set_user_memory_region(nothing) })
            .map_err(|errno| refused(Operation::UnmapMemory, errno))
    }

    fn slots(&self) -> Result<MutexGuard<'_, Slots>, HypervisorError> {
        // In a forked child the lock may be one that nobody will release.
        self.check()?;
        Ok(self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }
}

impl KvmVm {
    pub(super) fn create(device: Arc<Device>, capabilities: Capabilities) -> Result<KvmVm, HypervisorError> {
        let made_in =
            Process::current().map_err(|reason| HypervisorError::Refused { operation: Operation::CreateVm, reason })?;
        let fd = uninterrupted(|| device.kvm.create_vm()).map_err(|errno| refused(Operation::CreateVm, errno))?;
        let ring = kvm_enable_cap {
            cap: KVM_CAP_DIRTY_LOG_RING,
            args: [DirtyRing::BYTES as u64, 0, 0, 0],
            ..Default::default()
        };
        uninterrupted(|| fd.enable_cap(&ring)).map_err(|errno| refused(Operation::TrackWrites, errno))?;
        Ok(KvmVm {
            machine: Arc::new(Machine { fd, slots: Mutex::default(), device, capabilities, made_in }),
            vcpus: 0,
        })
    }
}

impl Vm for KvmVm {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        let mut slots = self.machine.slots()?;
        if slots.contains(slot) {
            return Err(HypervisorError::SlotInUse { slot });
        }
        self.machine.set_slot(slot, at, &region, tracking)?;
        slots.insert(slot, at, region, tracking);
        Ok(())
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        let mut slots = self.machine.slots()?;
        if !slots.contains(slot) {
            return Err(HypervisorError::SlotEmpty { slot });
        }
        if slots.is_shown(slot) {
            self.machine.clear_slot(slot)?;
        }
        slots.remove(slot);
        Ok(())
    }

    /// With nested paging it is enough to take the tables' pages away for an instant. A kernel that shadows the tables
    /// forgets its copies when their slot is removed.
    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        let mut slots = self.machine.slots()?;
        let tables = slots.in_use(slot)?;
        let is_nested = self.machine.capabilities.paging == Paging::Nested;
        if tables.is_shown && is_nested && tables.region.revoke(0, tables.region.len()).is_ok() {
            return Ok(());
        }
        if tables.is_shown {
            self.machine.clear_slot(slot)?;
            tables.is_shown = false;
        }
        self.machine.set_slot(slot, tables.at, &tables.region, tables.tracking)?;
        tables.is_shown = true;
        Ok(())
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.machine.slots()?.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.machine.slots()?.forget_written(self.machine.descriptor(), slot, pages)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        let vcpu = KvmVcpu::create(self.machine.clone(), self.vcpus, entry)?;
        self.vcpus += 1;
        Ok(Box::new(vcpu))
    }
}

/// The kernel's refusal as an error.
pub(super) fn refused(operation: Operation, errno: kvm_ioctls::Error) -> HypervisorError {
    HypervisorError::Refused { operation, reason: errno.into() }
}
