//! Virtual machines.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_MEM_LOG_DIRTY_PAGES,
    kvm_clear_dirty_log, kvm_clear_dirty_log__bindgen_ty_1, kvm_dirty_log, kvm_dirty_log__bindgen_ty_1, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;

use crate::address::{GuestPhys, PAGE_SIZE};
use crate::hypervisor::{HypervisorError, Operation, Vcpu, Vm, WriteTracking};
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::SyscallEntry;

use super::Device;
use super::vcpu::KvmVcpu;

#[derive(Debug)]
pub(super) struct KvmVm {
    machine: Arc<Machine>,
    vcpus: u64,
}

/// What a virtual machine and its vCPUs own together. Its memory slots must stay mapped in the host as long as any of them
/// is there: a slot whose host memory is gone would show the guest whatever the host puts in its place.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) fd: VmFd,
    slots: Mutex<BTreeMap<u32, Slot>>,
    pub(super) device: Arc<Device>,
    pub(super) capabilities: Capabilities,
}

#[derive(Debug)]
struct Slot {
    region: Arc<Region>,
    tracking: WriteTracking,
}

impl KvmVm {
    pub(super) fn create(device: Arc<Device>, capabilities: Capabilities) -> Result<KvmVm, HypervisorError> {
        let fd = device.kvm.create_vm().map_err(|errno| refused(Operation::CreateVm, errno))?;
        // The log of written pages is only added to until `forget_written`, so that a page costs its first write only.
        let keep_log = kvm_enable_cap {
            cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
            args: [KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE.into(), 0, 0, 0],
            ..Default::default()
        };
        fd.enable_cap(&keep_log).map_err(|errno| refused(Operation::TrackWrites, errno))?;
        Ok(KvmVm { machine: Arc::new(Machine { fd, slots: Mutex::default(), device, capabilities }), vcpus: 0 })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Slot>> {
        self.machine.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that `pages` fits a slot whose writes are tracked.
    fn check_tracked(&self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        let slots = self.slots();
        let Slot { region, tracking } = slots.get(&slot).ok_or(HypervisorError::SlotEmpty { slot })?;
        if *tracking == WriteTracking::Off {
            return Err(HypervisorError::WritesNotTracked { slot });
        }
        let expected = region.len() / PAGE_SIZE;
        if expected != pages.capacity() {
            return Err(HypervisorError::SlotSize { slot, pages: expected, given: pages.capacity() });
        }
        Ok(())
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
        let mut slots = self.slots();
        if slots.contains_key(&slot) {
            return Err(HypervisorError::SlotInUse { slot });
        }
        let memory = kvm_userspace_memory_region {
            slot,
            flags: if tracking == WriteTracking::On { KVM_MEM_LOG_DIRTY_PAGES } else { 0 },
            guest_phys_addr: at.0,
            memory_size: region.len() as u64,
            userspace_addr: region.host_address(),
        };
        // SAFETY: the region is mapped for its whole length and stays so, because `slots` keeps it for as long as the
        // guest can reach it. No reference into it exists that the guest's writes could invalidate.
        unsafe { self.machine.fd.set_user_memory_region(memory) }
            .map_err(|errno| refused(Operation::MapMemory, errno))?;
        slots.insert(slot, Slot { region, tracking });
        Ok(())
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        let mut slots = self.slots();
        if !slots.contains_key(&slot) {
            return Err(HypervisorError::SlotEmpty { slot });
        }
        let nothing = kvm_userspace_memory_region { slot, ..Default::default() };
        // SAFETY: a slot of size zero gives the guest access to nothing.
        unsafe { self.machine.fd.set_user_memory_region(nothing) }
            .map_err(|errno| refused(Operation::UnmapMemory, errno))?;
        slots.remove(&slot);
        Ok(())
    }

    fn written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.check_tracked(slot, pages)?;
        let bits = pages.words_mut();
        let log = kvm_dirty_log {
            slot,
            padding1: 0,
            __bindgen_anon_1: kvm_dirty_log__bindgen_ty_1 { dirty_bitmap: bits.as_mut_ptr().cast() },
        };
        // SAFETY: the kernel writes one bit for each page of the slot, in whole words of 64, and `check_tracked` has seen
        // that `bits` has as many.
        let result = unsafe { libc::ioctl(self.machine.fd.as_raw_fd(), KVM_GET_DIRTY_LOG, &raw const log) };
        answered(result, Operation::ReadWrittenPages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.check_tracked(slot, pages)?;
        let num_pages = u32::try_from(pages.capacity()).expect("KVM has no slots of 16 TiB");
        let log = kvm_clear_dirty_log {
            slot,
            num_pages,
            first_page: 0,
            __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 {
                dirty_bitmap: pages.words().as_ptr().cast_mut().cast(),
            },
        };
        // SAFETY: the kernel reads one bit for each page of the slot, in whole words of 64, and `check_tracked` has seen
        // that `pages` has as many.
        let result = unsafe { libc::ioctl(self.machine.fd.as_raw_fd(), KVM_CLEAR_DIRTY_LOG, &raw const log) };
        answered(result, Operation::ForgetWrittenPages)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        let vcpu = KvmVcpu::create(self.machine.clone(), self.vcpus, entry)?;
        self.vcpus += 1;
        Ok(Box::new(vcpu))
    }
}

fn answered(result: libc::c_int, operation: Operation) -> Result<(), HypervisorError> {
    if result == 0 { Ok(()) } else { Err(HypervisorError::Refused { operation, source: io::Error::last_os_error() }) }
}

/// The kernel's refusal as an error.
pub(super) fn refused(operation: Operation, errno: kvm_ioctls::Error) -> HypervisorError {
    HypervisorError::Refused { operation, source: errno.into() }
}

/// `_IOW(KVMIO, 0x42, struct kvm_dirty_log)` in `linux/kvm.h`.
const KVM_GET_DIRTY_LOG: libc::c_ulong = 0x4010_ae42;

/// `_IOWR(KVMIO, 0xc0, struct kvm_clear_dirty_log)` in `linux/kvm.h`.
const KVM_CLEAR_DIRTY_LOG: libc::c_ulong = 0xc018_aec0;
